"""A Terminate of the peer's, taken apart octet by octet (RFC 5040 §4.8) without the parser of the library."""

from __future__ import annotations

from typing import Final, NamedTuple

from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.errors import Term

__all__ = ["READ_SIZE", "TAGGED_SIZE", "UNTAGGED_SIZE", "Said", "take_apart"]

TAGGED_SIZE: Final = 14
UNTAGGED_SIZE: Final = 18
READ_SIZE: Final = 28


class Said(NamedTuple):
    """The fields of a Terminate; `rest` is what stands behind those that its bits announce."""

    seen: Message
    term: Term
    m: bool
    d: bool
    r: bool
    reserved: int
    length: int | None
    ddp_header: bytes
    rdma_header: bytes
    rest: bytes

    @property
    def bits(self) -> str:
        """M, D and R as digits."""
        return f"{self.m:d}{self.d:d}{self.r:d}"

    def fail(self, expected: str, came: str) -> Failed:
        """What to raise."""
        return Failed(expected, came, self.seen.annotated())


def take_apart(seen: Message, octets: bytes | None = None) -> Said:
    """The fields of RFC 5040 figure 8 in order; `Failed` if it ends inside one.

    `octets` are the message if not the payload of `seen`: for a peer whose layout of it is allowed for.
    """
    if octets is None:
        octets = seen.segment.payload if seen.segment is not None else b""
    if len(octets) < 4:
        raise Failed("a Terminate of four octets or more", f"{len(octets)}", seen.annotated())
    flags, position = octets[2], 4

    def take(size: int, wanted: bool) -> bytes:
        nonlocal position
        part = octets[position : position + size] if wanted else b""
        if wanted and len(part) < size:
            raise Failed("what the bits M, D and R announce", "a Terminate that ends before", seen.annotated())
        position += len(part)
        return part

    m, d, r = bool(flags & 0x80), bool(flags & 0x40), bool(flags & 0x20)
    length = take(2, m or d)
    tagged = bool(d and octets[position : position + 1] >= b"\x80")
    ddp_header = take(TAGGED_SIZE if tagged else UNTAGGED_SIZE, d)
    rdma_header = take(READ_SIZE, r)
    term = Term(octets[0] >> 4, octets[0] & 0x0F, octets[1])
    number = int.from_bytes(length, "big") if m else None
    reserved = (flags & 0x1F) << 8 | octets[3]
    return Said(seen, term, m, d, r, reserved, number, ddp_header, rdma_header, octets[position:])
