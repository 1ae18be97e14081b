"""MPA startup: Keys, revisions, reserved bits, and what follows when they are wrong (RFC 5044 §7.1.1, §7.1.2)."""

from __future__ import annotations

from pyiwarp.conformance.case import Direction, Level, Need, case
from pyiwarp.conformance.observed import Frame
from pyiwarp.conformance.patterns import Failed, ended, one_of, reply, request, silence
from pyiwarp.conformance.testbench import Bench
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)


# --- Keys ------------------------------------------------------------------------------------------------------------


@case("MPA-5044-7.1.1-03", "a Reply begins with the Reply Key", directions=CONNECT)
async def reply_key(bench: Bench) -> None:
    """A valid Request of revision 1.

    Accepts: a Reply that accepts.
    """
    line = await bench.line()
    await line.request()
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.1-01", "a Request begins with the Request Key", directions=LISTEN)
async def request_key(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: an MPA Request, without anything having been sent to the peer.
    """
    await bench.asked()


@case(
    "MPA-5044-7.1.2-01", "an Initiator begins by itself with a Request that is valid in every field", directions=LISTEN
)
async def valid_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request of revision 1 or 2 with R clear, Private Data of at most 512 octets, and nothing behind it.
    """
    line = await bench.line()
    await line.expect(request(rejected=False, revision=lambda revision: revision in (1, 2)))
    await line.expect_quiet()


@case("MPA-5044-7.1.1-02", "a Request with any octet of its Key changed is refused", directions=CONNECT)
async def request_key_changed(bench: Bench) -> None:
    """Sixteen Requests on connections of their own, each with another octet of the Key changed.

    Accepts: the end of the TCP connection, with no octet before.
    """
    for position in range(len(REQUEST_KEY)):
        key = bytearray(REQUEST_KEY)
        key[position] ^= 0x20
        line = await bench.line()
        await line.request(key=bytes(key))
        await line.expect(ended())


@case("MPA-5044-7.1.1-02/2", "text of another protocol is refused", directions=CONNECT)
async def request_of_http(bench: Bench) -> None:
    """The request line and a header of HTTP.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
    await line.expect(ended())


@case("MPA-5044-7.1.1-02/3", "a Key of sixteen zeros is refused", directions=CONNECT)
async def request_of_zeros(bench: Bench) -> None:
    """Twenty octets of zero.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.send(bytes(20))
    await line.expect(ended())


@case("MPA-5044-7.1.1-04", "a Reply with an octet of its Key changed is refused", directions=LISTEN)
async def reply_key_changed(bench: Bench) -> None:
    """Four Replies on connections of their own, each with another octet of the Key changed.

    Accepts: the end of the stream, at once or behind Terminate 2/0/04 (RFC 6581 §8 has setup errors make one).
    """
    for position in (0, 4, 9, 15):
        key = bytearray(REPLY_KEY)
        key[position] ^= 0x20
        line, asked = await bench.asked()
        answered = await bench.answer(line, asked, key=bytes(key))
        await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.1-04/2", "text of another protocol instead of a Reply is refused", directions=LISTEN)
async def reply_of_http(bench: Bench) -> None:
    """A status line of HTTP for a Request.

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    line, asked = await bench.asked()
    await line.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await bench.full_operation(line, asked, asked).expect_torn_down()


@case("MPA-5044-7.1.2-21", "a Request for a Request is refused: two Initiators", directions=LISTEN)
async def two_initiators(bench: Bench) -> None:
    """The peer's own Request, sent back.

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    line, asked = await bench.asked()
    await line.send(asked.octets)
    await bench.full_operation(line, asked, asked).expect_torn_down()


@case("MPA-5044-7.1.2-21/2", "a Reply where a Request is due is refused", directions=CONNECT)
async def reply_to_a_responder(bench: Bench) -> None:
    """A valid Reply as the first octets of the connection.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.reply()
    await line.expect(ended())


@case(
    "MPA-5044-7.1.2-17",
    "a wrong Reply Key fails the connection for the program too",
    directions=LISTEN,
    level=Level.TARGET,
)
async def wrong_key_fails_for_the_program(bench: Bench) -> None:
    """A Reply whose Key is wrong in its last octet.

    Accepts: the end of the stream; the target's program learns that there is no connection.
    """
    line, asked = await bench.asked()
    answered = await bench.answer(line, asked, key=REPLY_KEY[:-1] + b"?")
    await bench.full_operation(line, asked, answered).expect_torn_down()
    await bench.target.expect_state("error", "closed", "terminated")


# --- revisions -------------------------------------------------------------------------------------------------------


@case("MPA-5044-7.1.1-16", "a Reply to revision 1 has revision 1", directions=CONNECT)
async def reply_revision(bench: Bench) -> None:
    """A Request of revision 1.

    Accepts: a Reply of revision 1.
    """
    line = await bench.line()
    await line.request()
    await line.expect(reply(revision=1))


@case("MPA-5044-7.1.1-16/2", "a Request has revision 1 or 2", directions=LISTEN)
async def request_revision(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request of revision 1, or of revision 2.
    """
    line = await bench.line()
    await line.expect(request(revision=lambda revision: revision in (1, 2)))


async def _revision_is_refused(bench: Bench, revision: int) -> None:
    line = await bench.line()
    await line.request(revision=revision)
    await line.expect(ended())


@case("MPA-5044-7.1.1-17", "a Request of revision 3 is refused", directions=CONNECT)
async def revision_3(bench: Bench) -> None:
    """A Request of revision 3.

    Accepts: the end of the TCP connection.
    """
    await _revision_is_refused(bench, 3)


@case("MPA-5044-7.1.1-17/2", "a Request of revision 255 is refused", directions=CONNECT)
async def revision_255(bench: Bench) -> None:
    """A Request of revision 255.

    Accepts: the end of the TCP connection.
    """
    await _revision_is_refused(bench, 255)


@case("MPA-5044-7.1.1-17/3", "a Reply of revision 7 is refused", directions=LISTEN)
async def reply_of_revision_7(bench: Bench) -> None:
    """A Reply of revision 7.

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    line, asked = await bench.asked()
    answered = await bench.answer(line, asked, revision=7)
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.1-17/4", "a Reply of revision 0 is refused", directions=LISTEN)
async def reply_of_revision_0(bench: Bench) -> None:
    """A Reply of revision 0.

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    line, asked = await bench.asked()
    answered = await bench.answer(line, asked, revision=0)
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-C.2.1-01", "a Request of revision 0 does not lead to Full Operation", directions=CONNECT)
async def revision_0(bench: Bench) -> None:
    """A Request of revision 0, as the RDMA Consortium's MPA sent it.

    Accepts: the end of the TCP connection, at once or behind a Reply of revision 1.
    """
    line = await bench.line()
    await line.request(revision=0, markers=True)
    seen = await line.expect(ended() | reply(revision=1))
    if isinstance(seen, Frame):
        await line.expect(ended())


@case(
    "MPA-5044-7.1.1-18",
    "the program learns the revision",
    directions=CONNECT,
    level=Level.TARGET,
    needs=[Need.ENHANCED],
)
async def revision_is_reported(bench: Bench) -> None:
    """A Request of revision 1, and on another connection one of revision 2.

    Accepts: the target reports the revision each time.
    """
    for revision in (1, 2):
        stream = await bench.open(revision=revision)
        await stream.probe()
        seen = (await bench.target.expect_state("connected")).fields.get("revision")
        if seen != str(revision):
            raise Failed(f"revision={revision} in the target's report", f"revision={seen}")


# --- flags that are not to be looked at, or to be sent as zero -------------------------------------------------------


@case("MPA-5044-7.1.1-11", "R is clear in a Request", directions=LISTEN)
async def r_clear_in_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request with R=0.
    """
    line = await bench.line()
    await line.expect(request(rejected=False))


@case("MPA-5044-7.1.1-12", "R in a Request is not looked at", directions=CONNECT)
async def r_in_request(bench: Bench) -> None:
    """A Request with R=1.

    Accepts: a Reply that accepts.
    """
    line = await bench.line()
    await line.request(rejected=True)
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.1-14", "reserved bits of a Reply are zero", directions=CONNECT)
async def rsvd_in_reply(bench: Bench) -> None:
    """A Request of revision 1 with every reserved bit set, S among them.

    Accepts: a Reply whose five reserved bits are zero.
    """
    line = await bench.line()
    await line.request(rsvd=0xF, enhanced=True)
    await line.expect(reply(rsvd=0, enhanced=False))


@case("MPA-5044-7.1.1-14/2", "reserved bits of a Request are zero", directions=LISTEN)
async def rsvd_in_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request whose reserved bits are zero: four of them, and S too in revision 1.
    """
    line = await bench.line()
    seen = await line.expect_frame(request(rsvd=0))
    if seen.header.revision == 1 and seen.header.flags.enhanced:
        raise Failed("S=0 in revision 1", str(seen), seen.annotated())


@case("MPA-5044-7.1.1-15", "reserved bits of a Request are not looked at", directions=CONNECT)
async def each_rsvd_in_request(bench: Bench) -> None:
    """Five Requests of revision 1, each with another reserved bit set, the one that RFC 6581 calls S among them.

    Accepts: a Reply that accepts, each time.
    """
    for bit in (1, 2, 4, 8, 16):
        line = await bench.line()
        await line.request(rsvd=bit & 0xF, enhanced=bit == 16)
        await line.expect(reply(rejected=False))


@case(
    "MPA-5044-7.1.1-15/2",
    "reserved bits of a Reply are not looked at",
    directions=LISTEN,
    level=Level.RPING,
    needs=[Need.REGION],
)
async def each_rsvd_in_reply(bench: Bench) -> None:
    """Four Replies on connections of their own, each with another reserved bit set.

    Accepts: Full Operation: the peer's first FPDU comes, and a Read of nothing is answered.
    """
    for bit in (1, 2, 4, 8):
        line, asked = await bench.asked()
        stream = bench.full_operation(line, asked, await bench.answer(line, asked, rsvd=bit))
        await bench.say_first(stream)
        await stream.probe()


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
    """Three bad Requests on connections of their own: wrong Key, revision 255, PD_Length 513.

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
    """Two bad Replies on connections of their own: revision 255, PD_Length 513.

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    for fields in ({"revision": 255}, {"private_data_length": 513}):
        line, asked = await bench.asked()
        answered = await bench.answer(line, asked, **fields)  # type: ignore[arg-type]
        await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.2-16", "a Responder sends nothing before it has an FPDU", directions=CONNECT, level=Level.TARGET)
async def responder_is_mute(bench: Bench) -> None:
    """A Request; the target posts a Send; after the time of silence an empty Write.

    Accepts: silence behind the Reply until the Write, and then the Send.
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

    Accepts: the end of the stream without the Send: at once, or behind a Terminate.
    """
    stream = await bench.open(speak_first=False)
    await bench.target.post("send", data=b"first")
    await stream.write_badly()
    await stream.expect_torn_down()


@case("MPA-5044-7.1.2-16/3", "a bare Responder sends nothing behind its Reply", directions=CONNECT)
async def nothing_behind_the_reply(bench: Bench) -> None:
    """A Request, and nothing after the Reply.

    Accepts: silence behind the Reply.
    """
    stream = await bench.open(speak_first=False)
    await stream.expect_quiet()


@case("MPA-5044-7.1.2-15", "behind the Reply the Initiator's messages come", directions=LISTEN, level=Level.TARGET)
async def full_operation_of_the_initiator(bench: Bench) -> None:
    """A Reply that accepts; the target posts a Send.

    Accepts: the Send, in an FPDU.
    """
    stream = await bench.open()
    await bench.target.post("send", data=b"hello")
    await stream.expect_send(b"hello")


@case("MPA-5044-7.1.2-10", "FPDUs can follow the Reply at once", directions=CONNECT)
async def fpdu_at_once(bench: Bench) -> None:
    """An empty Write and a Read of nothing in one piece, as soon as the Reply is there.

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
    "MPA-5044-7.1.2-07", "behind a refusal there is no MPA", directions=CONNECT, level=Level.TARGET, needs=[Need.REJECT]
)
async def nothing_behind_rejection(bench: Bench) -> None:
    """A valid Request to a target whose program refuses.

    Accepts: behind the Reply no octet; TCP open (RFC 5044 §7.1.2) or ended (§7.1.4.2 and many programs).
    """
    line = await bench.line(session={"reject": 1})
    await line.request()
    await line.expect(reply(rejected=True))
    await line.expect(one_of(silence(), ended()), line.quiet)


@case("MPA-5044-7.1.2-14", "an Initiator that is refused sends nothing more", directions=LISTEN)
async def silent_when_rejected(bench: Bench) -> None:
    """A Reply with R=1.

    Accepts: no octet behind it: TCP open and silent, or ended.
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

    Accepts: the end of the stream, at once or behind a Terminate.
    """
    line, asked = await bench.asked(session=IMPATIENT)
    await line.send(REPLY_KEY + b"\x40\x01\x00")
    await bench.full_operation(line, asked, asked).expect_torn_down()
