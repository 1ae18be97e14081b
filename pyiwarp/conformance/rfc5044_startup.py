"""MPA startup: what a Request and a Reply may hold, and what follows when they do not (RFC 5044 §7.1)."""

from __future__ import annotations

from pyiwarp.conformance.case import Direction, Level, case
from pyiwarp.conformance.patterns import Failed, ended, reply, request
from pyiwarp.conformance.testbench import Bench
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)


@case("MPA-5044-7.1.1-03", "a Reply begins with the Reply Key", directions=CONNECT, also=("MPA-5044-7.1.2-08",))
async def reply_key(bench: Bench) -> None:
    """A valid Request of revision 1.

    Accepts: a Reply that accepts.
    """
    line = await bench.line()
    await line.request()
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.1-01", "a Request begins with the Request Key", directions=LISTEN, also=("MPA-5044-7.1.2-01",))
async def request_key(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: an MPA Request, without anything having been sent to the peer.
    """
    line = await bench.line()
    await line.expect(request())


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


@case("MPA-5044-7.1.1-04", "a Reply with any octet of its Key changed is refused", directions=LISTEN)
async def reply_key_changed(bench: Bench) -> None:
    """Four Replies on connections of their own, each with another octet of the Key changed.

    Accepts: the end of the stream, with a Terminate of MPA's before or nothing.
    """
    for position in (0, 4, 9, 15):
        key = bytearray(REPLY_KEY)
        key[position] ^= 0x20
        line = await bench.line()
        await line.expect(request())
        await line.reply(key=bytes(key))
        await line.expect(ended())


@case("MPA-5044-7.1.2-03", "a Responder is silent until it has a Request", directions=CONNECT)
async def silent_without_request(bench: Bench) -> None:
    """Nothing, for the time of silence; then a valid Request.

    Accepts: silence, and then a Reply.
    """
    line = await bench.line()
    await line.expect_quiet()
    await line.request()
    await line.expect(reply())


@case("MPA-5044-7.1.2-09", "the program's Private Data goes out in the Reply", directions=CONNECT, level=Level.TARGET)
async def private_data_in_reply(bench: Bench) -> None:
    """A valid Request to a target whose program has 16 octets of Private Data to say.

    Accepts: a Reply with exactly these octets.
    """
    data = bytes(range(16))
    line = await bench.line(session={"data": data})
    await line.request()
    seen = await line.expect_frame(reply(rejected=False))
    if seen.program_data != data:
        raise Failed(f"Private Data {data.hex()}", f"Private Data {seen.program_data.hex() or 'of no octets'}")
