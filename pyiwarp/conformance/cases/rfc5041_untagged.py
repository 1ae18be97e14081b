"""Untagged segments that come: queues, MSN, MO, buffers, delivery (RFC 5041 §4.3, §5.2 to §5.4, §7.1)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, ended, silence, terminate
from pyiwarp.conformance.bench.segments import build_read_request, build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_VERSION,
    RDMAP_OPCODE,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_delivered, expect_nothing_delivered
from pyiwarp.conformance.cases.refusals import Build, expect_regions_unchanged, refusal

__all__: list[str] = []

TARGET: Final = Level.TARGET
SEND, READ = Opcode.SEND, Opcode.READ_REQUEST
BUFFER: Final = 64
GREATEST: Final = 0xFFFF_FFFF
NO_READ: Final = build_read_request(0x50524F42, 0, 0, 0, 0)
ALPHABET: Final = bytes(range(97, 123))


def numbers(nbytes: int, seed: int = 0) -> bytes:
    """Octets that tell where they belong."""
    return bytes((i * 5 + i // 256 + seed) & 0xFF for i in range(nbytes))


# --- delivery --------------------------------------------------------------------------------------------------------


@case("DDP-5041-5.4-01", "a Send is delivered without anything following", level=TARGET, also=("DDP-5041-4.1-02",))
async def delivered(bench: Bench) -> None:
    """A Send of five octets.

    Accepts: the first receive completes with these five octets.
    """
    stream = await bench.open()
    await stream.send(b"hello")
    await expect_delivered(bench, b"hello")


@case("DDP-5041-5.4-03", "the length of a message is reported", level=TARGET)
async def lengths(bench: Bench) -> None:
    """Sends of 0, 1, 7 and 4,096 octets; the last fills its receive.

    Accepts: receives that complete with these lengths.
    """
    stream = await bench.open()
    payloads = [numbers(size) for size in (0, 1, 7, 4096)]
    for payload in payloads:
        await stream.send(payload)
    await expect_delivered(bench, *payloads)


@case("DDP-5041-5.4-04", "the length is that of all segments together", level=TARGET)
async def length_of_three(bench: Bench) -> None:
    """A Send in segments of 100, 200 and 1 octets.

    Accepts: a receive that completes with 301 octets.
    """
    stream = await bench.open()
    octets = numbers(301)
    for start, end in ((0, 100), (100, 300), (300, 301)):
        await stream.send(octets[start:end], mo=start, last=end == 301)
    await expect_delivered(bench, octets)


@case("DDP-5041-5.2-05/3", "every segment of a Send is placed", level=TARGET)
async def six_segments(bench: Bench) -> None:
    """A Send of 3,000 octets in six segments of different sizes, in one piece.

    Accepts: a receive that completes with the 3,000 octets.
    """
    stream = await bench.open()
    octets = numbers(3000)
    edges = (0, 1, 4, 511, 1025, 2998, 3000)
    await stream.fpdus(
        stream.untagged(SEND, 0, octets[start:end], mo=start, last=end == 3000) for start, end in pairwise(edges)
    )
    await expect_delivered(bench, octets)


@case(
    "DDP-5041-4.1-08",
    "a segment without L delivers nothing",
    level=TARGET,
    also=("DDP-5041-5.4-01", "RDMAP-5040-5.3-02", "RDMAP-5040-5.5-13"),
)
async def not_before_last(bench: Bench) -> None:
    """The first segment of a Send; after a while the last.

    Accepts: no completion before the last segment, one after it.
    """
    stream = await bench.open()
    await stream.send(b"abc", last=False)
    await expect_nothing_delivered(bench)
    await stream.send(b"def", mo=3)
    await expect_delivered(bench, b"abcdef")


@case("DDP-5041-5.4-02", "a message is not delivered while its last segment is missing", level=TARGET)
async def last_missing(bench: Bench) -> None:
    """Two segments of a Send, and then the end of the stream.

    Accepts: no receive completes with success.
    """
    stream = await bench.open()
    await stream.send(b"abc", last=False)
    await stream.send(b"def", mo=3, last=False)
    stream.finish()
    await expect_nothing_delivered(bench)


@case("DDP-5041-4.1-07", "an earlier message is delivered first", level=TARGET, also=("RDMAP-5040-5.5-05",))
async def earlier_first(bench: Bench) -> None:
    """Send A without its last segment; when nothing was delivered its last segment and Send B in one piece.

    Accepts: no completion at first, then A before B.
    """
    stream = await bench.open()
    await stream.send(b"aaa", last=False)
    await expect_nothing_delivered(bench)
    await stream.fpdus([stream.untagged(SEND, 0, b"AAA", mo=3), stream.untagged(SEND, 0, b"bb")])
    await expect_delivered(bench, b"aaaAAA", b"bb")


@case("DDP-5041-5.3-06", "messages are delivered in the order in which they were sent", level=TARGET)
async def many_in_order(bench: Bench) -> None:
    """Two hundred Sends of different sizes in one piece.

    Accepts: receives that complete in order, each with its own length; the last holds the last message.
    """
    sizes = [(i * 37) % 64 for i in range(200)]
    stream = await bench.open(session={"receives": ",".join(["64"] * 200), "guard": 8})
    await stream.fpdus(stream.untagged(SEND, 0, numbers(size, i)) for i, size in enumerate(sizes))
    works = await bench.target.expect_completions(200)
    came = [(work.wr_id, work.nbytes) for work in works]
    if came != (due := list(enumerate(sizes))):
        wrong = next(pair for pair in zip(came, due, strict=True) if pair[0] != pair[1])
        raise Failed(f"receive {wrong[1][0]} with {wrong[1][1]} octets", f"receive {wrong[0][0]} with {wrong[0][1]}")
    for number in (0, 57, 199):
        await bench.target.expect_received(numbers(sizes[number], number), number)


@case("DDP-5041-5.3-05", "a message is delivered once", level=TARGET)
async def replayed(bench: Bench) -> None:
    """A Send, and the same with the same MSN once more.

    Accepts: one receive completes; Terminate 1/2/03.
    """
    stream = await bench.open()
    await stream.send(b"once", msn=1)
    await expect_delivered(bench, b"once")
    await stream.send(b"twice", msn=1)
    await stream.expect_terminated(DDP_UNTAGGED_MSN)
    await expect_nothing_delivered(bench, 0.0)


@case("DDP-5041-5.2-06", "segments in another order than that of their MO", level=TARGET)
async def shuffled(bench: Bench) -> None:
    """A Send whose segments have MO 100, 0 and 200, the last with L.

    Accepts: a receive that completes with 300 octets, each in its place; or Terminate 1/2/04, which is stricter than
    the RFC.
    """
    stream = await bench.open()
    octets = numbers(300)
    for start, last in ((100, False), (0, False), (200, True)):
        await stream.send(octets[start : start + 100], mo=start, last=last, msn=1)
    await _delivered_or_refused(bench, stream, octets)


@case("DDP-5041-5.2-13", "a message with a hole", level=TARGET)
async def hole(bench: Bench) -> None:
    """A Send of ten octets at MO 0 and of ten at MO 20, the last with L.

    Accepts: a receive that completes with 30 octets; or a Terminate of DDP's.
    """
    stream = await bench.open()
    await stream.send(b"a" * 10, last=False)
    await stream.send(b"b" * 10, mo=20)
    await _delivered_or_refused(bench, stream, b"a" * 10 + b"\xa5" * 10 + b"b" * 10)


async def _delivered_or_refused(bench: Bench, stream: Stream, octets: bytes) -> None:
    """A receive with `octets`, on a stream that goes on, or a Terminate for the MO."""
    seen = await stream.expect(terminate(DDP_UNTAGGED_MO) | silence(), bench.settings.quiet)
    if isinstance(seen, Message):
        await stream.expect_over()
        return
    await stream.probe()
    await expect_delivered(bench, octets)


@case("DDP-5041-4.3-05", "segments of one message with different opcodes", level=TARGET)
async def different_opcodes(bench: Bench) -> None:
    """A Send in two segments, the first with the opcode of Send, the second with that of Send with Solicited Event.

    Accepts: a receive that completes with all octets; or the end of the stream, with or without a Terminate.
    """
    stream = await bench.open()
    await stream.send(b"abc", last=False)
    await stream.send(b"def", opcode=Opcode.SEND_SE, mo=3)
    seen = await stream.expect(terminate() | ended() | silence(), bench.settings.quiet)
    if silence().fits(seen):
        await expect_delivered(bench, b"abcdef")


# --- what is ignored -------------------------------------------------------------------------------------------------


@case("DDP-5041-4.1-10/2", "the reserved bits of an untagged segment are not checked")
async def reserved_bits(bench: Bench) -> None:
    """Read Requests for nothing with each of the four reserved bits set, and with all of them.

    Accepts: an empty Read Response to each.
    """
    stream = await bench.open()
    for rsvd in (1, 2, 4, 8, 15):
        await stream.read(0, 0, 0, ddp_rsvd=rsvd)
        await stream.expect_response(0)


@case("DDP-5041-4.1-10/3", "the reserved bits of a Send are not checked", level=TARGET)
async def reserved_bits_of_send(bench: Bench) -> None:
    """A Send in two segments with all four reserved bits set.

    Accepts: a receive that completes with all octets.
    """
    stream = await bench.open()
    await stream.send(b"abc", last=False, ddp_rsvd=15)
    await stream.send(b"def", mo=3, ddp_rsvd=15)
    await expect_delivered(bench, b"abcdef")


@case("DDP-5041-4.4-01/3", "an empty Send is a header of 18 octets and nothing else", level=TARGET)
async def header_alone(bench: Bench) -> None:
    """An empty Send.

    Accepts: a receive that completes with no octets.
    """
    stream = await bench.open()
    await stream.send()
    await expect_delivered(bench, b"")


@case("DDP-5041-4.4-01/4", "a ULPDU that ends inside an untagged header ends the stream")
async def short_header(bench: Bench) -> None:
    """On connections of their own, ULPDUs of 1, 14 and 17 octets that begin as a Send.

    Accepts: a Terminate of any kind, or the end of the stream without one; a new connection works.
    """
    for size in (1, 14, 17):
        stream = await bench.open()
        await stream.fpdu(build_untagged(SEND, 0, 1)[:size])
        await stream.expect_torn_down()
    stream = await bench.open()
    await stream.probe()


# --- versions --------------------------------------------------------------------------------------------------------


def _with_version(dv: int) -> Build:
    return lambda bench, stream: stream.untagged(READ, QueueNumber.READ_REQUEST, NO_READ, dv=dv)


for _number, _dv in enumerate((0, 2, 3), 1):
    refusal(
        f"DDP-5041-7.2-04{'' if _number == 1 else f'/{_number}'}",
        f"DDP version {_dv} in an untagged segment is refused",
        f"A Read Request for nothing with DV {_dv}.",
        _with_version(_dv),
        DDP_UNTAGGED_VERSION,
    )
refusal(
    "DDP-5041-4.1-12/2",
    "the DDP version may not change within an untagged message",
    "A Send in two segments, the second with DV 0.",
    lambda bench, stream: [
        stream.untagged(SEND, 0, b"abc", last=False),
        stream.untagged(SEND, 0, b"def", mo=3, dv=0),
    ],
    DDP_UNTAGGED_VERSION,
    level=TARGET,
)


# --- queue numbers ---------------------------------------------------------------------------------------------------


def _on_queue(qn: int) -> Build:
    return lambda bench, stream: build_untagged(SEND, qn, 1, b"x")


for _number, _qn in enumerate((4, 5, 0x100, 0x10000, GREATEST), 1):
    refusal(
        f"DDP-5041-7.1-01{'' if _number == 1 else f'/{_number}'}",
        f"queue {_qn:#x} does not exist",
        f"A Send of one octet on queue {_qn:#x}.",
        _on_queue(_qn),
        DDP_UNTAGGED_QN,
    )
refusal(
    "DDP-5041-7.1-01/6",
    "queue 3 does not exist without RFC 7306",
    "A Send of one octet on queue 3 to a target that does not speak RFC 7306.",
    lambda bench, stream: build_untagged(SEND, 3, 1, b"x"),
    DDP_UNTAGGED_QN,
    RDMAP_OPCODE,
    level=TARGET,
    session={"extensions": 0},
    needs=[Need.EXTENSIONS],
)


# --- MSN -------------------------------------------------------------------------------------------------------------


def _wrong_msn(id: str, title: str, msn: int, *, before: int = 0) -> None:
    """A Send with `msn` after `before` right ones, four receives being posted."""

    def build(bench: Bench, stream: Stream) -> list[bytes]:
        right = [stream.untagged(SEND, 0, b"right") for _ in range(before)]
        return [*right, build_untagged(SEND, 0, msn, b"wrong")]

    sends = f"{f'{before} Sends in order, then a' if before else 'A'} Send with MSN {msn:#x}; four receives are posted."
    codes = (DDP_UNTAGGED_MSN, DDP_UNTAGGED_NO_BUFFER) if before < msn < 1 << 31 else (DDP_UNTAGGED_MSN,)
    refusal(id, title, sends, build, *codes, level=TARGET, session={"receives": "64,64,64,64"})


_wrong_msn("DDP-5041-7.1-09", "MSN 0 is out of range at the beginning", 0)
_wrong_msn("DDP-5041-7.1-09/2", "an MSN above that of the last receive is out of range", 6)
_wrong_msn("DDP-5041-7.1-09/3", "an MSN half the space away is out of range", 0x8000_0000)
_wrong_msn("DDP-5041-7.1-09/4", "the MSN of a message that was delivered is out of range", 1, before=2)
_wrong_msn("DDP-5041-7.1-09/5", "the greatest MSN is out of range at the beginning", GREATEST)
_wrong_msn("DDP-5041-7.1-09/6", "the MSN far above that of the last receive is out of range", 0x0100_0001)
refusal(
    "DDP-5041-7.1-09/7",
    "MSN 0 is out of range on the queue of Read Requests",
    "A Read Request for nothing with MSN 0.",
    lambda bench, stream: build_untagged(READ, 1, 0, NO_READ),
    DDP_UNTAGGED_MSN,
)


@case("DDP-5041-7.1-09/8", "the MSN of a Read that was answered is out of range", also=("RDMAP-5040-7.2-06",))
async def read_again(bench: Bench) -> None:
    """A Read Request for nothing; when it was answered, one with the same MSN.

    Accepts: an empty Read Response, and then Terminate 1/2/03.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0, msn=1)
    await stream.expect_response(0)
    await stream.read(0, 0, 0, msn=1)
    await stream.expect_terminated(DDP_UNTAGGED_MSN)


@case(
    "DDP-5041-7.1-09/9",
    "a message whose predecessor is missing is not delivered",
    level=TARGET,
    also=("DDP-5041-5.4-02",),
)
async def gap(bench: Bench) -> None:
    """A Send with MSN 2 as the first; four receives are posted.

    Accepts: Terminate 1/2/03 or 1/2/02; or silence, since its MSN lies in range, but no completion.
    """
    stream = await bench.open(session={"receives": "64,64,64,64"})
    await stream.send(b"second", msn=2)
    seen = await stream.expect(terminate(DDP_UNTAGGED_MSN, DDP_UNTAGGED_NO_BUFFER) | silence(), bench.settings.quiet)
    if isinstance(seen, Message):
        await stream.expect_over()
    await expect_nothing_delivered(bench)


# --- buffers ---------------------------------------------------------------------------------------------------------


@case("DDP-5041-7.1-02", "a Send that finds no receive", level=TARGET, also=("DDP-5041-7.1-04",))
async def no_buffer(bench: Bench) -> None:
    """A Send of one octet to a target that has posted no receive; if it holds back, one is posted then.

    Accepts: Terminate 1/2/02; or silence, and delivery once there is a receive.
    """
    stream = await bench.open(session={"receives": ""})
    await stream.send(b"x")
    seen = await stream.expect(terminate(DDP_UNTAGGED_NO_BUFFER) | silence(), bench.settings.quiet)
    if isinstance(seen, Message):
        await stream.expect_over()
        return
    await bench.target.command("recv", {"sizes": 64})
    await expect_delivered(bench, b"x")


@case("DDP-5041-7.1-06", "the lack of a receive is reported to the program", level=TARGET)
async def no_buffer_reported(bench: Bench) -> None:
    """Three Sends to a target with two receives.

    Accepts: two receives complete; then Terminate 1/2/02, and the target says that its connection is terminated or
    in error; or the third Send waits for a receive.
    """
    stream = await bench.open(session={"receives": "64,64"})
    for octet in (b"1", b"2", b"3"):
        await stream.send(octet)
    await expect_delivered(bench, b"1", b"2")
    seen = await stream.expect(terminate(DDP_UNTAGGED_NO_BUFFER) | silence(), bench.settings.quiet)
    if isinstance(seen, Message):
        await stream.expect_over()
        await bench.target.expect_state("terminated", "error")
        return
    await bench.target.command("recv", {"sizes": 64})
    await expect_delivered(bench, b"3", first=2)


def _outside_buffer(id: str, title: str, mo: int, nbytes: int, *, also: tuple[str, ...] = ()) -> None:
    """A Send of `nbytes` octets at `mo` to a receive of 64 octets."""

    def build(bench: Bench, stream: Stream) -> bytes:
        return stream.untagged(SEND, 0, b"\xc3" * nbytes, mo=mo)

    codes = {True: (DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER), False: (DDP_UNTAGGED_MO,)}[mo < BUFFER]
    if mo == BUFFER:
        codes = (DDP_UNTAGGED_MO, DDP_UNTAGGED_TOO_LONG)

    async def run(bench: Bench) -> None:
        stream = await bench.open(session={"receives": "64,64"})
        await stream.fpdu(build(bench, stream))
        await stream.expect_terminated(*codes)
        octets = await bench.target.received(0)
        if mo >= BUFFER and b"\xc3" in octets:
            raise Failed("a receive that holds nothing", f"one with {octets.hex()}")
        await expect_nothing_delivered(bench, 0.0)
        await expect_regions_unchanged(bench)

    named = " or ".join(map(str, codes))
    run.__doc__ = (
        f"A Send of {nbytes} octets at MO {mo:#x}; a receive of 64 octets is posted.\n\n"
        f"Accepts: Terminate {named}; nothing is placed outside the buffer, and nothing delivered."
    )
    case(id, title, level=TARGET, also=also)(run)


_outside_buffer("DDP-5041-7.1-07", "an MO beyond the buffer is refused", 65, 1, also=("DDP-5041-7.2-05",))
_outside_buffer("DDP-5041-7.1-07/2", "the greatest MO is refused", GREATEST, 1)
_outside_buffer("DDP-5041-7.1-07/3", "an MO that wraps into the buffer is refused", GREATEST - 3, 8)
_outside_buffer("DDP-5041-7.1-07/4", "the MO right beyond the buffer is refused", 64, 1)
_outside_buffer("DDP-5041-7.1-08", "a Send longer than its buffer is refused", 0, 65, also=("DDP-5041-7.2-05",))
_outside_buffer("DDP-5041-7.1-08/2", "a segment that runs over the end of its buffer is refused", 60, 5)
_outside_buffer("DDP-5041-7.1-08/3", "a Send far longer than its buffer is refused", 0, 4096)


@case("DDP-5041-7.1-08/4", "a Send that fills its buffer exactly is delivered", level=TARGET)
async def exact_fit(bench: Bench) -> None:
    """Sends of 64 octets, in one segment and in two, to receives of 64 octets.

    Accepts: two receives that complete with 64 octets.
    """
    stream = await bench.open(session={"receives": "64,64"})
    octets = numbers(64)
    await stream.send(octets)
    await stream.send(octets[:63], last=False)
    await stream.send(octets[63:], mo=63)
    await expect_delivered(bench, octets, octets)


@case("DDP-5041-7.1-08/5", "the second segment of a Send is checked too", level=TARGET)
async def second_segment_too_long(bench: Bench) -> None:
    """A Send in two segments, of 40 and 25 octets, to a receive of 64 octets.

    Accepts: Terminate 1/2/05 or 1/2/02; no octet of the second segment is placed beyond the buffer.
    """
    stream = await bench.open(session={"receives": "64"})
    await stream.send(bytes(40), last=False)
    await stream.send(bytes(25), mo=40)
    await stream.expect_terminated(DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER)
    await bench.target.received(0)
    await expect_nothing_delivered(bench, 0.0)


@case("DDP-5041-7.2-05", "an MO outside the buffer and a message too long have different codes", level=TARGET)
async def two_codes(bench: Bench) -> None:
    """On connections of their own, a Send at MO 100 and a Send of 100 octets, to receives of 64 octets.

    Accepts: Terminate 1/2/04 to the first, 1/2/05 or 1/2/02 to the second.
    """
    stream = await bench.open(session={"receives": "64"})
    await stream.send(b"x", mo=100)
    await stream.expect_terminated(DDP_UNTAGGED_MO)
    stream = await bench.open(session={"receives": "64"})
    await stream.send(bytes(100))
    await stream.expect_terminated(DDP_UNTAGGED_TOO_LONG, DDP_UNTAGGED_NO_BUFFER)


@case("DDP-5041-7.1-09/10", "each queue counts its own MSNs", level=TARGET, also=("DDP-5041-4.3-07",))
async def queues_count_apart(bench: Bench) -> None:
    """Sends and Reads in turn, each with the MSNs of its own queue.

    Accepts: every Read is answered, and every Send delivered.
    """
    stream = await bench.open()
    for octet in (b"1", b"2", b"3"):
        await stream.send(octet)
        await stream.probe()
    await expect_delivered(bench, b"1", b"2", b"3")


@case("DDP-5041-6.2.2-06", "a Terminate comes whole before the stream ends")
async def terminate_before_end(bench: Bench) -> None:
    """A Send of one octet on queue 99.

    Accepts: Terminate 1/2/01, and only then the end of the stream: a close, no reset.
    """
    stream = await bench.open()
    await stream.fpdu(build_untagged(SEND, 99, 1, b"x"))
    await stream.expect_message(terminate(DDP_UNTAGGED_QN))
    stream.finish()
    await stream.expect(ended())
