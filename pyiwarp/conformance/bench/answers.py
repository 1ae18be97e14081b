"""What the peer answers, held against what the bench has asked: Read Responses and Atomic Responses, in their order.

RFC 5040 §4.4 and §5.2; RFC 7306 §5.2 and §7.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from pyiwarp.codes import ATOMIC_REQUEST_SIZE, Opcode, QueueNumber
from pyiwarp.conformance.bench.breaches import Breach
from pyiwarp.conformance.bench.segments import TO_MASK
from pyiwarp.conformance.bench.sequences import Extent
from pyiwarp.decode.segments import Segment
from pyiwarp.wire import AtomicRequestHeader, ReadRequestHeader

__all__ = ["Answers"]


class Read(NamedTuple):
    """A Read Request of the bench's: where its Response goes, and how many octets it has."""

    stag: int
    to: int
    size: int


class Atomic(NamedTuple):
    """An Atomic Request of the bench's, by its Request Identifier."""

    identifier: int


class Answers:
    """The requests that the peer has not answered yet, the oldest first."""

    def __init__(self) -> None:
        self._due: deque[Read | Atomic] = deque()
        self._extent = Extent()  # of the Response at hand

    def asked(self, segment: Segment) -> None:
        """The bench sends `segment`; it may be a request, right or wrong. A wrong one has no answer."""
        if segment.tagged or segment.qn != QueueNumber.READ_REQUEST or segment.mo:
            return
        if segment.opcode == Opcode.READ_REQUEST and len(segment.payload) >= ReadRequestHeader.sizeof():
            header = ReadRequestHeader.parse(segment.payload)
            self._due.append(Read(header.sink_stag, header.sink_to, header.read_size))
        elif segment.opcode == Opcode.ATOMIC_REQUEST and len(segment.payload) >= ATOMIC_REQUEST_SIZE:
            self._due.append(Atomic(AtomicRequestHeader.parse(segment.payload).request_id))

    def take(self, segment: Segment) -> Iterator[Breach]:
        """A segment of the peer's that may be an answer."""
        if segment.opcode == Opcode.READ_RESPONSE:
            yield from self._read_response(segment)
        elif segment.opcode == Opcode.ATOMIC_RESPONSE:
            yield from self._atomic_response(segment)

    def _read_response(self, segment: Segment) -> Iterator[Breach]:
        if not self._due:
            yield Breach("RDMAP-5040-5.2-01", "no Read Response: every Read is answered", str(segment))
            return
        asked = self._due[0]
        if isinstance(asked, Atomic):
            yield Breach("EXT-7306-7-01", f"the answer to Atomic {asked.identifier:#x} before", str(segment))
            return
        if segment.stag != asked.stag:
            yield Breach("RDMAP-5040-4.4-02", f"a Read Response to STag {asked.stag:#x}", f"to STag {segment.stag:#x}")
        offset = (segment.to - asked.to) & TO_MASK
        if offset > asked.size:
            yield Breach("RDMAP-5040-4.4-03", f"a Read Response from TO {asked.to:#x} on", f"at TO {segment.to:#x}")
        self._extent.add(offset, len(segment.payload))
        if segment.last:
            yield from self._size_breaches(asked)
            self._due.popleft()
            self._extent = Extent()

    def _size_breaches(self, asked: Read) -> Iterator[Breach]:
        if wrong := self._extent.interruption(0):
            rule = "DDP-5041-5.2-09" if wrong[0] else "RDMAP-5040-4.4-03"
            expected, came = (f"TO {(asked.to + offset) & TO_MASK:#x}" for offset in wrong)
            yield Breach(rule, f"a segment of the Read Response at {expected}", came)
        elif self._extent.end != asked.size:
            yield Breach("RDMAP-5040-4.4-05", f"a Read Response of {asked.size} octets", f"one of {self._extent.end}")

    def _atomic_response(self, segment: Segment) -> Iterator[Breach]:
        if not self._due:
            yield Breach("EXT-7306-5-06", "no Atomic Response: every Atomic is answered", str(segment))
            return
        asked = self._due.popleft()
        if isinstance(asked, Read):
            yield Breach("EXT-7306-7-01", f"the Response to the Read of {asked.size} octets before", str(segment))
            return
        identifier = int.from_bytes(segment.payload[:4], "big")
        if identifier != asked.identifier:
            yield Breach("EXT-7306-5.2.1-05", f"Request Identifier {asked.identifier:#x}", f"{identifier:#x}")
