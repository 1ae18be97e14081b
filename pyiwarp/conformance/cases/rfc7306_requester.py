"""The peer as the one that asks for Atomics: its Requests, and the Responses that it is given (RFC 7306 §5)."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Value, Work
from pyiwarp.conformance.bench.messages import WholeMessage, segment_of
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, in_words, message
from pyiwarp.conformance.bench.segments import build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    RDMAP_OPCODE,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_flushed, expect_nothing_delivered
from pyiwarp.conformance.cases.rfc7306_atomics import ALL_ONES, ATOMIC, EXTENDED
from pyiwarp.errors import Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
RESPONSE: Final = Opcode.ATOMIC_RESPONSE
STAG, TO = 0x1122_3344, 0x5566_7788_99AA_BBC8
LAYOUT: Final = struct.Struct(">IIIQQQQQ")
QUEUE: Final = 3


class Asked(NamedTuple):
    """An Atomic Request of the peer's (RFC 7306 §5.2.1)."""

    operation: int
    request_id: int
    stag: int
    to: int
    data: int
    mask: int
    compare: int
    compare_mask: int

    def __str__(self) -> str:
        return ", ".join(f"{name}={value:#x}" for name, value in self._asdict().items())


def parse(seen: Message) -> Asked:
    """The 52 octets; `Failed` if there are fewer or more."""
    payload = segment_of(seen).payload
    if len(payload) != LAYOUT.size:
        raise Failed(f"{LAYOUT.size} octets of Atomic Request", f"{len(payload)}", seen.annotated())
    return Asked(*LAYOUT.unpack(payload))


async def ask(bench: Bench, stream: Stream, op: str = "fetchadd", **keys: Value) -> Asked:
    """Have the target post an Atomic; returns what it asks for."""
    defaults: dict[str, Value] = {"add": 1} if op == "fetchadd" else {"compare": 2, "swap": 3}
    await bench.target.post(op, **{"stag": STAG, "to": TO, **defaults, **keys})
    return parse(await stream.expect_message(message(ATOMIC)))


async def answer(stream: Stream, request_id: int, value: int = 0, qn: int = QUEUE) -> None:
    """Send an Atomic Response."""
    await stream.fpdu(stream.untagged(RESPONSE, qn, struct.pack(">IQ", request_id, value)))


def told(work: Work) -> int:
    """The number that the program was given."""
    return int.from_bytes(work.immediate or b"", "big")


# --- Requests --------------------------------------------------------------------------------------------------------


@case("EXT-7306-5.2.1-01", "a FetchAdd has the header of figure 5", level=TARGET, needs=EXTENDED)
async def fetch_add_header(bench: Bench) -> None:
    """The target posts a FetchAdd of 0x0102030405060708 with a mask.

    Accepts: 52 octets with these numbers, its STag and its TO.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, add=0x0102030405060708, mask=0x8000800080008000)
    if (asked.stag, asked.to, asked.data, asked.mask) != (STAG, TO, 0x0102030405060708, 0x8000800080008000):
        raise Failed("STag, TO, Add Data and Add Mask as posted", in_words(asked))


@case("EXT-7306-5.2.1-01/2", "a CmpSwap has the header of figure 5", level=TARGET, needs=EXTENDED)
async def compare_swap_header(bench: Bench) -> None:
    """The target posts a CmpSwap with four different numbers.

    Accepts: 52 octets with Swap Data, Swap Mask, Compare Data and Compare Mask in this order.
    """
    stream = await bench.open()
    asked = await ask(bench, stream, "cmpswap", compare=0x11, swap=0x22, compare_mask=0x33, swap_mask=0x44)
    if asked[2:] != (STAG, TO, 0x22, 0x44, 0x11, 0x33):
        raise Failed("STag, TO, and swap 22/44, compare 11/33", in_words(asked))


@case("EXT-7306-5.2.1-02", "the reserved bits of an Atomic Request are zero", level=TARGET, needs=EXTENDED)
async def reserved_zero(bench: Bench) -> None:
    """The target posts a FetchAdd and a CmpSwap.

    Accepts: 00000000 and 00000002 as the first four octets.
    """
    stream = await bench.open()
    for op, due in (("fetchadd", 0), ("cmpswap", 2)):
        asked = await ask(bench, stream, op)
        if asked.operation != due:
            raise Failed(f"{due:#010x}", f"{asked.operation:#010x}")


@case("EXT-7306-5.2.1-08", "a FetchAdd has zero and all ones where it compares nothing", level=TARGET, needs=EXTENDED)
async def nothing_compared(bench: Bench) -> None:
    """The target posts a FetchAdd.

    Accepts: Compare Data of zero, Compare Mask of all ones.
    """
    stream = await bench.open()
    asked = await ask(bench, stream)
    if (asked.compare, asked.compare_mask) != (0, ALL_ONES):
        raise Failed("0 and all ones", f"{asked.compare:#x} and {asked.compare_mask:#x}")


@case("EXT-7306-5.2.1-10", "an Atomic Request is one untagged segment on queue 1", level=TARGET, needs=EXTENDED)
async def untagged(bench: Bench) -> None:
    """The target posts a FetchAdd.

    Accepts: control octets 0x41 and 0x4a, no STag, queue 1, MSN 1, MO 0, and 70 octets in all.
    """
    stream = await bench.open()
    await bench.target.post("fetchadd", stag=STAG, to=TO, add=1)
    seen = await stream.expect_message(message(ATOMIC))
    if seen.fpdu.ulpdu[:18] != bytes.fromhex("414a00000000000000010000000100000000"):
        raise Failed("41 4a, no STag, queue 1, MSN 1, MO 0", seen.fpdu.ulpdu[:18].hex(" "), seen.annotated())
    if len(seen.fpdu.ulpdu) != 70:
        raise Failed("a ULPDU of 70 octets", f"{len(seen.fpdu.ulpdu)}", seen.annotated())


@case("EXT-7306-5.2.1-16", "Atomics leave in the order in which they were posted", level=TARGET, needs=EXTENDED)
async def posted_order(bench: Bench) -> None:
    """The target posts ten Atomics with different operands.

    Accepts: Requests in this order with MSNs 1 to 10.
    """
    stream = await bench.open()
    for number in range(10):
        await bench.target.post("fetchadd", stag=STAG, to=TO, add=number)
    for number in range(10):
        seen = await stream.expect_message(message(ATOMIC, msn=number + 1))
        if parse(seen).data != number:
            raise Failed(f"Add Data {number}", f"{parse(seen).data}", seen.annotated())


@case("EXT-7306-5.2-01", "Atomics and Reads share the MSNs of queue 1", level=TARGET, needs=EXTENDED)
async def shares_msn(bench: Bench) -> None:
    """The target posts a Read, a FetchAdd, a Read and a CmpSwap.

    Accepts: MSNs 1 to 4 on queue 1.
    """
    stream = await bench.open()
    await bench.target.post("read", stag=STAG, to=TO, len=8)
    await bench.target.post("fetchadd", stag=STAG, to=TO, add=1)
    await bench.target.post("read", stag=STAG, to=TO, len=8)
    await bench.target.post("cmpswap", stag=STAG, to=TO, compare=1, swap=2)
    for msn, opcode in enumerate((Opcode.READ_REQUEST, ATOMIC, Opcode.READ_REQUEST, ATOMIC), 1):
        WholeMessage((await stream.expect_message(message(opcode)),)).fields(qn=1, msn=msn)


@case("EXT-7306-5.2-01/2", "Atomics and Reads share ORD", level=TARGET, needs=[*EXTENDED, Need.DEPTHS])
async def shares_ord(bench: Bench) -> None:
    """A target with an ORD of two posts a FetchAdd, a Read and a FetchAdd; after a while the first is answered.

    Accepts: two Requests, silence, and the third.
    """
    stream = await bench.open(session={"ord": 2})
    asked = await ask(bench, stream)
    await bench.target.post("read", stag=STAG, to=TO, len=8)
    await stream.expect_message(message(Opcode.READ_REQUEST))
    await bench.target.post("fetchadd", stag=STAG, to=TO, add=2)
    await stream.expect_quiet()
    await answer(stream, asked.request_id)
    await stream.expect_message(message(ATOMIC, msn=3))


@case("EXT-7306-4.1-03", "an Atomic Request carries no STag to invalidate", level=TARGET, needs=EXTENDED)
async def no_stag(bench: Bench) -> None:
    """The target posts a FetchAdd and a CmpSwap.

    Accepts: zero in the STag field of both.
    """
    stream = await bench.open()
    await bench.target.post("fetchadd", stag=STAG, to=TO, add=1)
    await bench.target.post("cmpswap", stag=STAG, to=TO, compare=1, swap=2)
    for _ in range(2):
        WholeMessage((await stream.expect_message(message(ATOMIC)),)).fields(inval_stag=0, rdmap_rsvd=0, rv=1)


# --- Responses -------------------------------------------------------------------------------------------------------


@case("EXT-7306-5.2.2-07", "the program is given the value of the Response", level=TARGET, needs=EXTENDED)
async def value_given(bench: Bench) -> None:
    """The target posts a FetchAdd and a CmpSwap, and is answered.

    Accepts: completions with the values of the Responses.
    """
    stream = await bench.open()
    for number, (op, value) in enumerate((("fetchadd", 0x1122334455667788), ("cmpswap", ALL_ONES - 1))):
        asked = await ask(bench, stream, op, wr=number)
        await answer(stream, asked.request_id, value)
        (work,) = await bench.target.expect_completions(1)
        if (work.opcode, work.wr_id, told(work)) != (op, number, value):
            raise Failed(f"{op} {number} with {value:#x}", f"{work} with {told(work):#x}")


@case("EXT-7306-5.2.2-06", "an Atomic Response needs no receive", level=TARGET, needs=EXTENDED)
async def needs_no_receive(bench: Bench) -> None:
    """A target that has posted no receive posts four FetchAdds, which are answered.

    Accepts: four completions.
    """
    stream = await bench.open(session={"receives": ""})
    for _ in range(4):
        asked = await ask(bench, stream)
        await answer(stream, asked.request_id)
    await bench.target.expect_completions(4)


@case("EXT-7306-5.4-08", "an Atomic does not complete before its Response", level=TARGET, needs=EXTENDED)
async def withheld(bench: Bench) -> None:
    """The target posts a FetchAdd, whose Response is withheld for a while.

    Accepts: no completion before the Response, one after it.
    """
    stream = await bench.open()
    asked = await ask(bench, stream)
    await expect_nothing_delivered(bench)
    await answer(stream, asked.request_id, 5)
    (work,) = await bench.target.expect_completions(1)
    if told(work) != 5:
        raise Failed("the value 5", f"{told(work):#x}")


@case("EXT-7306-5-06/2", "Responses on queue 3 count for themselves", level=TARGET, needs=EXTENDED)
async def counts_alone(bench: Bench) -> None:
    """The target posts a Read and a FetchAdd, twice; all are answered, the Atomics with MSNs 1 and 2.

    Accepts: four completions in order.
    """
    stream = await bench.open()
    for _ in range(2):
        await bench.target.post("read", stag=STAG, to=TO, len=4)
        sink = segment_of(await stream.expect_message(message(Opcode.READ_REQUEST))).payload
        asked = await ask(bench, stream)
        await stream.respond(int.from_bytes(sink[:4], "big"), int.from_bytes(sink[4:12], "big"), b"read")
        await answer(stream, asked.request_id)
    works = await bench.target.expect_completions(4)
    if (came := [work.opcode for work in works]) != ["read", "fetchadd"] * 2:
        raise Failed("read, fetchadd, read, fetchadd", in_words(came))


def _wrong(id: str, title: str, sends: str, payload: bytes, qn: int, msn: int, *terms: Term) -> None:
    """A Response to the target's only FetchAdd that is none; `payload` goes after its identifier."""

    async def run(bench: Bench) -> None:
        stream = await bench.open(session={"receives": "64"})
        asked = await ask(bench, stream)
        identifier = asked.request_id.to_bytes(4, "big") if len(payload) < 12 else b""
        await stream.fpdu(build_untagged(RESPONSE, qn, msn, identifier + payload))
        await stream.expect_terminated(*terms)
        await expect_flushed(bench, 2)

    named = " or ".join(map(str, terms)) or "of any kind"
    run.__doc__ = f"The target posts a FetchAdd; {sends}.\n\nAccepts: Terminate {named}; the Atomic completes in error."
    case(id, title, level=TARGET, needs=EXTENDED)(run)


_wrong(
    "EXT-7306-5.2.2-08",
    "a Response with another identifier is refused",
    "the Response names request 0xfefefefe",
    b"\xfe" * 4 + bytes(8),
    QUEUE,
    1,
)
_wrong("EXT-7306-5.2.2-08/2", "a Response of 11 octets is refused", "the Response lacks an octet", bytes(7), QUEUE, 1)
_wrong(
    "EXT-7306-5.2.2-08/3",
    "a Response of 15 octets is refused",
    "the Response has three octets too many",
    bytes(11),
    QUEUE,
    1,
)
_wrong(
    "EXT-7306-5-06/3",
    "a Response with a wrong MSN is refused",
    "the Response has MSN 5",
    bytes(8),
    QUEUE,
    5,
    DDP_UNTAGGED_MSN,
    DDP_UNTAGGED_NO_BUFFER,
)
_wrong(
    "EXT-7306-5.2.2-04",
    "a Response on queue 0 is refused",
    "the Response comes on queue 0",
    bytes(8),
    0,
    1,
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
)
_wrong(
    "EXT-7306-5.2.2-04/2",
    "a Response on queue 1 is refused",
    "the Response comes on queue 1",
    bytes(8),
    1,
    1,
    RDMAP_OPCODE,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
)
