"""The peer as the one that Reads: its Requests, ORD, and the Responses that it is given (RFC 5040 §4.4, §5.2, §6.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Value
from pyiwarp.conformance.bench.messages import receive_whole, segment_of
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, ended, in_words, message, terminate
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_BOUNDS,
    DDP_TAGGED_NOT_ASSOCIATED,
    DDP_TAGGED_STAG,
    DDP_TAGGED_WRAP,
)
from pyiwarp.conformance.bench.testbench import OFFER_REGION, Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_flushed, expect_nothing_delivered
from pyiwarp.errors import Term
from pyiwarp.wire import ReadRequestHeader

__all__: list[str] = []

TARGET: Final = Level.TARGET
RESPONSE: Final = Opcode.READ_RESPONSE
NOWHERE: Final = 0x0BADC0DE
WRONG_SINK: Final = (DDP_TAGGED_STAG, DDP_TAGGED_NOT_ASSOCIATED)
OUTSIDE: Final = (DDP_TAGGED_BOUNDS, DDP_TAGGED_WRAP)


class Request(NamedTuple):
    """What a Read Request of the peer's asks for."""

    sink_stag: int
    sink_to: int
    read_size: int
    source_stag: int
    source_to: int

    def __str__(self) -> str:
        return ", ".join(f"{name}={value:#x}" for name, value in self._asdict().items())


def parse(seen: Message) -> Request:
    """The 28 octets of a Read Request; `Failed` if there are fewer or more."""
    payload = segment_of(seen).payload
    if len(payload) != ReadRequestHeader.sizeof():
        raise Failed("28 octets of Read Request", f"{len(payload)}", seen.annotated())
    fields = ReadRequestHeader.parse(payload)
    return Request(*(fields[name] for name in Request._fields))


async def ask(bench: Bench, stream: Stream, size: int, **keys: Value) -> Request:
    """Have the target Read `size` octets of the bench; returns what it asks for."""
    region = OFFER_REGION
    await bench.target.post("read", len=size, stag=region.stag, to=region.to, **keys)
    return parse(await stream.expect_message(message(Opcode.READ_REQUEST)))


async def expect_placed(bench: Bench, octets: bytes, wr: int = 0) -> None:
    """The Read completes, and its octets are where the target wanted them."""
    (work,) = await bench.target.expect_completions(1)
    if (work.opcode, work.wr_id) != ("read", wr):
        raise Failed(f"completion of Read {wr}", str(work))
    await bench.target.expect_memory("scratch", 0, octets)


# --- Requests --------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-4.4-01", "a Read Request has the header of figure 6", level=TARGET, also=("RDMAP-5040-5.2.1-10",))
async def header(bench: Bench) -> None:
    """The target Reads 77 octets from STag 0x11223344, TO 0x5566778899aabbcc.

    Accepts: 28 octets with this size, source STag and source TO.
    """
    stream = await bench.open()
    await bench.target.post("read", len=77, stag=0x11223344, to=0x5566778899AABBCC)
    asked = parse(await stream.expect_message(message(Opcode.READ_REQUEST)))
    if asked[2:] != (77, 0x11223344, 0x5566778899AABBCC):
        raise Failed("size 77, STag 0x11223344, TO 0x5566778899aabbcc", in_words(asked))


@case("RDMAP-5040-5.2.1-01", "a Read Request is one untagged segment", level=Level.RPING, needs=[Need.READER])
async def untagged(bench: Bench) -> None:
    """The peer is brought to Read.

    Accepts: a Read Request in one untagged segment with L and MO 0.
    """
    stream = await bench.open()
    seen = await bench.provoke_read(stream)
    segment = segment_of(seen)
    if (segment.tagged, segment.last, segment.mo) != (False, True, 0):
        raise Failed("an untagged last segment at MO 0", str(segment), seen.annotated())


@case("RDMAP-5040-5.2.1-06/3", "a Read Request is on queue 1", level=Level.RPING, needs=[Need.READER])
async def queue(bench: Bench) -> None:
    """The peer is brought to Read.

    Accepts: a Read Request on queue 1 with MSN 1.
    """
    stream = await bench.open()
    seen = await bench.provoke_read(stream)
    segment = segment_of(seen)
    if (segment.qn, segment.msn) != (1, 1):
        raise Failed("queue 1, MSN 1", f"queue {segment.qn}, MSN {segment.msn}", seen.annotated())


@case("RDMAP-5040-4.2-01", "a Read Request is its two headers", level=Level.RPING, needs=[Need.READER])
async def headers_alone(bench: Bench) -> None:
    """The peer is brought to Read.

    Accepts: a ULPDU of 46 octets.
    """
    stream = await bench.open()
    seen = await bench.provoke_read(stream)
    if len(seen.fpdu.ulpdu) != 46:
        raise Failed("a ULPDU of 46 octets", f"one of {len(seen.fpdu.ulpdu)}", seen.annotated())


@case("RDMAP-5040-5.2.1-07", "Read Requests leave in their order", level=TARGET, also=("RDMAP-5040-5.2.1-09",))
async def posted_order(bench: Bench) -> None:
    """The target posts Reads of 1, 2, 3 and 4 octets from STags 1, 2, 3 and 4.

    Accepts: Requests in this order with MSNs 1 to 4, each for one source.
    """
    stream = await bench.open()
    for number in range(1, 5):
        await bench.target.post("read", len=number, stag=number, to=number)
    for number in range(1, 5):
        seen = await stream.expect_message(message(Opcode.READ_REQUEST, msn=number))
        if (asked := parse(seen))[2:] != (number, number, number):
            raise Failed(f"the Request of Read {number}", in_words(asked), seen.annotated())


@case("RDMAP-5040-5.2.1-13/2", "a Read of zero octets requests no data", level=TARGET)
async def nothing(bench: Bench) -> None:
    """The target Reads no octets; an empty Response follows.

    Accepts: a Request of size 0; the Read completes.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, 0, wr=5)
    if asked.read_size:
        raise Failed("size 0", f"{asked.read_size}")
    await stream.respond(asked.sink_stag, asked.sink_to)
    await expect_placed(bench, b"", 5)


# --- Responses that are right ----------------------------------------------------------------------------------------


@case("RDMAP-5040-5.2.2-04", "a Read completes when its Response has come", level=TARGET, also=("RDMAP-5040-5.5-19",))
async def completes(bench: Bench) -> None:
    """The target Reads 16 octets, and is given them.

    Accepts: a completion without anything following, and the octets in its memory.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, 16, wr=9)
    await stream.respond(asked.sink_stag, asked.sink_to, b"sixteen octets !")
    await expect_placed(bench, b"sixteen octets !", 9)


@case("RDMAP-5040-5.5-16", "a Read does not complete before its last segment", level=TARGET, also=("DDP-5041-4.1-08",))
async def last_withheld(bench: Bench) -> None:
    """The target Reads 16 octets; of the Response the first eight come, and after a while the others.

    Accepts: no completion before the last segment, one after it.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, 16)
    await stream.respond(asked.sink_stag, asked.sink_to, b"eight oc", last=False)
    await expect_nothing_delivered(bench)
    await stream.respond(asked.sink_stag, asked.sink_to + 8, b"tets and")
    await expect_placed(bench, b"eight octets and")


@case("RDMAP-5040-5.2.2-04/2", "a Response may come in many segments", level=TARGET)
async def many_segments(bench: Bench) -> None:
    """The target Reads 1,000 octets, and is given them in segments of 37.

    Accepts: a completion, and the 1,000 octets in its memory.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, 1000)
    octets = bytes(i * 11 & 0xFF for i in range(1000))
    for at in range(0, 1000, 37):
        await stream.respond(asked.sink_stag, asked.sink_to + at, octets[at : at + 37], last=at + 37 >= 1000)
    await expect_placed(bench, octets)


@case("RDMAP-5040-5.5-06", "Reads complete in the order of their Requests", level=TARGET)
async def two_reads(bench: Bench) -> None:
    """The target posts two Reads; both are answered, in order.

    Accepts: two completions in order.
    """
    stream = await bench.open()
    first = await ask(bench, stream, 8, wr=1)
    second = await ask(bench, stream, 8, wr=2, dest_off=8)
    await stream.respond(first.sink_stag, first.sink_to, b"firstly ")
    await stream.respond(second.sink_stag, second.sink_to, b"secondly")
    works = await bench.target.expect_completions(2)
    if (came := [work.wr_id for work in works]) != [1, 2]:
        raise Failed("completions 1, 2", in_words(came))
    await bench.target.expect_memory("scratch", 0, b"firstly secondly")


@case("RDMAP-5040-5.5-12", "work requests complete in the order in which they were posted", level=TARGET)
async def completion_order(bench: Bench) -> None:
    """The target posts a Read, a Write and a Send; the Response is withheld for a while.

    Accepts: no completion before the Response, then three in order.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, 8, wr=1)
    await bench.target.post("write", wr=2, len=8, stag=NOWHERE, to=0)
    await bench.target.post("send", wr=3, len=8)
    await receive_whole(stream, Opcode.WRITE)
    await receive_whole(stream, Opcode.SEND)
    await expect_nothing_delivered(bench)
    await stream.respond(asked.sink_stag, asked.sink_to, b"response")
    works = await bench.target.expect_completions(3)
    if (came := [work.wr_id for work in works]) != [1, 2, 3]:
        raise Failed("completions 1, 2, 3", in_words(came))


@case("RDMAP-5040-5.5-10", "what is posted after a Read leaves after its Request", level=TARGET)
async def submission_order(bench: Bench) -> None:
    """The target posts a Send, a Read, a Write, a Read and a Send.

    Accepts: messages in this order.
    """
    stream = await bench.open()
    await bench.target.post("send", len=1)
    await bench.target.post("read", len=8, stag=1, to=0)
    await bench.target.post("write", len=1, stag=1, to=0)
    await bench.target.post("read", len=8, stag=1, to=0)
    await bench.target.post("send", len=1)
    for opcode in (Opcode.SEND, Opcode.READ_REQUEST, Opcode.WRITE, Opcode.READ_REQUEST, Opcode.SEND):
        await receive_whole(stream, opcode)


# --- ORD -------------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-6.1-05", "no more Reads are outstanding than ORD", level=TARGET, needs=[Need.DEPTHS])
async def ord_kept(bench: Bench) -> None:
    """A target with an ORD of two posts six Reads; after a while the Responses come one by one.

    Accepts: two Requests, then silence, and one more with each Response.
    """
    stream = await bench.open(session={"ord": 2})
    for number in range(6):
        await bench.target.post("read", wr=number, len=4, stag=1, to=0)
    waiting = [parse(await stream.expect_message(message(Opcode.READ_REQUEST))) for _ in range(2)]
    await stream.expect_quiet()
    for number in range(6):
        asked = waiting.pop(0)
        await stream.respond(asked.sink_stag, asked.sink_to, b"done")
        if number < 4:
            waiting.append(parse(await stream.expect_message(message(Opcode.READ_REQUEST))))
            await stream.expect_quiet(stream.line.quiet / 3)
    await bench.target.expect_completions(6)


@case("RDMAP-5040-6.1-05/2", "a Response releases one Read, with its last segment", level=TARGET, needs=[Need.DEPTHS])
async def released_by_last(bench: Bench) -> None:
    """A target with an ORD of one posts two Reads; of the first Response the first half comes, later the second.

    Accepts: one Request; silence until the Response is whole; then the other Request.
    """
    stream = await bench.open(session={"ord": 1})
    asked = await ask(bench, stream, 8)
    await bench.target.post("read", len=8, stag=1, to=0)
    await stream.respond(asked.sink_stag, asked.sink_to, b"half", last=False)
    await stream.expect_quiet()
    await stream.respond(asked.sink_stag, asked.sink_to + 4, b"more")
    await stream.expect_message(message(Opcode.READ_REQUEST, msn=2))


# --- Responses that are wrong ----------------------------------------------------------------------------------------

Wrong = Callable[[Request], tuple[int, int, bytes]]


def _wrong_response(id: str, title: str, sends: str, wrong: Wrong, *terms: Term) -> None:
    """The target Reads 16 octets into the first 16 of its memory, and gets what `wrong` makes of it."""

    async def run(bench: Bench) -> None:
        stream = await bench.open(session={"receives": ""})
        stag, to, payload = wrong(await ask(bench, stream, 16, dest_off=64))
        before = await bench.target.memory("scratch", 0, 256)
        await stream.respond(stag, to, payload)
        await stream.expect_terminated(*terms)
        await expect_flushed(bench, 1)
        after = await bench.target.memory("scratch", 0, 256)
        if before[:64] + before[80:] != after[:64] + after[80:]:
            raise Failed("memory outside the Read as it was", "octets around it are changed")

    named = " or ".join(map(str, terms)) or "of any kind"
    run.__doc__ = f"The target Reads 16 octets; {sends}.\n\nAccepts: Terminate {named}; the Read completes in error."
    case(id, title, level=TARGET, also=("RDMAP-5040-5.2.2-08", "SEC-5042-6.2.1-01"))(run)


_wrong_response(
    "RDMAP-5040-5.2.2-05",
    "a Response to an STag that is not the sink is refused",
    "the Response names an STag that nobody knows",
    lambda asked: (asked.sink_stag ^ 0x5A5A_5A5A, asked.sink_to, bytes(16)),
    *WRONG_SINK,
)
_wrong_response(
    "RDMAP-5040-5.2.2-05/2",
    "a Response longer than its Read is refused",
    "the Response has 17 octets",
    lambda asked: (asked.sink_stag, asked.sink_to, bytes(17)),
    *OUTSIDE,
)
_wrong_response(
    "RDMAP-5040-5.2.2-05/3",
    "a Response that begins before its sink is refused",
    "the Response begins an octet before the sink TO",
    lambda asked: (asked.sink_stag, asked.sink_to - 1, bytes(16)),
    *OUTSIDE,
)
_wrong_response(
    "RDMAP-5040-5.2.2-05/4",
    "a Response beyond its sink is refused",
    "the Response begins right beyond the sink",
    lambda asked: (asked.sink_stag, asked.sink_to + 16, bytes(16)),
    *OUTSIDE,
)


@case("RDMAP-5040-5.2.2-05/5", "a segment beyond the Read is refused, though L is not set", level=TARGET)
async def beyond_without_last(bench: Bench) -> None:
    """The target Reads 16 octets; they come without L, and after them 16 more without L.

    Accepts: Terminate 1/1/01 or 1/1/03; no octet beyond the sink is changed.
    """
    stream = await bench.open(session={"receives": ""})
    asked = await ask(bench, stream, 16)
    await stream.respond(asked.sink_stag, asked.sink_to, bytes(16), last=False)
    await stream.respond(asked.sink_stag, asked.sink_to + 16, bytes(16), last=False)
    await stream.expect_terminated(*OUTSIDE)
    if (await bench.target.memory("scratch", 16, 16)) == bytes(16):
        raise Failed("octets beyond the sink as they were", "they are changed")


@case("RDMAP-5040-5.2.2-05/6", "a Response that was not requested is refused", level=TARGET)
async def unsolicited(bench: Bench) -> None:
    """A Read Response of 16 octets to an STag that nobody knows; no Read is outstanding.

    Accepts: a Terminate of any kind.
    """
    stream = await bench.open()
    await stream.respond(NOWHERE, 0, bytes(16))
    await stream.expect_terminated()


@case("SEC-5042-6.2.1-01", "a Response that was not requested reaches no memory", level=TARGET)
async def unsolicited_to_region(bench: Bench) -> None:
    """A Read Response of 16 octets to the region that may only be read; no Read is outstanding.

    Accepts: a Terminate of any kind; the memory is unchanged.
    """
    stream = await bench.open()
    await stream.respond(bench.ro.stag, bench.ro.to, bytes(16))
    await stream.expect_terminated()
    await bench.target.expect_memory_unchanged("ro")


@case("RDMAP-5040-5.2.2-08", "a Response that is too short", level=TARGET)
async def short(bench: Bench) -> None:
    """The target Reads 16 octets; the Response has eight, and L.

    Accepts: a Terminate of any kind and a Read in error; or a completion, since the check is optional.
    """
    stream = await bench.open(session={"receives": ""})
    asked = await ask(bench, stream, 16)
    await stream.respond(asked.sink_stag, asked.sink_to, b"too few!")
    works = await bench.target.completions(1)
    if not works:
        raise Failed("a completion of the Read", "none")
    if works[0].status != "success":
        await stream.expect(terminate() | ended())


@case("RDMAP-5040-5.2.2-08/2", "a second Response to one Read is refused", level=TARGET)
async def answered_twice(bench: Bench) -> None:
    """The target Reads 16 octets, and is given them twice.

    Accepts: one completion, and a Terminate of any kind.
    """
    stream = await bench.open(session={"receives": ""})
    asked = await ask(bench, stream, 16)
    for _ in range(2):
        await stream.respond(asked.sink_stag, asked.sink_to, b"sixteen octets !", last=True)
    await stream.expect_terminated()
    await expect_placed(bench, b"sixteen octets !")
