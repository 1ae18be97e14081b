"""How a DDP stream ends: after an error, gracefully, and with TCP (RFC 5041 §6.2, §7)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import region_pattern
from pyiwarp.conformance.bench.messages import receive_whole
from pyiwarp.conformance.bench.patterns import Failed, closed, in_decimal, silence, terminate
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_BOUNDS,
    DDP_TAGGED_STAG,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    MPA_CRC,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_delivered, expect_flushed, expect_nothing_delivered
from pyiwarp.conformance.cases.refusals import expect_regions_unchanged, unknown_stag
from pyiwarp.conformance.cases.rfc5041_tagged import expect_placed_at_most
from pyiwarp.errors import TERMS, Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
REGION: Final = [Need.REGION]
LAYER_DDP: Final = 1
BAD_QUEUE: Final = build_untagged(Opcode.SEND, 99, 1, b"x")
MEGABYTE: Final = 1_000_000


# --- nothing ends by itself ------------------------------------------------------------------------------------------


@case("DDP-5041-6.2-01", "an idle stream stays open")
async def idle(bench: Bench) -> None:
    """Nothing, for three times the time of silence; then a Read of zero octets.

    Accepts: silence, or messages of the peer's own program, and then an empty Read Response.
    """
    stream = await bench.open()
    await stream.expect_no_reaction(3 * stream.line.quiet)
    await stream.probe()


# --- errors ----------------------------------------------------------------------------------------------------------


@case("DDP-5041-7.1-18", "what comes after a bad segment is dropped", level=TARGET)
async def rest_dropped(bench: Bench) -> None:
    """In one piece: a Write to an unknown STag, a good Write and a good Send.

    Accepts: Terminate 1/1/00 and nothing else; the memory is unchanged and no receive completes with success.
    """
    stream = await bench.open()
    await stream.fpdus(
        [
            build_tagged(Opcode.WRITE, unknown_stag(bench), 0, b"bad"),
            build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"good"),
            stream.untagged(Opcode.SEND, 0, b"good"),
        ]
    )
    await stream.expect_terminated(DDP_TAGGED_STAG)
    await expect_nothing_delivered(bench, 0.0)
    await expect_regions_unchanged(bench)


@case("DDP-5041-7.1-18/2", "a Read after a bad segment is not answered", level=Level.RPING, needs=REGION)
async def read_dropped(bench: Bench) -> None:
    """In one piece: a Send on queue 99, and a Read of the region.

    Accepts: Terminate 1/2/01 and nothing else.
    """
    stream = await bench.open()
    await stream.fpdu(BAD_QUEUE)
    await stream.read(bench.rw.stag, bench.rw.to, 16)
    await stream.expect_terminated(DDP_UNTAGGED_QN)


@case("DDP-5041-7.1-18/3", "what comes after the Terminate is dropped", level=TARGET, also=("MPA-5044-8-09",))
async def late_dropped(bench: Bench) -> None:
    """A Send on queue 99; when the Terminate is here, a good Write and a good Send.

    Accepts: Terminate 1/2/01, then the end; the memory is unchanged and no receive completes with success.
    """
    stream = await bench.open()
    await stream.fpdu(BAD_QUEUE)
    await stream.expect_message(terminate(DDP_UNTAGGED_QN))
    await stream.write(bench.rw.stag, bench.rw.to, b"late")
    await stream.send(b"late")
    await stream.expect_over()
    await expect_nothing_delivered(bench, 0.0)
    await expect_regions_unchanged(bench)


@case("DDP-5041-7.1-16", "placing ends at the error, and the program hears of it", level=TARGET)
async def placing_ends(bench: Bench) -> None:
    """A Write of 16 octets whose last four lie outside the region.

    Accepts: Terminate 1/1/01; nothing is changed but what lies inside, if that, and the target's connection is
    terminated or in error.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to + bench.rw.length - 12, bytes(16))
    await stream.expect_terminated(DDP_TAGGED_BOUNDS)
    await expect_placed_at_most(bench, bench.rw.length - 12, bytes(16))
    await bench.target.expect_state("terminated", "error")


@case("DDP-5041-7.1-16/2", "what came before the bad segment stays placed and delivered", level=TARGET)
async def before_stays(bench: Bench) -> None:
    """In one piece: a good Write, a good Send, and a Write to an unknown STag.

    Accepts: Terminate 1/1/00; the first Write is in the memory, the Send is delivered.
    """
    stream = await bench.open()
    await stream.fpdus(
        [
            build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"good"),
            stream.untagged(Opcode.SEND, 0, b"fine"),
            build_tagged(Opcode.WRITE, unknown_stag(bench), 0, b"bad"),
        ]
    )
    await stream.expect_terminated(DDP_TAGGED_STAG)
    (work,) = await bench.target.completions(1)
    if (work.status, work.nbytes) != ("success", 4):
        raise Failed("a receive with 4 octets", str(work))
    await bench.target.expect_memory("rw", 0, b"good" + region_pattern("rw", 8)[4:])


async def _expect_quoted(stream: Stream, segment: bytes, size: int) -> None:
    """The Terminate tells the segment's length and holds a copy of its DDP header."""
    seen = await stream.expect_message(terminate())
    term = seen.terminate
    assert term is not None, "the pattern admits Terminates alone"
    if term.segment_length != len(segment):
        raise Failed(f"DDP Segment Length {len(segment)}", in_decimal(term.segment_length), seen.annotated())
    if term.ddp_header != segment[:size]:
        raise Failed(f"the DDP header {segment[:size].hex()}", term.ddp_header.hex() or "none", seen.annotated())


@case("DDP-5041-7.1-17", "the report of a tagged error has length and header")
async def report_tagged(bench: Bench) -> None:
    """A Write of ten octets to an unknown STag.

    Accepts: a Terminate with DDP Segment Length 24 and the 14 octets of the header.
    """
    stream = await bench.open()
    segment = build_tagged(Opcode.WRITE, unknown_stag(bench), 0x0123456789ABCDEF, bytes(10))
    await stream.fpdu(segment)
    await _expect_quoted(stream, segment, 14)


@case("DDP-5041-7.1-17/2", "the report of an untagged error has length and header")
async def report_untagged(bench: Bench) -> None:
    """A Send of ten octets on queue 99.

    Accepts: a Terminate with DDP Segment Length 28 and the 18 octets of the header.
    """
    stream = await bench.open()
    segment = build_untagged(Opcode.SEND, 99, 0x01020304, bytes(10), mo=0x05060708)
    await stream.fpdu(segment)
    await _expect_quoted(stream, segment, 18)


@case("DDP-5041-7.1-19", "after an error one more message goes out, the Terminate")
async def one_more_message(bench: Bench) -> None:
    """A Send on queue 99, twice.

    Accepts: one Terminate, and then nothing but the end of the stream.
    """
    stream = await bench.open()
    await stream.fpdus([BAD_QUEUE, BAD_QUEUE])
    await stream.expect_message(terminate(DDP_UNTAGGED_QN))
    await stream.expect_over()


@case("DDP-6580-3.2-01", "DDP's errors have registered codes", level=TARGET, also=("DDP-5041-7.2-01",))
async def registered(bench: Bench) -> None:
    """On connections of their own, a wrong STag, TO, DDP version, queue, MSN, MO and length.

    Accepts: a Terminate of DDP's with a registered code to each.
    """
    wrong = (
        lambda stream: build_tagged(0, unknown_stag(bench), 0, b"x"),
        lambda stream: build_tagged(0, bench.rw.stag, bench.rw.to - 1, b"x"),
        lambda stream: build_tagged(0, bench.rw.stag, bench.rw.to, b"x", dv=3),
        lambda stream: BAD_QUEUE,
        lambda stream: build_untagged(Opcode.SEND, 0, 0, b"x"),
        lambda stream: stream.untagged(Opcode.SEND, 0, b"x", mo=1 << 20),
        lambda stream: stream.untagged(Opcode.SEND, 0, bytes(65)),
    )
    for build in wrong:
        stream = await bench.open(session={"receives": "64"})
        await stream.fpdu(build(stream))
        seen = await stream.expect_message(terminate())
        assert seen.terminate is not None, "the pattern admits Terminates alone"
        term = Term(*seen.terminate.term)
        if term.layer != LAYER_DDP or term not in TERMS:
            raise Failed("a registered code of DDP's", str(seen), seen.annotated())


@case("DDP-5041-6.2.2-03", "the program hears of a DDP header with invalid fields", level=TARGET)
async def invalid_header_reported(bench: Bench) -> None:
    """A Send on queue 99.

    Accepts: Terminate 1/2/01; the target's connection is terminated or in error.
    """
    stream = await bench.open()
    await stream.fpdu(BAD_QUEUE)
    await stream.expect_terminated(DDP_UNTAGGED_QN)
    await bench.target.expect_state("terminated", "error")


@case("DDP-5041-6.2.2-02", "the program hears of an error of MPA's", level=TARGET, also=("DDP-5041-7-01",))
async def mpa_error_reported(bench: Bench) -> None:
    """An FPDU with a wrong CRC.

    Accepts: Terminate 2/0/02; the target's connection is terminated or in error.
    """
    stream = await bench.open()
    await stream.fpdu(build_tagged(Opcode.WRITE, 0, 0), crc_mask=0x80)
    await stream.expect_terminated(MPA_CRC)
    await bench.target.expect_state("terminated", "error")


@case("DDP-5041-6.2.2-05", "an error in what comes does not stop what goes out", level=TARGET)
async def outgoing_half_works(bench: Bench) -> None:
    """A Send that is too long for its receive.

    Accepts: Terminate 1/2/05 or 1/2/02, whole, on the half that was not concerned.
    """
    stream = await bench.open(session={"receives": "16"})
    await stream.send(bytes(17))
    await stream.expect_terminated(DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER)


@case("DDP-5041-6.2.2-04", "after an error everything outstanding completes in error", level=TARGET)
async def flushed_after_error(bench: Bench) -> None:
    """A target with three receives and an unanswered Read gets a Send on queue 99.

    Accepts: four completions in error.
    """
    stream = await bench.open(session={"receives": "64,64,64"})
    await bench.provoke_read(stream)
    await stream.fpdu(BAD_QUEUE)
    await stream.expect_terminated(DDP_UNTAGGED_QN)
    await expect_flushed(bench, 4)


# --- TCP ends --------------------------------------------------------------------------------------------------------


@case("DDP-5041-6.2.2-01", "the loss of the TCP connection is a fatal error", level=TARGET)
async def reset_reported(bench: Bench) -> None:
    """A reset of TCP while a Read of the target's is unanswered.

    Accepts: the target's connection is in error, and the Read completes in error.
    """
    stream = await bench.open(session={"receives": ""})
    await bench.provoke_read(stream)
    stream.reset()
    await bench.target.expect_state("error", "terminated")
    await expect_flushed(bench, 1)


@case("DDP-5041-6.2.2-01/2", "receives are flushed when the TCP connection is lost", level=TARGET)
async def reset_flushes(bench: Bench) -> None:
    """A reset of TCP; three receives are posted.

    Accepts: three completions in error.
    """
    stream = await bench.open(session={"receives": "64,64,64"})
    stream.reset()
    await expect_flushed(bench, 3)


@case("DDP-5041-6.2.1-01", "what was posted is sent before a graceful end", level=TARGET)
async def sent_before_close(bench: Bench) -> None:
    """The target posts ten Sends of 100,000 octets and disconnects at once.

    Accepts: all ten messages whole, and then a close.
    """
    stream = await bench.open()
    for _ in range(10):
        await bench.target.post("send", len=MEGABYTE // 10, signaled=0)
    await bench.target.command("disconnect")
    for msn in range(1, 11):
        whole = await receive_whole(stream, Opcode.SEND, msn=msn)
        if len(whole.payload) != MEGABYTE // 10:
            raise Failed(f"{MEGABYTE // 10} octets", f"{len(whole.payload)} in message {msn}")
    await stream.expect(closed())


@case("DDP-5041-6.2.1-05", "a graceful end of the second half is a FIN", level=TARGET, also=("DDP-5041-6.2.1-06",))
async def closes_second_half(bench: Bench) -> None:
    """A FIN; then the target is told to disconnect.

    Accepts: a close, no reset, and nothing cut before it.
    """
    stream = await bench.open()
    await stream.probe()
    stream.finish()
    await bench.target.command("disconnect")
    await stream.expect(closed())


@case("DDP-5041-6.2.1-04", "what is under way is sent though the peer has closed its half", level=TARGET)
async def sends_to_half_closed(bench: Bench) -> None:
    """The target posts twenty Sends of 100,000 octets; before any is accepted, a FIN.

    Accepts: all twenty messages whole, and then a close.
    """
    stream = await bench.open()
    for _ in range(20):
        await bench.target.post("send", len=MEGABYTE // 10, signaled=0)
    stream.finish()
    for msn in range(1, 21):
        await receive_whole(stream, Opcode.SEND, msn=msn)
    await bench.target.command("disconnect")
    await stream.expect(closed())


@case("DDP-5041-6.2.1-07", "data is accepted after this side has closed its half", level=TARGET)
async def receives_half_closed(bench: Bench) -> None:
    """The target disconnects; when its FIN is here, a Send.

    Accepts: the Send is delivered.
    """
    stream = await bench.open()
    await stream.probe()
    await bench.target.command("disconnect")
    await stream.expect(closed())
    await stream.send(b"late")
    await expect_delivered(bench, b"late")


@case("DDP-5041-6.2-01/2", "a close between two messages ends the stream without a Terminate")
async def close_is_answered(bench: Bench) -> None:
    """A Read of zero octets, which is answered, and a FIN.

    Accepts: a close; or silence, if the peer's program goes on with its half; but no Terminate and no reset.
    """
    stream = await bench.open()
    await stream.probe()
    stream.finish()
    await stream.expect(closed() | silence(), 2 * stream.line.quiet)
