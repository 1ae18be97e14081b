"""WholeMessage messages of the peer's: all segments of one, and what must hold for them together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, Pattern, message
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.decode.segments import Segment

__all__ = ["WholeMessage", "receive_matching", "receive_whole", "segment_of"]


def segment_of(seen: Message) -> Segment:
    """The DDP segment of an FPDU; `Failed` if its ULPDU is too short for one."""
    if seen.segment is None:
        raise Failed("a DDP segment", str(seen), seen.annotated())
    return seen.segment


@dataclass(frozen=True)
class WholeMessage:
    """One message in the segments in which it came."""

    parts: tuple[Message, ...]

    @property
    def segments(self) -> list[Segment]:
        """Its DDP segments."""
        return [segment_of(part) for part in self.parts]

    @property
    def first(self) -> Segment:
        """Its first segment."""
        return segment_of(self.parts[0])

    @property
    def opcode(self) -> int:
        """The opcode of its first segment."""
        return self.first.opcode

    @property
    def payload(self) -> bytes:
        """The payloads one behind the other, as they came."""
        return b"".join(segment.payload for segment in self.segments)

    def every(self, expected: str, holds: Callable[[Segment], bool]) -> None:
        """Each segment must pass `holds`; `expected` says what that is."""
        for number, part in enumerate(self.parts):
            if not holds(segment_of(part)):
                raise Failed(f"{expected} in segment {number}", str(part), part.annotated())

    def alike(self, name: str) -> None:
        """A field of the header must be the same in each segment."""
        due = getattr(self.first, name)
        self.every(f"{name}={due:#x} as in the first", lambda segment: getattr(segment, name) == due)

    def fields(self, **due: object) -> None:
        """Each segment must have these values in its header."""
        for name, value in due.items():
            self.every(f"{name}={value}", partial(_has, name, value))

    def contiguous(self, start: int = 0) -> None:
        """Each offset (TO or MO) must be where the segment before has ended; the first is `start`."""
        due = start
        for number, part in enumerate(self.parts):
            segment = segment_of(part)
            offset = segment.to if segment.tagged else segment.mo
            if offset != due & 0xFFFF_FFFF_FFFF_FFFF:
                raise Failed(f"offset {due:#x} in segment {number}", f"offset {offset:#x}", part.annotated())
            due += len(segment.payload)

    def carries(self, octets: bytes) -> None:
        """The payload must be `octets`."""
        if self.payload == octets:
            return
        pairs = enumerate(zip(self.payload, octets, strict=False))
        at = next((i for i, (one, other) in pairs if one != other), min(len(self.payload), len(octets)))
        came = f"{len(self.payload)} octets, {self.payload[at : at + 8].hex() or 'none'} at {at}"
        raise Failed(f"{len(octets)} octets, {octets[at : at + 8].hex() or 'none'} at {at}", came)

    def several(self, least: int = 2) -> None:
        """It must have come in at least so many segments, or the case shows nothing."""
        if len(self.parts) < least:
            raise Failed(f"{least} segments or more", f"{len(self.parts)}", self.parts[0].annotated())


def _has(name: str, value: object, segment: Segment) -> bool:
    return bool(getattr(segment, name) == value)


async def receive_whole(stream: Stream, opcode: int | None = None, **fields: object) -> WholeMessage:
    """The next message, whole; each segment must have `opcode` and these fields."""
    return await receive_matching(stream, message(opcode, **fields))


async def receive_matching(stream: Stream, pattern: Pattern) -> WholeMessage:
    """FPDUs that fit `pattern` until one has L set."""
    parts: list[Message] = []
    while True:
        seen = await stream.expect_message(pattern)
        parts.append(seen)
        if segment_of(seen).last:
            return WholeMessage(tuple(parts))
