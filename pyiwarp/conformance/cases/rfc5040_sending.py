"""What the peer sends: control octets, opcodes and order of RDMAP messages (RFC 5040 §4.1, §4.2, §5.1, §5.3)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.messages import WholeMessage, receive_whole, segment_of
from pyiwarp.conformance.bench.patterns import Failed, in_words, message, terminate
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.rfc5041_sending import STAG, TO, every_kind, pattern, say

__all__: list[str] = []

TARGET: Final = Level.TARGET
LONG: Final = 100_000
MILLION: Final = 1_000_000
TOO_MUCH: Final = 8  # millions of octets: more than the kernels hold
KINDS: Final = {
    Opcode.SEND: 0x43,
    Opcode.SEND_SE: 0x45,
    Opcode.SEND_INVAL: 0x44,
    Opcode.SEND_SE_INVAL: 0x46,
    Opcode.WRITE: 0x40,
    Opcode.READ_REQUEST: 0x41,
    Opcode.READ_RESPONSE: 0x42,
    Opcode.TERMINATE: 0x47,
}
"""In the order in which `every_kind` has them sent."""

NAMES: Final = {
    Opcode.SEND_SE: "Send with Solicited Event",
    Opcode.SEND_INVAL: "Send with Invalidate",
    Opcode.SEND_SE_INVAL: "Send with Solicited Event and Invalidate",
}


def _control_octet(number: int, opcode: Opcode, octet: int) -> None:
    """A case: the message of this kind begins with this control octet."""

    async def run(bench: Bench) -> None:
        part = (await every_kind(bench))[number].parts[0]
        if part.fpdu.ulpdu[1] != octet:
            raise Failed(f"control octet {octet:#04x}", f"{part.fpdu.ulpdu[1]:#04x}", part.annotated())

    name = NAMES.get(opcode) or opcode.name.replace("_", " ").capitalize()
    run.__doc__ = (
        f"The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.\n\n"
        f"Accepts: {octet:#04x} as the second octet of the message: {name}."
    )
    id = "RDMAP-5040-4.1-05" if not number else f"RDMAP-5040-4.1-05/{number + 1}"
    case(id, f"the control octet of a {name} is {octet:#04x}", level=TARGET, also=("RDMAP-5040-4.1-02",))(run)


for _number, (_opcode, _octet) in enumerate(KINDS.items()):
    _control_octet(_number, _opcode, _octet)


@case("RDMAP-5040-4.1-01", "the first octet that DDP leaves to RDMAP is its control octet", level=TARGET)
async def version_and_opcode(bench: Bench) -> None:
    """The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.

    Accepts: RV 1 and a known opcode in each.
    """
    for whole, opcode in zip(await every_kind(bench), KINDS, strict=True):
        whole.fields(rv=1, opcode=opcode)


@case("RDMAP-5040-4.1-08", "RDMAP's reserved bits are zero", level=TARGET)
async def reserved_zero(bench: Bench) -> None:
    """The target sends all four Sends, a Write, a Read Request, a Read Response and a Terminate.

    Accepts: two bits of zero in each control octet.
    """
    for whole in await every_kind(bench):
        whole.fields(rdmap_rsvd=0)


@case("RDMAP-5040-4.1-10", "messages that invalidate nothing carry no STag to invalidate", level=TARGET)
async def no_stag(bench: Bench) -> None:
    """The target sends a Send, one with Solicited Event, a Read Request and a Terminate.

    Accepts: zero in the STag field of each.
    """
    without = (Opcode.SEND, Opcode.SEND_SE, Opcode.READ_REQUEST, Opcode.TERMINATE)
    for whole in await every_kind(bench):
        if whole.opcode in without:
            whole.fields(inval_stag=0)


@case("RDMAP-5040-4.1-03", "a Send with Invalidate carries the STag", level=TARGET, also=("RDMAP-5040-5.3-12",))
async def stag_to_invalidate(bench: Bench) -> None:
    """The target Sends with Invalidate of STag 0x11223344.

    Accepts: octets 11 22 33 44 after the control octet.
    """
    await _expect_stag(bench, 0)


@case("RDMAP-5040-4.1-03/2", "a Send with Solicited Event and Invalidate carries the STag", level=TARGET)
async def stag_to_invalidate_solicited(bench: Bench) -> None:
    """The target Sends with Solicited Event and Invalidate of STag 0x11223344.

    Accepts: octets 11 22 33 44 after the control octet.
    """
    await _expect_stag(bench, 1)


async def _expect_stag(bench: Bench, solicited: int) -> None:
    stream = await bench.open()
    await say(bench, "send", len=5, inv=0x11223344, se=solicited)
    (part,) = (await receive_whole(stream)).parts
    if part.fpdu.ulpdu[2:6] != b"\x11\x22\x33\x44":
        raise Failed("STag 11 22 33 44", part.fpdu.ulpdu[2:6].hex(" "), part.annotated())


@case("RDMAP-5040-4.1-06", "a Write has the STag and TO that it was given", level=TARGET, also=("RDMAP-5040-5.1-01",))
async def write_header(bench: Bench) -> None:
    """The target Writes three octets to STag 0xa5c3f00d, TO 0x1000.

    Accepts: a tagged segment with opcode 0, this STag and this TO.
    """
    stream = await bench.open()
    await say(bench, "write", len=3, stag=STAG, to=TO)
    (await receive_whole(stream)).fields(tagged=True, opcode=Opcode.WRITE, stag=STAG, to=TO)


@case("RDMAP-5040-4.2-03", "payload follows the DDP header directly", level=TARGET, also=("RDMAP-5040-3.1-04",))
async def payload_position(bench: Bench) -> None:
    """The target Sends and Writes 32 octets of a known pattern.

    Accepts: the pattern from octet 18 of the Send's ULPDU on, and from octet 14 of the Write's.
    """
    stream = await bench.open()
    await say(bench, "send", len=32)
    await say(bench, "write", len=32, stag=STAG, to=TO)
    for size in (18, 14):
        (part,) = (await receive_whole(stream)).parts
        if part.fpdu.ulpdu[size:] != pattern(32):
            raise Failed(f"the pattern from octet {size} on", part.fpdu.ulpdu[size:].hex(), part.annotated())


@case("RDMAP-5040-4.2-02", "a Read Request carries nothing of the program's", level=TARGET)
async def read_request_size(bench: Bench) -> None:
    """The target Reads 4,096 octets.

    Accepts: a Read Request of 28 octets after the DDP header.
    """
    stream = await bench.open()
    await say(bench, "read", len=4096, stag=STAG, to=TO)
    whole = await receive_whole(stream, Opcode.READ_REQUEST)
    whole.every("28 octets", lambda segment: len(segment.payload) == 28)


@case("RDMAP-5040-5.3-01", "all four kinds of Send are untagged and on queue 0", level=TARGET)
async def sends_untagged(bench: Bench) -> None:
    """The target sends all four kinds of Send.

    Accepts: untagged segments on queue 0 with MSNs 1 to 4.
    """
    for msn, whole in enumerate((await every_kind(bench))[:4], 1):
        whole.fields(tagged=False, qn=0, msn=msn)


@case("RDMAP-5040-5.3-09", "Sends leave in the order in which they were posted", level=TARGET)
async def sends_in_order(bench: Bench) -> None:
    """The target posts forty Sends of growing length.

    Accepts: forty Sends with MSNs and lengths that grow by one.
    """
    stream = await bench.open()
    for number in range(40):
        await say(bench, "send", len=number)
    for number in range(40):
        whole = await receive_whole(stream, Opcode.SEND, msn=number + 1)
        whole.carries(pattern(number))


@case("RDMAP-5040-5.1-06/2", "Writes leave in the order in which they were posted", level=TARGET)
async def writes_in_order(bench: Bench) -> None:
    """The target posts forty Writes of growing length.

    Accepts: forty Writes whose lengths grow by one.
    """
    stream = await bench.open()
    for number in range(40):
        await say(bench, "write", len=number, stag=STAG, to=TO + number)
    for number in range(40):
        whole = await receive_whole(stream, Opcode.WRITE, to=TO + number)
        whole.carries(pattern(number))


@case("RDMAP-5040-5.1-08", "one Write goes to one buffer", level=TARGET)
async def one_write_one_buffer(bench: Bench) -> None:
    """The target Writes 100,000 octets to each of two STags.

    Accepts: two messages; within each the STag stays the same.
    """
    stream = await bench.open()
    for stag in (STAG, STAG + 1):
        await say(bench, "write", len=LONG, stag=stag, to=TO)
    for stag in (STAG, STAG + 1):
        whole = await receive_whole(stream, Opcode.WRITE)
        whole.fields(stag=stag)
        whole.carries(pattern(LONG))


@case("RDMAP-5040-3.1-03", "one message of RDMAP is one of DDP", level=TARGET)
async def message_boundaries(bench: Bench) -> None:
    """The target posts Sends and Writes of 100,000 octets in turn.

    Accepts: segments whose opcode, queue and STag change only after one with L.
    """
    stream = await bench.open()
    for _ in range(2):
        await say(bench, "send", len=LONG)
        await say(bench, "write", len=LONG, stag=STAG, to=TO)
    for opcode in (Opcode.SEND, Opcode.WRITE) * 2:
        whole = await receive_whole(stream)
        whole.fields(opcode=opcode)
        whole.carries(pattern(LONG))


@case("RDMAP-5040-3.2-01", "the program has all six operations", level=TARGET)
async def operations(bench: Bench) -> None:
    """The target posts all four Sends, a Write and a Read.

    Accepts: opcodes 3, 5, 4, 6, 0 and 1, each with what it was given.
    """
    stream = await bench.open()
    await say(bench, "send", data=b"plain")
    await say(bench, "send", data=b"solicited", se=1)
    await say(bench, "send", data=b"invalidate", inv=STAG)
    await say(bench, "send", data=b"both", inv=STAG, se=1)
    await say(bench, "write", data=b"written", stag=STAG, to=TO)
    await say(bench, "read", len=3, stag=STAG, to=TO)
    due = {
        Opcode.SEND: b"plain",
        Opcode.SEND_SE: b"solicited",
        Opcode.SEND_INVAL: b"invalidate",
        Opcode.SEND_SE_INVAL: b"both",
        Opcode.WRITE: b"written",
    }
    for opcode, payload in due.items():
        (await receive_whole(stream, opcode)).carries(payload)
    await receive_whole(stream, Opcode.READ_REQUEST)


@case("RDMAP-5040-3.2-02", "each posted work request completes once", level=TARGET)
async def completions(bench: Bench) -> None:
    """The target posts a Send, a Write, and a Read that is answered.

    Accepts: three completions in order, and no more.
    """
    stream = await bench.open()
    await bench.target.post("send", wr=1, len=3)
    await bench.target.post("write", wr=2, len=3, stag=STAG, to=TO)
    await bench.target.post("read", wr=3, len=3, stag=STAG, to=TO)
    await receive_whole(stream, Opcode.SEND)
    await receive_whole(stream, Opcode.WRITE)
    sink = segment_of(await stream.expect_message(message(Opcode.READ_REQUEST))).payload
    await stream.respond(int.from_bytes(sink[:4], "big"), int.from_bytes(sink[4:12], "big"), b"abc")
    works = await bench.target.expect_completions(3)
    if (came := [(work.wr_id, work.opcode) for work in works]) != [(1, "send"), (2, "write"), (3, "read")]:
        raise Failed("1 send, 2 write, 3 read", in_words(came))
    if more := await bench.target.completions(1, bench.settings.quiet):
        raise Failed("no fourth completion", str(more[0]))


@case("RDMAP-5040-5.3-10/2", "an empty Send has an MSN of its own", level=TARGET)
async def empty_sends(bench: Bench) -> None:
    """The target sends two empty Sends and one of an octet.

    Accepts: MSNs 1, 2 and 3.
    """
    stream = await bench.open()
    for nbytes in (0, 0, 1):
        await say(bench, "send", len=nbytes)
    for msn, nbytes in ((1, 0), (2, 0), (3, 1)):
        (await receive_whole(stream, Opcode.SEND, msn=msn)).carries(pattern(nbytes))


@case("RDMAP-5040-5.5-11", "a Send does not complete before TCP has taken it", level=TARGET)
async def completes_when_taken(bench: Bench) -> None:
    """The target posts eight Sends of a million octets, of which the bench takes none for a while.

    Accepts: fewer than eight completions; the others when the octets are accepted.
    """
    stream = await bench.open(session={"receives": "", "regionsize": 64})
    stream.line.tcp.hold()
    for number in range(TOO_MUCH):
        await bench.target.post("send", wr=number, len=MILLION)
    early = await bench.target.completions(TOO_MUCH, 2 * bench.settings.quiet)
    if len(early) >= TOO_MUCH:
        raise Failed(f"fewer than {TOO_MUCH} completions", f"{len(early)}")
    stream.line.tcp.release()
    for msn in range(1, TOO_MUCH + 1):
        await receive_whole(stream, Opcode.SEND, msn=msn)
    await bench.target.expect_completions(TOO_MUCH - len(early))


# --- the Terminate among other messages ------------------------------------------------------------------------------


@case("RDMAP-5040-5.4-09", "nothing follows a Terminate", level=TARGET)
async def nothing_behind_terminate(bench: Bench) -> None:
    """The target posts twenty Sends of 100,000 octets; meanwhile a Send on queue 99 comes.

    Accepts: some of the messages, Terminate 1/2/01, and then the end of the stream.
    """
    stream = await bench.open()
    for _ in range(20):
        await say(bench, "send", len=LONG)
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    await stream.expect_message(message(Opcode.SEND))
    while True:
        seen = await stream.expect_message(message(Opcode.SEND) | terminate())
        if seen.terminate is not None:
            break
    await stream.expect_over()


@case("RDMAP-5040-5.4-08", "after an error everything that was posted completes in error", level=TARGET)
async def posted_flushed(bench: Bench) -> None:
    """A target with an ORD of one posts ten Reads and a Send after them; then a Send on queue 99 comes.

    Accepts: eleven completions in error.
    """
    stream = await bench.open(session={"ord": 1, "receives": ""})
    for number in range(10):
        await bench.target.post("read", wr=number, len=4, stag=STAG, to=TO)
    await bench.target.post("send", wr=10, len=4)
    await stream.expect_message(message(Opcode.READ_REQUEST))
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    await stream.expect_terminated()
    works = await bench.target.completions(11)
    if len(works) != 11 or any(work.status == "success" for work in works):
        raise Failed("eleven completions in error", f"{len(works)}: {'; '.join(map(str, works[:3]))}")


@case("RDMAP-5040-5.4-02/2", "a Terminate has MSN 1 though Sends went before it", level=TARGET, needs=[Need.REGION])
async def terminate_counts_alone(bench: Bench) -> None:
    """The target Sends three messages and answers a Read; then a Send on queue 99 comes.

    Accepts: a Terminate on queue 2 with MSN 1 and MO 0.
    """
    stream = await bench.open()
    for _ in range(3):
        await say(bench, "send", len=3)
        await receive_whole(stream, Opcode.SEND)
    await stream.expect_read(bench.rw.stag, bench.rw.to, 8)
    await stream.fpdu(build_untagged(Opcode.SEND, 99, 1, b"x"))
    WholeMessage((await stream.expect_message(terminate()),)).fields(qn=2, msn=1, mo=0, last=True)
