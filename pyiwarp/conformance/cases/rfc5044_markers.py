"""Markers: where they lie, where they point, and what the CRC covers of them (RFC 5044 §4.2, §4.3, §4.4)."""

from __future__ import annotations

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import pattern_octets
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, ended, in_words, read_response, terminate
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import MPA_CRC, MPA_MARKER
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.decode.framing import MARKER_SPACING, Marker

__all__: list[str] = []

WANTED = {"markers": 1}
EMPTY_WRITE = build_tagged(Opcode.WRITE, 0, 0)


# --- markers that the peer sends -------------------------------------------------------------------------------------


async def _marked_sends(bench: Bench, *sizes: int) -> tuple[Stream, list[Message]]:
    """A stream on which the bench asked for markers, and the target's Sends of these sizes, one FPDU or more each."""
    stream = await bench.open(markers=True)
    came: list[Message] = []
    for number, size in enumerate(sizes):
        await bench.target.post("send", len=size, seed=number & 0xFF, signaled=0)
    for number, size in enumerate(sizes):
        came += await stream.expect_send(pattern_octets(number & 0xFF, size))
    return stream, came


def _markers(came: list[Message]) -> list[tuple[int, Marker, int]]:
    """Stream offset, content, and what is due, of every marker in these FPDUs."""
    return [
        (seen.fpdu.offset + marker.position, marker.marker, marker.due) for seen in came for marker in seen.fpdu.markers
    ]


def _some(came: list[Message], least: int) -> list[tuple[int, Marker, int]]:
    found = _markers(came)
    if len(found) < least:
        raise Failed(f"at least {least} markers", f"{len(found)}", came[-1].annotated())
    return found


@case("MPA-5044-4.2-01", "a marker is RESERVED and FPDUPTR", level=Level.TARGET)
async def layout(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 2000 octets.

    Accepts: FPDUs with four octets at each marker's place: 0000 and the way back to ULPDU_Length.
    """
    _, came = await _marked_sends(bench, 2000)
    _some(came, 3)


@case("MPA-5044-4.2-02", "RESERVED is zero", level=Level.TARGET)
async def reserved_is_zero(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 4000 octets.

    Accepts: markers whose first two octets are zero.
    """
    _, came = await _marked_sends(bench, 4000)
    for offset, marker, _ in _some(came, 7):
        if marker.rsvd:
            raise Failed("RESERVED 0000", f"{marker.rsvd:#06x} in the marker at {offset}")


@case("MPA-5044-4.2-04", "the two low bits of FPDUPTR are zero", level=Level.TARGET)
async def low_bits_are_zero(bench: Bench) -> None:
    """M=1 from the bench; the target posts Sends of 1 to 700 octets, with pads of all lengths.

    Accepts: markers whose FPDUPTR is a multiple of four.
    """
    _, came = await _marked_sends(bench, *range(1, 700, 70))
    for offset, marker, _ in _some(came, 4):
        if marker.fpduptr % 4:
            raise Failed("a multiple of four", f"FPDUPTR {marker.fpduptr} at {offset}")


@case("MPA-5044-4.3-03", "there is a marker every 512 octets", level=Level.TARGET)
async def every_512_octets(bench: Bench) -> None:
    """M=1 from the bench; the target posts Sends of 10, 3000, 1 and 7000 octets.

    Accepts: markers at offsets 0, 512, 1024 and so on of the stream, and nowhere else.
    """
    stream, came = await _marked_sends(bench, 10, 3000, 1, 7000)
    first = came[0].fpdu.offset
    due = [offset for offset in range(stream.deframer.offset) if offset % MARKER_SPACING == 0 and offset >= first]
    if [offset for offset, _, _ in _markers(came)] != due:
        raise Failed(f"markers at {due[:6]}...", f"markers at {[offset for offset, _, _ in _markers(came)][:6]}...")


@case("MPA-5044-4.3-04", "FPDUPTR counts the octets back to ULPDU_Length", level=Level.TARGET)
async def fpduptr_counts(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 2000 octets.

    Accepts: inside the FPDU FPDUPTRs that count every octet since ULPDU_Length, markers included.
    """
    _, came = await _marked_sends(bench, 2000)
    for offset, marker, due in _some(came, 3):
        if marker.fpduptr != due:
            raise Failed(f"FPDUPTR {due} at {offset}", f"FPDUPTR {marker.fpduptr}")


@case("MPA-5044-4.3-06", "a marker between FPDUs is zero and belongs to the next", level=Level.TARGET)
async def between_fpdus(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send that fills the stream up to offset 512, and another.

    Accepts: a marker of zeros in front of the second FPDU, covered by its CRC.
    """
    stream = await bench.open(markers=True)
    begun = stream.deframer.offset  # an opening message of the peer's may have come
    size = MARKER_SPACING - (begun or 4) - 2 - 18 - 4 if begun < MARKER_SPACING else 484
    for number in range(2):
        await bench.target.post("send", len=size, seed=number)
    (one,) = await stream.expect_send(pattern_octets(0, size))
    (other,) = await stream.expect_send(pattern_octets(1, size))
    if (one.fpdu.offset + len(one.fpdu.octets)) % MARKER_SPACING == 0 and not other.fpdu.markers:
        raise Failed("a marker in front of the second FPDU", "none", other.annotated())


@case("MPA-5044-4.3-12/2", "in small FPDUs too, a marker points to the FPDU that it lies in", also=("MPA-5044-4.3-04",))
async def among_small_fpdus(bench: Bench) -> None:
    """M=1 from the bench; Reads of zero octets, one after the other, until three markers have come.

    Accepts: Read Responses of 20 octets with markers every 512 octets that count back to their ULPDU_Length.
    """
    stream = await bench.open(markers=True)
    while stream.deframer.offset <= 2 * MARKER_SPACING:
        await stream.probe()


@case("MPA-5044-4.3-09", "the first octets of a stream with markers are a marker", also=("MPA-5044-7.1.2-20",))
async def first_octets(bench: Bench) -> None:
    """M=1 from the bench; a Read of zero octets.

    Accepts: a first FPDU after a marker of zeros.
    """
    stream = await bench.open(markers=True)
    if stream.first is None:
        await stream.read(0, 0, 0)
        stream.first = await stream.expect_message(read_response(b""))
    if stream.first.fpdu.octets[:4] != bytes(4):
        raise Failed("00 00 00 00", stream.first.fpdu.octets[:4].hex(" "), stream.first.annotated())


@case("MPA-5044-4.3-10", "markers count from Full Operation, wherever that begins", level=Level.TARGET)
async def counted_from_full_operation(bench: Bench) -> None:
    """M=1 from the bench and Private Data of 0, 1 and 3 octets from both sides; the target posts a Send of 1500 octets.

    Accepts: markers at offsets 0, 512 and 1024 of the FPDUs, each time.
    """
    for size in (0, 1, 3):
        stream = await bench.open(bytes(size), markers=True, session={"data": bytes(size)})
        await bench.target.post("send", len=1500, seed=1)
        came = await stream.expect_send(pattern_octets(1, 1500))
        _some(came, 2)


@case("MPA-5044-4.3-11", "all markers of an FPDU point at the same place", level=Level.TARGET)
async def same_place(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send of 6000 octets.

    Accepts: in each FPDU markers whose offset less FPDUPTR is that of its ULPDU_Length.
    """
    _, came = await _marked_sends(bench, 6000)
    _some(came, 8)
    for seen in came:
        places = {marker.position - marker.marker.fpduptr for marker in seen.fpdu.markers if marker.marker.fpduptr}
        if len(places) > 1:
            raise Failed("one place", in_words(sorted(places)), seen.annotated())


@case("MPA-5044-4.3-12", "a marker points to the FPDU that it lies in", level=Level.TARGET)
async def small_fpdus(bench: Bench) -> None:
    """M=1 from the bench; the target posts a hundred Sends of 7 to 40 octets.

    Accepts: markers each of which points to the FPDU around it, or is zero between two.
    """
    _, came = await _marked_sends(bench, *(7 + number % 34 for number in range(100)))
    _some(came, 8)


@case("MPA-5044-4.4-14", "a marker right before the CRC is covered by it", level=Level.TARGET)
async def marker_before_the_crc(bench: Bench) -> None:
    """M=1 from the bench; the target posts a Send whose pad ends where a marker is due.

    Accepts: the marker between pad and CRC, and a CRC that covers it.
    """
    stream = await bench.open(markers=True)
    begun = stream.deframer.offset
    size = MARKER_SPACING - (begun or 4) - 2 - 18
    await bench.target.post("send", len=size, seed=5)
    (seen,) = await stream.expect_send(pattern_octets(5, size))
    if seen.fpdu.markers[-1].position + 8 != len(seen.fpdu.octets):
        raise Failed("a marker right before the CRC", f"it is at {seen.fpdu.markers[-1].position}", seen.annotated())


# --- markers that the peer asked for ---------------------------------------------------------------------------------


async def _asked_for(bench: Bench) -> Stream:
    """A stream on which the peer asked for markers."""
    stream = await bench.open(session=WANTED)
    if not stream.framer.markers:
        raise Failed("M=1 from a target that was told so", "M=0")
    return stream


async def _accepted(bench: Bench, stream: Stream, octets: bytes) -> None:
    """A Read of zero octets is answered, and the region begins with `octets`."""
    await stream.probe()
    await bench.target.expect_memory("rw", 0, octets)


@case(
    "MPA-5044-4.3-14",
    "markers are removed from what is placed",
    level=Level.TARGET,
    needs=[Need.MARKERS],
    also=("MPA-5044-4.3-10",),
)
async def taken_out(bench: Bench) -> None:
    """A Write and a Send of 2000 octets each, with markers.

    Accepts: exactly these octets in memory and in the receive.
    """
    stream = await _asked_for(bench)
    octets = pattern_octets(3, 2000)
    await stream.write(bench.rw.stag, bench.rw.to, octets)
    await stream.send(octets)
    await _accepted(bench, stream, octets)
    await bench.target.expect_received(octets)


@case("MPA-5044-4.2-03", "RESERVED is ignored", level=Level.TARGET, needs=[Need.MARKERS])
async def reserved_not_looked_at(bench: Bench) -> None:
    """A Write of 2000 octets whose markers have RESERVED FFFF, with a CRC over them.

    Accepts: the octets are placed.
    """
    stream = await _asked_for(bench)
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes(2000))
    await stream.fpdu(ulpdu, tamper=lambda marker: marker._replace(rsvd=0xFFFF))
    await _accepted(bench, stream, bytes(2000))


@case("MPA-5044-4.2-05", "the low bits of FPDUPTR are treated as zero", level=Level.TARGET, needs=[Need.MARKERS])
async def low_bits_not_looked_at(bench: Bench) -> None:
    """A Write of 2000 octets whose markers have both low bits of FPDUPTR set, with a CRC over them.

    Accepts: the octets are placed.
    """
    stream = await _asked_for(bench)
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes(2000))
    await stream.fpdu(ulpdu, tamper=lambda marker: marker._replace(fpduptr=marker.fpduptr | 3))
    await _accepted(bench, stream, bytes(2000))


@case("MPA-5044-4.3-08", "each low bit of FPDUPTR is treated as zero", level=Level.TARGET, needs=[Need.MARKERS])
async def each_low_bit(bench: Bench) -> None:
    """Three Writes of 600 octets whose markers have FPDUPTR's low bits 1, 2 and 3, with CRCs over them.

    Accepts: the octets are placed.
    """
    stream = await _asked_for(bench)
    for bits in (1, 2, 3):
        ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes([bits]) * 600)
        await stream.fpdu(ulpdu, tamper=lambda marker, bits=bits: marker._replace(fpduptr=marker.fpduptr | bits))
        await _accepted(bench, stream, bytes([bits]) * 600)


@case(
    "MPA-5044-4.3-15",
    "a marker inside an FPDU is covered by its CRC",
    level=Level.TARGET,
    needs=[Need.MARKERS],
    also=("MPA-5044-4.4-18", "MPA-5044-8-02", "MPA-5041-3-07"),
)
async def covered(bench: Bench) -> None:
    """A Write of 1000 octets one of whose markers is changed without a new CRC.

    Accepts: Terminate 2/0/02, and unchanged memory.
    """
    stream = await _asked_for(bench)
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes(1000))
    begun = stream.framer.offset
    octets = bytearray(stream.framer.frame(ulpdu))
    octets[-begun % MARKER_SPACING + (MARKER_SPACING if begun % MARKER_SPACING == 0 else 0)] ^= 1
    await stream.send_octets(bytes(octets))
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_memory_unchanged("rw")


async def _up_to_a_marker(stream: Stream) -> None:
    """Send an FPDU after which a marker is due."""
    lead = 4 if stream.framer.offset % MARKER_SPACING == 0 else 0
    left = MARKER_SPACING - stream.framer.offset % MARKER_SPACING - lead
    while left < 24:  # too little for an FPDU that ends there
        await stream.fpdu(EMPTY_WRITE)
        left = -stream.framer.offset % MARKER_SPACING
    await stream.send(bytes(left - 2 - 18 - 4))


@case("MPA-5044-4.3-07", "a marker between FPDUs is covered by the next CRC", level=Level.TARGET, needs=[Need.MARKERS])
async def covered_by_the_next(bench: Bench) -> None:
    """A Send that ends at a marker's place; then a Write after that marker with a CRC that covers it.

    Accepts: the octets are placed.
    """
    stream = await _asked_for(bench)
    await _up_to_a_marker(stream)
    await stream.write(bench.rw.stag, bench.rw.to, b"after a marker")
    await _accepted(bench, stream, b"after a marker")


@case(
    "MPA-5044-4.4-15",
    "leaving the marker in front out of the CRC is an error",
    level=Level.TARGET,
    needs=[Need.MARKERS],
)
async def not_covered_by_the_next(bench: Bench) -> None:
    """A Send that ends at a marker's place; then a Write whose CRC begins after that marker.

    Accepts: Terminate 2/0/02, and unchanged memory.
    """
    stream = await _asked_for(bench)
    await _up_to_a_marker(stream)
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 8)
    await stream.fpdu(ulpdu, crc_leading_marker=False)
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_memory_unchanged("rw")


@case(
    "MPA-5044-4.4-14/2", "a marker right before the CRC is treated as covered", level=Level.TARGET, needs=[Need.MARKERS]
)
async def received_before_the_crc(bench: Bench) -> None:
    """A Write whose octets end where a marker is due, so that the marker lies right before its CRC.

    Accepts: the octets are placed.
    """
    stream = await _asked_for(bench)
    begun = stream.framer.offset
    lead = 4 if begun % MARKER_SPACING == 0 else 0
    size = (-begun % MARKER_SPACING or MARKER_SPACING) - lead - 2 - 14
    octets = pattern_octets(1, size)
    await stream.write(bench.rw.stag, bench.rw.to, octets)
    await _accepted(bench, stream, octets)


async def _wrong_pointer(bench: Bench, by: int) -> None:
    stream = await _asked_for(bench)
    await stream.write(bench.rw.stag, bench.rw.to)
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes(2000))
    await stream.fpdu(ulpdu, tamper=lambda marker: marker._replace(fpduptr=(marker.fpduptr + by) & 0xFFFF))
    await stream.read(0, 0, 0)
    seen = await stream.expect(terminate(MPA_MARKER) | read_response(b""))
    if isinstance(seen, Message) and seen.terminate is not None:
        await stream.expect(ended())


@case(
    "MPA-5044-8-04",
    "a marker and a length that disagree are an error, or ignored",
    level=Level.TARGET,
    needs=[Need.MARKERS],
)
async def disagreement(bench: Bench) -> None:
    """A Write of 2000 octets whose markers point eight octets too far back, with a CRC over them; an empty Read.

    Accepts: Terminate 2/0/03; or the answer to the Read, since who receives in order may ignore markers (§5.2).
    """
    await _wrong_pointer(bench, 8)


@case("MPA-5044-5.2-02", "markers may double-check boundaries", level=Level.TARGET, needs=[Need.MARKERS])
async def double_check(bench: Bench) -> None:
    """A Write of 2000 octets whose markers point four octets too near, with a CRC over them; a Read of zero octets.

    Accepts: Terminate 2/0/03, or the answer to the Read.
    """
    await _wrong_pointer(bench, -4)
