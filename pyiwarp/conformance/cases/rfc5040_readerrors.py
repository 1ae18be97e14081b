"""Reads that are refused: of memory that the peer may not have, and Requests that are none (RFC 5040 §5.2.1, §7.2)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Region
from pyiwarp.conformance.bench.segments import build_read_request, build_untagged
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.terms import (
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    RDMAP_ACCESS,
    RDMAP_BOUNDS,
    RDMAP_NOT_ASSOCIATED,
    RDMAP_OPCODE,
    RDMAP_OPERATION_UNSPECIFIED,
    RDMAP_STAG,
    RDMAP_STREAM_CATASTROPHE,
    RDMAP_VERSION,
    RDMAP_WRAP,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.refusals import Build, refusal, unknown_stag
from pyiwarp.conformance.cases.rfc5040_reads import request

__all__: list[str] = []

TARGET: Final = Level.TARGET
REGION: Final = [Need.REGION]
READ: Final = Opcode.READ_REQUEST
TO_LIMIT: Final = 1 << 64
LONG: Final = 200_000


def _read(stag: str, offset: int, size: int, *, from_end: bool = False) -> Build:
    """A Read from the region of that name, from `offset` on, seen from its beginning or its end."""

    def build(bench: Bench, stream: Stream) -> bytes:
        region: Region = getattr(bench, stag)
        return stream.untagged(READ, 1, request(region, size, offset + (region.length if from_end else 0)))

    return build


def _unknown(bench: Bench, stream: Stream) -> bytes:
    return stream.untagged(READ, 1, request(Region(unknown_stag(bench), 0x1000, 16), 16))


refusal(
    "RDMAP-5040-7.2-09",
    "a Read from an unknown STag is refused",
    "A Read of 16 octets from an STag that names nothing.",
    _unknown,
    RDMAP_STAG,
    also=("RDMAP-5040-5.2.1-14",),
)
refusal(
    "RDMAP-5040-7.2-09/2",
    "a Read from an STag that differs from a known one in one bit is refused",
    "A Read of 16 octets from the region's STag with its highest bit changed.",
    lambda bench, stream: stream.untagged(READ, 1, request(Region(bench.rw.stag ^ (1 << 31), bench.rw.to, 4096), 16)),
    RDMAP_STAG,
    level=TARGET,
)
refusal(
    "RDMAP-5040-7.2-10",
    "a Read from an STag of another protection domain is refused",
    "A Read of 16 octets from the region that is not associated with this stream.",
    _read("other", 0, 16),
    RDMAP_NOT_ASSOCIATED,
    RDMAP_STAG,
    level=TARGET,
)
for _id, _title, _sends, _build in (
    (
        "RDMAP-5040-7.2-11",
        "a Read of the octet before the region is refused",
        "one octet before the region",
        _read("rw", -1, 1),
    ),
    (
        "RDMAP-5040-7.2-11/2",
        "a Read of the octet beyond the region is refused",
        "one octet beyond",
        _read("rw", 0, 1, from_end=True),
    ),
    (
        "RDMAP-5040-7.2-11/3",
        "a Read far beyond the region is refused",
        "a megabyte beyond",
        _read("rw", 1 << 20, 8, from_end=True),
    ),
    ("RDMAP-5040-7.2-11/4", "the upper half of the source TO counts", "the region plus 2^60", _read("rw", 1 << 60, 8)),
    (
        "RDMAP-5040-7.2-12",
        "a Read of one octet too many is refused",
        "the last octet and one more",
        _read("rw", -1, 2, from_end=True),
    ),
    (
        "RDMAP-5040-7.2-12/2",
        "a Read across both ends is refused",
        "one octet before the base to beyond the end",
        _read("rw", -1, 4098),
    ),
    (
        "RDMAP-5040-7.2-12/3",
        "a Read of the greatest size is refused",
        "the region, 2^32 - 1 octets",
        _read("rw", 0, (1 << 32) - 1),
    ),
):
    refusal(_id, _title, f"A Read: {_sends}.", _build, RDMAP_BOUNDS, level=Level.RPING, needs=REGION)
refusal(
    "RDMAP-5040-7.2-13",
    "a Read past 2^64 is refused",
    "A Read of two octets from the region's STag at the greatest TO.",
    lambda bench, stream: stream.untagged(READ, 1, build_read_request(1, 0, 2, bench.rw.stag, TO_LIMIT - 1)),
    RDMAP_WRAP,
    RDMAP_BOUNDS,
    level=Level.RPING,
    needs=REGION,
)
refusal(
    "RDMAP-5040-7.2-14",
    "a Read of a region that may only be written is refused",
    "A Read of 16 octets from the region that grants remote write alone.",
    _read("wo", 0, 16),
    RDMAP_ACCESS,
    level=TARGET,
    also=("SEC-5042-6.3.5-01",),
)


@case("RDMAP-5040-5.2.1-14", "no octet is answered when the end of a Read lies outside", level=TARGET)
async def nothing_before_terminate(bench: Bench) -> None:
    """A Read of 200,001 octets from a region of 200,000.

    Accepts: Terminate 0/1/01, with no segment of a Read Response before it.
    """
    stream = await bench.open(session={"regionsize": LONG})
    await stream.read(bench.rw.stag, bench.rw.to, LONG + 1)
    await stream.expect_terminated(RDMAP_BOUNDS)


@case("RDMAP-5040-7.2-09/3", "a Read of a revoked STag is refused", level=TARGET)
async def revoked(bench: Bench) -> None:
    """A Read that is answered; when the target has taken the STag back, another.

    Accepts: Terminate 0/1/00.
    """
    stream = await bench.open()
    await stream.expect_read(bench.rw.stag, bench.rw.to, 16)
    await bench.target.command("invalidate", {"region": "rw"})
    await stream.read(bench.rw.stag, bench.rw.to, 16)
    await stream.expect_terminated(RDMAP_STAG)


NOTHING: Final = build_read_request(PROBE_STAG, 0, 0, 0, 0)
LENGTH_ERRORS: Final = (
    RDMAP_OPERATION_UNSPECIFIED,
    RDMAP_STREAM_CATASTROPHE,
    RDMAP_OPCODE,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_NO_BUFFER,
)


def _of_size(size: int) -> Build:
    return lambda bench, stream: stream.untagged(READ, 1, (NOTHING + bytes(4))[:size])


for _number, _size in enumerate((27, 0, 29, 12), 1):
    refusal(
        "RDMAP-5040-5.2.1-05" if _number == 1 else f"RDMAP-5040-5.2.1-05/{_number}",
        f"a Read Request of {_size} octets is refused",
        f"A Read Request for nothing with {_size} octets instead of 28.",
        _of_size(_size),
        *LENGTH_ERRORS,
        also=("RDMAP-5040-4.2-02",),
    )
refusal(
    "RDMAP-5040-5.2.1-06",
    "a Read Request may not come on queue 0",
    "A Read Request for nothing on queue 0.",
    lambda bench, stream: stream.untagged(READ, 0, NOTHING),
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
    level=TARGET,
)
refusal(
    "RDMAP-5040-5.2.1-06/2",
    "a Read Request may not come on queue 2",
    "A Read Request for nothing on queue 2.",
    lambda bench, stream: stream.untagged(READ, 2, NOTHING),
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
)
refusal(
    "RDMAP-5040-7.2-06",
    "a Read Request with an MSN beyond the last is refused",
    "A Read Request for nothing with MSN 0x10000.",
    lambda bench, stream: build_untagged(READ, 1, 0x10000, NOTHING),
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
)
refusal(
    "RDMAP-5040-7.2-06/2",
    "a Read Request with an MO beyond its buffer is refused",
    "A Read Request for nothing with MO 0x1000.",
    lambda bench, stream: stream.untagged(READ, 1, NOTHING, mo=0x1000),
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_TOO_LONG,
)


def _with_opcode(opcode: int) -> Build:
    return lambda bench, stream: stream.untagged(opcode, 1, NOTHING)


for _number, _opcode in enumerate((3, 7, 12), 1):
    refusal(
        "RDMAP-5040-7.2-07" if _number == 1 else f"RDMAP-5040-7.2-07/{_number}",
        f"opcode {_opcode} is refused on the queue of Read Requests",
        f"28 octets on queue 1 with opcode {_opcode}.",
        _with_opcode(_opcode),
        RDMAP_OPCODE,
        DDP_UNTAGGED_QN,
    )
refusal(
    "RDMAP-5040-7.2-08",
    "RDMAP version 2 in a Read Request is refused",
    "A Read Request for nothing with control octet 0x81.",
    lambda bench, stream: stream.untagged(READ, 1, NOTHING, rv=2),
    RDMAP_VERSION,
)
