"""Private Data of startup frames: lengths that match, and lengths that do not (RFC 5044 §7.1.1, §7.1.2)."""

from __future__ import annotations

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.patterns import Failed, ended, reply
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)
LONGEST = 512


def _octets(length: int) -> bytes:
    return bytes((i * 5 + 1) & 0xFF for i in range(length))


@case("MPA-5044-7.1.2-09", "the program's Private Data goes out in the Reply", directions=CONNECT, level=Level.TARGET)
async def in_reply(bench: Bench) -> None:
    """A valid Request to a target whose program has 16 octets of Private Data to say.

    Accepts: a Reply with exactly these octets.
    """
    line = await bench.line(session={"data": _octets(16)})
    await line.request()
    await line.expect(reply(rejected=False, program_data=_octets(16)))


@case("MPA-5044-7.1.1-19", "PD_Length counts the octets of the Reply", directions=CONNECT, level=Level.TARGET)
async def lengths_in_reply(bench: Bench) -> None:
    """Requests to targets whose programs have 0, 1, 255 and 256 octets to say.

    Accepts: Replies with exactly these octets.
    """
    for length in (0, 1, 255, 256):
        line = await bench.line(session={"data": _octets(length)})
        await line.request()
        await line.expect(reply(rejected=False, program_data=_octets(length)))


@case("MPA-5044-7.1.2-02", "the program's Private Data goes out in the Request", directions=LISTEN, level=Level.TARGET)
async def in_request(bench: Bench) -> None:
    """Nothing: the bench accepts connections of targets whose programs have 0, 1 and 200 octets to say.

    Accepts: Requests with exactly these octets.
    """
    for length in (0, 1, 200):
        _, asked = await bench.asked(session={"data": _octets(length)})
        if asked.program_data != _octets(length):
            raise Failed(f"{length} octets of Private Data", f"{len(asked.program_data)} octets", asked.annotated())


@case(
    "MPA-5044-7.1.1-23",
    "a program can send 512 octets of Private Data",
    directions=CONNECT,
    level=Level.TARGET,
    needs=[Need.REVISION],
)
async def longest_in_reply(bench: Bench) -> None:
    """A Request of revision 1 to a target whose program has 512 octets to say.

    Accepts: a Reply with exactly these octets.
    """
    line = await bench.line(session={"revision": 1, "data": _octets(LONGEST)})
    await line.request()
    await line.expect(reply(rejected=False, program_data=_octets(LONGEST)))


@case("MPA-5044-7.1.1-22", "the program is given the Request's Private Data", directions=CONNECT, level=Level.TARGET)
async def request_data_is_reported(bench: Bench) -> None:
    """Requests with 0, 1, 3 and 200 octets of Private Data.

    Accepts: the target reports exactly these octets.
    """
    for length in (0, 1, 3, 200):
        stream = await bench.open(_octets(length))
        await stream.probe()
        await _check_reported(bench, _octets(length))


@case("MPA-5044-7.1.1-22/2", "the program is given the Reply's Private Data", directions=LISTEN, level=Level.TARGET)
async def reply_data_is_reported(bench: Bench) -> None:
    """Replies with 0, 1, 3 and 200 octets of Private Data.

    Accepts: the target reports exactly these octets.
    """
    for length in (0, 1, 3, 200):
        line, asked = await bench.asked()
        await bench.answer(line, asked, _octets(length))
        await bench.target.expect_state("connected")
        await _check_reported(bench, _octets(length))


async def _check_reported(bench: Bench, octets: bytes) -> None:
    came = (await bench.target.state()).private_data
    if came != octets:
        raise Failed(f"private={octets.hex()} in the target's report", f"private={came.hex()}")


@case("MPA-5044-7.1.1-21", "PD_Length 512 is accepted", directions=CONNECT)
async def longest_request(bench: Bench) -> None:
    """A Request with 512 octets of Private Data.

    Accepts: a Reply that accepts.
    """
    line = await bench.line()
    await line.request(_octets(LONGEST))
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.1-21/2", "PD_Length 513 is refused, whatever follows", directions=CONNECT)
async def too_long_request(bench: Bench) -> None:
    """A Request with 513 octets of Private Data.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.request(_octets(LONGEST + 1))
    await line.expect(ended())


@case("MPA-5044-7.1.1-21/3", "PD_Length 513 is refused in a Reply", directions=LISTEN)
async def too_long_reply(bench: Bench) -> None:
    """A Reply whose Private Data is 513 octets, an enhanced word included if the peer's Request had one.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    line, asked = await bench.asked()
    length = LONGEST + 1 - (4 if asked.enhanced else 0)
    answered = await bench.answer(line, asked, _octets(length))
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.1-21/4", "PD_Length 512 is accepted in a Reply", directions=LISTEN, level=Level.TARGET)
async def longest_reply(bench: Bench) -> None:
    """A Reply whose Private Data is 512 octets, an enhanced word included if the peer's Request had one.

    Accepts: Full Operation: the target reports the octets.
    """
    line, asked = await bench.asked()
    octets = _octets(LONGEST - (4 if asked.enhanced else 0))
    await bench.answer(line, asked, octets)
    await bench.target.expect_state("connected")
    await _check_reported(bench, octets)


@case("MPA-5044-7.1.2-23", "PD_Length 65535 is refused", directions=CONNECT)
async def longest_length(bench: Bench) -> None:
    """A Request whose PD_Length is 65535, and nothing after it.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.request(private_data_length=0xFFFF)
    await line.expect(ended())


@case("MPA-5044-7.1.2-26", "PD_Length 513 is refused as a wrong Key is", directions=CONNECT)
async def malformed_by_length(bench: Bench) -> None:
    """A Request whose PD_Length is 513, and nothing after it.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.request(private_data_length=LONGEST + 1)
    await line.expect(ended())


@case("MPA-5044-7.1.1-20", "octets after the Request are refused", directions=CONNECT)
async def octets_behind_the_request(bench: Bench) -> None:
    """A Request with PD_Length 0, and four octets after it in the same piece.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.request(b"more", private_data_length=0)
    await line.expect(ended())


@case("MPA-5044-7.1.1-20/2", "a Request that FIN cuts is refused", directions=CONNECT)
async def cut_request(bench: Bench) -> None:
    """A Request with PD_Length 8, four octets of it, and FIN.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line()
    await line.request(b"half", private_data_length=8)
    line.finish()
    await line.expect(ended())


@case("MPA-5044-7.1.1-20/3", "a Reply that FIN cuts is refused", directions=LISTEN)
async def cut_reply(bench: Bench) -> None:
    """A Reply whose PD_Length is eight more than what follows, and FIN.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    line, asked = await bench.asked()
    due = 8 + (4 if asked.enhanced else 0)
    answered = await bench.answer(line, asked, private_data_length=due)
    line.finish()
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA-5044-7.1.2-25", "no octet after PD_Length is Private Data", directions=CONNECT, level=Level.TARGET)
async def no_more_than_the_length(bench: Bench) -> None:
    """A Request with PD_Length 4 and eight octets after it.

    Accepts: the end of the TCP connection; the target reports no Private Data, or four octets.
    """
    line = await bench.line()
    await line.request(b"fourmore", private_data_length=4)
    await line.expect(ended())
    came = (await bench.target.state()).private_data
    if came not in (b"", b"four"):
        raise Failed("private= in the target's report, or the four octets", f"private={came.hex()}")


@case("MPA-5044-7.1.5-03", "a Request comes in pieces of one octet", directions=CONNECT)
async def request_in_pieces(bench: Bench) -> None:
    """A Request with 12 octets of Private Data, octet by octet.

    Accepts: a Reply that accepts.
    """
    line = await bench.line()
    frame = bytes.fromhex("4d504120494420526571204672616d654001000c") + _octets(12)
    await line.send_slowly(frame, len(frame), 0.002)
    await line.expect(reply(rejected=False))


@case("MPA-5044-7.1.5-03/2", "a Reply comes in pieces of one octet", directions=LISTEN, level=Level.TARGET)
async def reply_in_pieces(bench: Bench) -> None:
    """A Reply with 12 octets of Private Data, octet by octet.

    Accepts: Full Operation: the target reports the octets.
    """
    line, asked = await bench.asked()
    octets = bench.build_answer(asked, _octets(12))
    await line.send_slowly(octets, len(octets), 0.002)
    await bench.target.expect_state("connected")
    await _check_reported(bench, _octets(12))


@case("MPA-5044-7.1-03", "MPA begins with the first octet of the connection", directions=CONNECT)
async def first_octets(bench: Bench) -> None:
    """A Request as the first octets of the connection.

    Accepts: a Reply that accepts, and an answer to a Read of zero octets.
    """
    stream = await bench.open()
    await stream.probe()


@case("MPA-5044-7.1-05", "a Reply is 20 octets and its Private Data, whatever M and C are", directions=CONNECT)
async def plain_reply(bench: Bench) -> None:
    """A Request with M=1 and C=1.

    Accepts: a Reply, and no octet after it.
    """
    stream = await bench.open(markers=True, speak_first=False)
    await stream.expect_quiet()


@case("MPA-5044-7.1-05/2", "a Request is 20 octets and its Private Data", directions=LISTEN)
async def plain_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request, and no octet after it.
    """
    line, _ = await bench.asked()
    await line.expect_quiet()
