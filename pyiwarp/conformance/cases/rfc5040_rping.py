"""rping's exchange, of which every message can be foretold (RFC 5040 §4.4, §5.1 to §5.3; rdma-core's rping).

The client Sends 16 octets that name memory with a text. The server Reads the text and Sends 16 octets. The client names
memory for the answer, the server Writes the text there, up to its NUL, and Sends 16 octets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.control import Region
from pyiwarp.conformance.bench.messages import receive_whole, segment_of
from pyiwarp.conformance.bench.patterns import Failed, expect_octets
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_BOUNDS,
    DDP_TAGGED_NOT_ASSOCIATED,
    DDP_TAGGED_STAG,
    DDP_TAGGED_WRAP,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_TOO_LONG,
)
from pyiwarp.conformance.bench.testbench import ADVERTISEMENT, OFFER_REGION, Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.rfc5040_requester import Request, parse
from pyiwarp.errors import Term

__all__: list[str] = []

RPING: Final = Level.RPING
SERVER: Final = (Direction.CONNECT,)
CLIENT: Final = (Direction.LISTEN,)
READER: Final = [Need.READER]
SIZE: Final = 64  # octets of text: what rping has unless its user wants more
TEXT: Final = b"rdma-ping-0: " + bytes(range(65, 65 + SIZE - 14)) + b"\0"
SHORT_TEXT: Final = TEXT[:48] + b"\0" + bytes(SIZE - 49)  # of its octets 49 are Written: that FPDU has a pad
ECHO: Final = Region(0x4543484F, 0x2_0000_0010, SIZE)
SEND_SIZE: Final = 60_000  # octets of one segment of a Send that no receive of rping's can take
FAR: Final = 1 << 40


def only_rping(bench: Bench) -> bool:
    """Whether the peer acts by itself; a target program does nothing unless it is told."""
    return not bench.has_target


async def go_ahead(stream: Stream) -> None:
    """The peer's next message is a Send of 16 octets."""
    whole = await receive_whole(stream)
    whole.fields(opcode=Opcode.SEND)
    if len(whole.payload) != ADVERTISEMENT:
        raise Failed(f"a Send of {ADVERTISEMENT} octets", f"one of {len(whole.payload)}", whole.parts[-1].annotated())


async def ping(bench: Bench, stream: Stream, text: bytes) -> None:
    """One round with an rping server: it Reads the text, and Writes it back up to its NUL."""
    asked = parse(await bench.provoke_read(stream, SIZE))
    await stream.respond(asked.sink_stag, asked.sink_to, text)
    await go_ahead(stream)
    await bench.show(stream, ECHO)
    whole = await receive_whole(stream)
    whole.fields(opcode=Opcode.WRITE, stag=ECHO.stag)
    whole.contiguous(ECHO.to)
    whole.carries(text[: text.index(0) + 1])
    await go_ahead(stream)


# --- the server ------------------------------------------------------------------------------------------------------


@case(
    "DDP-5041-5.2-04/4",
    "what an rping server Writes is what it has Read",
    level=RPING,
    directions=SERVER,
    needs=READER,
    also=("DDP-5041-4.2-06", "RDMAP-5040-5.1-01"),
)
async def echoed(bench: Bench) -> None:
    """A text of 64 octets is shown, its Read answered, and 64 octets of other memory are shown.

    Accepts: a Send of 16 octets after the Response; then a Write of the text to the other memory, from its beginning,
    and a Send of 16 octets. A target program is told to Write by itself.
    """
    stream = await bench.open()
    if not only_rping(bench):
        await bench.target.post("write", len=SIZE, stag=ECHO.stag, to=ECHO.to, seed=3)
        whole = await receive_whole(stream, Opcode.WRITE, stag=ECHO.stag)
        whole.carries(bytes((i * 7 + 3) & 0xFF for i in range(SIZE)))
        return
    await ping(bench, stream, TEXT)


@case(
    "RDMAP-5040-5.2.1-10",
    "an rping server Reads the memory that it was shown",
    level=RPING,
    directions=SERVER,
    needs=READER,
)
async def reads_what_is_shown(bench: Bench) -> None:
    """Memory of 64 octets is shown.

    Accepts: a Read Request for this STag, from its beginning, of 64 octets.
    """
    stream = await bench.open()
    seen = await bench.provoke_read(stream, SIZE)
    asked, region = parse(seen), OFFER_REGION
    if asked[2:] != (SIZE, region.stag, region.to):
        raise Failed(
            f"a Read of {SIZE} octets at STag {region.stag:#x}, TO {region.to:#x}", f"{asked}", seen.annotated()
        )


@case("DDP-5041-4.3-07/2", "the second Read Request has MSN 2", level=RPING, directions=SERVER, needs=READER)
async def second_ping(bench: Bench) -> None:
    """Two texts are shown one after the other, as by a client that pings twice; the second has only 49 octets.

    Accepts: the whole exchange twice, with MSNs that grow by one on each queue. A target program is told to Read twice.
    """
    stream = await bench.open()
    if only_rping(bench):
        for text in (TEXT, SHORT_TEXT):
            await ping(bench, stream, text)
        return
    for msn in (1, 2):
        seen = await bench.provoke_read(stream, SIZE)
        if (came := segment_of(seen).msn) != msn:
            raise Failed(f"MSN {msn}", f"MSN {came}", seen.annotated())
        asked = parse(seen)
        await stream.respond(asked.sink_stag, asked.sink_to, TEXT)
        await bench.target.expect_completions(1)


Wrong = Callable[[Request], tuple[int, int]]


def _wrong_response(id: str, title: str, sends: str, wrong: Wrong, *terms: Term) -> None:
    """The server Reads the text, and gets a Response to another place."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        stag, to = wrong(parse(await bench.provoke_read(stream, SIZE)))
        await stream.respond(stag, to, TEXT)
        await stream.expect_terminated(*terms)

    named = " or ".join(map(str, terms))
    run.__doc__ = f"A text is shown; to the server's Read, {sends}.\n\nAccepts: Terminate {named}."
    case(id, title, level=RPING, directions=SERVER, needs=READER, also=("RDMAP-5040-7.2-01",))(run)


_wrong_response(
    "RDMAP-5040-5.2.2-05/7",
    "an rping server refuses a Response to another STag",
    "the Response names an STag that nobody knows",
    lambda asked: (asked.sink_stag ^ 0x5A5A_5A5A, asked.sink_to),
    DDP_TAGGED_STAG,
    DDP_TAGGED_NOT_ASSOCIATED,
)
_wrong_response(
    "RDMAP-5040-5.2.2-05/8",
    "an rping server refuses a Response far from its sink",
    "the Response has the right STag and begins 2^40 octets behind the sink",
    lambda asked: (asked.sink_stag, (asked.sink_to + FAR) & ((1 << 64) - 1)),
    DDP_TAGGED_BOUNDS,
    DDP_TAGGED_WRAP,
)


# --- the client ------------------------------------------------------------------------------------------------------


@case(
    "RDMAP-5040-4.4-06/2", "a Read may begin anywhere in the text", level=RPING, directions=CLIENT, needs=[Need.REGION]
)
async def pieces(bench: Bench) -> None:
    """The whole text is Read, then its octets 5 to 20 and its last octet.

    Accepts: the same octets; those of an rping client begin as its texts do.
    """
    stream = await bench.open()
    region = bench.rw
    text = await stream.expect_read(region.stag, region.to, region.length)
    for begin, end in ((5, 21), (region.length - 1, region.length)):
        part = await stream.expect_read(region.stag, region.to + begin, end - begin)
        expect_octets(f"octets {begin} to {end - 1} of the text", part, text[begin:end])
    if only_rping(bench):
        expect_octets("the text of a ping", text[:10], b"rdma-ping-")


@case("DDP-5041-4.3-07/3", "the second Send has MSN 2", level=RPING, directions=CLIENT, needs=[Need.REGION])
async def second_advertisement(bench: Bench) -> None:
    """The text is Read, and 16 octets are Sent.

    Accepts: a Send of 16 octets from the client with MSN 2. A target program is told to Send twice.
    """
    stream = await bench.open()
    if not only_rping(bench):
        for msn in (1, 2):
            await bench.target.post("send", len=ADVERTISEMENT)
            (await receive_whole(stream, Opcode.SEND)).fields(msn=msn)
        return
    text = await stream.expect_read(bench.rw.stag, bench.rw.to, bench.rw.length)
    await stream.send(bytes(ADVERTISEMENT))
    whole = await receive_whole(stream, Opcode.SEND)
    whole.fields(msn=2)
    if len(whole.payload) != ADVERTISEMENT:
        raise Failed(f"a Send of {ADVERTISEMENT} octets", f"one of {len(whole.payload)}", whole.parts[-1].annotated())
    to, stag = int.from_bytes(whole.payload[:8], "big"), int.from_bytes(whole.payload[8:12], "big")
    await stream.write(stag, to, text)
    came = await stream.expect_read(stag, to, len(text))
    expect_octets("the text that was written", came, text)


# --- both ------------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.3-04/2", "a Send that no receive can take is refused", level=RPING, also=("RDMAP-5040-3.2-04",))
async def far_too_long(bench: Bench) -> None:
    """A Send of 120,000 octets in two segments; rping's receives have 16 octets.

    Accepts: Terminate 1/2/05 or 1/2/02.
    """
    stream = await bench.open(session={"receives": "64"} if bench.has_target else None)
    await stream.send(bytes(SEND_SIZE), last=False)
    await stream.send(bytes(SEND_SIZE), mo=SEND_SIZE)
    await stream.expect_terminated(DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER)
