"""Immediate Data, both ways (RFC 7306 §4, §6, §8)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Work
from pyiwarp.conformance.bench.messages import receive_whole
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, in_words, message, silence, terminate
from pyiwarp.conformance.bench.segments import build_tagged, build_untagged
from pyiwarp.conformance.bench.terms import (
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_VERSION,
    RDMAP_OPCODE,
    RDMAP_OPERATION_UNSPECIFIED,
    RDMAP_STREAM_CATASTROPHE,
    RDMAP_VERSION,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_nothing_delivered
from pyiwarp.conformance.cases.refusals import Build, refusal
from pyiwarp.conformance.cases.rfc5041_sending import STAG, TO, say
from pyiwarp.conformance.cases.rfc7306_atomics import EXTENDED
from pyiwarp.errors import Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
EIGHT: Final = bytes.fromhex("0102030405060708")
IMMEDIATE, IMMEDIATE_SE = Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE
BAD_LENGTH: Final = (
    RDMAP_OPERATION_UNSPECIFIED,
    RDMAP_STREAM_CATASTROPHE,
    RDMAP_OPCODE,
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_NO_BUFFER,
)


async def expect_immediate(bench: Bench, *values: bytes) -> list[Work]:
    """Receives complete in order, each with eight octets of Immediate Data."""
    works = await bench.target.expect_completions(len(values))
    for number, (work, value) in enumerate(zip(works, values, strict=True)):
        if work.opcode != "recv" or work.immediate != value:
            came = "no Immediate Data" if work.immediate is None else work.immediate.hex()
            raise Failed(f"{value.hex()} in completion {number}", f"{came} in {work}")
    return works


# --- received --------------------------------------------------------------------------------------------------------


@case("EXT-7306-6.1-01", "the program is given eight octets, and told of an event", level=TARGET, needs=EXTENDED)
async def given(bench: Bench) -> None:
    """Immediate Data, and Immediate Data with Solicited Event.

    Accepts: two completions with their eight octets.
    """
    stream = await bench.open()
    await stream.send(EIGHT, opcode=IMMEDIATE)
    await stream.send(EIGHT[::-1], opcode=IMMEDIATE_SE)
    await expect_immediate(bench, EIGHT, EIGHT[::-1])


@case(
    "EXT-7306-6.1-01/2",
    "Immediate Data tells whether it solicits an event",
    level=TARGET,
    needs=[*EXTENDED, Need.SOLICITED],
)
async def solicited(bench: Bench) -> None:
    """Immediate Data, with Solicited Event, and without.

    Accepts: three completions, of which the second says that it was solicited.
    """
    stream = await bench.open()
    for opcode in (IMMEDIATE, IMMEDIATE_SE, IMMEDIATE):
        await stream.send(EIGHT, opcode=opcode)
    works = await expect_immediate(bench, EIGHT, EIGHT, EIGHT)
    if (came := [work.solicited for work in works]) != [False, True, False]:
        raise Failed("solicited: 0, 1, 0", in_words(came))


@case("EXT-7306-6.3-02", "Immediate Data consumes a receive", level=TARGET, needs=EXTENDED)
async def consumes_receive(bench: Bench) -> None:
    """Immediate Data twice to a target with one receive.

    Accepts: one completion, and Terminate 1/2/02; or the second waits for a receive.
    """
    stream = await bench.open(session={"receives": "64"})
    await stream.send(EIGHT, opcode=IMMEDIATE)
    await stream.send(EIGHT, opcode=IMMEDIATE)
    await expect_immediate(bench, EIGHT)
    seen = await stream.expect(terminate(DDP_UNTAGGED_NO_BUFFER) | silence(), bench.settings.quiet)
    if isinstance(seen, Message):
        await stream.expect_over()
        return
    await bench.target.command("recv", {"sizes": 64})
    await expect_immediate(bench, EIGHT)


@case("EXT-7306-6.3-03", "Sends and Immediate Data are delivered in one order", level=TARGET, needs=EXTENDED)
async def one_order(bench: Bench) -> None:
    """Sends of growing length and Immediate Data in turn, in one piece.

    Accepts: completions in this order.
    """
    stream = await bench.open()
    segments = []
    for number in range(4):
        segments.append(stream.untagged(Opcode.SEND, 0, bytes(number + 1)))
        segments.append(stream.untagged(IMMEDIATE, 0, bytes([number]) * 8))
    await stream.fpdus(segments)
    works = await bench.target.expect_completions(8)
    came = [work.nbytes if work.immediate is None else work.immediate for work in works]
    due = [part for number in range(4) for part in (number + 1, bytes([number]) * 8)]
    if came != due:
        shown = ", ".join(each.hex() if isinstance(each, bytes) else f"{each} octets" for each in came)
        raise Failed("Sends and Immediate Data in turn", shown)


@case("EXT-7306-6.4-01", "Immediate Data tells that the Write before it has arrived", level=TARGET, needs=EXTENDED)
async def tells_of_write(bench: Bench) -> None:
    """In one piece, a Write to the region and Immediate Data.

    Accepts: when the completion is there, the Write is in the memory.
    """
    stream = await bench.open()
    write = build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, b"here it is")
    await stream.fpdus([write, stream.untagged(IMMEDIATE, 0, EIGHT)])
    await expect_immediate(bench, EIGHT)
    await bench.target.expect_memory("rw", 0, b"here it is")


@case("EXT-7306-4.1-04/2", "the STag field of Immediate Data is ignored", level=TARGET, needs=EXTENDED)
async def stag_field_ignored(bench: Bench) -> None:
    """Immediate Data of both kinds whose STag field names the region; then a Read of the region.

    Accepts: two completions, and a Read Response.
    """
    stream = await bench.open()
    for opcode in (IMMEDIATE, IMMEDIATE_SE):
        await stream.send(EIGHT, opcode=opcode, inval_stag=bench.rw.stag)
    await expect_immediate(bench, EIGHT, EIGHT)
    await stream.expect_read(bench.rw.stag, bench.rw.to, 8)


@case("EXT-7306-6.1-02", "the program hears of Immediate Data that failed", level=TARGET, needs=EXTENDED)
async def failure_told(bench: Bench) -> None:
    """Immediate Data of seven octets.

    Accepts: a Terminate of any kind; no receive completes with success, and the connection is terminated or in error.
    """
    stream = await bench.open()
    await stream.send(EIGHT[:7], opcode=IMMEDIATE)
    await stream.expect_terminated()
    await expect_nothing_delivered(bench, 0.0)
    await bench.target.expect_state("terminated", "error")


# --- refused ---------------------------------------------------------------------------------------------------------


def _of_size(size: int, opcode: Opcode) -> Build:
    return lambda bench, stream: stream.untagged(opcode, 0, bytes(size))


def _refused(id: str, title: str, sends: str, build: Build, *terms: Term) -> None:
    refusal(id, title, sends, build, *terms, level=TARGET, needs=EXTENDED)


for _number, (_size, _opcode) in enumerate(
    ((0, IMMEDIATE), (7, IMMEDIATE), (9, IMMEDIATE), (16, IMMEDIATE), (7, IMMEDIATE_SE), (9, IMMEDIATE_SE)), 1
):
    _refused(
        "EXT-7306-6.3-07" if _number == 1 else f"EXT-7306-6.3-07/{_number}",
        f"Immediate Data of {_size} octets is refused{', with Solicited Event' if _opcode is IMMEDIATE_SE else ''}",
        f"Opcode {_opcode:#x} with {_size} octets.",
        _of_size(_size, _opcode),
        *BAD_LENGTH,
    )
_refused(
    "EXT-7306-8.2-01/4",
    "DDP version 2 in Immediate Data is refused",
    "Immediate Data with DV 2.",
    lambda bench, stream: stream.untagged(IMMEDIATE, 0, EIGHT, dv=2),
    DDP_UNTAGGED_VERSION,
)
_refused(
    "EXT-7306-8.2-01/5",
    "Immediate Data with MSN 0 is refused",
    "Immediate Data with MSN 0.",
    lambda bench, stream: build_untagged(IMMEDIATE, 0, 0, EIGHT),
    DDP_UNTAGGED_MSN,
)
_refused(
    "EXT-7306-8.2-01/6",
    "Immediate Data with an MO beyond the receive is refused",
    "Immediate Data with MO 0x100000.",
    lambda bench, stream: stream.untagged(IMMEDIATE, 0, EIGHT, mo=0x100000),
    DDP_UNTAGGED_MO,
    DDP_UNTAGGED_TOO_LONG,
)
_refused(
    "EXT-7306-4.1-01",
    "RDMAP version 0 in Immediate Data is refused",
    "Immediate Data with control octet 0x08.",
    lambda bench, stream: stream.untagged(IMMEDIATE, 0, EIGHT, rv=0),
    RDMAP_VERSION,
)
_refused(
    "EXT-7306-8.2-03/2",
    "RDMAP version 2 in Immediate Data with Solicited Event is refused",
    "Immediate Data with control octet 0x89.",
    lambda bench, stream: stream.untagged(IMMEDIATE_SE, 0, EIGHT, rv=2),
    RDMAP_VERSION,
)
_refused(
    "EXT-7306-6.3-04/2",
    "Immediate Data may not come on queue 1",
    "Immediate Data on queue 1.",
    lambda bench, stream: stream.untagged(IMMEDIATE, 1, EIGHT),
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
)
_refused(
    "EXT-7306-6.3-04/3",
    "Immediate Data may not come on queue 3",
    "Immediate Data on queue 3.",
    lambda bench, stream: stream.untagged(IMMEDIATE, 3, EIGHT),
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_NO_BUFFER,
)


# --- sent ------------------------------------------------------------------------------------------------------------


def _sent(id: str, title: str, solicited: int, opcode: Opcode, octet: int) -> None:
    """The target sends Immediate Data: all its octets are known."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        await say(bench, "immediate", data=EIGHT, se=solicited)
        seen = await stream.expect_message(message(opcode))
        due = bytes([0x41, octet]) + bytes(4) + bytes(4) + b"\0\0\0\1" + bytes(4) + EIGHT
        if seen.fpdu.ulpdu != due:
            raise Failed(f"the octets {due.hex()}", seen.fpdu.ulpdu.hex(), seen.annotated())

    run.__doc__ = (
        f"The target sends 0102030405060708 as Immediate Data{' with Solicited Event' if solicited else ''}.\n\n"
        f"Accepts: 26 octets: 41 {octet:02x}, no STag, queue 0, MSN 1, MO 0, and the eight octets."
    )
    case(id, title, level=TARGET, needs=EXTENDED)(run)


_sent("EXT-7306-6.2-01", "the eight octets follow the DDP header", 0, IMMEDIATE, 0x48)
_sent("EXT-7306-4.1-02", "Immediate Data with Solicited Event has opcode 9", 1, IMMEDIATE_SE, 0x49)


@case(
    "EXT-7306-6.3-05",
    "Immediate Data has exactly eight octets",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-4.1-01", "EXT-7306-4.2-01"),
)
async def exactly_eight(bench: Bench) -> None:
    """The target sends Immediate Data of both kinds.

    Accepts: two ULPDUs of 26 octets.
    """
    stream = await bench.open()
    for solicited in (0, 1):
        await say(bench, "immediate", data=EIGHT, se=solicited)
        (part,) = (await receive_whole(stream)).parts
        if len(part.fpdu.ulpdu) != 26:
            raise Failed("a ULPDU of 26 octets", f"{len(part.fpdu.ulpdu)}", part.annotated())


@case("EXT-7306-6.3-04", "Immediate Data goes on with the MSNs of Sends", level=TARGET, needs=EXTENDED)
async def shares_msn(bench: Bench) -> None:
    """The target posts a Send, Immediate Data, a Send and Immediate Data with Solicited Event.

    Accepts: MSNs 1 to 4 on queue 0.
    """
    stream = await bench.open()
    await say(bench, "send", len=3)
    await say(bench, "immediate", data=EIGHT)
    await say(bench, "send", len=3)
    await say(bench, "immediate", data=EIGHT, se=1)
    for msn in range(1, 5):
        (await receive_whole(stream)).fields(qn=0, msn=msn)


@case("EXT-7306-6.3-06", "Immediate Data leaves in the order in which it was posted", level=TARGET, needs=EXTENDED)
async def posted_order(bench: Bench) -> None:
    """The target posts a Write of 100,000 octets, Immediate Data, a Send and Immediate Data.

    Accepts: messages in this order, each whole before the next.
    """
    stream = await bench.open()
    await say(bench, "write", len=100_000, stag=STAG, to=TO)
    await say(bench, "immediate", data=EIGHT)
    await say(bench, "send", len=3)
    await say(bench, "immediate", data=EIGHT[::-1])
    (await receive_whole(stream, Opcode.WRITE)).several()
    (await receive_whole(stream, IMMEDIATE)).carries(EIGHT)
    await receive_whole(stream, Opcode.SEND)
    (await receive_whole(stream, IMMEDIATE)).carries(EIGHT[::-1])


@case("EXT-7306-6.3-01", "Immediate Data is untagged", level=TARGET, needs=EXTENDED)
async def untagged(bench: Bench) -> None:
    """The target sends Immediate Data of both kinds.

    Accepts: control octets 0x41, with nothing reserved set.
    """
    stream = await bench.open()
    for solicited in (0, 1):
        await say(bench, "immediate", data=EIGHT, se=solicited)
        (await receive_whole(stream)).fields(tagged=False, last=True, ddp_rsvd=0, dv=1, rv=1, rdmap_rsvd=0)
