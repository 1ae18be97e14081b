"""Tagged segments that come: where they are placed, and which are refused (RFC 5041 §4.2, §5.2, §7.1, §8)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import region_pattern
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_BOUNDS,
    DDP_TAGGED_NOT_ASSOCIATED,
    DDP_TAGGED_STAG,
    DDP_TAGGED_VERSION,
    DDP_TAGGED_WRAP,
    RDMAP_ACCESS,
    RDMAP_OPCODE,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.refusals import expect_regions_unchanged, refusal, unknown_stag

__all__ = ["expect_placed_at_most"]

TO_LIMIT: Final = 1 << 64
LOOK_AGAIN: Final = 0.01  # seconds
WRITE: Final = Opcode.WRITE
OCTETS: Final = bytes(range(1, 9))


async def read_back(bench: Bench, stream: Stream, offset: int, octets: bytes) -> None:
    """A Read of the region must give `octets`; a target program must say the same."""
    came = await stream.expect_read(bench.rw.stag, bench.rw.to + offset, len(octets))
    if came != octets:
        raise Failed(f"{octets[:16].hex()} at offset {offset}", came[:16].hex())
    if bench.has_target:
        await bench.target.expect_memory("rw", offset, octets)


# --- placement -------------------------------------------------------------------------------------------------------


@case(
    "DDP-5041-4.1-01",
    "the payload of a tagged segment goes into its tagged buffer",
    level=Level.RPING,
    needs=[Need.REGION],
)
async def placed(bench: Bench) -> None:
    """A Write of eight octets to the beginning of the region, then a Read of the same.

    Accepts: a Read Response with the eight octets.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to, OCTETS)
    await read_back(bench, stream, 0, OCTETS)


@case("DDP-5041-4.2-09", "a tagged message may start at any TO of the buffer", level=Level.RPING, needs=[Need.REGION])
async def odd_offset(bench: Bench) -> None:
    """A Write of three octets to the second octet of the region, then a Read of them.

    Accepts: a Read Response with the three octets.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to + 1, b"abc")
    await read_back(bench, stream, 1, b"abc")


@case(
    "DDP-5041-4.2-09/2",
    "a tagged message may start at the last octet of the buffer",
    level=Level.RPING,
    needs=[Need.REGION],
)
async def last_octet(bench: Bench) -> None:
    """A Write of one octet to the last octet of the region, then a Read of it.

    Accepts: a Read Response with this octet.
    """
    stream = await bench.open()
    offset = bench.rw.length - 1
    await stream.write(bench.rw.stag, bench.rw.to + offset, b"z")
    await read_back(bench, stream, offset, b"z")


@case("DDP-5041-5.2-05", "every segment of a Write is placed", level=Level.TARGET)
async def seven_segments(bench: Bench) -> None:
    """A Write of 3,000 octets in seven segments of different sizes, then a Read of all.

    Accepts: a Read Response with the 3,000 octets; the memory around them is as it was.
    """
    stream = await bench.open()
    octets = bytes(i * 13 & 0xFF for i in range(3000))
    edges = (0, 1, 8, 507, 1024, 1027, 2900, 3000)
    segments = []
    for start, end in pairwise(edges):
        to = bench.rw.to + 500 + start
        segments.append(build_tagged(WRITE, bench.rw.stag, to, octets[start:end], last=end == 3000))
    await stream.fpdus(segments)
    await read_back(bench, stream, 500, octets)
    around = region_pattern("rw", bench.rw.length)
    await bench.target.expect_memory("rw", 0, around[:500])
    await bench.target.expect_memory("rw", 3500, around[3500:])


@case("DDP-5041-5.2-05/2", "segments of two Writes to two regions go each to its own", level=Level.TARGET)
async def two_regions(bench: Bench) -> None:
    """Two Writes in two segments each, to the readable and writable region and to the one that is only writable.

    Accepts: both regions hold what was written to them, and nothing else has changed.
    """
    stream = await bench.open()
    for region, octets in ((bench.rw, OCTETS), (bench.wo, OCTETS[::-1])):
        await stream.write(region.stag, region.to, octets[:3], last=False)
        await stream.write(region.stag, region.to + 3, octets[3:])
    await stream.probe()
    await bench.target.expect_memory("rw", 0, OCTETS + region_pattern("rw", 16)[8:])
    await bench.target.expect_memory("wo", 0, OCTETS[::-1] + region_pattern("wo", 16)[8:])


@case(
    "DDP-5041-7.1-13/2",
    "a Write that ends exactly at the end of the region is placed",
    level=Level.RPING,
    needs=[Need.REGION],
)
async def exact_end(bench: Bench) -> None:
    """A Write of the last eight octets of the region, then a Read of them.

    Accepts: a Read Response with the eight octets.
    """
    stream = await bench.open()
    offset = bench.rw.length - 8
    await stream.write(bench.rw.stag, bench.rw.to + offset, OCTETS)
    await read_back(bench, stream, offset, OCTETS)


# --- what is ignored -------------------------------------------------------------------------------------------------


@case("DDP-5041-4.1-10", "the reserved bits of a tagged segment are not checked")
async def reserved_bits(bench: Bench) -> None:
    """Empty Writes with each of the four reserved bits set, and with all of them; then a Read of zero octets.

    Accepts: an empty Read Response.
    """
    stream = await bench.open()
    for rsvd in (1, 2, 4, 8, 15):
        await stream.write(0, 0, ddp_rsvd=rsvd)
    await stream.probe()


@case("DDP-5041-5.2-12", "the STag of an empty Write is not checked: 0")
async def empty_stag_zero(bench: Bench) -> None:
    """An empty Write to STag 0, then a Read of zero octets.

    Accepts: an empty Read Response.
    """
    stream = await bench.open()
    await stream.write(0, 0)
    await stream.probe()


@case("DDP-5041-5.2-12/2", "the STag of an empty Write is not checked: an unknown one")
async def empty_stag_unknown(bench: Bench) -> None:
    """An empty Write to an STag that names nothing, then a Read of zero octets.

    Accepts: an empty Read Response.
    """
    stream = await bench.open()
    await stream.write(unknown_stag(bench), 0x1000)
    await stream.probe()


@case("DDP-5041-5.2-12/3", "the TO of an empty Write is not checked")
async def empty_to(bench: Bench) -> None:
    """An empty Write to an unknown STag at the greatest TO there is, then a Read of zero octets.

    Accepts: an empty Read Response.
    """
    stream = await bench.open()
    await stream.write(unknown_stag(bench), TO_LIMIT - 1)
    await stream.probe()


@case(
    "DDP-5041-7.1-15", "an empty Write beyond the end of a region is no error", level=Level.RPING, needs=[Need.REGION]
)
async def empty_outside(bench: Bench) -> None:
    """Empty Writes to the region's STag right after its end, far after and before its beginning.

    Accepts: an empty Read Response to the Read of zero octets that follows.
    """
    stream = await bench.open()
    for to in (bench.rw.to + bench.rw.length, bench.rw.to + 2 * bench.rw.length, bench.rw.to - 1):
        await stream.write(bench.rw.stag, to)
    await stream.probe()


@case("DDP-5041-7.1-15/2", "an empty Write to a region without write right is no error", level=Level.TARGET)
async def empty_read_only(bench: Bench) -> None:
    """An empty Write to the region that may only be read.

    Accepts: an empty Read Response to the Read of zero octets that follows.
    """
    stream = await bench.open()
    await stream.write(bench.ro.stag, bench.ro.to)
    await stream.probe()


@case("DDP-5041-4.4-01/2", "a segment that is nothing but a tagged header is lawful")
async def header_alone(bench: Bench) -> None:
    """An empty Write: a ULPDU of 14 octets.

    Accepts: an empty Read Response to the Read of zero octets that follows.
    """
    stream = await bench.open()
    await stream.fpdu(build_tagged(WRITE, 0x12345678, 0x1000))
    await stream.probe()


refusal(
    "DDP-5041-4.2-03",
    "the octet that DDP leaves to RDMAP is given to it",
    "An empty tagged segment with opcode 15.",
    lambda bench, stream: build_tagged(0xF, 0, 0),
    RDMAP_OPCODE,
)

# --- headers that are none -------------------------------------------------------------------------------------------


@case("DDP-5041-4.4-01", "a ULPDU that ends inside a tagged header ends the stream")
async def short_header(bench: Bench) -> None:
    """On connections of their own, ULPDUs of 1, 6 and 13 octets that begin as a Write.

    Accepts: a Terminate of any kind, or the end of the stream without one; a new connection works.
    """
    for size in (1, 6, 13):
        stream = await bench.open()
        await stream.fpdu(build_tagged(WRITE, 0, 0)[:size])
        await stream.expect_torn_down()
    stream = await bench.open()
    await stream.probe()


refusal(
    "DDP-5041-7.2-03",
    "DDP version 0 in a tagged segment is refused",
    "An empty Write with DV 0.",
    lambda bench, stream: build_tagged(WRITE, 0, 0, dv=0),
    DDP_TAGGED_VERSION,
    also=("DDP-5041-4.1-12",),
)
refusal(
    "DDP-5041-7.2-03/2",
    "DDP version 2 in a tagged segment is refused",
    "An empty Write with DV 2.",
    lambda bench, stream: build_tagged(WRITE, 0, 0, dv=2),
    DDP_TAGGED_VERSION,
)
refusal(
    "DDP-5041-7.2-03/3",
    "DDP version 3 in a tagged segment is refused",
    "An empty Write with DV 3.",
    lambda bench, stream: build_tagged(WRITE, 0, 0, dv=3),
    DDP_TAGGED_VERSION,
)
refusal(
    "DDP-5041-5.2-11",
    "the DDP version of an empty segment counts, whatever its STag",
    "An empty Write with DV 2 to an unknown STag at the greatest TO.",
    lambda bench, stream: build_tagged(WRITE, unknown_stag(bench), TO_LIMIT - 1, dv=2),
    DDP_TAGGED_VERSION,
)
refusal(
    "DDP-5041-4.1-12",
    "the DDP version may not change within a tagged message",
    "A Write in two segments, the second with DV 0, to the readable and writable region.",
    lambda bench, stream: [
        build_tagged(WRITE, bench.rw.stag, bench.rw.to, region_pattern("rw", 4), last=False),
        build_tagged(WRITE, bench.rw.stag, bench.rw.to + 4, OCTETS, dv=0),
    ],
    DDP_TAGGED_VERSION,
    level=Level.TARGET,
    also=("DDP-5041-4.1-01",),
)


# --- STags -----------------------------------------------------------------------------------------------------------

refusal(
    "DDP-5041-7.1-10",
    "a Write to an unknown STag is refused",
    "A Write of one octet to an STag that names nothing.",
    lambda bench, stream: build_tagged(WRITE, unknown_stag(bench), 0x1000, b"x"),
    DDP_TAGGED_STAG,
    also=("RDMAP-5040-3.2-05",),
)
refusal(
    "DDP-5041-7.1-10/2",
    "a Write with payload to STag 0 is refused",
    "A Write of one octet to STag 0, which a target never gives away.",
    lambda bench, stream: build_tagged(WRITE, 0, 0, b"x"),
    DDP_TAGGED_STAG,
    level=Level.TARGET,
)
refusal(
    "DDP-5041-7.1-10/3",
    "each segment of a Write is checked: the second names an unknown STag",
    "A Write in two segments, the first as it should be, the second with an STag that names nothing.",
    lambda bench, stream: [
        build_tagged(WRITE, bench.rw.stag, bench.rw.to, region_pattern("rw", 4), last=False),
        build_tagged(WRITE, unknown_stag(bench), bench.rw.to + 4, OCTETS),
    ],
    DDP_TAGGED_STAG,
    level=Level.TARGET,
)
refusal(
    "DDP-5041-7.1-10/4",
    "a segment that is not the last is checked too",
    "A segment with payload and without L to an STag that names nothing.",
    lambda bench, stream: build_tagged(WRITE, unknown_stag(bench), 0x1000, OCTETS, last=False),
    DDP_TAGGED_STAG,
)
refusal(
    "DDP-5041-7.1-10/5",
    "an STag that differs from a known one in one bit is unknown",
    "A Write of eight octets to the region's STag with its lowest bit changed.",
    lambda bench, stream: build_tagged(WRITE, bench.rw.stag ^ 1, bench.rw.to, OCTETS),
    DDP_TAGGED_STAG,
    level=Level.TARGET,
)
refusal(
    "DDP-5041-7.1-10/6",
    "an STag with its octets reversed is unknown",
    "A Write of eight octets to the region's STag in the other byte order.",
    lambda bench, stream: build_tagged(
        WRITE, int.from_bytes(bench.rw.stag.to_bytes(4, "little"), "big") ^ 0x100, bench.rw.to, OCTETS
    ),
    DDP_TAGGED_STAG,
    level=Level.TARGET,
)
refusal(
    "DDP-5041-7.1-11",
    "a Write to a region that may only be read is refused",
    "A Write of eight octets to the region that grants remote read alone. DDP has no code for rights.",
    lambda bench, stream: build_tagged(WRITE, bench.ro.stag, bench.ro.to, OCTETS),
    DDP_TAGGED_STAG,
    DDP_TAGGED_BOUNDS,
    RDMAP_ACCESS,
    level=Level.TARGET,
    also=("SEC-5040-8.1.1-05",),
)
refusal(
    "DDP-5041-7.2-02",
    "a Write to an STag of another protection domain is refused",
    "A Write of eight octets to the region whose STag is not associated with this stream.",
    lambda bench, stream: build_tagged(WRITE, bench.other.stag, bench.other.to, OCTETS),
    DDP_TAGGED_NOT_ASSOCIATED,
    DDP_TAGGED_STAG,
    level=Level.TARGET,
    also=("DDP-5041-8.2-01", "SEC-5040-8.1.1-01"),
)


@case("DDP-5041-8.3-02", "an STag that was revoked is refused", level=Level.TARGET, also=("SEC-5042-6.2.2-02",))
async def revoked(bench: Bench) -> None:
    """A Write to the region, which works; then, once the target has taken the STag back, another one.

    Accepts: Terminate 1/1/00; the memory holds what the first Write brought.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to, OCTETS)
    await stream.probe()
    await bench.target.command("invalidate", {"region": "rw"})
    await stream.write(bench.rw.stag, bench.rw.to, OCTETS[::-1])
    await stream.expect_terminated(DDP_TAGGED_STAG)
    await bench.target.expect_memory("rw", 0, OCTETS + region_pattern("rw", bench.rw.length)[8:])


async def until_placed(bench: Bench, octets: bytes) -> None:
    """Wait until the region begins with `octets`; no message may come between the segments of another."""
    came = b""
    for _ in range(int(bench.settings.timeout / LOOK_AGAIN)):
        if (came := await bench.target.memory("rw", 0, len(octets))) == octets:
            return
        await asyncio.sleep(LOOK_AGAIN)
    raise Failed(f"a region that begins with {octets.hex()}", f"one that begins with {came.hex()}")


@case("DDP-5041-8.3-01", "an STag that was revoked is no longer placed to in the middle of a Write", level=Level.TARGET)
async def revoked_midway(bench: Bench) -> None:
    """The first segment of a Write; when the target has taken the STag back, the second.

    Accepts: Terminate 1/1/00; the memory holds the first segment and not the second.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to, OCTETS[:4], last=False)
    await until_placed(bench, OCTETS[:4])
    await bench.target.command("invalidate", {"region": "rw"})
    await stream.write(bench.rw.stag, bench.rw.to + 4, OCTETS[4:])
    await stream.expect_terminated(DDP_TAGGED_STAG)
    await bench.target.expect_memory("rw", 0, OCTETS[:4] + region_pattern("rw", 8)[4:])


# --- bounds ----------------------------------------------------------------------------------------------------------


async def expect_placed_at_most(bench: Bench, offset: int, octets: bytes) -> None:
    """Of a Write that begins at `offset` and passes the end, the memory may hold the first octets, and nothing else.

    Whoever finds the error ceases placing the remainder (RFC 5041 §7.1); what is placed before may stay.
    """
    if not bench.has_target:
        return
    due, memory = region_pattern("rw", bench.rw.length), await bench.target.memory("rw")
    inside = octets[: max(0, bench.rw.length - offset)]
    if memory not in {due[:offset] + inside[:n] + due[offset + n :] for n in range(len(inside) + 1)}:
        raise Failed(f"memory that holds what was sent, or what was there, from {offset} on", "other memory")


def _across_end(id: str, title: str, inside: int, nbytes: int) -> None:
    """A Write of `nbytes` octets, of which the first `inside` lie in the region."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        octets = b"\xc3" * nbytes
        offset = bench.rw.length - inside
        await stream.write(bench.rw.stag, bench.rw.to + offset, octets)
        await stream.expect_terminated(DDP_TAGGED_BOUNDS)
        await expect_placed_at_most(bench, offset, octets)

    run.__doc__ = (
        f"A Write of {nbytes} octets, of which the first {inside} lie in the region.\n\n"
        f"Accepts: Terminate {DDP_TAGGED_BOUNDS}; nothing is changed but what lies inside, if that."
    )
    case(id, title, level=Level.RPING, needs=[Need.REGION])(run)


def _outside(id: str, title: str, offset: int, nbytes: int, *, behind_end: bool) -> None:
    """A Write of `nbytes` octets that begins `offset` octets from the beginning or the end of the region."""
    side = "beyond" if offset >= 0 else "before"
    where = f"{abs(offset)} octets {side} the region's {'end' if behind_end else 'base'}"

    def build(bench: Bench, stream: Stream) -> bytes:
        base = bench.rw.to + (bench.rw.length if behind_end else 0)
        return build_tagged(WRITE, bench.rw.stag, base + offset, bytes(0xC3 for _ in range(nbytes)))

    sends = f"A Write of {nbytes} octets that begins {where}."
    refusal(id, title, sends, build, DDP_TAGGED_BOUNDS, level=Level.RPING, needs=[Need.REGION])


_outside("DDP-5041-7.1-12", "a Write to the octet before the region is refused", -1, 1, behind_end=False)
_outside("DDP-5041-7.1-12/2", "a Write to the octet beyond the region is refused", 0, 1, behind_end=True)
_outside("DDP-5041-7.1-12/3", "a Write far beyond the region is refused", 1 << 20, 8, behind_end=True)
_outside("DDP-5041-7.1-12/4", "a Write across the beginning of the region is refused", -4, 8, behind_end=False)
_across_end("DDP-5041-7.1-13", "a Write across the end of the region is refused", 8, 16)
_across_end("DDP-5041-7.1-13/3", "a Write one octet too long is refused", 8, 9)
_across_end("DDP-5041-7.1-13/4", "a long Write whose last octet lies beyond the region is refused", 2000, 2001)
refusal(
    "DDP-5041-7.1-12/5",
    "TO counts with all its 64 bits",
    "A Write of eight octets to a TO that is right in its lower 32 bits alone.",
    lambda bench, stream: build_tagged(WRITE, bench.rw.stag, bench.rw.to ^ (1 << 60), OCTETS),
    DDP_TAGGED_BOUNDS,
    level=Level.RPING,
    needs=[Need.REGION],
)


@case("DDP-5041-7.1-13/5", "each segment of a Write is checked: the second runs over the end", level=Level.TARGET)
async def second_segment_outside(bench: Bench) -> None:
    """A Write in two segments, of which the second passes the end of the region by one octet.

    Accepts: Terminate 1/1/01; nothing is changed but what lies inside, if that.
    """
    stream = await bench.open()
    offset = bench.rw.length - 12
    await stream.write(bench.rw.stag, bench.rw.to + offset, OCTETS[:4], last=False)
    await stream.write(bench.rw.stag, bench.rw.to + offset + 4, bytes(9))
    await stream.expect_terminated(DDP_TAGGED_BOUNDS)
    await expect_placed_at_most(bench, offset, OCTETS[:4] + bytes(9))


refusal(
    "DDP-5041-7.1-14",
    "a Write whose TO and length pass 2^64 is refused",
    "A Write of 16 octets to the region's STag, eight octets before 2^64.",
    lambda bench, stream: build_tagged(WRITE, bench.rw.stag, TO_LIMIT - 8, bytes(16)),
    DDP_TAGGED_WRAP,
    DDP_TAGGED_BOUNDS,
    level=Level.RPING,
    needs=[Need.REGION],
)
refusal(
    "DDP-5041-7.1-14/2",
    "a Write to the very last octet of the 64-bit space is refused",
    "A Write of one octet to the region's STag at the greatest TO there is.",
    lambda bench, stream: build_tagged(WRITE, bench.rw.stag, TO_LIMIT - 1, b"x"),
    DDP_TAGGED_WRAP,
    DDP_TAGGED_BOUNDS,
    level=Level.RPING,
    needs=[Need.REGION],
)
refusal(
    "DDP-5041-7.1-14/3",
    "a Write that would reach the region by wrapping is refused",
    "A Write that begins four octets before 2^64 and has 8 octets.",
    lambda bench, stream: build_tagged(WRITE, bench.rw.stag, TO_LIMIT - 4, OCTETS),
    DDP_TAGGED_WRAP,
    DDP_TAGGED_BOUNDS,
    level=Level.RPING,
    needs=[Need.REGION],
)


@case("SEC-5040-8.1.1-03", "no Write reaches an octet outside the region", level=Level.TARGET)
async def guards(bench: Bench) -> None:
    """On connections of their own, Writes of 1 to 64 octets that cross either end of the region.

    Accepts: a Terminate each time; the octets around the region and all in it are as they were.
    """
    for size in (1, 2, 7, 64):
        for before in (True, False):
            stream = await bench.open()
            to = bench.rw.to - size if before else bench.rw.to + bench.rw.length
            await stream.write(bench.rw.stag, to, bytes(size))
            await stream.expect_terminated(DDP_TAGGED_BOUNDS)
            await expect_regions_unchanged(bench)
