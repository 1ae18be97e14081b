"""Atomics that are refused, and peers that know none (RFC 7306 §1.1, §5, §8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level
from pyiwarp.conformance.bench.control import Region
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_VERSION,
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
from pyiwarp.conformance.cases.refusals import Build, expect_regions_unchanged, refusal, unknown_stag
from pyiwarp.conformance.cases.rfc5040_terminate import said
from pyiwarp.conformance.cases.rfc7306_atomics import ALL_ONES, ATOMIC, EXTENDED, atomic_request, word_offset
from pyiwarp.errors import Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
QUEUE: Final = 1
FETCH_ADD, COMPARE_SWAP = 0, 2
BAD_LENGTH: Final = (
    RDMAP_OPERATION_UNSPECIFIED,
    RDMAP_STREAM_CATASTROPHE,
    RDMAP_OPCODE,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_NO_BUFFER,
)
UNSUPPORTED: Final = (RDMAP_OPCODE, RDMAP_STREAM_CATASTROPHE, RDMAP_OPERATION_UNSPECIFIED)
MISPLACED: Final = (RDMAP_OPCODE, DDP_UNTAGGED_QN)


OneSegment = Callable[[Bench, Stream], bytes]


def on(name: str, offset: int = 0, operation: int = FETCH_ADD) -> OneSegment:
    """An Atomic that would change the word `offset` octets after the first aligned one of a region."""

    def build(bench: Bench, stream: Stream) -> bytes:
        region: Region = getattr(bench, name)
        to = region.to + word_offset(region) + offset
        payload = atomic_request(region.stag, to, operation, 1, ALL_ONES if operation else 0, 0, 0)
        return stream.untagged(ATOMIC, QUEUE, payload)

    return build


def nowhere(bench: Bench, stream: Stream) -> bytes:
    """A FetchAdd on an STag that names nothing."""
    return stream.untagged(ATOMIC, QUEUE, atomic_request(unknown_stag(bench), 0x1000, data=1))


def refused(id: str, title: str, sends: str, build: Build, *terms: Term) -> None:
    """A refusal by a target that speaks RFC 7306."""
    refusal(id, title, sends, build, *terms, level=TARGET, needs=EXTENDED)


# --- alignment -------------------------------------------------------------------------------------------------------

for _number, _shift in enumerate((1, 2, 4, 7), 1):
    _end = "" if _number == 1 else f"/{_number}"
    refused(
        f"EXT-7306-5.1.1-04{_end}",
        f"a FetchAdd {_shift} octets after a word is refused",
        f"A FetchAdd of 1, {_shift} octets after a multiple of eight.",
        on("rw", _shift),
        RDMAP_STREAM_CATASTROPHE,
    )
    refused(
        f"EXT-7306-5.1.2-08{_end}",
        f"a CmpSwap {_shift} octets after a word is refused",
        f"A CmpSwap that would fit, {_shift} octets after a multiple of eight.",
        on("rw", _shift, COMPARE_SWAP),
        RDMAP_STREAM_CATASTROPHE,
    )


@case("EXT-7306-5.1.1-02", "the program hears of a misaligned FetchAdd", level=TARGET, needs=EXTENDED)
async def fetch_add_told(bench: Bench) -> None:
    """A FetchAdd four octets after a word.

    Accepts: Terminate 0/2/07; the target's connection is terminated or in error.
    """
    await _told(bench, on("rw", 4))


@case("EXT-7306-5.1.2-07", "the program hears of a misaligned CmpSwap", level=TARGET, needs=EXTENDED)
async def compare_swap_told(bench: Bench) -> None:
    """A CmpSwap four octets after a word.

    Accepts: Terminate 0/2/07; the target's connection is terminated or in error.
    """
    await _told(bench, on("rw", 4, COMPARE_SWAP))


async def _told(bench: Bench, build: OneSegment) -> None:
    stream = await bench.open()
    await stream.fpdu(build(bench, stream))
    await stream.expect_terminated(RDMAP_STREAM_CATASTROPHE)
    await bench.target.expect_state("terminated", "error")


@case("EXT-7306-5.1.1-03", "a misaligned FetchAdd changes nothing", level=TARGET, needs=EXTENDED)
async def fetch_add_unchanged(bench: Bench) -> None:
    """FetchAdds at all seven offsets after a word, each on a connection of its own.

    Accepts: a Terminate each time; the memory is unchanged.
    """
    await _unchanged(bench, FETCH_ADD)


@case(
    "EXT-7306-5.1.2-06",
    "a misaligned CmpSwap changes nothing",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-5.1.2-05",),
)
async def compare_swap_unchanged(bench: Bench) -> None:
    """CmpSwaps that would fit at all seven offsets after a word, each on a connection of its own.

    Accepts: a Terminate each time; the memory is unchanged.
    """
    await _unchanged(bench, COMPARE_SWAP)


async def _unchanged(bench: Bench, operation: int) -> None:
    for shift in range(1, 8):
        stream = await bench.open()
        await stream.fpdu(on("rw", shift, operation)(bench, stream))
        await stream.expect_terminated()
        await expect_regions_unchanged(bench)


@case("EXT-7306-8.2-05", "misalignment is a catastrophe of the stream", level=TARGET, needs=EXTENDED)
async def misalignment_code(bench: Bench) -> None:
    """A FetchAdd four octets after a word.

    Accepts: a Terminate that begins with 02 07.
    """
    stream = await bench.open()
    await stream.fpdu(on("rw", 4)(bench, stream))
    answer = await said(stream)
    if answer.term != RDMAP_STREAM_CATASTROPHE:
        raise answer.fail("02 07", str(answer.term))


# --- memory ----------------------------------------------------------------------------------------------------------

refused("EXT-7306-8.2-06", "an Atomic on an unknown STag is refused", "A FetchAdd on nothing.", nowhere, RDMAP_STAG)
refused(
    "EXT-7306-8.2-06/2",
    "an Atomic beyond the region is refused",
    "A FetchAdd on the word right beyond the region.",
    on("rw", 4096),
    RDMAP_BOUNDS,
)
refused(
    "EXT-7306-8.2-06/3",
    "an Atomic before the region is refused",
    "A FetchAdd on the word eight octets before the region.",
    on("rw", -8),
    RDMAP_BOUNDS,
)
refused(
    "EXT-7306-8.2-06/4",
    "an Atomic on memory that may only be read is refused",
    "A FetchAdd on the region that grants remote read alone.",
    on("ro"),
    RDMAP_ACCESS,
)
refused(
    "EXT-7306-8.2-06/5",
    "an Atomic on memory that may only be written is refused",
    "A FetchAdd on the region that grants remote write alone.",
    on("wo"),
    RDMAP_ACCESS,
)
refused(
    "EXT-7306-8.2-06/6",
    "an Atomic on memory of another protection domain is refused",
    "A FetchAdd on the region that is not associated with this stream.",
    on("other"),
    RDMAP_NOT_ASSOCIATED,
    RDMAP_STAG,
)
refused(
    "EXT-7306-8.2-06/7",
    "an Atomic past 2^64 is refused",
    "A FetchAdd on the region's STag, four octets before 2^64.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, atomic_request(bench.rw.stag, ALL_ONES - 3)),
    RDMAP_WRAP,
    RDMAP_BOUNDS,
    RDMAP_STREAM_CATASTROPHE,
)
refused(
    "EXT-7306-8.2-06/8",
    "a CmpSwap on an unknown STag is refused",
    "A CmpSwap on nothing.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, atomic_request(unknown_stag(bench), 0x1000, COMPARE_SWAP)),
    RDMAP_STAG,
)


@case("EXT-7306-8.1-02", "a refused Atomic is quoted with its DDP header alone", level=TARGET, needs=EXTENDED)
async def quoted(bench: Bench) -> None:
    """A FetchAdd on nothing.

    Accepts: a Terminate with D, without R, and with an exact copy of the 18 octets.
    """
    stream = await bench.open()
    segment = nowhere(bench, stream)
    await stream.fpdu(segment)
    answer = await said(stream, RDMAP_STAG)
    if not answer.d or answer.r or answer.ddp_header != segment[:18]:
        raise answer.fail(f"D = 1, R = 0 and {segment[:18].hex()}", f"{answer.bits} {answer.ddp_header.hex()}")


# --- headers ---------------------------------------------------------------------------------------------------------


def _operation(number: int) -> Build:
    return lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench, number))


def _right(bench: Bench, operation: int = FETCH_ADD) -> bytes:
    """An Atomic Request that would be done."""
    return atomic_request(bench.rw.stag, bench.rw.to + word_offset(bench.rw), operation, 1)


for _number, _code in enumerate((1, 3, 15), 1):
    refused(
        "EXT-7306-5.2.1-14" if _number == 1 else f"EXT-7306-5.2.1-14/{_number}",
        f"Atomic operation {_code} is refused",
        f"An Atomic Request with AOpCode {_code}.",
        _operation(_code),
        *UNSUPPORTED,
    )
refused(
    "EXT-7306-5.2.1-15",
    "an Atomic Request may not come on queue 0",
    "A FetchAdd on queue 0.",
    lambda bench, stream: stream.untagged(ATOMIC, 0, _right(bench)),
    *MISPLACED,
)
refused(
    "EXT-7306-5.2.1-15/2",
    "an Atomic Request may not come on queue 3",
    "A FetchAdd on queue 3.",
    lambda bench, stream: stream.untagged(ATOMIC, 3, _right(bench)),
    *MISPLACED,
    DDP_UNTAGGED_NO_BUFFER,
)
refused(
    "EXT-7306-5.2.1-18/2",
    "an Atomic Request of 51 octets is refused",
    "A FetchAdd without its last octet.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench)[:-1]),
    *BAD_LENGTH,
)
refused(
    "EXT-7306-5.2.1-18/3",
    "an Atomic Request of 53 octets is refused",
    "A FetchAdd with an octet more.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench) + b"\0"),
    *BAD_LENGTH,
)
refused(
    "EXT-7306-8.2-01",
    "DDP version 0 in an Atomic Request is refused",
    "A FetchAdd with DV 0.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench), dv=0),
    DDP_UNTAGGED_VERSION,
)
refused(
    "EXT-7306-8.2-01/2",
    "an Atomic Request with MSN 0 is refused",
    "A FetchAdd with MSN 0.",
    lambda bench, stream: build_untagged(ATOMIC, QUEUE, 0, _right(bench)),
    DDP_UNTAGGED_MSN,
)
refused(
    "EXT-7306-8.2-01/3",
    "an Atomic Request with an MO beyond its buffer is refused",
    "A FetchAdd with MO 0x1000.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench), mo=0x1000),
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_TOO_LONG,
)
refused(
    "EXT-7306-8.2-03",
    "RDMAP version 3 in an Atomic Request is refused",
    "A FetchAdd with control octet 0xca.",
    lambda bench, stream: stream.untagged(ATOMIC, QUEUE, _right(bench), rv=3),
    RDMAP_VERSION,
)


@case(
    "EXT-7306-5-05/2",
    "an Atomic Response that was not requested is refused",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-5.2.2-08",),
)
async def unsolicited(bench: Bench) -> None:
    """An Atomic Response; no Atomic is outstanding.

    Accepts: a Terminate of any kind.
    """
    stream = await bench.open()
    await stream.fpdu(stream.untagged(Opcode.ATOMIC_RESPONSE, 3, bytes(12)))
    await stream.expect_terminated()
    await expect_regions_unchanged(bench)


# --- without the extension -------------------------------------------------------------------------------------------

UNKNOWN: Final = (
    (Opcode.IMMEDIATE, 0, 8),
    (Opcode.IMMEDIATE_SE, 0, 8),
    (Opcode.ATOMIC_REQUEST, 1, 52),
    (Opcode.ATOMIC_RESPONSE, 3, 12),
)


def _unknown(opcode: Opcode, qn: int, size: int) -> Build:
    return lambda bench, stream: stream.untagged(opcode, qn, bytes(size))


for _number, (_opcode, _qn, _size) in enumerate(UNKNOWN, 1):
    refusal(
        "EXT-7306-1.1-02" if _number == 1 else f"EXT-7306-1.1-02/{_number}",
        f"opcode {_opcode:#x} is unexpected to a peer without RFC 7306",
        f"{_size} octets on queue {_qn} with opcode {_opcode:#x} to a target that does not speak RFC 7306.",
        _unknown(_opcode, _qn, _size),
        RDMAP_OPCODE,
        *((DDP_UNTAGGED_QN,) if _qn == 3 else ()),
        *((DDP_UNTAGGED_TOO_LONG,) if _size == 52 else ()),
        level=TARGET,
        needs=EXTENDED,
        session={"extensions": 0},
    )


@case("EXT-7306-8.2-04", "the word after a misaligned one works", level=TARGET, needs=EXTENDED)
async def next_word_works(bench: Bench) -> None:
    """A FetchAdd of 1, eight octets after the first word; on another connection one that is seven octets after it.

    Accepts: a Response to the first, Terminate 0/2/07 to the second.
    """
    stream = await bench.open()
    await stream.fpdu(on("rw", 8)(bench, stream))
    seen = await stream.observe()
    if getattr(getattr(seen, "segment", None), "opcode", None) != Opcode.ATOMIC_RESPONSE:
        raise Failed("an Atomic Response", str(seen), seen.annotated())
    await _told(bench, on("rw", 7))
