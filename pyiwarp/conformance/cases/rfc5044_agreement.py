"""What startup settles: CRC and markers by the C and M bits of both frames (RFC 5044 §4.3, §4.4, §7.1.1)."""

from __future__ import annotations

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.control import pattern_octets
from pyiwarp.conformance.bench.patterns import Failed, expect_octets, reply, request
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.terms import MPA_CRC
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)
WITHOUT_CRC = {"crc": "off"}


# --- CRC -------------------------------------------------------------------------------------------------------------


@case("MPA-5044-4.4-04", "CRCs are the default of a Responder", directions=CONNECT)
async def crc_default_of_responder(bench: Bench) -> None:
    """A Request with C=0.

    Accepts: a Reply with C=1, since nobody asked the peer for less.
    """
    line = await bench.line()
    await line.request(crc=False)
    await line.expect(reply(crc=True))


@case("MPA-5044-4.4-04/2", "CRCs are the default of an Initiator", directions=LISTEN)
async def crc_default_of_initiator(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request with C=1, since nobody asked the peer for less.
    """
    line = await bench.line()
    await line.expect(request(crc=True))


@case("MPA-5044-4.4-03", "C=0 is what an administrator asked for", level=Level.TARGET, needs=[Need.CRC])
async def crc_off_when_asked(bench: Bench) -> None:
    """Startup with a target that was told to want no CRC, and C=0 from the bench.

    Accepts: C=0 in the peer's frame, or C=1 all the same (§4.4 lets an implementation always use CRCs).
    """
    stream = await bench.open(crc=False, session=WITHOUT_CRC)
    await stream.fpdu(build_tagged(Opcode.WRITE, 0, 0), crc=0 if not stream.crc else None)
    await stream.probe()


@case("MPA-5044-1.2-02", "CRC protection is in use unless both sides decline", directions=CONNECT)
async def crc_in_use(bench: Bench) -> None:
    """A Request with C=1; an empty Write and a Read of zero octets, both with right CRCs.

    Accepts: the answer to the Read, with a right CRC.
    """
    stream = await bench.open()
    await stream.probe()


async def _without_crc(bench: Bench) -> Stream:
    """A stream on which neither side wants CRCs."""
    stream = await bench.open(crc=False, session=WITHOUT_CRC)
    if stream.crc:
        raise Failed("C=0 from a target that was told so", "C=1")
    return stream


async def _accepts_crcs(bench: Bench, *crcs: int) -> None:
    stream = await _without_crc(bench)
    for number, crc in enumerate(crcs):
        payload = bytes([number + 0x40]) * 8
        await stream.fpdu(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to + 8 * number, payload), crc=crc)
    await stream.probe()
    for number in range(len(crcs)):
        await bench.target.expect_memory("rw", 8 * number, bytes([number + 0x40]) * 8)


@case(
    "MPA-5044-4.1-07",
    "with CRCs disabled the CRC field is ignored",
    level=Level.TARGET,
    needs=[Need.CRC],
    also=("MPA-5044-4.1-06",),
)
async def crc_is_not_checked(bench: Bench) -> None:
    """C=0 from both sides; a Write whose CRC field holds DEADBEEF.

    Accepts: the octets are placed.
    """
    await _accepts_crcs(bench, 0xDEADBEEF)


@case("MPA-5044-4.4-09", "with C=0 from both sides checking has stopped at once", level=Level.TARGET, needs=[Need.CRC])
async def crc_is_not_checked_at_once(bench: Bench) -> None:
    """C=0 from both sides; the bench's very first FPDU has a wrong CRC.

    Accepts: a Read of zero octets is answered.
    """
    stream = await bench.open(crc=False, session=WITHOUT_CRC, speak_first=not bench.initiator)
    await stream.write_badly()
    await stream.probe()


@case("MPA-5044-7.1.1-08", "C=0 in both frames means that no CRC is checked", level=Level.TARGET, needs=[Need.CRC])
async def crc_one_bit_off(bench: Bench) -> None:
    """C=0 from both sides; three FPDUs whose CRCs are one bit off.

    Accepts: a Read of zero octets is answered.
    """
    stream = await _without_crc(bench)
    for mask in (1, 0x100, 0x8000_0000):
        await stream.fpdu(build_tagged(Opcode.WRITE, 0, 0), crc_mask=mask)
    await stream.probe()


@case("MPA-5044-7.1.1-10", "a CRC that is not in use is valid whatever it holds", level=Level.TARGET, needs=[Need.CRC])
async def any_crc_is_valid(bench: Bench) -> None:
    """C=0 from both sides; Writes whose CRC fields hold zeros, ones, and 01020304.

    Accepts: all octets are placed.
    """
    await _accepts_crcs(bench, 0, 0xFFFF_FFFF, 0x0102_0304)


@case("MPA-5044-4.1-06", "the CRC field is there even when CRCs are not in use", level=Level.TARGET, needs=[Need.CRC])
async def crc_field_is_there(bench: Bench) -> None:
    """C=0 from both sides; the target posts Sends of 1, 2, 3 and 4 octets.

    Accepts: four FPDUs, each with four octets after its pad, whatever they hold.
    """
    stream = await _without_crc(bench)
    for size in (1, 2, 3, 4):
        await bench.target.post("send", len=size, seed=size)
        await stream.expect_send(pattern_octets(size, size))


@case("MPA-5044-4.4-11", "each FPDU ends with a CRC field", level=Level.TARGET, needs=[Need.CRC])
async def each_fpdu_has_a_crc(bench: Bench) -> None:
    """C=0 from both sides; twenty Reads of zero octets in one piece.

    Accepts: twenty Read Responses, each of which begins right after the CRC field of the one before.
    """
    stream = await _without_crc(bench)
    for _ in range(20):
        await stream.probe()


@case("MPA-5044-7.1.1-09", "C=1 from the bench alone puts CRCs in use", level=Level.TARGET, needs=[Need.CRC])
async def crc_by_the_bench(bench: Bench) -> None:
    """C=1 from the bench, C=0 from the target; a Read of zero octets, then an FPDU with a wrong CRC.

    Accepts: an answer with a right CRC, then Terminate 2/0/02.
    """
    stream = await bench.open(session=WITHOUT_CRC)
    await stream.probe()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-7.1.1-09/2", "C=1 from the peer alone puts CRCs in use", level=Level.TARGET, needs=[Need.CRC])
async def crc_by_the_peer(bench: Bench) -> None:
    """C=0 from the bench, C=1 from the target; a Read of zero octets, then an FPDU with a wrong CRC.

    Accepts: an answer with a right CRC, then Terminate 2/0/02.
    """
    stream = await bench.open(crc=False, session={"crc": "on"})
    await stream.probe()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-4.4-05", "only C=0 from both sides lets a wrong CRC through", level=Level.TARGET, needs=[Need.CRC])
async def four_combinations(bench: Bench) -> None:
    """The four combinations of the C bits; on each an FPDU with a wrong CRC and a Read of zero octets.

    Accepts: an answer where both sides said C=0, else Terminate 2/0/02.
    """
    for mine in (False, True):
        for theirs in ("off", "on"):
            stream = await bench.open(crc=mine, session={"crc": theirs})
            await stream.write_badly()
            if mine or theirs == "on":
                await stream.expect_terminated(MPA_CRC)
            else:
                await stream.probe()


@case("MPA-5044-4.4-08", "CRCs stay in use until the end", level=Level.TARGET, needs=[Need.CRC])
async def crc_to_the_end(bench: Bench) -> None:
    """C=1 from the bench alone; a thousand empty Writes and a Read of zero octets, then an FPDU with a wrong CRC.

    Accepts: an answer with a right CRC, then Terminate 2/0/02.
    """
    stream = await bench.open(session=WITHOUT_CRC)
    await stream.fpdus(build_tagged(Opcode.WRITE, 0, 0) for _ in range(1000))
    await stream.probe()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC)


# --- markers ---------------------------------------------------------------------------------------------------------


@case("MPA-5044-4.3-01", "a peer that is asked for markers sends them", also=("MPA-5044-7.1.1-06",))
async def markers_when_asked(bench: Bench) -> None:
    """M=1 in the bench's frame; a Read of zero octets.

    Accepts: its answer after a marker of zeros; a refusal is none, since every sender must support markers.
    """
    stream = await bench.open(markers=True)
    seen = await stream.probe()
    if not (stream.first or seen).fpdu.markers:
        raise Failed("a marker in front of the first FPDU", "none", seen.annotated())


@case("MPA-5044-4.3-02", "a peer may decline markers, and gets none", directions=CONNECT)
async def no_markers_when_declined(bench: Bench) -> None:
    """A Request with M=0; FPDUs with markers exactly if the Reply asks for them.

    Accepts: a Read of zero octets is answered.
    """
    stream = await bench.open()
    await stream.probe()


@case("MPA-5044-7.1.1-05", "M=0 in the bench's frame: no markers come", level=Level.TARGET, needs=[Need.MARKERS])
async def no_markers_when_not_asked(bench: Bench) -> None:
    """M=0 from the bench, M=1 from the target, which posts a Send of 1000 octets.

    Accepts: the Send, without markers.
    """
    stream = await bench.open(session={"markers": 1})
    if not stream.framer.markers:
        raise Failed("M=1 from a target that was told so", "M=0")
    await bench.target.post("send", len=1000, seed=3)
    await stream.expect_send(pattern_octets(3, 1000))


@case("MPA-5044-7.1.1-06", "M=1 in the bench's frame: markers come", level=Level.TARGET)
async def markers_in_sends(bench: Bench) -> None:
    """M=1 from the bench, M=0 from the target, which posts a Send of 1000 octets.

    Accepts: the Send, with a marker in front and at each 512th octet; the bench's own FPDUs have none.
    """
    stream = await bench.open(markers=True)
    await bench.target.post("send", len=1000, seed=3)
    await stream.expect_send(pattern_octets(3, 1000))
    await stream.probe()


@case("MPA-5044-7.1.1-07", "each direction has its own setting for markers", level=Level.TARGET, needs=[Need.MARKERS])
async def all_combinations_of_markers(bench: Bench) -> None:
    """The four combinations of the M bits; on each a Write of 900 octets, a Read of them, and a Send of the target's.

    Accepts: the octets that were written, and the Send, with markers exactly where they were asked for.
    """
    octets = pattern_octets(11, 900)
    for mine in (False, True):
        for theirs in (0, 1):
            stream = await bench.open(markers=mine, session={"markers": theirs})
            await stream.write(bench.rw.stag, bench.rw.to, octets)
            came = await stream.expect_read(bench.rw.stag, bench.rw.to, 900)
            expect_octets("the 900 octets that were written", came, octets)
            await bench.target.post("send", len=700, seed=2)
            await stream.expect_send(pattern_octets(2, 700))


@case("MPA-5044-7.1.2-20", "without markers the first octets of a stream are ULPDU_Length", directions=CONNECT)
async def first_octets_without_markers(bench: Bench) -> None:
    """M=0 from the bench; a Read of zero octets.

    Accepts: after the Reply 000E, and then the Read Response.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0)
    seen = await stream.expect_response(0, PROBE_STAG)
    if seen:
        raise Failed("no octets", f"{len(seen)} octets")
