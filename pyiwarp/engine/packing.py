"""Batches of FPDUs: what is written in one go.

`Packer` makes many FPDUs in one pass. It writes headers, trailers and small payloads one behind the other into one
buffer, so that a batch of small FPDUs is one piece to write. It does not copy large payloads: they go out as views,
except where markers fall into them. The plain way, `Outbound.next_segment` and `Framer.frame`, gives the same octets;
`tests/property/test_fast_sending.py` holds the two equal. Payloads in several pieces go the plain way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from struct import Struct
from typing import Final

from pyiwarp.buffers import BUFFER_SIZE, NO_BUFFER, Octets, give_buffer, spare_buffer, take_buffer
from pyiwarp.crc import crc32c
from pyiwarp.ddp import TO_MASK, Outbound, TaggedOutbound
from pyiwarp.fastwire import TAGGED_LEAD, TAGGED_SIZE
from pyiwarp.mpa import (
    BETWEEN_MARKERS,
    CRC_SIZE,
    LARGEST_FPDU,
    LENGTH_SIZE,
    MARKER_SIZE,
    MARKER_SPACING,
    PADS,
    Framer,
    MarkedFramer,
    fpdu_size,
    markers_between,
    markers_from,
)

__all__ = ["LARGEST_COPY", "Packer"]

_TAGGED_BODY: Final = TAGGED_LEAD.size
_FULL: Final = BUFFER_SIZE - LARGEST_FPDU  # from here on another FPDU might not fit the buffer

SmallMessage = tuple[int, int, Octets, int]
"""A message of one segment: the STag in its header, what follows it there, its octets and how many they are."""

LARGEST_COPY: Final = 4096
"""Payloads of so many octets are copied: one more piece to write costs more than that."""

# MPA-5044-4.1-03: a pad of zeros, then the CRC
_TRAILERS: Final = tuple(Struct(f"<{pad}xI").pack_into for pad in range(4))


class Packer:
    """Makes the FPDUs of one batch after the other.

    The pieces of a batch are good until `flushed`. `early_fpdus` counts those that were framed early and wait for the
    next batch.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_crc",
        "_fpdus_left",
        "_mark",
        "_marks",
        "_out",
        "_plain",
        "_room",
        "early_fpdus",
        "framer",
    )

    def __init__(self, *, crc: bool, markers: bool) -> None:
        self.framer = (MarkedFramer if markers else Framer)(crc=crc)
        self._marks = self.framer.marks
        self._plain = False  # whether no batch is made the fast way
        self._crc = crc
        self._buffer = NO_BUFFER
        self._at = self._mark = 0
        self.early_fpdus = 0  # in the buffer, and of no batch yet
        self._out: list[Octets] = []
        self._room = self._fpdus_left = 0

    @property
    def frames_early(self) -> bool:
        """Whether messages can be framed early: not with markers, whose positions depend on the order of batches."""
        return not (self._marks or self._plain)

    def frame_early(self, lead: Struct, base: int, most: int, messages: Sequence[SmallMessage]) -> int:
        """Frame each of the messages now, with a copy of its octets, while there is room; returns how many were framed.

        There is no room while many streams hold FPDUs that were framed early. These FPDUs are sent before the next
        batch. `lead` packs their headers, `base` is what the headers share, `most` bounds the octets of each.
        """
        if not self._buffer:
            self._buffer = spare_buffer()  # many streams may each hold it for a turn of the loop
            if not self._buffer:
                return 0
        buffer, at, checked, put = self._buffer, self._at, self._crc, lead.pack_into
        head = lead.size
        length = head - LENGTH_SIZE
        most = min(most, LARGEST_COPY)
        framed = crc = 0
        for low, second, payload, nbytes in messages:
            if nbytes > most or at > _FULL:
                break
            put(buffer, at, length + nbytes << 48 | base | low, second)
            body = at + head
            stop = body + nbytes
            buffer[body:stop] = payload
            pad = at - stop & 3  # MPA-5044-4.1-05
            if checked:
                crc = crc32c(buffer[at:stop])
                if pad:
                    crc = crc32c(PADS[pad], crc)  # MPA-5044-4.4-13: the pad is covered too
            _TRAILERS[pad](buffer, stop, crc)
            at = stop + pad + CRC_SIZE
            framed += 1
        self._at = at
        self.early_fpdus += framed
        if not at:
            self.flushed()  # an idle stream owns no buffer
        return framed

    def take_early(self) -> list[Octets]:
        """The FPDUs that were framed early, as a batch of their own; [] if there are none."""
        if not self.early_fpdus:
            return []
        self._count_early()
        self._mark = self._at
        return [self._buffer[: self._at]]

    def _count_early(self) -> None:
        self.framer.fpdus += self.early_fpdus
        self.framer.octets += self._at
        self.early_fpdus = 0

    def discard_early(self) -> None:
        """Discard the FPDUs that were framed early."""
        if self.early_fpdus:
            self.early_fpdus = 0
            self.flushed()

    def begin(self, out: list[Octets], room: int, fpdus: int) -> None:
        """Begin a batch: the pieces go to `out`; it is full after `room` octets or `fpdus` FPDUs.

        It is also full when copied octets fill the buffer. FPDUs that were framed early come first and do not count.
        """
        self._out = out
        self._room = room
        self._fpdus_left = fpdus
        if self.early_fpdus:
            self._count_early()

    def end(self) -> None:
        """The batch is complete."""
        if self._at > self._mark:
            self._seal()
        self._out = []

    def flushed(self) -> None:
        """The transport has released the pieces of the batch: return the buffer to the pool."""
        if self._buffer:
            give_buffer(self._buffer)
            self._buffer = NO_BUFFER
            self._at = self._mark = 0

    def forget(self) -> None:
        """Drop the buffer without returning it to the pool: a transport may still read it."""
        self._buffer = NO_BUFFER
        self._at = self._mark = self.early_fpdus = 0

    def pack(self, messages: deque[Outbound], given: list[Outbound], mulpdu: int, *, one: bool) -> bool:
        """Append FPDUs of the messages at the head of `messages` until the batch is full or none is left.

        Messages whose last segment was packed move from `messages` to `given`. At least one FPDU is made.
        With `one` no more than one message is begun. Returns whether the batch takes more.
        """
        if self._plain or messages[0].single is None:
            self._pack_plainly(messages, given, mulpdu)
        elif self._marks:
            self._pack_marked(messages[0], mulpdu)
            if messages[0].last_given:
                given.append(messages.popleft())
        else:
            self._pack_contiguous(messages, given, mulpdu, one=one)
        return self._room > 0 and self._fpdus_left > 0 and self._at <= _FULL

    def _pack_contiguous(self, messages: deque[Outbound], given: list[Outbound], mulpdu: int, *, one: bool) -> None:
        if not self._buffer:
            self._buffer = take_buffer()
        buffer, at, mark, out, checked = self._buffer, self._at, self._mark, self._out, self._crc
        room, fpdus_left = self._room, self._fpdus_left
        crc = 0  # MPA-5044-4.1-06: without CRC the field is there, its content free
        while messages and room > 0 and fpdus_left > 0 and at <= _FULL:
            message = messages[0]
            payload = message.single
            if payload is None:
                break
            most = mulpdu - message.HEADER_SIZE  # DDP-5041-5.2-02
            largest_copy = BUFFER_SIZE if message.volatile else LARGEST_COPY
            if isinstance(message, TaggedOutbound) and message.nbytes - message.sent > most:
                size = fpdu_size(TAGGED_SIZE + most)
                count = min(fpdus_left, -(-room // size))
                if most > largest_copy:
                    at, mark, begun = self._pack_views(message, payload, most, count, at, mark)
                else:
                    at, begun = self._pack_run(message, payload, most, min(count, (_FULL - at) // size + 1), at)
                room -= begun * size
                fpdus_left -= begun
            while room > 0 and fpdus_left > 0 and at <= _FULL:
                offset = message.sent
                nbytes = message.nbytes - offset
                if nbytes > most:
                    nbytes = most
                body = message.put_header(buffer, at, nbytes)
                size = body - at + nbytes
                pad = -size & 3  # MPA-5044-4.1-05
                if nbytes <= largest_copy:
                    stop = body + nbytes
                    buffer[body:stop] = payload if nbytes == message.nbytes else payload[offset : offset + nbytes]
                    if checked:
                        crc = crc32c(buffer[at:stop])
                else:
                    stop = body  # here the trailer follows the header: the payload comes between two pieces
                    view = memoryview(payload)[offset : offset + nbytes]
                    out += (buffer[mark:body], view)
                    mark = body
                    if checked:
                        crc = crc32c(view, crc32c(buffer[at:body]))
                if pad and checked:
                    crc = crc32c(PADS[pad], crc)  # MPA-5044-4.4-13: the pad is covered too
                _TRAILERS[pad](buffer, stop, crc)
                at = stop + pad + CRC_SIZE
                room -= size + pad + CRC_SIZE
                fpdus_left -= 1
                if message.last_given:
                    given.append(messages.popleft())
                    break
            if one:
                break
        self.framer.fpdus += self._fpdus_left - fpdus_left
        self.framer.octets += self._room - room
        self._room, self._fpdus_left, self._at, self._mark = room, fpdus_left, at, mark

    def _pack_run(self, message: TaggedOutbound, payload: Octets, most: int, count: int, at: int) -> tuple[int, int]:
        """Copy as many as `count` FPDUs that are full and not the last; returns where they end, and how many."""
        buffer, checked, offset = self._buffer, self._crc, message.sent
        word = message.lead(most)
        pad = -(_TAGGED_BODY + most) & 3
        lead, trail, zeros = TAGGED_LEAD.pack_into, _TRAILERS[pad], PADS[pad]
        crc = 0
        count = min(count, (message.nbytes - 1 - offset) // most)
        end = offset + count * most
        while offset < end:
            body = at + _TAGGED_BODY
            stop = body + most
            lead(buffer, at, word, message.to + offset & TO_MASK)
            buffer[body:stop] = payload[offset : offset + most]
            if checked:
                crc = crc32c(buffer[at:stop])
                if pad:
                    crc = crc32c(zeros, crc)
            trail(buffer, stop, crc)
            at = stop + pad + CRC_SIZE
            offset += most
        message.sent = end
        return at, count

    def _pack_views(
        self, message: TaggedOutbound, payload: Octets, most: int, count: int, at: int, mark: int
    ) -> tuple[int, int, int]:
        """As `_pack_run`, with payloads that stay where they are; returns where the last piece begins too."""
        buffer, checked, offset, out = self._buffer, self._crc, message.sent, self._out
        view = memoryview(payload)
        word = message.lead(most)
        pad = -(_TAGGED_BODY + most) & 3
        lead, trail, zeros, after = TAGGED_LEAD.pack_into, _TRAILERS[pad], PADS[pad], pad + CRC_SIZE
        crc = 0
        count = min(count, (message.nbytes - 1 - offset) // most)
        end = offset + count * most
        while offset < end:
            body = at + _TAGGED_BODY
            lead(buffer, at, word, message.to + offset & TO_MASK)
            piece = view[offset : offset + most]
            if checked:
                crc = crc32c(piece, crc32c(buffer[at:body]))
                if pad:
                    crc = crc32c(zeros, crc)
            trail(buffer, body, crc)
            out += (buffer[mark:body], piece)
            mark = body
            at = body + after
            offset += most
        message.sent = end
        return at, mark, count

    def _pack_marked(self, message: Outbound, mulpdu: int) -> None:
        """FPDUs of a contiguous message with their markers: the fast twin of `MarkedFramer.frame`."""
        if not self._buffer:
            self._buffer = take_buffer()
        buffer, at, checked, framer = self._buffer, self._at, self._crc, self.framer
        room, fpdus_left = self._room, self._fpdus_left
        payload = memoryview(message.single or b"")
        largest = mulpdu - message.HEADER_SIZE  # DDP-5041-5.2-02
        octets = framer.octets
        crc = 0
        while room > 0 and fpdus_left > 0 and at <= _FULL and not message.last_given:
            begin, sent = at, message.sent
            nbytes = min(message.nbytes - sent, largest)
            first = -octets % MARKER_SPACING  # MPA-5044-4.3-06: 0 is a marker in front of the FPDU
            count = markers_between(first, fpdu_size(message.HEADER_SIZE + nbytes))
            # first without markers, behind the room for them; then what is in front of each marker moves forward
            place = at + count * MARKER_SIZE
            body = message.put_header(buffer, place, nbytes)
            stop = body + nbytes
            buffer[body:stop] = payload[sent : sent + nbytes]
            if pad := place - stop & 3:  # MPA-5044-4.1-05
                buffer[stop : stop + pad] = PADS[pad]
                stop += pad
            for marker in markers_from(first)[:count]:  # MPA-5044-4.3-03, -04
                end = at + first
                buffer[at:end] = buffer[place : place + first]
                place += first
                at = end + MARKER_SIZE
                buffer[end:at] = marker
                first = BETWEEN_MARKERS
            if checked:
                crc = crc32c(buffer[begin:stop])  # MPA-5044-4.4-13..15: every marker up to the CRC field is covered
            _TRAILERS[0](buffer, stop, crc)
            at = stop + CRC_SIZE
            octets += at - begin
            room -= at - begin
            fpdus_left -= 1
        framer.fpdus += self._fpdus_left - fpdus_left
        framer.octets = octets
        self._at, self._room, self._fpdus_left = at, room, fpdus_left

    def _pack_plainly(self, messages: deque[Outbound], given: list[Outbound], mulpdu: int) -> None:
        if self._at > self._mark:
            self._seal()
        message = messages[0]
        while self._room > 0 and self._fpdus_left > 0:
            header, payload, nbytes = message.next_segment(mulpdu)
            self._room -= self.framer.frame(header, payload, nbytes, self._out)
            self._fpdus_left -= 1
            if message.last_given:
                given.append(messages.popleft())
                break

    def _seal(self) -> None:
        """Append the part of the buffer that was not appended yet, as one piece."""
        self._out.append(self._buffer[self._mark : self._at])
        self._mark = self._at
