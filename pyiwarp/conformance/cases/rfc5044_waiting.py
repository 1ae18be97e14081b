"""Who waits for whom in startup, refusals, and time limits (RFC 5044 §7.1.2)."""

from __future__ import annotations

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.patterns import Failed, ended, one_of, reply, silence
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)


# --- who waits for whom ----------------------------------------------------------------------------------------------


@case("MPA-5044-7.1.2-03", "a Responder is silent until it has a Request", directions=CONNECT)
async def silent_without_request(bench: Bench) -> None:
    """Nothing, for the time of silence; then a valid Request.

    Accepts: silence, and then a Reply.
    """
    line = await bench.line()
    await line.expect_quiet()
    await line.request()
    await line.expect(reply())


@case("MPA-5044-7.1.2-03/2", "a Responder is silent while a Request is not whole", directions=CONNECT)
async def silent_with_half_a_request(bench: Bench) -> None:
    """All but the last octet of a Request with four octets of Private Data; after the time of silence that octet.

    Accepts: silence, and then a Reply.
    """
    line = await bench.line()
    await line.send(REQUEST_KEY + bytes.fromhex("40010004") + b"abc")
    await line.expect_quiet()
    await line.send(b"d")
    await line.expect(reply())


@case("MPA-5044-7.1.2-08", "a good Request is accepted", directions=CONNECT)
async def good_request(bench: Bench) -> None:
    """A valid Request of revision 1 with eight octets of Private Data.

    Accepts: a Reply with R=0.
    """
    line = await bench.line()
    await line.request(b"pyiwarp?")
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.2-04", "a badly formatted Request is answered with no octet at all", directions=CONNECT)
async def nothing_for_a_bad_request(bench: Bench) -> None:
    """Three bad Requests on separate connections: wrong Key, revision 255, PD_Length 513.

    Accepts: the end of the TCP connection, with no octet before.
    """
    bad = ({"key": b"MPA ID Req Fram?"}, {"revision": 255}, {"private_data_length": 513})
    for fields in bad:
        line = await bench.line()
        await line.request(**fields)
        await line.expect(ended())


@case("MPA-5044-8-07", "an invalid Request ends the TCP connection at once", directions=CONNECT)
async def ends_at_once(bench: Bench) -> None:
    """A Request with a wrong Key; the bench's half stays open.

    Accepts: the end of the TCP connection within the time limit of a single reaction.
    """
    line = await bench.line()
    await line.request(key=REPLY_KEY)
    await line.expect(ended())


@case("MPA-5044-7.1.2-11", "no FPDU is sent before the Reply", directions=LISTEN)
async def no_fpdu_before_the_reply(bench: Bench) -> None:
    """A Reply that is late by three times the time of silence.

    Accepts: silence until then; afterwards Full Operation, or the Initiator's end.
    """
    line, asked = await bench.asked()
    await line.expect_quiet(3 * line.quiet)
    await bench.answer(line, asked)


@case("MPA-5044-7.1.2-12", "an Initiator does not go on without a Reply", directions=LISTEN, level=Level.TARGET)
async def waits_for_the_reply(bench: Bench) -> None:
    """No Reply, for the time of silence, then one.

    Accepts: silence; the target's connection is not there before the Reply, and there after it.
    """
    line, asked = await bench.asked()
    await line.expect_quiet()
    state = await bench.target.state()
    if state.state != "waiting":
        raise Failed("the target's connection waiting", f"the target says {state.state}")
    await bench.answer(line, asked)
    await bench.target.expect_state("connected")


@case("MPA-5044-7.1.2-13", "a badly formatted Reply is refused", directions=LISTEN)
async def bad_reply(bench: Bench) -> None:
    """Two bad Replies on separate connections: revision 255, PD_Length 513.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    for fields in ({"revision": 255}, {"private_data_length": 513}):
        line, asked = await bench.asked()
        answered = await bench.answer(line, asked, **fields)  # type: ignore[arg-type]
        await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.2-16", "a Responder sends nothing before it has an FPDU", directions=CONNECT, level=Level.TARGET)
async def responder_is_mute(bench: Bench) -> None:
    """A Request; the target posts a Send; after the time of silence an empty Write.

    Accepts: silence after the Reply until the Write, and then the Send.
    """
    stream = await bench.open(speak_first=False)
    await bench.target.post("send", data=b"first")
    await stream.expect_quiet()
    await stream.write(0, 0)
    await stream.expect_send(b"first")


@case(
    "MPA-5044-7.1.2-16/2", "a bad first FPDU does not let the Responder speak", directions=CONNECT, level=Level.TARGET
)
async def bad_fpdu_does_not_release(bench: Bench) -> None:
    """A Request; the target posts a Send; then an empty Write with a wrong CRC.

    Accepts: the end of the stream without the Send: at once, or after a Terminate.
    """
    stream = await bench.open(speak_first=False)
    await bench.target.post("send", data=b"first")
    await stream.write_badly()
    await stream.expect_torn_down()


@case("MPA-5044-7.1.2-16/3", "a bare Responder sends nothing after its Reply", directions=CONNECT)
async def nothing_behind_the_reply(bench: Bench) -> None:
    """A Request, and nothing after the Reply.

    Accepts: silence after the Reply.
    """
    stream = await bench.open(speak_first=False)
    await stream.expect_quiet()


@case("MPA-5044-7.1.2-15", "after the Reply the Initiator's messages come", directions=LISTEN, level=Level.TARGET)
async def full_operation_of_the_initiator(bench: Bench) -> None:
    """A Reply that accepts; the target posts a Send.

    Accepts: the Send, in an FPDU.
    """
    stream = await bench.open()
    await bench.target.post("send", data=b"hello")
    await stream.expect_send(b"hello")


@case("MPA-5044-7.1.2-10", "FPDUs can follow the Reply at once", directions=CONNECT)
async def fpdu_at_once(bench: Bench) -> None:
    """An empty Write and a Read of zero octets in one piece, as soon as the Reply is there.

    Accepts: the answer to the Read.
    """
    stream = await bench.open(speak_first=False)
    await stream.write(0, 0)
    await stream.probe()


# --- rejection -------------------------------------------------------------------------------------------------------


@case(
    "MPA-5044-7.1.2-05",
    "a program that refuses is heard: R=1",
    directions=CONNECT,
    level=Level.TARGET,
    needs=[Need.REJECT],
)
async def rejected(bench: Bench) -> None:
    """A valid Request to a target whose program refuses.

    Accepts: a Reply with R=1.
    """
    line = await bench.line(session={"reject": 1})
    await line.request()
    await line.expect(reply(rejected=True))


@case(
    "MPA-5044-7.1.1-13", "R tells acceptance from refusal", directions=CONNECT, level=Level.TARGET, needs=[Need.REJECT]
)
async def r_tells(bench: Bench) -> None:
    """A valid Request to a target that refuses, and one to a target that accepts.

    Accepts: a Reply with R=1, and one with R=0.
    """
    for refuses in (True, False):
        line = await bench.line(session={"reject": refuses})
        await line.request()
        await line.expect(reply(rejected=refuses))


@case(
    "MPA-5044-7.1.2-06", "a refusal carries Private Data", directions=CONNECT, level=Level.TARGET, needs=[Need.REJECT]
)
async def rejected_with_data(bench: Bench) -> None:
    """A valid Request to a target whose program refuses with 20 octets of Private Data.

    Accepts: a Reply with R=1 and these octets.
    """
    data = bytes(range(20))
    line = await bench.line(session={"reject": 1, "data": data})
    await line.request()
    await line.expect(reply(rejected=True, program_data=data))


@case(
    "MPA-5044-7.1.2-07", "after a refusal there is no MPA", directions=CONNECT, level=Level.TARGET, needs=[Need.REJECT]
)
async def nothing_behind_rejection(bench: Bench) -> None:
    """A valid Request to a target whose program refuses.

    Accepts: after the Reply no octet; TCP open (RFC 5044 §7.1.2) or ended (§7.1.4.2 and many programs).
    """
    line = await bench.line(session={"reject": 1})
    await line.request()
    await line.expect(reply(rejected=True))
    await line.expect(one_of(silence(), ended()), line.quiet)


@case("MPA-5044-7.1.2-14", "an Initiator that is refused sends nothing more", directions=LISTEN)
async def silent_when_rejected(bench: Bench) -> None:
    """A Reply with R=1.

    Accepts: no octet after it: TCP open and silent, or ended.
    """
    line, asked = await bench.asked()
    await bench.answer(line, asked, rejected=True)
    await line.expect(one_of(silence(), ended()), 2 * line.quiet)


@case("MPA-5044-7.1.2-14/2", "the program learns of a refusal", directions=LISTEN, level=Level.TARGET)
async def rejection_is_reported(bench: Bench) -> None:
    """A Reply with R=1 and eight octets of Private Data.

    Accepts: the target reports that it was rejected.
    """
    line, asked = await bench.asked()
    await bench.answer(line, asked, b"no room.", rejected=True)
    await bench.target.expect_state("rejected")


# --- time limits -----------------------------------------------------------------------------------------------------

IMPATIENT = {"timeout": 300}  # milliseconds


@case("MPA-5044-7.1.2-22", "a Responder does not wait for a Request forever", directions=CONNECT, level=Level.TARGET)
async def waits_not_forever(bench: Bench) -> None:
    """Nothing, to a target whose time limit for startup is 0.3 s.

    Accepts: the end of the TCP connection.
    """
    line = await bench.line(session=IMPATIENT)
    await line.expect(ended())


@case("MPA-5044-7.1.2-27", "a Request that stays unfinished is given up", directions=CONNECT, level=Level.TARGET)
async def unfinished_request(bench: Bench) -> None:
    """19 octets of a Request to a target whose time limit for startup is 0.3 s.

    Accepts: the end of the TCP connection.
    """
    line = await bench.line(session=IMPATIENT)
    await line.send(REQUEST_KEY + b"\x40\x01\x00")
    await line.expect(ended())


@case("MPA-5044-7.1.2-27/2", "Private Data that stays unfinished is given up", directions=CONNECT, level=Level.TARGET)
async def unfinished_private_data(bench: Bench) -> None:
    """A Request with 3 of 8 octets of Private Data to a target whose time limit for startup is 0.3 s.

    Accepts: the end of the TCP connection.
    """
    line = await bench.line(session=IMPATIENT)
    await line.request(b"abc", private_data_length=8)
    await line.expect(ended())


@case("MPA-5044-7.1.2-27/3", "a Request that drips is given up", directions=CONNECT, level=Level.TARGET)
async def dripping_request(bench: Bench) -> None:
    """A Request octet by octet, 50 ms apart, to a target whose time limit for startup is 0.3 s.

    Accepts: the end of the TCP connection before the Request is whole.
    """
    line = await bench.line(session=IMPATIENT)
    await line.send_slowly(REQUEST_KEY, len(REQUEST_KEY), 0.05)
    await line.expect(ended())


@case("MPA-5044-7.1.2-27/4", "a Reply that stays unfinished is given up", directions=LISTEN, level=Level.TARGET)
async def unfinished_reply(bench: Bench) -> None:
    """19 octets of a Reply to a target whose time limit for startup is 0.3 s.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    line, asked = await bench.asked(session=IMPATIENT)
    await line.send(REPLY_KEY + b"\x40\x01\x00")
    await bench.full_operation(line, asked, asked).expect_torn_down()
