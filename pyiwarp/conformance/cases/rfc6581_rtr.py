"""Peer-to-peer startup: the A bit, the opening messages, and what follows when none fits (RFC 6581 §5, §9.2, §9.3)."""

from __future__ import annotations

from typing import Any

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.conformance.bench.patterns import Failed, message, read_response, reply
from pyiwarp.conformance.bench.startup_line import build_word
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.terms import MPA_RTR
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)
ENHANCED = (Need.ENHANCED,)
P2P = (Need.ENHANCED, Need.P2P)
RTRS = ("rtr_send", "rtr_write", "rtr_read")
EVERY = dict.fromkeys(RTRS, True)
PEER_TO_PEER = {"p2p": 1}
SEND_ONLY = {"rtr_send": True, "rtr_write": False, "rtr_read": False}
WRITE_ONLY = {"rtr_send": False, "rtr_write": True, "rtr_read": False}
READ_ONLY = {"rtr_send": False, "rtr_write": False, "rtr_read": True}
NONE = {"rtr_send": False, "rtr_write": False, "rtr_read": False}


async def _probe_responder(bench: Bench, **word: Any) -> Frame:
    line = await bench.line()
    await line.request(build_word(**word), revision=2, enhanced=True)
    return await line.expect_frame(reply(enhanced=True, rejected=False))


def _check(frame: Frame, what: str, right: bool) -> None:
    if not right:
        bits = "".join(
            f" {letter}={int(bool(frame.word[name]))}"
            for letter, name in zip("ABCD", ("peer_to_peer", *RTRS), strict=True)
        )
        raise Failed(what, f"{frame}{bits}", frame.annotated())


def _offers(frame: Frame) -> bool:
    return any(frame.word[name] for name in RTRS)


# --- the bits of a Responder -----------------------------------------------------------------------------------------


@case("MPA2-6581-9.2-04", "A=1 is answered with A=1", directions=CONNECT, needs=ENHANCED)
async def a_is_answered(bench: Bench) -> None:
    """An enhanced Request with A=1 and all opening messages.

    Accepts: a Reply with A=1.
    """
    frame = await _probe_responder(bench, peer_to_peer=True, **EVERY)
    _check(frame, "A=1", frame.word.peer_to_peer)


@case("MPA2-6581-9.2-14", "A=0 is answered with A=0", directions=CONNECT, needs=ENHANCED)
async def no_a_is_answered(bench: Bench) -> None:
    """An enhanced Request with A=0.

    Accepts: a Reply with A=0.
    """
    frame = await _probe_responder(bench)
    _check(frame, "A=0", not frame.word.peer_to_peer)


@case("MPA2-6581-9.2-15", "with A=0 there are no opening messages", directions=CONNECT, needs=ENHANCED)
async def no_rtr_without_a(bench: Bench) -> None:
    """An enhanced Request with A=0.

    Accepts: a Reply with B, C and D clear.
    """
    frame = await _probe_responder(bench)
    _check(frame, "B=0 C=0 D=0", not _offers(frame))


@case("MPA2-6581-9.2-16", "with A=0 the bits of opening messages are ignored", directions=CONNECT, needs=ENHANCED)
async def rtr_ignored_without_a(bench: Bench) -> None:
    """An enhanced Request with A=0 and B, C and D set; an empty Write and a Read of zero octets.

    Accepts: a Reply with A, B, C and D clear, and an answer to the Read.
    """
    stream = await bench.open(revision=2, word=EVERY)
    _check(stream.reply, "A=0 B=0 C=0 D=0", not stream.reply.word.peer_to_peer and not _offers(stream.reply))
    await stream.probe()


@case("MPA2-6581-9.2-03", "a Responder takes at least one opening message", directions=CONNECT, needs=ENHANCED)
async def at_least_one(bench: Bench) -> None:
    """An enhanced Request with A=1 and all opening messages.

    Accepts: a Reply with at least one of B, C and D.
    """
    frame = await _probe_responder(bench, peer_to_peer=True, **EVERY)
    _check(frame, "at least one of B, C and D", _offers(frame))


@case("MPA2-6581-9.2-07", "of several that fit at least one is listed", directions=CONNECT, needs=ENHANCED)
async def at_least_one_of_two(bench: Bench) -> None:
    """Enhanced Requests with A=1 and two of the three opening messages each.

    Accepts: Replies with at least one of B, C and D.
    """
    for left_out in RTRS:
        frame = await _probe_responder(bench, peer_to_peer=True, **{name: name != left_out for name in RTRS})
        _check(frame, "at least one of B, C and D", _offers(frame))


@case("MPA2-6581-9.2-05", "what was offered and is supported is listed", directions=CONNECT, needs=ENHANCED)
async def offered_is_listed(bench: Bench) -> None:
    """An enhanced Request with all opening messages, and one with each of those that its Reply lists.

    Accepts: Replies that list the one that was offered.
    """
    supported = await _probe_responder(bench, peer_to_peer=True, **EVERY)
    for name in RTRS:
        if supported.word[name]:
            frame = await _probe_responder(bench, peer_to_peer=True, **{name: True})
            _check(frame, f"{name} listed", frame.word[name])


@case(
    "MPA2-6581-9.2-09",
    "if none fits the Responder lists what it takes",
    directions=CONNECT,
    level=Level.TARGET,
    needs=P2P,
)
async def lists_what_it_takes(bench: Bench) -> None:
    """An enhanced Request with A=1 and a Send alone to a target that takes a Write alone.

    Accepts: a Reply with C=1 and B=0, or a rejection.
    """
    line = await bench.line(session={"p2p": 1, "rtr": "write"})
    await line.request(build_word(peer_to_peer=True, rtr_send=True), revision=2, enhanced=True)
    frame = await line.expect_frame(reply(enhanced=True))
    _check(frame, "C=1 B=0", frame.word.rtr_write and not frame.word.rtr_send)


async def _open_with(bench: Bench, rtr: str) -> Stream:
    """A peer-to-peer stream for which the bench offered one opening message, and has still to send it."""
    return await bench.open(revision=2, word={"peer_to_peer": True, rtr: True}, speak_first=False)


@case(
    "MPA2-6581-9.2-06", "the opening message is a Write, if the Responder takes it", directions=CONNECT, needs=ENHANCED
)
async def write_opens(bench: Bench) -> None:
    """An enhanced Request with A=1 and C=1; where the Reply has C=1 too an empty Write, and a Read of zero octets.

    Accepts: an answer to the Read.
    """
    stream = await _open_with(bench, "rtr_write")
    await stream.write(1, 0)
    await stream.probe()


@case("MPA2-6581-9.2-18", "a Read as opening message is answered and counts", directions=CONNECT, needs=ENHANCED)
async def read_opens(bench: Bench) -> None:
    """An enhanced Request with A=1 and D=1; a Read of zero octets with MSN 1 as the first FPDU, and another with MSN 2.

    Accepts: an answer to each, if the Reply has D=1.
    """
    stream = await _open_with(bench, "rtr_read")
    if not stream.reply.word.rtr_read:
        return
    await stream.read(0, 0, 0, msn=1)
    await stream.expect(read_response(b"", stag=PROBE_STAG))
    await stream.read(0, 0, 0, msn=2)
    await stream.expect(read_response(b"", stag=PROBE_STAG))


@case("MPA2-6581-9.2-18/2", "a Send as opening message counts", directions=CONNECT, level=Level.TARGET, needs=P2P)
async def send_opens(bench: Bench) -> None:
    """An enhanced Request with A=1 and B=1; an empty Send with MSN 1 as the first FPDU, a Send with MSN 2.

    Accepts: the second Send is received, in the second or (if the opening took no receive) in the first one.
    """
    stream = await _open_with(bench, "rtr_send")
    if not stream.reply.word.rtr_send:
        return
    await stream.send(b"", msn=1)
    await stream.send(b"the second", msn=2)
    await stream.probe()
    buffers = [(await bench.target.received(index))[:10] for index in (0, 1)]
    if b"the second" not in buffers:
        raise Failed("the second Send in a receive", ", ".join(buffer.hex() for buffer in buffers))


@case(
    "MPA2-6581-9.2-19",
    "the Responder is mute until the opening message",
    directions=CONNECT,
    level=Level.TARGET,
    needs=ENHANCED,
)
async def mute_until_opened(bench: Bench) -> None:
    """An enhanced Request with A=1 and C=1; the target posts a Send; after the time of silence an empty Write.

    Accepts: silence, and then the Send without further FPDUs from the bench.
    """
    stream = await _open_with(bench, "rtr_write")
    await bench.target.post("send", data=b"now")
    await stream.expect_quiet()
    await stream.write(1, 0)
    await stream.expect_send(b"now")


# --- the bits of an Initiator ----------------------------------------------------------------------------------------


@case("MPA2-6581-9.2-01", "a peer-to-peer Initiator sets A", directions=LISTEN, level=Level.TARGET, needs=P2P)
async def initiator_sets_a(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was told peer-to-peer mode.

    Accepts: an enhanced Request with A=1.
    """
    _, asked = await bench.asked(session=PEER_TO_PEER)
    _check(asked, "A=1", asked.word is not None and asked.word.peer_to_peer)


@case(
    "MPA2-6581-9.2-02",
    "a peer-to-peer Initiator lists what it can send",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def initiator_lists(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was told peer-to-peer mode.

    Accepts: an enhanced Request with at least one of B, C and D.
    """
    _, asked = await bench.asked(session=PEER_TO_PEER)
    _check(asked, "at least one of B, C and D", _offers(asked))


@case("MPA2-6581-9.2-13", "without peer-to-peer mode A is clear", directions=LISTEN, level=Level.TARGET, needs=ENHANCED)
async def client_server(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was not told peer-to-peer mode.

    Accepts: an enhanced Request with A, B, C and D clear.
    """
    _, asked = await bench.asked()
    _check(asked, "A=0 B=0 C=0 D=0", not asked.word.peer_to_peer and not _offers(asked))


@case("MPA2-6581-9.2-15/2", "with A=0 a Request lists no opening messages", directions=LISTEN, needs=ENHANCED)
async def no_rtr_in_a_plain_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: an enhanced Request with A=1, or one with B, C and D clear.
    """
    _, asked = await bench.asked()
    _check(asked, "B=0 C=0 D=0 with A=0", asked.word.peer_to_peer or not _offers(asked))


async def _answered_with(bench: Bench, rtrs: dict[str, bool], **word: Any) -> Stream:
    """A peer-to-peer target's connection, accepted with these opening messages."""
    line, asked = await bench.asked(session=PEER_TO_PEER)
    answered = await bench.answer(line, asked, word={"peer_to_peer": True, **rtrs, **word})
    return bench.full_operation(line, asked, answered)


async def _opening(stream: Stream, length: int, opcode: Opcode, **fields: object) -> Message:
    seen = await stream.expect_message(message(opcode, last=True, **fields))
    if len(seen.fpdu.ulpdu) != length:
        raise Failed(f"a ULPDU of {length} octets", f"{len(seen.fpdu.ulpdu)}", seen.annotated())
    return seen


@case(
    "MPA2-6581-9.2-10",
    "with D=1 alone the Initiator opens with a Read",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def opens_with_a_read(bench: Bench) -> None:
    """A Reply with A=1 and D=1 alone.

    Accepts: at once a Read Request of nothing on queue 1 with MSN 1, ULPDU_Length 46.
    """
    stream = await _answered_with(bench, READ_ONLY)
    seen = await _opening(stream, 46, Opcode.READ_REQUEST, qn=1, msn=1, mo=0)
    segment = seen.segment
    if segment is None or segment.payload[12:16] != bytes(4):
        raise Failed("a Read of no octets", "a Read of some", seen.annotated())


@case("MPA2-6581-9.2-17", "the opening Write has ULPDU_Length 14", directions=LISTEN, level=Level.TARGET, needs=P2P)
async def opens_with_a_write(bench: Bench) -> None:
    """A Reply with A=1 and C=1 alone.

    Accepts: at once a Write of nothing, ULPDU_Length 14.
    """
    stream = await _answered_with(bench, WRITE_ONLY)
    await _opening(stream, 14, Opcode.WRITE)


@case("MPA2-6581-9.2-17/2", "the opening Send has ULPDU_Length 18", directions=LISTEN, level=Level.TARGET, needs=P2P)
async def opens_with_a_send(bench: Bench) -> None:
    """A Reply with A=1 and B=1 alone to an Initiator that offered a Send.

    Accepts: at once an empty Send on queue 0 with MSN 1, ULPDU_Length 18.
    """
    stream = await _answered_with(bench, SEND_ONLY)
    if stream.request.word.rtr_send:
        await _opening(stream, 18, Opcode.SEND, qn=0, msn=1, mo=0)
    else:
        await stream.expect_terminated(MPA_RTR)


@case("MPA2-6581-5-01", "nothing is sent before the opening message", directions=LISTEN, level=Level.TARGET, needs=P2P)
async def opening_is_first(bench: Bench) -> None:
    """A Reply with A=1 and C=1 alone; the target posts a Send as soon as it can.

    Accepts: the empty Write first, and then the Send.
    """
    stream = await _answered_with(bench, WRITE_ONLY)
    await bench.target.expect_state("connected")
    await bench.target.post("send", data=b"second")
    await _opening(stream, 14, Opcode.WRITE)
    await stream.expect_send(b"second", msn=1)


@case(
    "MPA2-6581-9.2-18/3",
    "after an opening Read the next Read has MSN 2",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def next_read_has_msn_2(bench: Bench) -> None:
    """A Reply with A=1 and D=1 alone; the Read is answered; the target posts a Read.

    Accepts: a Read Request with MSN 1, and one with MSN 2.
    """
    stream = await _answered_with(bench, READ_ONLY)
    seen = await _opening(stream, 46, Opcode.READ_REQUEST, msn=1)
    assert seen.segment is not None, "the pattern admits segments alone"
    sink = seen.segment.payload
    await stream.respond(int.from_bytes(sink[:4], "big"), int.from_bytes(sink[4:12], "big"))
    await bench.target.post("read", stag=1, to=0, len=4)
    await stream.expect(message(Opcode.READ_REQUEST, msn=2))


@case(
    "MPA2-6581-9.3-01",
    "depths are settled before the opening Read",
    directions=LISTEN,
    level=Level.TARGET,
    needs=[*P2P, Need.DEPTHS],
)
async def depths_before_the_opening(bench: Bench) -> None:
    """A Reply with D=1 alone and IRD 1 to a target that was told ORD 0; the opening Read is answered.

    Accepts: a Read of zero octets, and a working stream; or Terminate 2/0/07, if ORD 0 rules a Read out.
    """
    line, asked = await bench.asked(session={"p2p": 1, "ord": 0})
    answered = await bench.answer(line, asked, word={"peer_to_peer": True, **READ_ONLY, "ird": 1})
    stream = bench.full_operation(line, asked, answered)
    if not asked.word.rtr_read:
        await stream.expect_terminated(MPA_RTR)
        return
    seen = await _opening(stream, 46, Opcode.READ_REQUEST, msn=1)
    assert seen.segment is not None, "the pattern admits segments alone"
    sink = seen.segment.payload
    await stream.respond(int.from_bytes(sink[:4], "big"), int.from_bytes(sink[4:12], "big"))
    await stream.probe()


@case(
    "MPA2-6581-9.2-11",
    "an Initiator that can send none of them ends the connection",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def none_fits(bench: Bench) -> None:
    """A Reply with A=1 and B, C and D clear.

    Accepts: Terminate 2/0/07, and then the end of the stream.
    """
    stream = await _answered_with(bench, NONE)
    await stream.expect_terminated(MPA_RTR)


@case(
    "MPA2-6581-9.2-12",
    "the Terminate for no opening message is 2/0/07 and quotes nothing",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def none_offered_fits(bench: Bench) -> None:
    """A Reply with A=1 and B=1 alone to a target that was told to open with a Write alone.

    Accepts: Terminate 2/0/07 with M, D and R clear, and then the end of the stream.
    """
    line, asked = await bench.asked(session={"p2p": 1, "rtr": "write"})
    answered = await bench.answer(line, asked, word={"peer_to_peer": True, **SEND_ONLY})
    stream = bench.full_operation(line, asked, answered)
    await stream.expect_terminated(MPA_RTR, ddp_header=b"", rdma_header=b"")


@case(
    "MPA2-6581-9.2-08",
    "an Initiator does not open with what it did not offer",
    directions=LISTEN,
    level=Level.TARGET,
    needs=P2P,
)
async def only_what_was_offered(bench: Bench) -> None:
    """A Reply with A=1 and B, C and D set to a target that was told to open with a Write alone.

    Accepts: an empty Write.
    """
    line, asked = await bench.asked(session={"p2p": 1, "rtr": "write"})
    answered = await bench.answer(line, asked, word={"peer_to_peer": True, **EVERY})
    await _opening(bench.full_operation(line, asked, answered), 14, Opcode.WRITE)
