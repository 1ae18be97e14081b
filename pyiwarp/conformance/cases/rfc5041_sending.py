"""What the peer sends: how it cuts messages, and what stands in its DDP headers (RFC 5041 §4, §5.2, §5.3)."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Cannot, Level
from pyiwarp.conformance.bench.control import Value, region_pattern
from pyiwarp.conformance.bench.messages import WholeMessage, receive_whole, segment_of
from pyiwarp.conformance.bench.patterns import Failed, expect_octets, message, terminate
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.conformance.bench.stream import PROBE_STAG, Stream
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case

__all__: list[str] = []

TARGET: Final = Level.TARGET
LONG: Final = 200_000  # octets: several segments, whatever MULPDU the peer has
STAG: Final = 0xA5C3_F00D
TO: Final = 0x1000
NARROW: Final = 1460
HEADERS: Final = {True: 14, False: 18}
LARGEST_MULPDU, LEAST_MULPDU = 64768, 128


def pattern(nbytes: int, seed: int = 0) -> bytes:
    """What the target sends for len= and seed=."""
    return bytes((i * 7 + seed) & 0xFF for i in range(nbytes))


async def say(bench: Bench, op: str, **keys: Value) -> None:
    """Have the target post something whose completion does not matter."""
    await bench.target.post(op, signaled=0, **keys)


async def sent(bench: Bench, nbytes: int, **keys: Value) -> WholeMessage:
    """The only message on a fresh stream: a Send of `nbytes` octets."""
    stream = await bench.open()
    await say(bench, "send", len=nbytes, **keys)
    return await receive_whole(stream)


async def written(bench: Bench, nbytes: int, to: int = TO) -> WholeMessage:
    """The only message on a fresh stream: a Write of `nbytes` octets."""
    stream = await bench.open()
    await say(bench, "write", len=nbytes, stag=STAG, to=to)
    return await receive_whole(stream)


async def answered(bench: Bench, nbytes: int, sink_stag: int = STAG, sink_to: int = TO) -> WholeMessage:
    """A Response of `nbytes` octets to a Read with this sink."""
    stream = await bench.open(session={"regionsize": max(nbytes, 4096)})
    await stream.read(bench.rw.stag, bench.rw.to, nbytes, sink_stag=sink_stag, sink_to=sink_to)
    return await receive_whole(stream)


# --- headers ---------------------------------------------------------------------------------------------------------


@case("DDP-5041-4.3-01", "an untagged segment has the header of figure 4", level=TARGET, also=("MPA-5044-4.1-02",))
async def untagged_header(bench: Bench) -> None:
    """The target Sends five octets.

    Accepts: one untagged segment with L, queue 0, MSN 1, MO 0, and the five octets right after the 18 of its header.
    """
    whole = await sent(bench, 5, seed=3)
    whole.fields(tagged=False, last=True, dv=1, qn=0, msn=1, mo=0)
    whole.carries(pattern(5, 3))


@case("DDP-5041-4.2-01", "a tagged segment has the header of figure 3", level=TARGET)
async def tagged_header(bench: Bench) -> None:
    """The target Writes five octets to STag 0xa5c3f00d, TO 0x1000.

    Accepts: one tagged segment with L, this STag and TO, and the five octets right after the 14 of its header.
    """
    whole = await written(bench, 5)
    whole.fields(tagged=True, last=True, dv=1, stag=STAG, to=TO)
    whole.carries(pattern(5))


async def every_kind(bench: Bench) -> list[WholeMessage]:
    """One message of each kind that the target can be brought to send, the Terminate last."""
    stream = await bench.open()
    await say(bench, "send", len=9)
    await say(bench, "send", len=9, se=1)
    await say(bench, "send", len=9, inv=STAG)
    await say(bench, "send", len=9, inv=STAG, se=1)
    await say(bench, "write", len=9, stag=STAG, to=TO)
    await say(bench, "read", len=0, stag=STAG, to=TO)
    wholes = [await receive_whole(stream) for _ in range(6)]
    await stream.read(bench.rw.stag, bench.rw.to, 9)
    wholes.append(await receive_whole(stream))
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    wholes.append(WholeMessage((await stream.expect_message(terminate()),)))
    return wholes


@case("DDP-5041-4.1-09", "the reserved bits of the DDP control octet are zero", level=TARGET)
async def reserved_zero(bench: Bench) -> None:
    """The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.

    Accepts: segments whose four reserved bits are zero.
    """
    for whole in await every_kind(bench):
        whole.fields(ddp_rsvd=0)


@case("DDP-5041-4.1-11", "the DDP version is 1", level=TARGET)
async def version_one(bench: Bench) -> None:
    """The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.

    Accepts: segments with DV 1.
    """
    for whole in await every_kind(bench):
        whole.fields(dv=1)


@case("DDP-5041-4.1-01/2", "T says whether the buffer is tagged", level=TARGET)
async def tagged_bit(bench: Bench) -> None:
    """The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.

    Accepts: T set in the Write and the Read Response, and in nothing else.
    """
    for whole in await every_kind(bench):
        whole.fields(tagged=whole.opcode in (Opcode.WRITE, Opcode.READ_RESPONSE))


@case("DDP-5041-4.3-06", "each message is on its queue", level=TARGET, also=("RDMAP-5040-3.1-02",))
async def queues(bench: Bench) -> None:
    """The target sends all four Sends, a Read Request and a Terminate.

    Accepts: the Sends on queue 0, the Read Request on queue 1, the Terminate on queue 2.
    """
    due = {Opcode.READ_REQUEST: 1, Opcode.TERMINATE: 2}
    for whole in await every_kind(bench):
        if not whole.first.tagged:
            whole.fields(qn=due.get(Opcode(whole.opcode), 0))


@case("DDP-5041-4.3-08", "the first MSN of each queue is 1", level=TARGET)
async def first_msn(bench: Bench) -> None:
    """The target's first Send, first Read Request and Terminate.

    Accepts: MSN 1 in each of the three.
    """
    seen: set[int] = set()
    for whole in await every_kind(bench):
        if not whole.first.tagged and whole.first.qn not in seen:
            seen.add(whole.first.qn)
            whole.fields(msn=1)
    if seen != {0, 1, 2}:
        raise Failed("messages on queues 0, 1 and 2", f"on {sorted(seen)}")


@case("DDP-5041-4.2-02", "a tagged segment carries the octet that RDMAP gave", level=TARGET)
async def tagged_octet(bench: Bench) -> None:
    """The target Writes, and answers a Read.

    Accepts: RDMAP control octets 0x40 and 0x42.
    """
    (await written(bench, 9)).fields(rv=1, rdmap_rsvd=0, opcode=Opcode.WRITE)
    (await answered(bench, 9)).fields(rv=1, rdmap_rsvd=0, opcode=Opcode.READ_RESPONSE)


@case("DDP-5041-4.3-02", "an untagged segment carries the five octets that RDMAP gave", level=TARGET)
async def untagged_octets(bench: Bench) -> None:
    """The target sends a plain Send and one that invalidates STag 0x11223344.

    Accepts: control octet 0x43 with four octets of zero, and 0x44 with the STag.
    """
    (await sent(bench, 9)).fields(rv=1, rdmap_rsvd=0, opcode=Opcode.SEND, inval_stag=0)
    (await sent(bench, 9, inv=0x11223344)).fields(rv=1, opcode=Opcode.SEND_INVAL, inval_stag=0x11223344)


@case("DDP-5041-4.2-06", "the STag is the one that was given", level=TARGET)
async def stags_as_given(bench: Bench) -> None:
    """The target Writes to STags 1, 0x80000000 and 0xffffffff.

    Accepts: Writes with exactly these STags.
    """
    stream = await bench.open()
    for stag in (1, 0x8000_0000, 0xFFFF_FFFF):
        await say(bench, "write", len=3, stag=stag, to=TO)
        await receive_whole(stream, Opcode.WRITE, stag=stag)


@case("DDP-5041-4.2-05", "a Read Response names the STag of its Request", level=TARGET)
async def sink_stag(bench: Bench) -> None:
    """A Read with sink STag 0xa5c3f00d.

    Accepts: a Read Response to this STag.
    """
    (await answered(bench, 9)).fields(opcode=Opcode.READ_RESPONSE, stag=STAG)


# --- several segments ------------------------------------------------------------------------------------------------


@case("DDP-5041-4.1-03", "L is set in the last segment of a Send", level=TARGET, also=("DDP-5041-5.2-01",))
async def last_of_send(bench: Bench) -> None:
    """The target Sends 200,000 octets.

    Accepts: segments that make up the message when the one with L has come.
    """
    whole = await sent(bench, LONG)
    whole.several()
    whole.carries(pattern(LONG))


@case("DDP-5041-4.1-04", "L is set in no other segment of a Write", level=TARGET)
async def last_of_write(bench: Bench) -> None:
    """The target Writes 200,000 octets.

    Accepts: segments that make up the message when the first one with L has come.
    """
    whole = await written(bench, LONG)
    whole.several()
    whole.carries(pattern(LONG))


@case("DDP-5041-4.1-05", "the segment with L is the last of a Read Response", level=TARGET)
async def last_of_response(bench: Bench) -> None:
    """A Read of 200,000 octets, then one for nothing.

    Accepts: segments that make up the region when the first one with L has come, and after it only the next Response.
    """
    stream = await bench.open(session={"regionsize": LONG})
    await stream.read(bench.rw.stag, bench.rw.to, LONG, sink_stag=STAG)
    await stream.read(0, 0, 0)
    whole = await receive_whole(stream, Opcode.READ_RESPONSE, stag=STAG)
    whole.several()
    whole.carries(region_pattern("rw", LONG))
    await stream.expect_response(0)


@case("DDP-5041-4.1-06", "the segment with L has the highest MO", level=TARGET)
async def highest_mo(bench: Bench) -> None:
    """The target Sends 200,000 octets.

    Accepts: a last segment whose MO is above that of every other.
    """
    whole = await sent(bench, LONG)
    whole.several()
    highest = whole.segments[-1].mo
    whole.every(f"an MO up to {highest}", lambda segment: segment.mo < highest or segment.last)


@case("DDP-5041-5.2-07", "the MO is the offset of the segment in its message", level=TARGET)
async def mo_contiguous(bench: Bench) -> None:
    """The target Sends 200,000 octets.

    Accepts: segments whose MOs begin with 0 and go on where the segment before has ended.
    """
    whole = await sent(bench, LONG)
    whole.several()
    whole.contiguous()


@case("DDP-5041-4.3-11", "the MO of the first segment is 0", level=TARGET)
async def first_mo(bench: Bench) -> None:
    """The target Sends 200,000 octets, Reads, and is brought to send a Terminate.

    Accepts: MO 0 in the first segment of each.
    """
    stream = await bench.open()
    await say(bench, "send", len=LONG)
    await say(bench, "read", len=9, stag=STAG, to=TO)
    for _ in range(2):
        whole = await receive_whole(stream)
        WholeMessage(whole.parts[:1]).fields(mo=0)
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    WholeMessage((await stream.expect_message(terminate()),)).fields(mo=0)


@case("DDP-5041-5.2-09", "TO grows by what each segment of a Write carries", level=TARGET)
async def to_contiguous(bench: Bench) -> None:
    """The target Writes 200,000 octets to TO 0x100000010.

    Accepts: segments whose TOs begin there and go on where the segment before has ended.
    """
    whole = await written(bench, LONG, to=0x1_0000_0010)
    whole.several()
    whole.contiguous(0x1_0000_0010)


@case("DDP-5041-5.2-09/2", "TO carries into its upper 32 bits", level=TARGET)
async def to_carries(bench: Bench) -> None:
    """The target Writes 200,000 octets to TO 0x1fffffff0.

    Accepts: segments whose TOs cross 2^33.
    """
    whole = await written(bench, LONG, to=0x1_FFFF_FFF0)
    whole.several()
    whole.contiguous(0x1_FFFF_FFF0)


@case("DDP-5041-5.2-09/3", "TO grows by what each segment of a Read Response carries", level=TARGET)
async def response_to_contiguous(bench: Bench) -> None:
    """A Read of 200,000 octets with sink TO 0xffffff00.

    Accepts: segments whose TOs begin there and go on where the segment before has ended.
    """
    whole = await answered(bench, LONG, sink_to=0xFFFF_FF00)
    whole.several()
    whole.contiguous(0xFFFF_FF00)


@case("DDP-5041-4.2-04", "all segments of a tagged message carry the same RDMAP octet", level=TARGET)
async def same_tagged_octet(bench: Bench) -> None:
    """The target Writes 200,000 octets, and answers a Read of as many.

    Accepts: the same control octet in all segments of each.
    """
    for whole in (await written(bench, LONG), await answered(bench, LONG)):
        whole.several()
        for name in ("rv", "rdmap_rsvd", "opcode"):
            whole.alike(name)


@case("DDP-5041-4.2-08", "all segments of a Write carry the same STag", level=TARGET)
async def same_stag(bench: Bench) -> None:
    """The target Writes 200,000 octets.

    Accepts: the STag that was given, in all segments.
    """
    whole = await written(bench, LONG)
    whole.several()
    whole.fields(stag=STAG)


@case("DDP-5041-4.2-08/2", "all segments of a Read Response carry the same STag", level=TARGET)
async def same_sink_stag(bench: Bench) -> None:
    """A Read of 200,000 octets.

    Accepts: the sink STag of the Request, in all segments.
    """
    whole = await answered(bench, LONG)
    whole.several()
    whole.fields(stag=STAG)


@case("DDP-5041-4.3-04", "all segments of an untagged message carry the same RDMAP octets", level=TARGET)
async def same_untagged_octets(bench: Bench) -> None:
    """The target Sends 200,000 octets that invalidate STag 0x11223344.

    Accepts: the same control octet and this STag in all segments.
    """
    whole = await sent(bench, LONG, inv=0x11223344)
    whole.several()
    whole.alike("opcode")
    whole.fields(inval_stag=0x11223344)


@case("DDP-5041-4.3-10", "all segments of a message carry the same MSN", level=TARGET)
async def same_msn(bench: Bench) -> None:
    """The target Sends 200,000 octets twice.

    Accepts: MSN 1 in all segments of the first message, 2 in all of the second; queue 0 in both.
    """
    stream = await bench.open()
    for msn in (1, 2):
        await say(bench, "send", len=LONG)
        whole = await receive_whole(stream)
        whole.several()
        whole.fields(msn=msn, qn=0)


@case("DDP-5041-4.3-07", "the MSN grows by one with each message of a queue", level=TARGET)
async def msn_counts(bench: Bench) -> None:
    """The target posts Sends and Reads in turn, four of each.

    Accepts: MSNs 1 to 4 on queue 0, and 1 to 4 on queue 1.
    """
    stream = await bench.open()
    due = {0: 1, 1: 1}
    for _ in range(4):
        await say(bench, "send", len=3)
        await say(bench, "read", len=0, stag=STAG, to=TO)
    for _ in range(8):
        segment = (await receive_whole(stream)).first
        if segment.qn not in due or segment.msn != due[segment.qn]:
            raise Failed(f"the next of MSNs {due}", f"MSN {segment.msn} on queue {segment.qn}")
        due[segment.qn] += 1


@case("DDP-5041-5.3-01", "messages leave in the order in which they were posted", level=TARGET)
async def posted_order(bench: Bench) -> None:
    """The target posts a Send, a Write, a Send, a Read and a Send of 70,000 octets.

    Accepts: a Send, a Write, a Send, a Read Request and a Send.
    """
    stream = await bench.open()
    await say(bench, "send", len=1)
    await say(bench, "write", len=70_000, stag=STAG, to=TO)
    await say(bench, "send", len=2)
    await say(bench, "read", len=5, stag=STAG, to=TO)
    await say(bench, "send", len=70_000)
    for opcode in (Opcode.SEND, Opcode.WRITE, Opcode.SEND, Opcode.READ_REQUEST, Opcode.SEND):
        await receive_whole(stream, opcode)


@case("DDP-5041-5.3-02", "the segments of a Send leave in the order of their MO", level=TARGET)
async def mo_rises(bench: Bench) -> None:
    """The target Sends 200,000 octets.

    Accepts: an MO that rises from segment to segment.
    """
    await _rises(await sent(bench, LONG), "mo")


@case("DDP-5041-5.3-02/2", "the segments of a Write leave in the order of their TO", level=TARGET)
async def to_rises(bench: Bench) -> None:
    """The target Writes 200,000 octets.

    Accepts: a TO that rises from segment to segment.
    """
    await _rises(await written(bench, LONG), "to")


async def _rises(whole: WholeMessage, name: str) -> None:
    whole.several()
    offsets = [getattr(segment, name) for segment in whole.segments]
    for number, (one, other) in enumerate(pairwise(offsets), 1):
        if other <= one:
            raise Failed(f"an offset above {one} in segment {number}", f"{other}", whole.parts[number].annotated())


# --- sizes -----------------------------------------------------------------------------------------------------------


@case("DDP-5041-5.2-02", "no segment is larger than the MULPDU", level=TARGET, also=("MPA-5044-3-04",))
async def mulpdu_kept(bench: Bench) -> None:
    """The target Sends 200,000 octets on a connection with a small segment size, where the bench can choose it.

    Accepts: ULPDUs up to EMSS - (6 + EMSS mod 4) octets.
    """
    stream = await bench.open(mss=NARROW if bench.initiator else None)
    emss = NARROW if bench.initiator else stream.line.tcp.segment_size
    if emss is None:
        raise Cannot("this system does not tell TCP's segment size")
    most = max(LEAST_MULPDU, min(emss - 6 - emss % 4, LARGEST_MULPDU))
    await say(bench, "send", len=LONG)
    whole = await receive_whole(stream)
    for part in whole.parts:
        if len(part.fpdu.ulpdu) > most:
            raise Failed(f"a ULPDU of {most} octets at most", f"one of {len(part.fpdu.ulpdu)}", part.annotated())
    whole.carries(pattern(LONG))


async def _room(bench: Bench, stream: Stream, op: str, **keys: Value) -> int:
    """How many octets one segment of a message carries."""
    await say(bench, op, len=LONG, **keys)
    whole = await receive_whole(stream)
    whole.several()
    return len(whole.first.payload)


async def _around(bench: Bench, stream: Stream, room: int, op: str, **keys: Value) -> None:
    """Messages of sizes around one and two segments."""
    for nbytes in (1, room - 1, room, room + 1, 2 * room, 2 * room + 1):
        await say(bench, op, len=nbytes, seed=5, **keys)
        whole = await receive_whole(stream)
        whole.carries(pattern(nbytes, 5))
        whole.contiguous(TO if whole.first.tagged else 0)
        if len(whole.parts) != -(-nbytes // room):
            raise Failed(f"{-(-nbytes // room)} segments for {nbytes} octets", f"{len(whole.parts)}")


@case(
    "DDP-5041-5.2-04",
    "all octets of a Send are sent, whatever their number",
    level=TARGET,
    also=("MPA-5044-4.4-13",),
)
async def sizes_of_sends(bench: Bench) -> None:
    """The target Sends messages that fill one or two segments, or have an octet less or more.

    Accepts: all octets of each, in as many segments as they need.
    """
    stream = await bench.open()
    await _around(bench, stream, await _room(bench, stream, "send"), "send")


@case("DDP-5041-5.2-04/2", "all octets of a Write are sent, whatever their number", level=TARGET)
async def sizes_of_writes(bench: Bench) -> None:
    """The target Writes messages that fill one or two segments, or have an octet less or more.

    Accepts: all octets of each, in as many segments as they need.
    """
    stream = await bench.open()
    room = await _room(bench, stream, "write", stag=STAG, to=TO)
    await _around(bench, stream, room, "write", stag=STAG, to=TO)


@case("DDP-5041-5.2-04/3", "all octets of a Read are sent, whatever their number", level=TARGET)
async def sizes_of_responses(bench: Bench) -> None:
    """Reads of as many octets as fill one or two segments, and of an octet less or more.

    Accepts: exactly the octets that were asked for.
    """
    stream = await bench.open(session={"regionsize": LONG})
    region = region_pattern("rw", LONG)
    await stream.read(bench.rw.stag, bench.rw.to, LONG)
    whole = await receive_whole(stream, Opcode.READ_RESPONSE, stag=PROBE_STAG)
    whole.several()
    room = len(whole.first.payload)
    for nbytes in (1, room - 1, room, room + 1, 2 * room, 2 * room + 1):
        came = await stream.expect_read(bench.rw.stag, bench.rw.to, nbytes)
        expect_octets(f"the first {nbytes} octets of the region", came, region[:nbytes])


@case("DDP-5041-5.2-10", "an empty Send is one segment", level=TARGET)
async def empty_send(bench: Bench) -> None:
    """The target Sends no octets.

    Accepts: one segment of 18 octets with L and MO 0.
    """
    whole = await sent(bench, 0)
    whole.fields(tagged=False, opcode=Opcode.SEND, last=True, mo=0, payload=b"")


@case("DDP-5041-5.2-10/2", "an empty Write is one segment", level=TARGET)
async def empty_write(bench: Bench) -> None:
    """The target Writes no octets.

    Accepts: one segment of 14 octets with L.
    """
    whole = await written(bench, 0)
    whole.fields(tagged=True, opcode=Opcode.WRITE, last=True, payload=b"")


@case("DDP-5041-5.2-10/3", "the answer to a Read of zero octets is one segment")
async def empty_response(bench: Bench) -> None:
    """A Read of zero octets.

    Accepts: one Read Response of 14 octets with L.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0, sink_stag=STAG, sink_to=TO)
    seen = await stream.expect_message(message(Opcode.READ_RESPONSE, stag=STAG))
    WholeMessage((seen,)).fields(tagged=True, last=True, payload=b"")
    if len(seen.fpdu.ulpdu) != HEADERS[segment_of(seen).tagged]:
        raise Failed("a ULPDU of 14 octets", f"one of {len(seen.fpdu.ulpdu)}", seen.annotated())


@case("DDP-5041-4.3-02/2", "a Read Request and a Terminate carry no STag", level=TARGET)
async def no_stag(bench: Bench) -> None:
    """The target Reads, and is brought to send a Terminate.

    Accepts: zero where the STag to invalidate would be.
    """
    stream = await bench.open()
    request = await bench.provoke_read(stream)
    WholeMessage((request,)).fields(inval_stag=0)
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    WholeMessage((await stream.expect_message(terminate()),)).fields(inval_stag=0)
