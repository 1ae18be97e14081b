"""Enhanced startup: S, the enhanced word, and which revision answers which (RFC 6581 §6, §9, §10)."""

from __future__ import annotations

from typing import Any

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.observed import Frame
from pyiwarp.conformance.bench.patterns import Failed, ended, reply, request
from pyiwarp.conformance.bench.startup_line import build_word
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

CONNECT, LISTEN = (Direction.CONNECT,), (Direction.LISTEN,)
ENHANCED = (Need.ENHANCED,)
RTRS = ("rtr_send", "rtr_write", "rtr_read")


async def _probe_responder(bench: Bench, private_data: bytes = b"", **word: Any) -> Frame:
    """The Reply to an enhanced Request with this word."""
    line = await bench.line()
    await line.request(build_word(**word) + private_data, revision=2, enhanced=True)
    return await line.expect_frame(reply(enhanced=True, revision=2))


def _check(frame: Frame, what: str, right: bool) -> None:
    if not right:
        raise Failed(what, f"{frame}, the word {frame.octets[20:24].hex() or 'none'}", frame.annotated())


# --- which revision, and which format --------------------------------------------------------------------------------


@case("MPA2-6581-10-01", "an enhanced Request gets an enhanced Reply", directions=CONNECT, needs=ENHANCED)
async def enhanced_reply(bench: Bench) -> None:
    """A Request of revision 2 with S=1.

    Accepts: a Reply of revision 2 with S=1 and at least four octets of Private Data.
    """
    frame = await _probe_responder(bench)
    _check(frame, "an enhanced word", frame.word is not None)


@case("MPA2-6581-10-02", "an unenhanced Request gets an unenhanced Reply", directions=CONNECT)
async def unenhanced_reply(bench: Bench) -> None:
    """A Request of revision 1.

    Accepts: a Reply of revision 1 with S=0.
    """
    line = await bench.line()
    await line.request()
    await line.expect(reply(revision=1, enhanced=False))


@case("MPA2-6581-10-04", "unenhanced connections work as before", directions=CONNECT)
async def unenhanced_connection(bench: Bench) -> None:
    """A Request of revision 1, an empty Write and a Read of zero octets.

    Accepts: a Reply of revision 1, and an answer to the Read.
    """
    stream = await bench.open()
    await stream.probe()


@case("MPA2-6581-10-05", "S=0 is answered with S=0 in revision 2 too", directions=CONNECT, needs=ENHANCED)
async def revision_2_without_s(bench: Bench) -> None:
    """A Request of revision 2 with S=0 and no Private Data.

    Accepts: a Reply with S=0 (its revision is not specified).
    """
    line = await bench.line()
    await line.request(revision=2)
    await line.expect(reply(rejected=False, enhanced=False))


@case("MPA2-6581-10-05/2", "a stream of revision 2 without S works", directions=CONNECT, needs=ENHANCED)
async def stream_without_s(bench: Bench) -> None:
    """A Request of revision 2 with S=0, an empty Write and a Read of zero octets.

    Accepts: an answer to the Read.
    """
    stream = await bench.open(revision=2)
    await stream.probe()


@case("MPA2-6581-6-06", "a Responder of revision 2 still accepts revision 1", directions=CONNECT, needs=ENHANCED)
async def revision_1_still(bench: Bench) -> None:
    """An enhanced Request, and on another connection one of revision 1.

    Accepts: an enhanced Reply, then one of revision 1 with S=0, R=0.
    """
    await _probe_responder(bench)
    line = await bench.line()
    await line.request()
    await line.expect(reply(revision=1, enhanced=False, rejected=False))


@case("MPA2-6581-6-04", "S in revision 1 is a reserved bit", directions=CONNECT)
async def s_in_revision_1(bench: Bench) -> None:
    """A Request of revision 1 with bit 0x10 set and eight octets of Private Data.

    Accepts: a Reply of revision 1 with that bit clear.
    """
    line = await bench.line()
    await line.request(b"all mine", enhanced=True)
    await line.expect(reply(revision=1, rejected=False, enhanced=False))


@case("MPA2-6581-6-05", "an Initiator may use revision 1, without S", directions=LISTEN)
async def request_formats(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request of revision 1 with S=0, or of revision 2 with S=0 or with an enhanced word.
    """
    line = await bench.line()
    seen = await line.expect_frame(request(revision=lambda revision: revision in (1, 2)))
    s_bit = bool(seen.header.flags.enhanced)
    lawful = not s_bit if seen.header.revision == 1 else (not s_bit or len(seen.private_data) >= 4)
    _check(seen, "S only in revision 2, with an enhanced word", lawful)


@case("MPA2-6581-6-01", "S says that there is an enhanced word", directions=LISTEN, needs=ENHANCED)
async def s_and_word(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: a Request of revision 2 with S=1 and at least four octets of Private Data.
    """
    line = await bench.line()
    seen = await line.expect_frame(request(revision=2, enhanced=True))
    _check(seen, "an enhanced word", seen.word is not None)


@case("MPA2-6581-6-02", "four reserved bits are zero in an enhanced Reply", directions=CONNECT, needs=ENHANCED)
async def rsvd_in_reply(bench: Bench) -> None:
    """An enhanced Request with all four reserved bits set.

    Accepts: an enhanced Reply whose reserved bits are zero.
    """
    line = await bench.line()
    await line.request(build_word(), revision=2, enhanced=True, rsvd=0xF)
    await line.expect(reply(enhanced=True, rsvd=0))


@case("MPA2-6581-6-02/2", "four reserved bits are zero in an enhanced Request", directions=LISTEN, needs=ENHANCED)
async def rsvd_in_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection and waits.

    Accepts: an enhanced Request whose reserved bits are zero.
    """
    line = await bench.line()
    await line.expect(request(enhanced=True, rsvd=0))


@case("MPA2-6581-6-03", "reserved bits of an enhanced Request are ignored", directions=CONNECT, needs=ENHANCED)
async def each_rsvd(bench: Bench) -> None:
    """Four enhanced Requests, each with another reserved bit set.

    Accepts: an enhanced Reply that accepts, each time.
    """
    for bit in (1, 2, 4, 8):
        line = await bench.line()
        await line.request(build_word(), revision=2, enhanced=True, rsvd=bit)
        await line.expect(reply(enhanced=True, rejected=False))


@case("MPA2-6581-6-07", "PD_Length counts the enhanced word", directions=CONNECT, level=Level.TARGET, needs=ENHANCED)
async def length_counts_the_word(bench: Bench) -> None:
    """An enhanced Request to a target whose program has ten octets to say.

    Accepts: a Reply with PD_Length 14, the program's octets after the word.
    """
    data = bytes(range(10))
    line = await bench.line(session={"data": data})
    await line.request(build_word(), revision=2, enhanced=True)
    seen = await line.expect_frame(reply(enhanced=True, program_data=data))
    _check(seen, "PD_Length 14", len(seen.private_data) == 14)


@case(
    "MPA2-6581-6-07/2", "PD_Length of a Request counts the word", directions=LISTEN, level=Level.TARGET, needs=ENHANCED
)
async def request_counts_the_word(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target whose program has ten octets to say.

    Accepts: an enhanced Request with PD_Length 14, the program's octets after the word.
    """
    data = bytes(range(10))
    _, asked = await bench.asked(session={"data": data})
    _check(asked, "S=1, PD_Length 14 and the ten octets", asked.enhanced and asked.program_data == data)


@case(
    "MPA2-6581-6-07/3",
    "the program is not given the enhanced word",
    directions=CONNECT,
    level=Level.TARGET,
    needs=ENHANCED,
)
async def program_is_not_given_the_word(bench: Bench) -> None:
    """An enhanced Request with six octets of Private Data after the word.

    Accepts: the target reports these six octets.
    """
    stream = await bench.open(b"sixsix", revision=2, word={})
    await stream.probe()
    came = (await bench.target.state()).private_data
    if came != b"sixsix":
        raise Failed(f"private={b'sixsix'.hex()}", f"private={came.hex()}")


@case("MPA2-6581-6-08", "S without an enhanced word is malformed", directions=CONNECT, needs=ENHANCED)
async def s_without_word(bench: Bench) -> None:
    """Four Requests of revision 2 with S=1 and 0, 1, 2 and 3 octets of Private Data.

    Accepts: the end of the TCP connection, or a Reply with R=1.
    """
    for length in range(4):
        line = await bench.line()
        await line.request(bytes(length), revision=2, enhanced=True)
        await line.expect(ended() | reply(rejected=True))


@case("MPA2-6581-6-08/2", "a Reply with S and no enhanced word is malformed", directions=LISTEN, needs=ENHANCED)
async def reply_without_word(bench: Bench) -> None:
    """A Reply of revision 2 with S=1 and two octets of Private Data.

    Accepts: the end of the stream, at once or after a Terminate.
    """
    line = await bench.line()
    asked = await line.expect_frame(request(enhanced=True))
    answered = Frame(await line.reply(b"\x80\x04", revision=2, enhanced=True))
    await bench.full_operation(line, asked, answered).expect_torn_down()


@case("MPA2-6581-9-02", "508 octets fit after the enhanced word", directions=CONNECT, needs=ENHANCED)
async def longest_private_data(bench: Bench) -> None:
    """An enhanced Request with 508 octets of Private Data after the word.

    Accepts: an enhanced Reply that accepts.
    """
    frame = await _probe_responder(bench, bytes(508))
    _check(frame, "R=0", not frame.header.flags.rejected)


@case(
    "MPA2-6581-10-03",
    "without anything to negotiate a Request has no enhanced word",
    directions=LISTEN,
    level=Level.TARGET,
    needs=[Need.REVISION],
)
async def plain_request(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was told revision 1.

    Accepts: a Request of revision 1 with S=0.
    """
    _, asked = await bench.asked(session={"revision": 1})
    _check(asked, "Rev=1 S=0", asked.header.revision == 1 and not asked.header.flags.enhanced)


@case(
    "MPA2-6581-10-06",
    "who knows revision 1 alone refuses revision 2",
    directions=CONNECT,
    level=Level.TARGET,
    needs=[Need.REVISION],
)
async def revision_1_alone(bench: Bench) -> None:
    """An enhanced Request to a target that was told revision 1.

    Accepts: the end of the TCP connection, with no octet before.
    """
    line = await bench.line(session={"revision": 1})
    await line.request(build_word(), revision=2, enhanced=True)
    await line.expect(ended())


@case(
    "MPA2-6581-9-01",
    "the enhanced word is A, B, IRD, C, D, ORD",
    directions=LISTEN,
    level=Level.TARGET,
    needs=[Need.ENHANCED, Need.DEPTHS],
)
async def layout(bench: Bench) -> None:
    """Nothing: the bench accepts the connection of a target that was told IRD 1 and ORD 2.

    Accepts: a word whose 14 bits of IRD say 1 and whose 14 bits of ORD say 2.
    """
    _, asked = await bench.asked(session={"ird": 1, "ord": 2})
    octets = asked.private_data[:4]
    lawful = len(octets) == 4 and int.from_bytes(octets, "big") & 0x3FFF_3FFF == 0x0001_0002
    _check(asked, "IRD=1 and ORD=2 in the word", lawful)


@case("MPA2-6581-12-01", "extreme words lead to a sane Reply", directions=CONNECT, needs=ENHANCED)
async def extreme_words(bench: Bench) -> None:
    """Enhanced Requests with IRD and ORD 0x3FFE and with every combination of A, B, C and D.

    Accepts: an enhanced Reply each time.
    """
    for bits in range(16):
        rtrs: dict[str, Any] = {name: bool(bits & 2 << i) for i, name in enumerate(RTRS)}
        await _probe_responder(bench, peer_to_peer=bool(bits & 1), **rtrs, ird=0x3FFE, ord=0x3FFE)
