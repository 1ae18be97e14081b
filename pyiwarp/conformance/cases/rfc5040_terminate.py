"""The Terminate message: its format, what it quotes, when it comes and what follows (RFC 5040 §4.8, §5.4, §6.2, §7)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Region
from pyiwarp.conformance.bench.messages import WholeMessage, segment_of
from pyiwarp.conformance.bench.patterns import Failed, closed, in_decimal, in_words, message, terminate
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terminates import TAGGED_SIZE, UNTAGGED_SIZE, Said, take_apart
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_STAG,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    MPA_CRC,
    RDMAP_OPCODE,
    RDMAP_STAG,
    RDMAP_VERSION,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.refusals import expect_regions_unchanged, unknown_stag
from pyiwarp.conformance.cases.rfc5040_reads import request
from pyiwarp.errors import TERMS, Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
BAD_QUEUE: Final = build_untagged(Opcode.SEND, 99, 1, b"x")


async def said(stream: Stream, *terms: Term) -> Said:
    """The Terminate that comes next."""
    return take_apart(await stream.expect_message(terminate(*terms)))


async def provoked(bench: Bench, segment: bytes) -> Said:
    """What a fresh stream says to one wrong segment."""
    stream = await bench.open()
    await stream.fpdu(segment)
    return await said(stream)


async def provoked_by_crc(bench: Bench) -> Said:
    """What a fresh stream says to a wrong CRC."""
    stream = await bench.open()
    await stream.fpdu(build_tagged(Opcode.WRITE, 0, 0), crc_mask=1)
    return await said(stream)


def bad_write(bench: Bench, nbytes: int = 100) -> bytes:
    """A Write to nowhere."""
    return build_tagged(Opcode.WRITE, unknown_stag(bench), 0x0123456789ABCDEF, bytes(nbytes))


def bad_read(bench: Bench) -> bytes:
    """A Read from nowhere."""
    source = Region(unknown_stag(bench), 0x1122334455667788, 16)
    return build_untagged(Opcode.READ_REQUEST, 1, 1, request(source, 16, sink_stag=0xDEADBEEF, sink_to=0x99))


async def every_error(bench: Bench) -> list[Said]:
    """A Terminate of each layer and kind that needs no program at the other end."""
    return [
        await provoked_by_crc(bench),
        await provoked(bench, bad_write(bench)),
        await provoked(bench, BAD_QUEUE),
        await provoked(bench, bad_read(bench)),
        await provoked(bench, build_tagged(Opcode.WRITE, 0, 0, rv=2)),
        await provoked(bench, build_tagged(0xF, 0, 0)),
    ]


# --- format ----------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.4-01", "a Terminate is one untagged segment")
async def untagged(bench: Bench) -> None:
    """A Send on queue 99.

    Accepts: a Terminate with control octets 0x41 and 0x47.
    """
    whole = await provoked(bench, BAD_QUEUE)
    if (came := whole.seen.fpdu.ulpdu[:2]) != b"\x41\x47":
        raise whole.fail("control octets 41 47", came.hex(" "))


@case("RDMAP-5040-5.4-02", "a Terminate is the first message on queue 2")
async def queue_two(bench: Bench) -> None:
    """A Send on queue 99.

    Accepts: a Terminate on queue 2 with MSN 1, MO 0 and no STag.
    """
    answer = await provoked(bench, BAD_QUEUE)
    WholeMessage((answer.seen,)).fields(inval_stag=0, qn=2, msn=1, mo=0, last=True)


@case("RDMAP-5040-4.8-01", "a Terminate has the fields that its bits announce, and no others")
async def announced(bench: Bench) -> None:
    """On connections of their own: a wrong CRC, STag, queue, source STag, RDMAP version and opcode.

    Accepts: Terminates whose length fits M, D and R; what is not announced may be there as zero.
    """
    for answer in await every_error(bench):
        if any(answer.rest):
            raise answer.fail(f"nothing after the fields that {answer.bits} announces", answer.rest.hex())


@case("RDMAP-5040-4.8-02", "layer, type and code stand in the first two octets")
async def first_octets(bench: Bench) -> None:
    """On connections of their own, a wrong CRC and a Send on queue 99.

    Accepts: Terminates that begin with 20 02 and with 12 01.
    """
    for answer, due in ((await provoked_by_crc(bench), b"\x20\x02"), (await provoked(bench, BAD_QUEUE), b"\x12\x01")):
        if (came := segment_of(answer.seen).payload[:2]) != due:
            raise answer.fail(due.hex(" "), came.hex(" "))


@case("RDMAP-5040-4.8-03", "layer, type and code are registered", also=("RDMAP-6580-3.1-01",))
async def registered(bench: Bench) -> None:
    """On connections of their own: a wrong CRC, STag, queue, source STag, RDMAP version and opcode.

    Accepts: Terminates with registered codes.
    """
    for answer in await every_error(bench):
        if answer.term not in TERMS and answer.term[:2] != (0, 0):
            raise answer.fail("a registered code", str(answer.term))


@case("RDMAP-5040-4.8-07", "the 13 reserved bits are zero")
async def reserved_zero(bench: Bench) -> None:
    """On connections of their own: a wrong CRC, STag, queue, source STag, RDMAP version and opcode.

    Accepts: Terminates with 13 bits of zero after M, D and R.
    """
    for answer in await every_error(bench):
        if answer.reserved:
            raise answer.fail("reserved bits of zero", f"{answer.reserved:#06x}")


# --- what is quoted --------------------------------------------------------------------------------------------------

Provoke = Callable[[Bench], bytes]


def _bits(id: str, title: str, sends: str, build: Provoke | None, due: str) -> None:
    """A SHOULD: the Terminate sets M, D and R as figure 10 says; a dot stands for either."""

    async def run(bench: Bench) -> None:
        answer = await (provoked_by_crc(bench) if build is None else provoked(bench, build(bench)))
        if any(wanted not in (".", came) for wanted, came in zip(due, answer.bits, strict=True)):
            raise answer.fail(f"M, D, R = {due}", answer.bits)

    run.__doc__ = f"{sends}\n\nAccepts: a Terminate with M, D and R = {due}, a dot being either."
    case(id, title)(run)


_bits("RDMAP-5040-4.8-04", "a DDP error comes with a length", "A Write to an unknown STag.", bad_write, "1..")
_bits("RDMAP-5040-4.8-04/2", "an error of MPA's comes without a length", "An FPDU with a wrong CRC.", None, "0..")
_bits("RDMAP-5040-4.8-04/3", "an error of RDMAP's comes with a length", "A Read from nowhere.", bad_read, "1..")
_bits("RDMAP-5040-4.8-05", "a DDP error comes with the DDP header", "A Send on queue 99.", lambda _: BAD_QUEUE, ".1.")
_bits("RDMAP-5040-4.8-05/2", "an error of MPA's comes without headers", "An FPDU with a wrong CRC.", None, ".0.")
_bits("RDMAP-5040-4.8-05/3", "a refused Read comes with the DDP header", "A Read from nowhere.", bad_read, ".1.")
_bits("RDMAP-5040-4.8-06", "a refused Read comes with the RDMA header", "A Read from nowhere.", bad_read, "..1")
_bits("RDMAP-5040-4.8-06/2", "a refused Write comes without", "A Write to an unknown STag.", bad_write, "..0")


@case("RDMAP-5040-4.8-09", "the DDP Segment Length counts header and payload")
async def segment_length(bench: Bench) -> None:
    """A Write of 100 octets to an unknown STag.

    Accepts: a Terminate with length 114, or without a length.
    """
    seen = (await provoked(bench, bad_write(bench))).seen
    answer = take_apart(seen, seen.allowances.read_terminate(segment_of(seen).payload))
    if answer.length not in (None, 114):
        raise answer.fail("DDP Segment Length 114", in_decimal(answer.length))


@case("RDMAP-5040-4.8-10", "with the DDP header comes the DDP Segment Length")
async def length_with_header(bench: Bench) -> None:
    """A Write of 100 octets to an unknown STag.

    Accepts: if D is set, two octets of length and the header copy after them.
    """
    segment = bad_write(bench)
    answer = await provoked(bench, segment)
    payload = segment_of(answer.seen).payload
    if answer.d and payload[6:20] != segment[:TAGGED_SIZE]:
        raise answer.fail("the header copy from octet 6 on", payload[4:].hex())


async def _expect_header(bench: Bench, segment: bytes, size: int) -> None:
    answer = await provoked(bench, segment)
    if answer.d and answer.ddp_header != segment[:size]:
        raise answer.fail(f"a copy of {segment[:size].hex()}", answer.ddp_header.hex())


@case("RDMAP-5040-4.8-11", "the copy of a tagged header is exact")
async def tagged_copy(bench: Bench) -> None:
    """A Write to an unknown STag with reserved bits set and TO 0x0123456789abcdef.

    Accepts: if D is set, the 14 octets of its header.
    """
    segment = build_tagged(Opcode.WRITE, unknown_stag(bench), 0x0123456789ABCDEF, b"x", ddp_rsvd=5, rdmap_rsvd=2)
    await _expect_header(bench, segment, TAGGED_SIZE)


@case("RDMAP-5040-4.8-11/2", "the copy of an untagged header is exact")
async def untagged_copy(bench: Bench) -> None:
    """A Send on queue 0x01020304 with MSN, MO and STag of all different octets.

    Accepts: if D is set, the 18 octets of its header.
    """
    segment = build_untagged(Opcode.SEND, 0x01020304, 0x05060708, b"x", mo=0x090A0B0C, inval_stag=0x0D0E0F10)
    await _expect_header(bench, segment, UNTAGGED_SIZE)


@case("RDMAP-5040-4.8-11/4", "the copy of a Read Request's DDP header is exact")
async def request_copy(bench: Bench) -> None:
    """A Read from an unknown STag.

    Accepts: if D is set, the 18 octets of the DDP header.
    """
    segment = bad_read(bench)
    seen = (await provoked(bench, segment)).seen
    answer = take_apart(seen, seen.allowances.read_terminate(segment_of(seen).payload))
    if answer.d and answer.ddp_header != segment[:UNTAGGED_SIZE]:
        raise answer.fail(f"a copy of {segment[:UNTAGGED_SIZE].hex()}", answer.ddp_header.hex())


@case("RDMAP-5040-4.8-11/3", "the header copied is that of the segment that failed", level=TARGET)
async def third_segment_copied(bench: Bench) -> None:
    """A Write in three segments, of which the third lies outside the region.

    Accepts: if D is set, the 14 octets of the third segment's header.
    """
    stream = await bench.open()
    end = bench.rw.to + bench.rw.length
    segments = [build_tagged(0, bench.rw.stag, end - 8 + 4 * n, b"four", last=n == 2) for n in range(3)]
    await stream.fpdus(segments)
    answer = await said(stream)
    if answer.d and answer.ddp_header != segments[2][:TAGGED_SIZE]:
        raise answer.fail(f"a copy of {segments[2][:TAGGED_SIZE].hex()}", answer.ddp_header.hex())


@case("RDMAP-5040-4.8-13", "the copy of a Read Request is exact", also=("RDMAP-5040-4.8-15",))
async def read_copy(bench: Bench) -> None:
    """A Read from an unknown STag.

    Accepts: if R is set, the 28 octets of its header, sizes and offsets as they came.
    """
    segment = bad_read(bench)
    answer = await provoked(bench, segment)
    if answer.r and answer.rdma_header != segment[UNTAGGED_SIZE:]:
        raise answer.fail(f"a copy of {segment[UNTAGGED_SIZE:].hex()}", answer.rdma_header.hex())


@case("RDMAP-5040-4.8-14", "only a Read Request is quoted with its RDMA header: not a Write")
async def no_rdma_header_for_write(bench: Bench) -> None:
    """A Write of 100 octets to an unknown STag.

    Accepts: a Terminate without R.
    """
    answer = await provoked(bench, bad_write(bench))
    if answer.r:
        raise answer.fail("R = 0", answer.bits)


@case("RDMAP-5040-4.8-14/2", "only a Read Request is quoted with its RDMA header: not a Send", level=TARGET)
async def no_rdma_header_for_send(bench: Bench) -> None:
    """A Send of 100 octets to a receive of 64.

    Accepts: a Terminate without R.
    """
    stream = await bench.open(session={"receives": "64"})
    await stream.send(bytes(100))
    answer = await said(stream)
    if answer.r:
        raise answer.fail("R = 0", answer.bits)


@case("RDMAP-5040-4.8-18", "an error of MPA's quotes nothing")
async def nothing_quoted(bench: Bench) -> None:
    """An FPDU with a wrong CRC.

    Accepts: a Terminate with M, D and R zero, and zeros after them if anything.
    """
    answer = await provoked_by_crc(bench)
    if answer.bits != "000" or any(answer.rest):
        raise answer.fail("M, D, R = 000 and nothing else", answer.bits)


@case("RDMAP-5040-4.8-16", "a Read that was partly answered is quoted as far as it was not", level=TARGET)
async def partly_answered(bench: Bench) -> None:
    """Eight Reads of a megabyte, not taken at first; when the target has taken its STag back, they are accepted.

    Accepts: Terminate 0/1/00 amid the Responses, and if R is set, the Request at hand with offsets advanced and size
    reduced by what was sent; or all Responses, if they were under way already.
    """
    size, count = 1_000_000, 8
    stream = await bench.open(session={"regionsize": size})
    stream.line.tcp.hold()
    await stream.fpdus(
        stream.untagged(Opcode.READ_REQUEST, 1, request(bench.rw, size, sink_stag=n, sink_to=n << 32))
        for n in range(count)
    )
    await asyncio.sleep(bench.settings.quiet)
    await bench.target.command("invalidate", {"region": "rw"})
    stream.line.tcp.release()
    number = sent = 0
    while number < count:
        pattern = message(Opcode.READ_RESPONSE, stag=number) | terminate(RDMAP_STAG)
        seen = await stream.expect_message(pattern)
        if seen.terminate is not None:
            answer = take_apart(seen)
            source = Region(bench.rw.stag, bench.rw.to + sent, size)
            due = request(source, size - sent, sink_stag=number, sink_to=(number << 32) + sent)
            if answer.r and answer.rdma_header != due:
                raise answer.fail(f"the Request as {due.hex()}", answer.rdma_header.hex())
            return
        sent += len(segment_of(seen).payload)
        if segment_of(seen).last:
            number, sent = number + 1, 0


# --- which errors, and when ------------------------------------------------------------------------------------------


@case("RDMAP-5040-6.2.1-01", "every error is answered with a Terminate")
async def every_error_answered(bench: Bench) -> None:
    """On connections of their own: a wrong CRC, STag, queue, source STag, RDMAP version and opcode.

    Accepts: Terminates of layers 2, 1, 1, 0, 0 and 0.
    """
    layers = [answer.term.layer for answer in await every_error(bench)]
    if layers != [2, 1, 1, 0, 0, 0]:
        raise Failed("Terminates of layers 2, 1, 1, 0, 0, 0", in_words(layers))


def _described(id: str, title: str, sends: str, bits: str, build: Callable[[Bench, Stream], bytes], size: int) -> None:
    """A MUST of §7.1: length and headers of the failing segment are in the Terminate."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        segment = build(bench, stream)
        await stream.fpdu(segment)
        answer = await said(stream)
        if answer.bits != bits or answer.ddp_header != segment[:size]:
            raise answer.fail(f"M, D, R = {bits} and {segment[:size].hex()}", f"{answer.bits}")
        if bits == "111" and answer.rdma_header != segment[size:]:
            raise answer.fail(f"{segment[size:].hex()}", answer.rdma_header.hex())

    run.__doc__ = f"{sends}\n\nAccepts: a Terminate with M, D, R = {bits} and exact copies of the headers."
    case(id, title)(run)


_described(
    "RDMAP-5040-7.1-03",
    "an error in a Write is reported with the DDP header",
    "A Write of eight octets to an unknown STag.",
    "110",
    lambda bench, stream: bad_write(bench, 8),
    TAGGED_SIZE,
)
_described(
    "RDMAP-5040-7.1-03/2",
    "an error in a Send is reported with the DDP header",
    "A Send of an octet with MSN 0x7fff0000.",
    "110",
    lambda bench, stream: build_untagged(Opcode.SEND, 0, 0x7FFF_0000, b"x"),
    UNTAGGED_SIZE,
)
_described(
    "RDMAP-5040-7.1-03/3",
    "a tagged segment with an unknown opcode is reported with the DDP header",
    "An empty tagged segment with opcode 15.",
    "110",
    lambda bench, stream: build_tagged(0xF, 0x12345678, 0x9ABCDEF0),
    TAGGED_SIZE,
)
_described(
    "RDMAP-5040-7.1-04",
    "an error in a Read Request is reported with both headers",
    "A Read of 16 octets from an unknown STag.",
    "111",
    lambda bench, stream: bad_read(bench),
    UNTAGGED_SIZE,
)


def _first(id: str, title: str, sends: str, order: tuple[int, ...], term: Term) -> None:
    """Several wrong segments in one piece: the Terminate tells of the first."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        wrong = (bad_write(bench), BAD_QUEUE, bad_read(bench), build_tagged(Opcode.WRITE, 0, 0, rv=3))
        await stream.fpdus(wrong[number] for number in order)
        await stream.expect_terminated(term)

    run.__doc__ = f"In one piece: {sends}\n\nAccepts: Terminate {term}, and nothing else."
    case(id, title)(run)


_first(
    "RDMAP-5040-7.1-05",
    "of several errors the first is reported: a Write's",
    "a Write to an unknown STag, a Send on queue 99, a Read from nowhere.",
    (0, 1, 2),
    DDP_TAGGED_STAG,
)
_first(
    "RDMAP-5040-7.1-05/2",
    "of several errors the first is reported: a Send's",
    "a Send on queue 99, a Read from nowhere, a Write to an unknown STag.",
    (1, 2, 0),
    DDP_UNTAGGED_QN,
)
_first(
    "RDMAP-5040-7.1-05/3",
    "of several errors the first is reported: a version",
    "a Write with RV 3, a Write to an unknown STag, a Read from nowhere.",
    (3, 0, 2),
    RDMAP_VERSION,
)
_first(
    "RDMAP-5040-7.1-05/4",
    "of several errors the first is reported: a Read's",
    "a Read from nowhere, a Send on queue 99, a Write with RV 3.",
    (2, 1, 3),
    RDMAP_STAG,
)


@case("RDMAP-5040-7.1-01", "the program hears of an error of RDMAP's", level=TARGET)
async def program_told(bench: Bench) -> None:
    """A Read from nowhere.

    Accepts: Terminate 0/1/00; the target's connection is terminated or in error.
    """
    stream = await bench.open()
    await stream.fpdu(bad_read(bench))
    await stream.expect_terminated(RDMAP_STAG)
    await bench.target.expect_state("terminated", "error")


@case("RDMAP-5040-7-02", "no data is transferred after an error of RDMAP's", level=TARGET)
async def no_transfer(bench: Bench) -> None:
    """A tagged segment with opcode 15; after it and after the Terminate good Writes and a Read.

    Accepts: Terminate 0/2/06, no answer to the Read; the memory is unchanged.
    """
    stream = await bench.open()
    good = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"good")
    await stream.fpdus([build_tagged(0xF, 0, 0), good, stream.untagged(1, 1, request(bench.rw, 8))])
    await stream.expect_message(terminate(RDMAP_OPCODE))
    await stream.fpdu(good)
    await stream.expect_over()
    await expect_regions_unchanged(bench)


@case("RDMAP-5040-7-03", "after a Terminate TCP is closed", also=("DDP-5041-6.2-02", "RDMAP-5040-6.2.1-03"))
async def tcp_closed(bench: Bench) -> None:
    """A Write to an unknown STag.

    Accepts: a Terminate; once this side has closed its half, the end of the TCP connection.
    """
    stream = await bench.open()
    await stream.fpdu(bad_write(bench))
    await stream.expect_message(terminate(DDP_TAGGED_STAG))
    await stream.expect_over()


@case("RDMAP-5040-6.2.1-04", "the Terminate arrives though more is on its way to the peer")
async def graceful_with_data_in_flight(bench: Bench) -> None:
    """A Write to an unknown STag, and after it, in one piece, a hundred thousand octets of other Writes.

    Accepts: a Terminate, whole, and then a close: no reset.
    """
    stream = await bench.open()
    more = [bad_write(bench, 1000) for _ in range(100)]
    await stream.fpdus([bad_write(bench), *more])
    await stream.expect_message(terminate(DDP_TAGGED_STAG))
    stream.finish()
    await stream.expect(closed())


@case("RDMAP-5040-3.1-05", "DDP's report of a Send that is too long holds its header", level=TARGET)
async def long_send_quoted(bench: Bench) -> None:
    """A Send of 100 octets to a receive of 64.

    Accepts: Terminate 1/2/05 or 1/2/02 with length 118 and the 18 octets of the header.
    """
    stream = await bench.open(session={"receives": "64"})
    segment = stream.untagged(Opcode.SEND, 0, bytes(100))
    await stream.fpdu(segment)
    answer = await said(stream, DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER)
    if answer.length != 118 or answer.ddp_header != segment[:UNTAGGED_SIZE]:
        raise answer.fail(
            f"length 118 and {segment[:UNTAGGED_SIZE].hex()}",
            f"length {in_decimal(answer.length)} and {in_words(answer.ddp_header)}",
        )


@case("RDMAP-5040-6.2.1-01/2", "a wrong CRC amid good FPDUs is answered", level=Level.RPING, needs=[Need.REGION])
async def crc_amid(bench: Bench) -> None:
    """A Read that is answered, then a Write to the region with a wrong CRC.

    Accepts: Terminate 2/0/02.
    """
    stream = await bench.open()
    await stream.expect_read(bench.rw.stag, bench.rw.to, 8)
    await stream.fpdu(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"x"), crc_mask=1 << 31)
    await stream.expect_terminated(MPA_CRC)
