"""The fast way of receiving: RDMA Writes, Read Responses and Sends.

`FastReceive` takes whole FPDUs from the staging buffer as long as they are common ones. It makes no object and no call
per FPDU that it can avoid. An FPDU that is incomplete, damaged, forbidden, out of bounds or of another kind stays in
the buffer for the plain way of `Stream`, which alone judges and raises. With markers, `MarkedDeframer.unmarked` gives
FPDUs that it has verified and taken the markers out of. Both ways give the same memory, events and
violations for any octets; `tests/property/test_fast_receiving.py` holds them equal.
"""

from __future__ import annotations

from typing import Final

from pyiwarp.access import Grantor
from pyiwarp.codes import MAX_MULPDU, Opcode
from pyiwarp.crc import crc32c
from pyiwarp.ddp import UntaggedQueue, scatter
from pyiwarp.engine.events import Delivered, Event, ReadDone
from pyiwarp.engine.sending import WHOLE_WRITE
from pyiwarp.fastwire import (
    LAST,
    TAGGED,
    TAGGED_FIELDS,
    TAGGED_LEAD,
    TAGGED_SIZE,
    UNTAGGED_LEAD,
    UNTAGGED_SIZE,
    VERSION,
    VERSION_MASK,
)
from pyiwarp.mpa import CRC_SIZE, INTACT, LENGTH_SIZE, Deframer, MarkedDeframer, fpdu_size
from pyiwarp.mr import StagTable
from pyiwarp.rdmap import TAGGED_ADMISSION, OutstandingRead, OutstandingReads, admission

__all__ = ["FastReceive"]

_KIND: Final = TAGGED | VERSION_MASK
_TAGGED_BODY: Final = LENGTH_SIZE + TAGGED_SIZE
_UNTAGGED_BODY: Final = LENGTH_SIZE + UNTAGGED_SIZE
_PLAIN_SENDS: Final = admission(frozenset({Opcode.SEND, Opcode.SEND_SE}))


_Target = tuple[memoryview, int, int, int, int, OutstandingRead | None, bool]
"""What all tagged FPDUs with the same first eight octets share; they differ in TO and payload.

The fields: the memory, the TO of its first octet, the highest offset at which the payload may begin, the octets of the
payload, the octets of the FPDU, the Read that a Read Response answers, and whether this is the last segment.
"""


class FastReceive:
    """Places and delivers the common FPDUs of one stream."""

    __slots__ = ("_pd", "_queue", "_reads", "_scope", "_table")

    def __init__(
        self, table: StagTable, pd: object, scope: Grantor | None, reads: OutstandingReads, queue: UntaggedQueue
    ) -> None:
        self._table = table
        self._pd = pd
        self._scope = scope
        self._reads = reads
        self._queue = queue

    def run(self, deframer: Deframer, events: list[Event], most: int) -> int:
        """Place and deliver the common FPDUs at the head of the buffer, `most` of them; returns how many there were.

        Appends an event to `events` for each message that was delivered.
        """
        fpdus = 0
        targets: dict[int, _Target] = {}  # for this call only: memory may be withdrawn before the next
        while fpdus < most:
            source = deframer.unmarked(most - fpdus)
            if source.end - source.start <= _TAGGED_BODY:
                break
            if source.view[source.start + LENGTH_SIZE] & TAGGED:
                taken = self._place(source, events, most - fpdus, targets)
            else:
                taken = self._deliver(source, events, most - fpdus)
            if not taken:
                break
            if isinstance(deframer, MarkedDeframer):
                deframer.follow(taken)
            fpdus += taken
        return fpdus

    def _place(self, deframer: Deframer, events: list[Event], most: int, targets: dict[int, _Target]) -> int:
        view, crc, end = deframer.view, deframer.crc, deframer.end
        begin = start = deframer.start
        enough = end - _TAGGED_BODY - CRC_SIZE
        unpack = TAGGED_LEAD.unpack_from
        known = -1
        fpdus = 0
        while start <= enough and fpdus < most:
            word, to = unpack(view, start)
            if word != known:
                target = targets.get(word) or self._resolve(word)
                if target is None:
                    break
                memory, base, limit, nbytes, size, read, last = targets[word] = target
                known = word
            stop = start + size
            offset = to - base
            if stop > end or not 0 <= offset <= limit:  # DDP-5041-7.1-12, -13: not all here, or not all inside
                break
            if crc and crc32c(view[start:stop]) != INTACT:  # MPA-5044-6-01: before anything is placed
                break
            if read is not None:
                extent = read.extent
                if offset != extent.due or (last and offset != limit):  # a hole, an overlap, or too few octets
                    break
                extent.due = offset + nbytes
            body = start + _TAGGED_BODY
            memory[offset : offset + nbytes] = view[body : body + nbytes]
            start = stop
            fpdus += 1
            if last and read is not None:
                done = self._reads.delivered()
                events.append(ReadDone(done.token, done.nbytes))
                targets.clear()  # the next Read has memory of its own
                known = -1
        if fpdus:
            deframer.advance(start - begin, fpdus)
        return fpdus

    def place_first(self, view: memoryview, room: int, *, crc: bool) -> int:
        """Place the RDMA Write at the head of `view` if it is a common one and ends before `room`.

        Returns the octets of its FPDU; 0 if nothing was placed.
        """
        length: int
        length, control, stag, to = TAGGED_FIELDS.unpack_from(view)
        nbytes, size = length - TAGGED_SIZE, (length + LENGTH_SIZE + 3 & ~3) + CRC_SIZE
        if control != WHOLE_WRITE or nbytes <= 0 or size > room:
            return 0
        region = self._table.writable(stag, self._pd, self._scope)
        if region is None or not region.to <= to <= region.to + region.nbytes - nbytes:  # DDP-5041-7.1-12, -13
            return 0
        if crc and crc32c(view[:size]) != INTACT:  # MPA-5044-6-01: before anything is placed
            return 0
        region.pinned_view(to - region.to, nbytes)[:] = view[_TAGGED_BODY : _TAGGED_BODY + nbytes]
        return size

    def _resolve(self, word: int) -> _Target | None:
        """The target of FPDUs that begin with these eight octets: length, DDP and RDMAP control, STag."""
        length, control, stag = word >> 48, word >> 40 & 0xFF, word & 0xFFFF_FFFF
        nbytes = length - TAGGED_SIZE
        if nbytes <= 0 or length > MAX_MULPDU or control & _KIND != TAGGED | VERSION:
            return None
        opcode = TAGGED_ADMISSION[word >> 32 & 0xFF]
        if opcode is Opcode.WRITE:
            region = self._table.writable(stag, self._pd, self._scope)
            if region is None:
                return None
            memory = region.pinned_view(0, region.nbytes)
            return memory, region.to, region.nbytes - nbytes, nbytes, fpdu_size(length), None, False
        read = self._reads.due
        if opcode is not Opcode.READ_RESPONSE or read is None or read.sink_stag != stag:
            return None
        last = control & LAST != 0
        return read.sink, read.sink_to, read.nbytes - nbytes, nbytes, fpdu_size(length), read, last

    def _deliver(self, deframer: Deframer, events: list[Event], most: int) -> int:
        view, crc, end, queue = deframer.view, deframer.crc, deframer.end, self._queue
        extent = queue.extent
        begin = start = deframer.start
        enough = end - _UNTAGGED_BODY - CRC_SIZE
        unpack = UNTAGGED_LEAD.unpack_from
        known = -1
        nbytes = size = fpdus = 0
        opcode = None
        last = False
        while start <= enough and fpdus < most:
            word, qn_msn, mo = unpack(view, start)
            if qn_msn != queue.due_msn:  # queue 0 above, below the MSN that is due (DDP-5041-7.1-09)
                break
            if word != known:
                known, length, control = word, word >> 48, word >> 40 & 0xFF
                opcode = _PLAIN_SENDS[word >> 32 & 0xFF] if control & _KIND == VERSION else None
                last = control & LAST != 0
                nbytes = length - UNTAGGED_SIZE
                size = (length + LENGTH_SIZE + 3 & ~3) + CRC_SIZE
            stop = start + size
            if mo != extent.due:  # DDP-5041-5.4-02: after a hole, or once more
                break
            if opcode is None or nbytes < 0 or stop > end or nbytes + UNTAGGED_SIZE > MAX_MULPDU:
                break
            if crc and crc32c(view[start:stop]) != INTACT:
                break
            buffer = queue.open()
            if buffer is None or mo + nbytes > queue.size:
                break
            body = start + _UNTAGGED_BODY
            if len(buffer) == 1:
                buffer[0][mo : mo + nbytes] = view[body : body + nbytes]
            else:
                scatter(buffer, mo, view[body : body + nbytes])
            start = stop
            fpdus += 1
            if last:
                msn = queue.due_msn
                queue.close()
                solicited = opcode is Opcode.SEND_SE
                # once for each message: `Delivered(...)` takes more than twice as long as `tuple.__new__`
                events.append(tuple.__new__(Delivered, (opcode, msn, mo + nbytes, solicited, None, None)))
            else:
                extent.due = mo + nbytes
        if fpdus:
            deframer.advance(start - begin, fpdus)
        return fpdus
