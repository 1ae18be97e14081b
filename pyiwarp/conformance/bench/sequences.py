"""The peer's messages one after the other: their numbers, and whether their segments make them up (RFC 5041 §4, §5).

A message's segments may come in any order of their offsets, except that the one with L is the last (§4.1, §5.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from pyiwarp.conformance.bench.breaches import Breach
from pyiwarp.decode.segments import Segment

__all__ = ["Extent", "UntaggedSequence", "WriteSequence"]

MSN_MASK = 0xFFFF_FFFF


class Extent:
    """The octets of one message that have come, as intervals of offsets."""

    def __init__(self) -> None:
        self._intervals: list[tuple[int, int]] = []

    def add(self, offset: int, nbytes: int) -> None:
        """A segment carries `nbytes` octets from `offset` on."""
        begin = offset
        if self._intervals and self._intervals[-1][1] == offset:
            begin, _ = self._intervals.pop()
        self._intervals.append((begin, offset + nbytes))

    @property
    def first(self) -> int:
        """The lowest offset."""
        return min(begin for begin, _ in self._intervals)

    @property
    def end(self) -> int:
        """The offset behind the highest octet."""
        return max(end for _, end in self._intervals)

    def interruption(self, start: int) -> tuple[int, int] | None:
        """The offset that is due and the one that came, where the octets from `start` on are not there once each."""
        due = start
        for begin, end in sorted(self._intervals):
            if begin != due:
                return due, begin
            due = end
        return None


class UntaggedSequence:
    """The messages on one untagged queue."""

    def __init__(self) -> None:
        self._due = 1
        self._first: Segment | None = None
        self._extent = Extent()

    def take(self, segment: Segment) -> Iterator[Breach]:
        """The next segment on the queue."""
        if self._first is None:
            yield from self._number_breaches(segment)
            self._first, self._due, self._extent = segment, segment.msn, Extent()
        else:
            yield from self._difference(self._first, segment)
        self._extent.add(segment.mo, len(segment.payload))
        if segment.last:
            self._first, self._due = None, (self._due + 1) & MSN_MASK
            yield from self._whole_breaches(segment)

    def _number_breaches(self, segment: Segment) -> Iterator[Breach]:
        if segment.msn != self._due:
            rule = "DDP-5041-4.3-08" if self._due == 1 else "DDP-5041-4.3-07"
            yield Breach(rule, f"MSN {self._due} on queue {segment.qn}", f"MSN {segment.msn}")

    def _difference(self, first: Segment, segment: Segment) -> Iterator[Breach]:
        if segment.msn != first.msn:
            expected = f"MSN {first.msn} on queue {segment.qn} until a segment has L=1"
            yield Breach("DDP-5041-4.3-10", expected, f"MSN {segment.msn}")
        if (segment.opcode, segment.inval_stag) != (first.opcode, first.inval_stag):
            expected = f"RDMAP's octets as in the first segment: {first.name}, STag {first.inval_stag:#x}"
            yield Breach("DDP-5041-4.3-04", expected, f"{segment.name}, STag {segment.inval_stag:#x}")

    def _whole_breaches(self, last: Segment) -> Iterator[Breach]:
        if wrong := self._extent.interruption(0):
            rule = "DDP-5041-5.2-07" if wrong[0] else "DDP-5041-4.3-11"
            yield Breach(rule, f"a segment at MO {wrong[0]} of the {last.name}", f"MO {wrong[1]}")
        elif last.mo + len(last.payload) != self._extent.end:
            yield Breach("DDP-5041-4.1-06", f"L=1 in the segment that ends at {self._extent.end}", f"at MO {last.mo}")


class WriteSequence:
    """The RDMA Writes."""

    def __init__(self) -> None:
        self._first: Segment | None = None
        self._extent = Extent()

    def take(self, segment: Segment) -> Iterator[Breach]:
        """The next segment of a Write."""
        if self._first is None:
            self._first, self._extent = segment, Extent()
        elif segment.stag != self._first.stag:
            expected = f"STag {self._first.stag:#x} until a segment of the Write has L=1"
            yield Breach("DDP-5041-4.2-08", expected, f"STag {segment.stag:#x}")
        self._extent.add(segment.to, len(segment.payload))
        if segment.last:
            self._first = None
            yield from self._whole_breaches(segment)

    def _whole_breaches(self, last: Segment) -> Iterator[Breach]:
        if wrong := self._extent.interruption(self._extent.first):
            yield Breach("DDP-5041-5.2-09", f"a segment at TO {wrong[0]:#x} of the Write", f"TO {wrong[1]:#x}")
