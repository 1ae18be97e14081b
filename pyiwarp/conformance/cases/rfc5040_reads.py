"""Reads of the peer's memory: Requests right and wrong, and the Responses to them (RFC 5040 §4.4, §5.2, §5.5, §7.2)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Region, region_pattern
from pyiwarp.conformance.bench.messages import WholeMessage, receive_whole
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, message, terminate
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.terms import DDP_UNTAGGED_MSN, DDP_UNTAGGED_NO_BUFFER, RDMAP_STREAM_CATASTROPHE
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_delivered, expect_nothing_delivered
from pyiwarp.conformance.cases.refusals import unknown_stag

__all__ = ["request"]

TARGET: Final = Level.TARGET
REGION: Final = [Need.REGION]
READ: Final = Opcode.READ_REQUEST
TO_LIMIT: Final = 1 << 64
LONG: Final = 200_000


def request(region: Region, size: int, offset: int = 0, sink_stag: int = PROBE_STAG, sink_to: int = 0) -> bytes:
    """The 28 octets of a Request for octets of a region."""
    return build_read_request(sink_stag, sink_to, size, region.stag, region.to + offset & (TO_LIMIT - 1))


async def expect_octets(stream: Stream, region: Region, offset: int, due: bytes) -> None:
    """A Read of these octets must give them."""
    came = await stream.expect_read(region.stag, region.to + offset, len(due))
    if came != due:
        raise Failed(f"{due[:16].hex()} at offset {offset}", came[:16].hex())


# --- Responses -------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.2.1-12", "a Read Request is answered with a Read Response", level=TARGET)
async def answered(bench: Bench) -> None:
    """A Read of 64 octets of the region.

    Accepts: a Read Response with these octets, tagged, to the sink that the Request named.
    """
    stream = await bench.open()
    await stream.read(bench.rw.stag, bench.rw.to, 64, sink_stag=7, sink_to=9)
    whole = await receive_whole(stream)
    whole.fields(opcode=Opcode.READ_RESPONSE, tagged=True, stag=7, to=9, last=True)
    whole.carries(region_pattern("rw", 64))


@case("RDMAP-5040-5.2.2-02", "a Read Response is tagged", also=("RDMAP-5040-5.2.2-01",))
async def response_tagged(bench: Bench) -> None:
    """A Read of zero octets.

    Accepts: an answer with control octets 0xc1 and 0x42.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0)
    seen = await stream.expect_message(message(Opcode.READ_RESPONSE))
    if seen.fpdu.ulpdu[:2] != b"\xc1\x42":
        raise Failed("control octets c1 42", seen.fpdu.ulpdu[:2].hex(" "), seen.annotated())


@case("RDMAP-5040-4.4-02", "the sink STag comes back as it was named")
async def sink_stag(bench: Bench) -> None:
    """Reads of zero octets with sink STags 0, 0xdeadbeef and 0xffffffff.

    Accepts: Read Responses with these STags.
    """
    stream = await bench.open()
    for stag in (0, 0xDEADBEEF, 0xFFFF_FFFF):
        await stream.read(0, 0, 0, sink_stag=stag)
        await stream.expect_response(0, stag)


@case("RDMAP-5040-4.4-03", "the Response begins at the sink TO", level=TARGET)
async def sink_to(bench: Bench) -> None:
    """A Read of 200,000 octets with sink TO 0x0123456789abcdef.

    Accepts: segments that begin there and go on where the one before has ended.
    """
    stream = await bench.open(session={"regionsize": LONG})
    await stream.read(bench.rw.stag, bench.rw.to, LONG, sink_to=0x0123456789ABCDEF)
    whole = await receive_whole(stream, Opcode.READ_RESPONSE)
    whole.several()
    whole.contiguous(0x0123456789ABCDEF)


@case("RDMAP-5040-4.4-04", "the sink TO may be any", level=Level.RPING, needs=REGION, also=("RDMAP-5040-5.2.2-06",))
async def any_sink_to(bench: Bench) -> None:
    """Reads of five octets with sink TOs 1, 0x1000 and 0x100000001.

    Accepts: Read Responses that begin there.
    """
    stream = await bench.open()
    for to in (1, 0x1000, 0x1_0000_0001):
        await stream.read(bench.rw.stag, bench.rw.to, 5, sink_to=to)
        await stream.expect_response(5, to=to)


@case("RDMAP-5040-4.4-05", "exactly as many octets come back as were asked for", level=TARGET)
async def exact_size(bench: Bench) -> None:
    """Reads of 1, 2, 3, 4, 511, 512, 1,441, 65,535, 65,536 and 100,000 octets.

    Accepts: Read Responses with exactly the octets of the region.
    """
    stream = await bench.open(session={"regionsize": 100_000})
    region = region_pattern("rw", 100_000)
    for size in (1, 2, 3, 4, 511, 512, 1441, 65_535, 65_536, 100_000):
        await expect_octets(stream, bench.rw, 0, region[:size])


@case("RDMAP-5040-4.4-06", "a Read may begin anywhere in the buffer", level=TARGET)
async def any_source_to(bench: Bench) -> None:
    """Reads of five octets from the region's fourth octet and of its last octet.

    Accepts: Read Responses with these octets.
    """
    stream = await bench.open()
    region = region_pattern("rw", bench.rw.length)
    await expect_octets(stream, bench.rw, 3, region[3:8])
    await expect_octets(stream, bench.rw, bench.rw.length - 1, region[-1:])


@case("RDMAP-5040-5.2.1-11", "a Read may cover the whole buffer, or part of it", level=TARGET)
async def whole_and_part(bench: Bench) -> None:
    """A Read of the whole region, then one of ten octets within.

    Accepts: Read Responses with these octets.
    """
    stream = await bench.open()
    region = region_pattern("rw", bench.rw.length)
    await expect_octets(stream, bench.rw, 0, region)
    await expect_octets(stream, bench.rw, 77, region[77:87])


@case("RDMAP-5040-5.2.1-11/2", "a region that may only be read is read", level=TARGET)
async def read_only(bench: Bench) -> None:
    """A Read of the region that grants remote read alone.

    Accepts: a Read Response with its octets.
    """
    stream = await bench.open()
    await expect_octets(stream, bench.ro, 0, region_pattern("ro", bench.ro.length))


@case("RDMAP-5040-5.2.2-09", "a Response goes to one buffer", level=TARGET)
async def one_sink(bench: Bench) -> None:
    """A Read of 200,000 octets with sink STag 0xdeadbeef.

    Accepts: segments all of which name this STag.
    """
    stream = await bench.open(session={"regionsize": LONG})
    await stream.read(bench.rw.stag, bench.rw.to, LONG, sink_stag=0xDEADBEEF)
    whole = await receive_whole(stream, Opcode.READ_RESPONSE)
    whole.several()
    whole.fields(stag=0xDEADBEEF)
    whole.carries(region_pattern("rw", LONG))


@case("RDMAP-5040-5.2-01", "one Request has one Response", level=Level.RPING, needs=REGION)
async def one_response(bench: Bench) -> None:
    """A Read of 16 octets.

    Accepts: one Read Response, and then silence.
    """
    stream = await bench.open()
    await stream.expect_read(bench.rw.stag, bench.rw.to, 16)
    seen = await stream.observe(stream.line.quiet)
    if isinstance(seen, Message) and message(Opcode.READ_RESPONSE).fits(seen):
        raise Failed("no second Read Response", str(seen), seen.annotated())


# --- Reads of zero octets --------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.2.1-13", "a Read of zero octets is lawful", also=("RDMAP-5040-5.2.1-16",))
async def nothing(bench: Bench) -> None:
    """A Read of no octets with sink STag 0xdeadbeef and sink TO 5.

    Accepts: one empty Read Response with this STag and TO.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0, sink_stag=0xDEADBEEF, sink_to=5)
    seen = await stream.expect_message(message(Opcode.READ_RESPONSE))
    WholeMessage((seen,)).fields(stag=0xDEADBEEF, to=5, last=True, payload=b"")


@case("RDMAP-5040-5.2.1-15", "the source of a Read of zero octets is not validated")
async def nothing_from_nowhere(bench: Bench) -> None:
    """Reads of no octets from STag 0, from an unknown STag and from the greatest TO.

    Accepts: an empty Read Response to each.
    """
    stream = await bench.open()
    for stag, to in ((0, 0), (unknown_stag(bench), 0x1000), (unknown_stag(bench), TO_LIMIT - 1)):
        await stream.read(stag, to, 0)
        await stream.expect_response(0)


@case("SEC-5042-6.3.5-02", "a Read of zero octets is lawful whatever the rights", level=TARGET)
async def nothing_without_right(bench: Bench) -> None:
    """A Read of no octets of the region that may only be written, and of the one of another protection domain.

    Accepts: an empty Read Response to each.
    """
    stream = await bench.open()
    for region in (bench.wo, bench.other):
        await stream.read(region.stag, region.to, 0)
        await stream.expect_response(0)


# --- the program is not concerned ------------------------------------------------------------------------------------


@case("RDMAP-5040-5.2.1-03", "Reads are answered without the program", level=TARGET, also=("RDMAP-5040-3.2-06",))
async def without_program(bench: Bench) -> None:
    """A hundred Reads of 16 octets to a target that has posted no receive.

    Accepts: a hundred Read Responses; no completion.
    """
    stream = await bench.open(session={"receives": ""})
    due = region_pattern("rw", 16)
    for _ in range(100):
        await expect_octets(stream, bench.rw, 0, due)
    await expect_nothing_delivered(bench, 0.0)


@case("RDMAP-5040-5.2.1-04", "Read Requests consume no receive", level=TARGET)
async def no_receive_consumed(bench: Bench) -> None:
    """Ten Reads, then a Send to a target with one receive.

    Accepts: ten Read Responses; the Send is delivered into this receive.
    """
    stream = await bench.open(session={"receives": "64"})
    for _ in range(10):
        await stream.expect_read(bench.rw.stag, bench.rw.to, 16)
    await stream.send(b"still there")
    await expect_delivered(bench, b"still there")


# --- IRD -------------------------------------------------------------------------------------------------------------


def _pipelined(stream: Stream, region: Region, sizes: list[int]) -> list[bytes]:
    return [stream.untagged(READ, 1, request(region, size, sink_stag=number)) for number, size in enumerate(sizes, 100)]


@case("RDMAP-5040-5.2.1-02", "as many Reads as IRD are accepted at once", level=TARGET, also=("RDMAP-5040-5.2.2-03",))
async def ird_reads(bench: Bench) -> None:
    """Four Reads of 10,000 octets in one piece to a target with an IRD of four; then four more.

    Accepts: eight Read Responses in the order of the Requests.
    """
    stream = await bench.open(session={"ird": 4, "regionsize": 10_000})
    for _ in range(2):
        await stream.fpdus(_pipelined(stream, bench.rw, [10_000] * 4))
        for number in range(100, 104):
            await stream.expect_response(10_000, number)


@case("RDMAP-5040-6.1-06", "a Read beyond IRD is an error, or waits for its turn", level=TARGET, needs=[Need.DEPTHS])
async def beyond_ird(bench: Bench) -> None:
    """Forty Reads of 100,000 octets in one piece to a target with an IRD of two.

    Accepts: forty Read Responses in the order of the Requests; or some of them, and Terminate 1/2/02, 1/2/03 or 0/2/07.
    """
    stream = await bench.open(session={"ird": 2, "regionsize": 100_000})
    await stream.fpdus(_pipelined(stream, bench.rw, [100_000] * 40))
    refused = terminate(DDP_UNTAGGED_NO_BUFFER, DDP_UNTAGGED_MSN, RDMAP_STREAM_CATASTROPHE)
    number, due = 100, 0
    while number < 140:
        seen = await stream.expect_message(message(Opcode.READ_RESPONSE, stag=number, to=due) | refused)
        if seen.terminate is not None:
            await stream.expect_over()
            return
        assert seen.segment is not None, "the pattern admits segments alone"
        due += len(seen.segment.payload)
        if seen.segment.last:
            number, due = number + 1, 0


# --- order -----------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.2.1-08", "Reads are processed in the order sent", level=Level.RPING, needs=REGION)
async def order_of_small(bench: Bench) -> None:
    """Two Reads, of 16 octets and of one, in one piece.

    Accepts: two Read Responses in this order.
    """
    stream = await bench.open()
    await stream.fpdus(_pipelined(stream, bench.rw, [16, 1]))
    await stream.expect_response(16, 100)
    await stream.expect_response(1, 101)


@case("RDMAP-5040-5.2.2-07", "Responses leave in the order of the Requests, one after the other", level=TARGET)
async def order_of_large(bench: Bench) -> None:
    """Reads of 100,000 octets, of one, of none and of 50,000, in one piece.

    Accepts: Read Responses in this order, each whole before the next.
    """
    stream = await bench.open(session={"regionsize": 100_000})
    sizes = [100_000, 1, 0, 50_000]
    await stream.fpdus(_pipelined(stream, bench.rw, sizes))
    for number, size in enumerate(sizes, 100):
        await stream.expect_response(size, number)


@case("RDMAP-5040-5.5-17", "Reads to different sinks are answered in the order of the Requests", level=TARGET)
async def order_of_sinks(bench: Bench) -> None:
    """Eight Reads of falling sizes with falling sink STags, in one piece.

    Accepts: Read Responses in the order of the Requests.
    """
    stream = await bench.open(session={"regionsize": 8000})
    sizes = [8000, 7000, 6000, 5000, 4000, 3000, 2000, 1000]
    await stream.fpdus(
        stream.untagged(READ, 1, request(bench.rw, size, sink_stag=1000 - n)) for n, size in enumerate(sizes)
    )
    for number, size in enumerate(sizes):
        await stream.expect_response(size, 1000 - number)


@case("RDMAP-5040-5.5-07", "a Read sees the Write before it", level=Level.RPING, needs=REGION)
async def read_sees_write(bench: Bench) -> None:
    """In one piece, a Write of eight octets and a Read of the same.

    Accepts: a Read Response with these octets.
    """
    stream = await bench.open()
    read = stream.untagged(READ, 1, request(bench.rw, 8))
    await stream.fpdus([build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"new data"), read])
    if (came := await stream.expect_response(8)) != b"new data":
        raise Failed("what was written", came.hex())


@case("RDMAP-5040-5.5-08", "each Read sees the Write right before it", level=TARGET)
async def pairs(bench: Bench) -> None:
    """A hundred pairs of a Write and a Read of the same octets, eight pairs in one piece.

    Accepts: Read Responses each with what the Write before it brought, or the next ones within the piece.
    """
    stream = await bench.open()
    for start in range(0, 96, 8):
        segments = []
        for number in range(start, start + 8):
            octets = number.to_bytes(4, "big") * 2
            segments.append(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, octets))
            segments.append(stream.untagged(READ, 1, request(bench.rw, 8)))
        await stream.fpdus(segments)
        for number in range(start, start + 8):
            value = int.from_bytes((await stream.expect_response(8))[:4], "big")
            if not number <= value < start + 8:  # a later Write may be placed before a Response is made (§5.5)
                raise Failed(f"the octets of Write {number} or of a later one", f"those of {value}")


@case("RDMAP-5040-5.5-14", "a Read is not begun before its Request is whole", level=TARGET)
async def held_back(bench: Bench) -> None:
    """A Write and a Read of the same octets, the last four octets of the Request's FPDU held back for a while.

    Accepts: silence; then, with the rest, a Read Response with what was written.
    """
    stream = await bench.open()
    octets = stream.framer.frame(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"new data"))
    octets += stream.framer.frame(stream.untagged(READ, 1, request(bench.rw, 8)))
    await stream.send_octets(octets[:-4])
    await stream.expect_quiet()
    await stream.send_octets(octets[-4:])
    if (came := await stream.expect_response(8)) != b"new data":
        raise Failed("what was written", came.hex())


@case("RDMAP-5040-5.5-09", "a Write after a Read may be seen by it or not", level=Level.RPING, needs=REGION)
async def write_behind_read(bench: Bench) -> None:
    """A Write and a Read that sees it; then, in one piece, a Read and a Write to the same octets.

    Accepts: the first octets or the second in each place, and nothing else.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to, b"old octets")
    await stream.probe()
    read = stream.untagged(READ, 1, request(bench.rw, 10))
    await stream.fpdus([read, build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"new octets")])
    came = await stream.expect_response(10)
    if any(octet not in pair for octet, pair in zip(came, zip(b"old octets", b"new octets", strict=True), strict=True)):
        raise Failed(f"{b'old octets'.hex()} or {b'new octets'.hex()}, each octet of one of both", came.hex())


@case("RDMAP-5040-5.5-15", "a Send is delivered though an earlier Read is not answered in full", level=TARGET)
async def send_passes_read(bench: Bench) -> None:
    """In one piece, a Read of 1,000,000 octets and a Send.

    Accepts: the Send is delivered; then the whole Response.
    """
    stream = await bench.open(session={"regionsize": 1_000_000})
    await stream.fpdus([stream.untagged(READ, 1, request(bench.rw, 1_000_000)), stream.untagged(3, 0, b"passes")])
    await expect_delivered(bench, b"passes")
    await stream.expect_response(1_000_000)
