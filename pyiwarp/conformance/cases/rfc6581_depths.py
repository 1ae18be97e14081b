"""IRD and ORD: what each side says, and what each side then does (RFC 6581 §9.1)."""

from __future__ import annotations

from typing import Any

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.observed import Frame, Message, Silence
from pyiwarp.conformance.bench.patterns import Failed, ended, in_decimal, message, read_response, reply, terminate
from pyiwarp.conformance.bench.startup_line import build_word
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import MPA_IRD
from pyiwarp.conformance.bench.testbench import OFFER_REGION, Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)
ENHANCED = (Need.ENHANCED,)
DEPTHS = (Need.ENHANCED, Need.DEPTHS)
UNNEGOTIATED = 0x3FFF
LARGEST = 0x3FFE


async def _probe_responder(bench: Bench, session: dict[str, Any] | None = None, **word: Any) -> Frame:
    line = await bench.line(session=session)
    await line.request(build_word(**word), revision=2, enhanced=True)
    return await line.expect_frame(reply(enhanced=True))


def _check(frame: Frame, what: str, right: bool) -> None:
    if not right:
        raise Failed(what, f"IRD={frame.word.ird} ORD={frame.word.ord} in {frame}", frame.annotated())


def _accepted(frame: Frame) -> bool:
    return not frame.header.flags.rejected


@case("MPA2-6581-9.1-02", "the Responder's ORD follows the Initiator's IRD", directions=CONNECT, needs=ENHANCED)
async def ord_follows(bench: Bench) -> None:
    """An enhanced Request with IRD 3.

    Accepts: a Reply with an ORD of at most 3.
    """
    frame = await _probe_responder(bench, ird=3)
    _check(frame, "ORD of at most 3", frame.word.ord <= 3)


@case("MPA2-6581-9.1-04", "IRD 0 means ORD 0", directions=CONNECT, needs=ENHANCED)
async def ord_zero(bench: Bench) -> None:
    """An enhanced Request with IRD 0.

    Accepts: a Reply with ORD 0, or a rejection.
    """
    frame = await _probe_responder(bench, ird=0)
    _check(frame, "ORD=0, or R=1", frame.word.ord == 0 or not _accepted(frame))


@case("MPA2-6581-9.1-05", "the Responder's IRD covers the Initiator's ORD", directions=CONNECT, needs=ENHANCED)
async def ird_covers(bench: Bench) -> None:
    """An enhanced Request with ORD 4.

    Accepts: a Reply with an IRD of at least 4, or a smaller one, which the Initiator must then keep to.
    """
    frame = await _probe_responder(bench, ord=4)
    _check(frame, "an IRD of at least 1, or R=1", frame.word.ird >= 1 or not _accepted(frame))


@case("MPA2-6581-9.1-05/2", "Reads up to the agreed depth are answered", directions=CONNECT, needs=ENHANCED)
async def reads_to_the_depth(bench: Bench) -> None:
    """An enhanced Request with ORD 4, and as many Reads of zero octets in one piece as the Reply allows.

    Accepts: as many answers.
    """
    stream = await bench.open(revision=2, word={"ord": 4})
    depth = min(4, stream.reply.word.ird)
    await _answered(stream, depth)


async def _answered(stream: Stream, depth: int) -> None:
    await stream.fpdus(stream.read_request(0, 0, 0) for _ in range(depth))
    for _ in range(depth):
        await stream.expect(read_response(b""))


@case("MPA2-6581-9.1-14", "ORD 0x3FFF in the Request: IRD 0x3FFF in the Reply", directions=CONNECT, needs=ENHANCED)
async def ord_unnegotiated(bench: Bench) -> None:
    """An enhanced Request with ORD 0x3FFF and IRD 4.

    Accepts: a Reply with IRD 0x3FFF.
    """
    frame = await _probe_responder(bench, ord=UNNEGOTIATED, ird=4)
    _check(frame, "IRD=0x3fff", frame.word.ird == UNNEGOTIATED)


@case("MPA2-6581-9.1-16", "IRD 0x3FFF in the Request: ORD 0x3FFF in the Reply", directions=CONNECT, needs=ENHANCED)
async def ird_unnegotiated(bench: Bench) -> None:
    """An enhanced Request with IRD 0x3FFF and ORD 4.

    Accepts: a Reply with ORD 0x3FFF.
    """
    frame = await _probe_responder(bench, ird=UNNEGOTIATED, ord=4)
    _check(frame, "ORD=0x3fff", frame.word.ord == UNNEGOTIATED)


@case("MPA2-6581-9.1-13", "0x3FFF on both sides leaves both to the programs", directions=CONNECT, needs=ENHANCED)
async def both_unnegotiated(bench: Bench) -> None:
    """An enhanced Request with IRD and ORD 0x3FFF, an empty Write and a Read of zero octets.

    Accepts: a Reply with IRD and ORD 0x3FFF, and an answer to the Read.
    """
    stream = await bench.open(revision=2, word={"ird": UNNEGOTIATED, "ord": UNNEGOTIATED})
    word = stream.reply.word
    _check(stream.reply, "IRD and ORD 0x3fff", (word.ird, word.ord) == (UNNEGOTIATED, UNNEGOTIATED))
    await stream.probe()


@case(
    "MPA2-6581-9.1-13/2",
    "a program that wants no negotiation says 0x3FFF",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def initiator_unnegotiated(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was told IRD and ORD 0x3FFF.

    Accepts: a word with IRD and ORD 0x3FFF.
    """
    _, asked = await bench.asked(session={"ird": UNNEGOTIATED, "ord": UNNEGOTIATED})
    word = asked.word
    _check(asked, "IRD and ORD 0x3fff", (word.ird, word.ord) == (UNNEGOTIATED, UNNEGOTIATED))


@case(
    "MPA2-6581-9.1-01",
    "the program learns the peer's IRD and ORD",
    directions=CONNECT,
    level=Level.TARGET,
    needs=ENHANCED,
)
async def depths_are_reported(bench: Bench) -> None:
    """An enhanced Request with IRD 5 and ORD 3.

    Accepts: the target reports the peer's IRD 5 and ORD 3.
    """
    stream = await bench.open(revision=2, word={"ird": 5, "ord": 3})
    await stream.probe()
    await _reported(bench, 5, 3)


@case(
    "MPA2-6581-9.1-12",
    "the Initiator's program learns the Responder's IRD and ORD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=ENHANCED,
)
async def responder_depths_are_reported(bench: Bench) -> None:
    """An enhanced Reply with IRD 7 and ORD 2.

    Accepts: the target reports the peer's IRD 7 and ORD 2.
    """
    line, asked = await bench.asked()
    await bench.answer(line, asked, word={"ird": 7, "ord": 2})
    await bench.target.expect_state("connected")
    await _reported(bench, 7, 2)


async def _reported(bench: Bench, ird: int, ord: int) -> None:
    state = await bench.target.state()
    came = state.fields.get("peer_ird"), state.fields.get("peer_ord")
    if came != (str(ird), str(ord)):
        raise Failed(
            f"peer_ird={ird} peer_ord={ord} in the target's report",
            f"peer_ird={in_decimal(came[0])} peer_ord={in_decimal(came[1])}",
        )


@case(
    "MPA2-6581-9.1-08",
    "the Initiator's IRD covers the Responder's ORD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def ird_covers_the_responder(bench: Bench) -> None:
    """An enhanced Reply with ORD 5 to a target that was told IRD 8; five Reads of zero octets in one piece.

    Accepts: five answers.
    """
    stream = await bench.open(word={"ord": 5}, session={"ird": 8})
    await _answered(stream, 5)


@case(
    "MPA2-6581-9.1-09",
    "the Initiator keeps to the Responder's IRD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def ord_kept(bench: Bench) -> None:
    """An enhanced Reply with IRD 2 to a target that was told ORD 8 and posts six Reads.

    Accepts: two Read Requests, and another for each answer.
    """
    stream = await bench.open(word={"ird": 2}, session={"ord": 8})
    await _keeps_to(bench, stream, 2, 6)


@case(
    "MPA2-6581-9.1-09/2",
    "the Responder keeps to the Initiator's IRD",
    directions=CONNECT,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def responder_ord_kept(bench: Bench) -> None:
    """An enhanced Request with IRD 2 to a target that was told ORD 8 and posts six Reads.

    Accepts: two Read Requests, and another for each answer.
    """
    stream = await bench.open(revision=2, word={"ird": 2}, session={"ord": 8})
    await _keeps_to(bench, stream, 2, 6)


async def _keeps_to(bench: Bench, stream: Stream, depth: int, reads: int) -> None:
    """The target posts `reads` Reads, of which at most `depth` may be outstanding; all are answered."""
    for number in range(reads):
        await bench.target.post("read", stag=OFFER_REGION.stag, to=OFFER_REGION.to, len=4, wr=number)
    outstanding: list[Message] = []
    answered = 0
    while answered < reads:
        seen = await stream.observe(stream.line.quiet)
        if isinstance(seen, Message) and message(Opcode.READ_REQUEST).fits(seen):
            outstanding.append(seen)
            if len(outstanding) > depth:
                raise Failed(f"at most {depth} Reads outstanding", f"{len(outstanding)}", seen.annotated())
        elif isinstance(seen, Silence) and outstanding:
            segment = outstanding.pop(0).segment
            assert segment is not None, "the pattern admits segments alone"
            sink_stag, sink_to = (
                int.from_bytes(segment.payload[:4], "big"),
                int.from_bytes(segment.payload[4:12], "big"),
            )
            await stream.respond(sink_stag, sink_to, b"four")
            answered += 1
        else:
            raise Failed("a Read Request", str(seen), seen.annotated())
    await bench.target.expect_completions(reads)


@case(
    "MPA2-6581-9.1-15",
    "IRD 0x3FFF in the Reply leaves the Initiator's ORD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def ord_stays(bench: Bench) -> None:
    """An enhanced Reply with IRD 0x3FFF to a target that was told ORD 3 and posts three Reads.

    Accepts: three Read Requests before any answer.
    """
    stream = await bench.open(word={"ird": UNNEGOTIATED}, session={"ord": 3})
    for number in range(3):
        await bench.target.post("read", stag=OFFER_REGION.stag, to=OFFER_REGION.to, len=4, wr=number)
    for _ in range(3):
        await stream.expect(message(Opcode.READ_REQUEST))


@case(
    "MPA2-6581-9.1-17",
    "ORD 0x3FFF in the Reply leaves the Initiator's IRD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def ird_stays(bench: Bench) -> None:
    """An enhanced Reply with ORD 0x3FFF to a target that was told IRD 4; four Reads of zero octets in one piece.

    Accepts: four answers.
    """
    stream = await bench.open(word={"ord": UNNEGOTIATED}, session={"ird": 4})
    await _answered(stream, 4)


async def _too_deep(bench: Bench) -> tuple[Frame, Stream]:
    line, asked = await bench.asked(session={"ird": 2})
    answered = await bench.answer(line, asked, word={"ord": LARGEST})
    return answered, bench.full_operation(line, asked, answered)


@case(
    "MPA2-6581-9.1-10",
    "an Initiator that cannot serve the Responder's ORD ends the connection",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
    also=("MPA2-6581-9.1-11",),
)
async def too_deep(bench: Bench) -> None:
    """An enhanced Reply with ORD 0x3FFE to a target that was told IRD 2.

    Accepts: Terminate 2/0/06, and then the end of the stream.
    """
    _, stream = await _too_deep(bench)
    await stream.expect_terminated(MPA_IRD)


@case(
    "MPA2-6581-9.1-11",
    "the Terminate for missing IRD is 2/0/06 and quotes nothing",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def too_deep_quotes_nothing(bench: Bench) -> None:
    """An enhanced Reply with ORD 0x3FFE to a target that was told IRD 2.

    Accepts: Terminate 2/0/06 with M, D and R clear.
    """
    _, stream = await _too_deep(bench)
    await stream.expect_terminated(MPA_IRD, ddp_header=b"", rdma_header=b"")


@case(
    "MPA2-6581-8-01",
    "setup errors of RFC 6581 are told by a Terminate of layer 2",
    directions=LISTEN,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def setup_error(bench: Bench) -> None:
    """An enhanced Reply with ORD 0x3FFE to a target that was told IRD 2.

    Accepts: a Terminate of layer 2, type 0, whose code is 5, 6 or 7.
    """
    _, stream = await _too_deep(bench)
    seen = await stream.expect_message(terminate())
    assert seen.terminate is not None, "the pattern admits Terminates alone"
    layer, etype, code = seen.terminate.term
    if (layer, etype) != (2, 0) or code not in (5, 6, 7):
        raise Failed("a Terminate 2/0/05, 2/0/06 or 2/0/07", str(seen), seen.annotated())


@case(
    "MPA2-6581-9.1-06",
    "a Responder whose program needs more ORD may reject",
    directions=CONNECT,
    level=Level.TARGET,
    needs=DEPTHS,
)
async def needs_more(bench: Bench) -> None:
    """An enhanced Request with IRD 1 to a target that was told ORD 4.

    Accepts: a Reply with R=1 and the ORD it needs, or one that accepts with an ORD of at most 1.
    """
    frame = await _probe_responder(bench, {"ord": 4}, ird=1)
    lawful = frame.word.ord <= 1 if _accepted(frame) else frame.word.ord > 1
    _check(frame, "ORD of at most 1, or R=1 with more", lawful)


@case("MPA2-6581-9.1-07", "the Terminate for that is 2/0/06", directions=CONNECT, level=Level.TARGET, needs=DEPTHS)
async def needs_more_terminate(bench: Bench) -> None:
    """An enhanced Request with IRD 0 to a target that was told ORD 4, and an empty Write.

    Accepts: a Reply with R=1; or one that accepts with ORD 0, and a working stream; or Terminate 2/0/06.
    """
    line = await bench.line(session={"ord": 4})
    word = build_word(ird=0)
    asked = Frame(await line.request(word, revision=2, enhanced=True))
    answered = await line.expect_frame(reply(enhanced=True))
    if not _accepted(answered):
        return
    stream = bench.full_operation(line, asked, answered)
    await bench.send_first(stream)
    await stream.read(0, 0, 0)
    seen = await stream.expect(read_response(b"") | terminate(MPA_IRD))
    if isinstance(seen, Message) and seen.terminate is not None:
        await stream.expect(ended())
    else:
        _check(answered, "ORD=0", answered.word.ord == 0)


@case("MPA2-6581-9.1-03", "a Responder may offer more IRD than was asked for", directions=CONNECT, needs=ENHANCED)
async def more_ird(bench: Bench) -> None:
    """An enhanced peer-to-peer Request with ORD 0 and a Read as its only opening message.

    Accepts: a Reply with any IRD; if it takes the Read as opening message, with IRD of at least 1.
    """
    frame = await _probe_responder(bench, ord=0, peer_to_peer=True, rtr_read=True)
    _check(frame, "an IRD of at least 1 if D=1", frame.word.ird >= 1 or not frame.word.rtr_read)
