"""FPDUs: layout, pad, CRC, size, and where one ends (RFC 5044 §3, §4.1, §4.4, §4.5, §5, §6)."""

from __future__ import annotations

import asyncio

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.control import pattern_octets
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, expect_octets, read_response
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import MPA_CRC
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT = (Direction.CONNECT,)
MAX_ULPDU = 64768
LENGTH_SIZE = 2
EMPTY_WRITE = build_tagged(Opcode.WRITE, 0, 0)


# --- layout ----------------------------------------------------------------------------------------------------------


@case("MPA-5044-4.1-01", "an FPDU is length, ULPDU, pad and CRC, and the next one follows", also=("MPA-5044-4.4-16",))
async def layout(bench: Bench) -> None:
    """Ten Reads of zero octets, one after the other.

    Accepts: ten Read Responses of 20 octets each, one after the other.
    """
    stream = await bench.open()
    for _ in range(10):
        seen = await stream.probe()
        if len(seen.fpdu.octets) != 20:
            raise Failed("an FPDU of 20 octets", f"one of {len(seen.fpdu.octets)}", seen.annotated())


@case("MPA-5044-4.1-03", "pad octets are zero", level=Level.TARGET)
async def pad_is_zero(bench: Bench) -> None:
    """The target posts Sends of 1, 2, 3, 5, 6 and 7 octets.

    Accepts: FPDUs whose pads, if any, are zero.
    """
    stream = await bench.open()
    for size in (1, 2, 3, 5, 6, 7):
        await bench.target.post("send", len=size, seed=0xF0)
        for seen in await stream.expect_send(pattern_octets(0xF0, size)):
            if any(seen.fpdu.pad):
                raise Failed("a pad of zeros", f"a pad of {seen.fpdu.pad.hex()}", seen.annotated())


@case("MPA-5044-4.1-05", "the pad makes the FPDU a multiple of four", level=Level.TARGET)
async def pad_lengths(bench: Bench) -> None:
    """The target posts Sends of 0, 1, 2 and 3 octets.

    Accepts: FPDUs of 24, 28, 28 and 28 octets.
    """
    stream = await bench.open()
    for size, due in ((0, 24), (1, 28), (2, 28), (3, 28)):
        await bench.target.post("send", len=size, seed=1)
        (seen,) = await stream.expect_send(pattern_octets(1, size))
        if len(seen.fpdu.octets) != due:
            raise Failed(f"an FPDU of {due} octets", f"one of {len(seen.fpdu.octets)}", seen.annotated())


@case("MPA-5044-4.1-02", "ULPDU_Length counts the ULPDU, and no marker in it", level=Level.TARGET)
async def length_counts_no_markers(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 600 octets.

    Accepts: one FPDU with ULPDU_Length 618 (or more FPDUs, if the peer cuts so small), its markers not counted.
    """
    stream = await bench.open(markers=True)
    await bench.target.post("send", len=600, seed=9)
    came = await stream.expect_send(pattern_octets(9, 600))
    total = sum(len(seen.fpdu.ulpdu) for seen in came)
    if total != 600 + 18 * len(came):
        raise Failed(f"{600 + 18 * len(came)} octets of ULPDUs", f"{total}", came[0].annotated())


@case("MPA-5044-4.1-04", "the pad's content is ignored", level=Level.RPING, needs=[Need.REGION])
async def any_pad(bench: Bench) -> None:
    """Writes whose pads are AA, AABB and 55, covered by right CRCs; then a Read of what was written.

    Accepts: the octets that were written.
    """
    stream = await bench.open()
    for size, pad in ((3, b"\x55"), (1, b"\xaa\xbb\xcc"), (2, b"\xaa\xbb")):
        pad = (pad * 4)[: -(2 + 14 + size) % 4]
        ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes([size]) * size)
        await stream.fpdu(ulpdu, pad=pad)
        came = await stream.expect_read(bench.rw.stag, bench.rw.to, size)
        expect_octets(f"{size} octets that were written", came, bytes([size]) * size)


@case("MPA-5044-4.1-04/2", "the pad is covered by the CRC")
async def pad_is_covered(bench: Bench) -> None:
    """A Write whose pad is not zero, with the CRC of a pad of zeros.

    Accepts: Terminate 2/0/02, and then the end of the stream.
    """
    stream = await bench.open()
    ulpdu = build_tagged(Opcode.WRITE, 0, 0, b"")
    await stream.send_octets(stream.framer.damaged(ulpdu + b"x", LENGTH_SIZE + len(ulpdu) + 1, 0xFF))
    await stream.expect_terminated(MPA_CRC)


# --- CRC -------------------------------------------------------------------------------------------------------------


@case("MPA-5044-4.4-01", "CRCs are supported: a right one is accepted, a wrong one found")
async def crc_supported(bench: Bench) -> None:
    """C=1 from the bench; an FPDU with a right CRC, a Read of zero octets, an FPDU with CRC zero.

    Accepts: the answer to the Read, then Terminate 2/0/02.
    """
    stream = await bench.open()
    await stream.fpdu(EMPTY_WRITE)
    await stream.probe()
    await stream.fpdu(EMPTY_WRITE, crc=0)
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-4.4-12", "the CRC is CRC32C, least significant octet first", level=Level.TARGET)
async def figure_5(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 24 zeros as its first message.

    Accepts: the octets of RFC 5044 figure 5, with CRC 52 23 99 83, if the Send is the first FPDU; else a right CRC.
    """
    stream = await bench.open(markers=True)
    before = stream.deframer.offset
    await bench.target.post("send", data=bytes(24))
    (seen,) = await stream.expect_send(bytes(24))
    if before == 0 and seen.fpdu.octets[-4:] != bytes.fromhex("52239983"):
        raise Failed("the CRC 52 23 99 83 of figure 5", seen.fpdu.octets[-4:].hex(" "), seen.annotated())


@case("MPA-5044-4.4-13", "the CRC runs from ULPDU_Length to the pad")
async def crc_of_all_lengths(bench: Bench) -> None:
    """Reads of zero octets and zero-length Writes with pads of all lengths in turn, all with right CRCs.

    Accepts: the answers to the Reads, with right CRCs.
    """
    stream = await bench.open()
    for _ in range(4):
        await stream.write(0, 0)
        await stream.probe()


@case("MPA-5044-4.4-18", "every kind of wrong CRC is found")
async def wrong_crcs(bench: Bench) -> None:
    """FPDUs on separate connections whose CRCs are changed in one bit, in all bits, and put most significant first.

    Accepts: Terminate 2/0/02 each time, and then the end of the stream.
    """
    for mask in (0x1, 0x8000_0000, 0xFFFF_FFFF):
        stream = await bench.open()
        await stream.fpdu(EMPTY_WRITE, crc_mask=mask)
        await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-4.4-17", "an FPDU with a wrong CRC has no effect", level=Level.RPING, needs=[Need.REGION])
async def wrong_crc_places_nothing(bench: Bench) -> None:
    """A Write to the peer's region with one payload bit changed without a new CRC.

    Accepts: Terminate 2/0/02; where the memory can be inspected, it is unchanged.
    """
    stream = await bench.open()
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\1\2\3\4")
    await stream.send_octets(stream.framer.damaged(ulpdu, LENGTH_SIZE + len(ulpdu) - 4, 0x80))
    await stream.expect_terminated(MPA_CRC)
    if bench.has_target:
        await bench.target.expect_memory_unchanged("rw")


# --- verification and boundaries -------------------------------------------------------------------------------------


@case("MPA-5044-6-01", "an FPDU is verified before its octets are placed", level=Level.TARGET)
async def verified_first(bench: Bench) -> None:
    """A Write of 2000 octets over the region with a wrong CRC.

    Accepts: Terminate 2/0/02, and unchanged memory.
    """
    stream = await bench.open()
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes(2000))
    await stream.fpdu(ulpdu, crc_mask=0x10)
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_memory_unchanged("rw")


@case("MPA-5044-6-02", "after a wrong CRC nothing is accepted", level=Level.TARGET)
async def nothing_behind_a_wrong_crc(bench: Bench) -> None:
    """In one piece a Write with a wrong CRC and three valid Writes.

    Accepts: Terminate 2/0/02, and unchanged memory.
    """
    stream = await bench.open()
    write = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 64)
    frames = [stream.framer.frame(write, crc_mask=1), *(stream.framer.frame(write) for _ in range(3))]
    await stream.send_octets(b"".join(frames))
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_memory_unchanged("rw")


@case("MPA-5044-6-03", "a wrong ULPDU_Length is found by the CRC", level=Level.RPING, needs=[Need.REGION])
async def wrong_length(bench: Bench) -> None:
    """A Write whose ULPDU_Length is four too small, its CRC that of the right length, and a valid Write after it.

    Accepts: Terminate 2/0/02; where the memory can be inspected, it is unchanged.
    """
    stream = await bench.open()
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 16)
    await stream.send_octets(stream.framer.damaged(ulpdu, 1, len(ulpdu) ^ (len(ulpdu) - 4)))
    await stream.fpdu(ulpdu)
    await stream.expect_terminated(MPA_CRC)
    if bench.has_target:
        await bench.target.expect_memory_unchanged("rw")


@case("MPA-5044-6-04", "an FPDU whose last octet is missing waits for it")
async def last_octet_late(bench: Bench) -> None:
    """A Read of zero octets without the last octet of its CRC; after the time of silence that octet.

    Accepts: silence, and then the answer.
    """
    stream = await bench.open()
    octets = stream.framer.frame(stream.read_request(0, 0, 0))
    await stream.send_octets(octets[:-1])
    await stream.expect_no_reaction()
    await stream.send_octets(octets[-1:])
    await stream.expect(read_response(b""))


@case("MPA-5044-5.1-05", "FPDUs come octet by octet")
async def octet_by_octet(bench: Bench) -> None:
    """An empty Write and a Read of zero octets, octet by octet.

    Accepts: the answer to the Read.
    """
    stream = await bench.open()
    octets = stream.framer.frame(EMPTY_WRITE) + stream.framer.frame(stream.read_request(0, 0, 0))
    await stream.line.send_slowly(octets, len(octets), 0.001)
    await stream.expect(read_response(b""))


@case("MPA-5044-A.4-01", "FPDUs need not be aligned with TCP segments", level=Level.RPING, needs=[Need.REGION])
async def unaligned(bench: Bench) -> None:
    """50 Writes and half of the 51st in one piece, the rest after a pause; then a Read of all octets.

    Accepts: the octets that were written.
    """
    stream = await bench.open()
    rw = bench.rw
    frames = [stream.framer.frame(build_tagged(Opcode.WRITE, rw.stag, rw.to + i, bytes([200 - i]))) for i in range(51)]
    octets = b"".join(frames)
    cut = len(octets) - len(frames[-1]) // 2
    await stream.send_octets(octets[:cut])
    await asyncio.sleep(0.05)
    await stream.send_octets(octets[cut:])
    came = await stream.expect_read(rw.stag, rw.to, 51)
    expect_octets("the 51 octets that were written", came, bytes(200 - i for i in range(51)))


@case("MPA-5044-5.1-04", "twenty FPDUs in one piece all take effect", level=Level.RPING, needs=[Need.REGION])
async def twenty_in_one_piece(bench: Bench) -> None:
    """Twenty Writes of three octets each in one piece; then a Read of all octets.

    Accepts: the octets that were written.
    """
    stream = await bench.open()
    rw = bench.rw
    await stream.fpdus(build_tagged(Opcode.WRITE, rw.stag, rw.to + 3 * i, bytes([i + 1]) * 3) for i in range(20))
    octets = await stream.expect_read(rw.stag, rw.to, 60)
    expect_octets("the octets that were written", octets, b"".join(bytes([i + 1]) * 3 for i in range(20)))


@case("MPA-5044-5.2-01", "boundaries are found by ULPDU_Length alone")
async def all_pads_in_one_piece(bench: Bench) -> None:
    """Two hundred empty Writes and a Read of zero octets in one piece.

    Accepts: the answer to the Read.
    """
    stream = await bench.open()
    await stream.fpdus([*[EMPTY_WRITE] * 200, stream.read_request(0, 0, 0)])
    await stream.expect(read_response(b""))


@case("MPA-5044-4.3-13", "ULPDU boundaries are kept", level=Level.TARGET)
async def boundaries(bench: Bench) -> None:
    """Six Sends of 0, 1, 2, 3, 17 and 100 octets in one piece.

    Accepts: six completions of these lengths.
    """
    stream = await bench.open()
    sizes = (0, 1, 2, 3, 17, 100)
    await stream.fpdus(stream.untagged(Opcode.SEND, 0, bytes([size]) * size) for size in sizes)
    works = [work for work in await bench.target.expect_completions(len(sizes)) if work.opcode == "recv"]
    if [work.nbytes for work in works] != [*sizes]:
        raise Failed(f"receives of {sizes} octets", f"receives of {[work.nbytes for work in works]}")


@case("MPA-5044-3-08", "every valid ULPDU is passed on with its length", level=Level.RPING, needs=[Need.REGION])
async def every_ulpdu(bench: Bench) -> None:
    """Writes of 1 to 8 octets, each after the one before; then a Read of all octets.

    Accepts: the octets that were written.
    """
    stream = await bench.open()
    rw, offset, due = bench.rw, 0, b""
    for size in range(1, 9):
        await stream.write(rw.stag, rw.to + offset, bytes([0x80 | size]) * size)
        due += bytes([0x80 | size]) * size
        offset += size
    expect_octets("the octets that were written", await stream.expect_read(rw.stag, rw.to, len(due)), due)


@case("MPA-5044-3-13", "all segments have DV=1 and RV=1", also=("MPA-5044-C.1-01",))
async def versions(bench: Bench) -> None:
    """A Read of zero octets, and an FPDU with a wrong CRC.

    Accepts: a Read Response and a Terminate, both with DV=1 and RV=1.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0)
    _check_versions(await stream.expect_message(read_response(b"")))
    await stream.write_badly()
    _check_versions(await stream.expect_terminated(MPA_CRC))


def _check_versions(seen: Message) -> None:
    segment = seen.segment
    if segment is None or (segment.dv, segment.rv) != (1, 1):
        raise Failed("DV=1 and RV=1", str(segment), seen.annotated())


# --- sizes -----------------------------------------------------------------------------------------------------------


@case("MPA-5044-3-06", "ULPDUs of every size are accepted", level=Level.TARGET)
async def all_sizes(bench: Bench) -> None:
    """Writes that make ULPDUs of 15, 128, 1442, 8942 and 64768 octets.

    Accepts: the octets that were written.
    """
    stream = await bench.open(session={"regionsize": 65536})
    for size in (15, 128, 1442, 8942, MAX_ULPDU):
        payload = pattern_octets(size & 0xFF, size - 14)
        await stream.write(bench.rw.stag, bench.rw.to, payload)
        await stream.probe()
        await bench.target.expect_memory("rw", 0, payload)


async def _segments_of(bench: Bench, stream: Stream, size: int) -> list[Message]:
    await bench.target.post("send", len=size, seed=7)
    return await stream.expect_send(pattern_octets(7, size))


@case("MPA-5044-3-01", "each FPDU is one whole DDP segment", level=Level.TARGET)
async def one_segment_each(bench: Bench) -> None:
    """The target posts a Send of 200,000 octets.

    Accepts: FPDUs each of which is one segment, whose MOs follow one another, L set on the last alone.
    """
    stream = await bench.open()
    came = await _segments_of(bench, stream, 200_000)
    lasts = [seen.segment.last for seen in came if seen.segment is not None]
    if len(came) < 2 or any(lasts[:-1]):
        raise Failed("several segments, the last with L", f"{len(came)} segments")


@case("MPA-5044-3-05", "no ULPDU is longer than 64768 octets", level=Level.TARGET, also=("MPA-5044-3-04",))
async def no_longer_ulpdu(bench: Bench) -> None:
    """The target posts a Send of 400,000 octets.

    Accepts: FPDUs of at most 64768 octets of ULPDU.
    """
    stream = await bench.open()
    longest = max((await _segments_of(bench, stream, 400_000)), key=lambda seen: len(seen.fpdu.ulpdu))
    if len(longest.fpdu.ulpdu) > MAX_ULPDU:
        raise Failed("at most 64768 octets", f"{len(longest.fpdu.ulpdu)}")


async def _largest(bench: Bench, mss: int, *, markers: bool = False) -> list[int]:
    """The ULPDU sizes of a long Send when TCP's segments are as small as that."""
    stream = await bench.open(mss=mss, markers=markers)
    return [len(seen.fpdu.ulpdu) for seen in await _segments_of(bench, stream, 8192)]


def _check_sizes(sizes: list[int], least: int, most: int) -> None:
    if max(sizes) > most or max(sizes) < least:
        raise Failed(f"ULPDUs of {least} to {most} octets at most", f"one of {max(sizes)}")


@case("MPA-5044-3-03", "ULPDUs stay within the MULPDU of TCP's segment size", directions=CONNECT, level=Level.TARGET)
async def within_mulpdu(bench: Bench) -> None:
    """A TCP connection on which the bench takes segments of 536 octets; the target posts a Send of 8192 octets.

    Accepts: ULPDUs of at most 530 octets.
    """
    _check_sizes(await _largest(bench, 536), 128, 530)


@case("MPA-5044-4.5-02", "without markers MULPDU is EMSS less 6 and EMSS mod 4", directions=CONNECT, level=Level.TARGET)
async def mulpdu_by_the_formula(bench: Bench) -> None:
    """A TCP connection on which the bench takes segments of 1460 octets; the target posts a Send of 8192 octets.

    Accepts: ULPDUs of at most 1454 octets, the largest of which makes an FPDU that fills a segment: 1442 with
    timestamps, 1454 without.
    """
    sizes = await _largest(bench, 1460)
    if max(sizes) not in (1454, 1442):
        raise Failed("1454 octets in the largest ULPDU, or 1442 with TCP timestamps", f"{max(sizes)}")


@case("MPA-5044-4.5-01", "with markers MULPDU leaves room for them", directions=CONNECT, level=Level.TARGET)
async def mulpdu_with_markers(bench: Bench) -> None:
    """The same with M=1 from the bench.

    Accepts: ULPDUs of at most 1442 octets, the largest of 1442 or, with TCP timestamps, of 1430.
    """
    sizes = await _largest(bench, 1460, markers=True)
    if max(sizes) not in (1442, 1430):
        raise Failed("1442 octets in the largest ULPDU, or 1430 with TCP timestamps", f"{max(sizes)}")


@case("MPA-5044-4.5-05", "ULPDUs are as large as they may be", directions=CONNECT, level=Level.TARGET)
async def as_large_as_possible(bench: Bench) -> None:
    """A TCP connection on which the bench takes segments of 1460 octets; the target posts a Send of 8192 octets.

    Accepts: ULPDUs all of the same size but the last.
    """
    sizes = await _largest(bench, 1460)
    if len({*sizes[:-1]}) != 1:
        raise Failed("ULPDUs of one size but the last", f"ULPDUs of {sorted({*sizes[:-1]})}")


@case("MPA-5044-4.5-07", "MULPDU is 128 at least, however small segments are", directions=CONNECT, level=Level.TARGET)
async def never_below_128(bench: Bench) -> None:
    """A TCP connection on which the bench takes segments of 88 octets; the target posts a Send of 8192 octets.

    Accepts: ULPDUs all of 128 octets or more but the last.
    """
    sizes = await _largest(bench, 88)
    if min(sizes[:-1]) < 128:
        raise Failed("at least 128 octets", f"{min(sizes[:-1])}")
