"""How an MPA stream ends: errors, Terminates, FIN and RST (RFC 5044 §7.2, §8)."""

from __future__ import annotations

import asyncio

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import pattern_octets
from pyiwarp.conformance.bench.patterns import Failed, closed, ended, terminate
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.terms import MPA_CRC
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

EMPTY_WRITE = build_tagged(Opcode.WRITE, 0, 0)


@case("MPA-5044-8-02", "a wrong CRC is answered with Terminate 2/0/02")
async def wrong_crc(bench: Bench) -> None:
    """An FPDU in order, then one whose CRC has its last octet changed.

    Accepts: Terminate 2/0/02, and then the end of the stream.
    """
    stream = await bench.open()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5044-8-02/2", "a Terminate for a wrong CRC quotes no header")
async def terminate_quotes_nothing(bench: Bench) -> None:
    """An FPDU in order, then one whose CRC has its last octet changed.

    Accepts: Terminate 2/0/02 with M, D and R clear (the CRC says that no header can be trusted).
    """
    stream = await bench.open()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC, segment_length=None, ddp_header=b"", rdma_header=b"")


@case("MPA-5044-8-09", "after an error no FPDU is passed up", level=Level.TARGET)
async def nothing_behind_an_error(bench: Bench) -> None:
    """In one piece an FPDU with a wrong CRC, a valid Write and a valid Send.

    Accepts: one Terminate; the memory as it was; no receive that completed with success.
    """
    stream = await bench.open()
    await stream.send_octets(
        stream.framer.frame(EMPTY_WRITE, crc_mask=1)
        + stream.framer.frame(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 32))
        + stream.framer.frame(stream.untagged(Opcode.SEND, 0, b"not for you"))
    )
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_memory_unchanged("rw")
    good = [work for work in await bench.target.completions(0) if work.status == "success" and work.opcode == "recv"]
    if good:
        raise Failed("no receive", str(good[0]))


@case("MPA-5044-8-10", "the Terminate is whole before TCP ends")
async def terminate_is_whole(bench: Bench) -> None:
    """An FPDU with a wrong CRC and, in the same piece, 64,000 octets of valid FPDUs after it.

    Accepts: a whole Terminate 2/0/02; no reset that cuts it off.
    """
    stream = await bench.open()
    bad = stream.framer.frame(EMPTY_WRITE, crc_mask=1)
    await stream.send_octets(bad + b"".join(stream.framer.frame(EMPTY_WRITE) for _ in range(3200)))
    await stream.expect_terminated(MPA_CRC)


@case("MPA-6580-3.3-01", "errors of MPA are of layer 2, type 0, codes 1 to 7")
async def registered_codes(bench: Bench) -> None:
    """An FPDU with a wrong CRC.

    Accepts: a Terminate of layer 2 with type 0 and the code for a CRC error.
    """
    stream = await bench.open()
    await stream.write_badly()
    seen = await stream.expect_terminated()
    assert seen.terminate is not None, "it is a Terminate"
    layer, etype, code = seen.terminate.term
    if layer != 2 or etype != 0 or not 1 <= code <= 7:
        raise Failed("a code of MPA's", str(seen), seen.annotated())


@case("MPA-5041-3-10", "after a Terminate nothing is sent and nothing has an effect", level=Level.TARGET)
async def nothing_behind_a_terminate(bench: Bench) -> None:
    """An FPDU with a wrong CRC; once the Terminate is there a valid Write and a valid Send.

    Accepts: the end of the stream without another FPDU, and unchanged memory.
    """
    stream = await bench.open()
    await stream.write_badly()
    await stream.expect(terminate(MPA_CRC))
    await stream.write(bench.rw.stag, bench.rw.to, b"\xff" * 16)
    await stream.send(b"too late")
    await stream.expect_over()
    await bench.target.expect_memory_unchanged("rw")


@case("MPA-5041-3-12", "after a Terminate the peer closes TCP")
async def terminate_then_close(bench: Bench) -> None:
    """An FPDU with a wrong CRC.

    Accepts: Terminate 2/0/02, and then FIN or RST within the time limit.
    """
    stream = await bench.open()
    await stream.write_badly()
    await stream.expect_terminated(MPA_CRC)


@case("MPA-5041-3-07", "the digest of the lower layer finds a changed octet", level=Level.RPING, needs=[Need.REGION])
async def changed_octet(bench: Bench) -> None:
    """A Write of 64 octets one bit of which is changed on the way.

    Accepts: Terminate 2/0/02; where the memory can be inspected, it is unchanged.
    """
    stream = await bench.open()
    ulpdu = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 64)
    await stream.send_octets(stream.framer.damaged(ulpdu, 40, 0x04))
    await stream.expect_terminated(MPA_CRC)
    if bench.has_target:
        await bench.target.expect_memory_unchanged("rw")


@case("MPA-5041-3-04", "segments keep their boundaries however TCP cuts the stream", level=Level.TARGET)
async def boundaries(bench: Bench) -> None:
    """Three Sends in one piece, and three in pieces of seven octets.

    Accepts: six receives with these octets.
    """
    stream = await bench.open()
    sends = [bytes([number]) * (10 * number + 1) for number in range(6)]
    await stream.fpdus(stream.untagged(Opcode.SEND, 0, payload) for payload in sends[:3])
    octets = b"".join(stream.framer.frame(stream.untagged(Opcode.SEND, 0, payload)) for payload in sends[3:])
    await stream.line.send_slowly(octets, len(octets) // 7, 0.002)
    await stream.probe()
    for index, payload in enumerate(sends):
        await bench.target.expect_received(payload, index)


@case(
    "MPA-5041-3-08",
    "the length of a segment is that of its ULPDU",
    level=Level.TARGET,
    also=("MPA-5044-3-08", "MPA-5044-5.2-01"),
)
async def lengths(bench: Bench) -> None:
    """Sends of 0, 1, 17 and 1000 octets.

    Accepts: receives of exactly these lengths.
    """
    stream = await bench.open()
    sizes = [0, 1, 17, 1000]
    for size in sizes:
        await stream.send(pattern_octets(1, size))
    works = [work for work in await bench.target.expect_completions(len(sizes)) if work.opcode == "recv"]
    if [work.nbytes for work in works] != sizes:
        raise Failed(f"receives of {sizes} octets", f"{[work.nbytes for work in works]}")


# --- graceful and other ends -----------------------------------------------------------------------------------------


@case("MPA-5044-7.2-01", "a graceful end is FIN after a whole FPDU", level=Level.TARGET)
async def graceful(bench: Bench) -> None:
    """The target posts a Send of 3000 octets and then ends the connection.

    Accepts: the whole Send, and FIN after it.
    """
    stream = await bench.open()
    await bench.target.post("send", len=3000, seed=4)
    await bench.target.command("disconnect")
    await stream.expect_send(pattern_octets(4, 3000))
    await stream.expect(closed())


@case("MPA-5044-7.2-02", "the program learns of a graceful end", level=Level.TARGET)
async def graceful_is_reported(bench: Bench) -> None:
    """FIN after a whole FPDU.

    Accepts: the target reports that the connection is closed, or closing.
    """
    stream = await bench.open()
    await stream.probe()
    stream.finish()
    await bench.target.expect_state("closed", "closing")


@case("MPA-5044-3-12", "DDP is notified when TCP closes", level=Level.TARGET, also=("MPA-5041-3-11",))
async def half_close(bench: Bench) -> None:
    """A Send, and FIN after it.

    Accepts: the Send is received; the target's connection is not connected any more.
    """
    stream = await bench.open()
    await stream.send(b"farewell")
    stream.finish()
    await bench.target.expect_state("closed", "closing")
    await bench.target.expect_received(b"farewell")


@case("MPA-5044-8-01", "FIN in the middle of an FPDU is an error", level=Level.TARGET)
async def fin_in_an_fpdu(bench: Bench) -> None:
    """Half of a Write, and FIN.

    Accepts: the end of the stream; the target reports a connection in error, and its receives as flushed.
    """
    stream = await bench.open()
    octets = stream.framer.frame(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 64))
    await stream.send_octets(octets[:40])
    stream.finish()
    await _expect_lost(bench)


@case("MPA-5044-8-01/2", "RST is an error", level=Level.TARGET)
async def rst(bench: Bench) -> None:
    """A Read of zero octets, and RST after its answer.

    Accepts: the target reports a connection in error, and its receives as flushed.
    """
    stream = await bench.open()
    await stream.probe()
    stream.reset()
    await _expect_lost(bench)


@case("MPA-5044-8-01/3", "RST in the middle of an FPDU is an error", level=Level.TARGET)
async def rst_in_an_fpdu(bench: Bench) -> None:
    """Half of a Write, and RST.

    Accepts: the target reports a connection in error; the memory is unchanged.
    """
    stream = await bench.open()
    octets = stream.framer.frame(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"\xff" * 64))
    await stream.send_octets(octets[:40])
    await asyncio.sleep(stream.line.quiet / 3)
    stream.reset()
    await _expect_lost(bench)
    await bench.target.expect_memory_unchanged("rw")


async def _expect_lost(bench: Bench) -> None:
    """The target's connection is in error, and its eight receives completed as flushed."""
    await bench.target.expect_state("error", "terminated", "closed")
    works = await bench.target.completions(8)
    kept = [work for work in works if work.status == "success"]
    if len(works) < 8 or kept:
        raise Failed("8 receives flushed", f"{len(works)} completions, {len(kept)} of them successful")


@case("MPA-5044-3-12/2", "FIN from the bench ends the peer's stream too", level=Level.TARGET)
async def fin_is_answered(bench: Bench) -> None:
    """FIN after a whole FPDU, and a target that is told to end the connection.

    Accepts: FIN or RST of the peer's within the time limit.
    """
    stream = await bench.open()
    await stream.probe()
    stream.finish()
    await bench.target.expect_state("closed", "closing")
    await bench.target.reset()
    await stream.expect(ended())
