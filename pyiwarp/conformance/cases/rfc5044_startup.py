"""MPA startup: Keys, revisions, reserved bits, and what follows when they are wrong (RFC 5044 §7.1.1, §7.1.2)."""

from __future__ import annotations

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.observed import Frame
from pyiwarp.conformance.bench.patterns import Failed, ended, in_words, reply, request
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
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

    Accepts: a Request of revision 1 or 2 with R clear, Private Data of at most 512 octets, and nothing after it.
    """
    line = await bench.line()
    await line.expect(request(rejected=False, revision=lambda revision: revision in (1, 2)))
    await line.expect_quiet()


@case("MPA-5044-7.1.1-02", "a Request with any octet of its Key changed is refused", directions=CONNECT)
async def request_key_changed(bench: Bench) -> None:
    """Sixteen Requests on separate connections, each with another octet of the Key changed.

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
    """Four Replies on separate connections, each with another octet of the Key changed.

    Accepts: the end of the stream, at once or after Terminate 2/0/04 (RFC 6581 §8 has setup errors make one).
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

    Accepts: the end of the stream, at once or after a Terminate.
    """
    line, asked = await bench.asked()
    await line.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    await bench.full_operation(line, asked, asked).expect_torn_down()


@case("MPA-5044-7.1.2-21", "a Request for a Request is refused: two Initiators", directions=LISTEN)
async def two_initiators(bench: Bench) -> None:
    """The peer's own Request, sent back.

    Accepts: the end of the stream, at once or after a Terminate.
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


async def _reply_is_refused(bench: Bench, revision: int) -> None:
    line, asked = await bench.asked()
    answered = await bench.answer(line, asked, revision=revision)
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.1-17/3", "a Reply of revision 7 is refused", directions=LISTEN)
async def reply_of_revision_7(bench: Bench) -> None:
    """A Reply of revision 7.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    await _reply_is_refused(bench, 7)


@case("MPA-5044-7.1.1-17/4", "a Reply of revision 0 is refused", directions=LISTEN)
async def reply_of_revision_0(bench: Bench) -> None:
    """A Reply of revision 0.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    await _reply_is_refused(bench, 0)


@case("MPA-5044-C.2.1-01", "a Request of revision 0 does not lead to Full Operation", directions=CONNECT)
async def revision_0(bench: Bench) -> None:
    """A Request of revision 0, as the RDMA Consortium's MPA sent it.

    Accepts: the end of the TCP connection, at once or after a Reply of revision 1.
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
            raise Failed(f"revision={revision} in the target's report", f"revision={in_words(seen)}")


# --- flags that are ignored when received, or sent as zero -----------------------------------------------------------


@case("MPA-5044-7.1.1-11", "R is clear in a Request", directions=LISTEN)
async def r_clear_in_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request with R=0.
    """
    line = await bench.line()
    await line.expect(request(rejected=False))


@case("MPA-5044-7.1.1-12", "R in a Request is ignored", directions=CONNECT)
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


@case("MPA-5044-7.1.1-15", "reserved bits of a Request are ignored", directions=CONNECT)
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
    "reserved bits of a Reply are ignored",
    directions=LISTEN,
    level=Level.RPING,
    needs=[Need.REGION],
)
async def each_rsvd_in_reply(bench: Bench) -> None:
    """Four Replies on separate connections, each with another reserved bit set.

    Accepts: Full Operation: the peer's first FPDU comes, and a Read of zero octets is answered.
    """
    for bit in (1, 2, 4, 8):
        line, asked = await bench.asked()
        stream = bench.full_operation(line, asked, await bench.answer(line, asked, rsvd=bit))
        await bench.send_first(stream)
        await stream.probe()
