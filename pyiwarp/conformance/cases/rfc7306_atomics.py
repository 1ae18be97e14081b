"""Atomics on the peer's memory: FetchAdd and CmpSwap, right and wrong (RFC 7306 §5, §8)."""

from __future__ import annotations

import struct
from typing import Final, Literal

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import Region, region_pattern
from pyiwarp.conformance.bench.messages import WholeMessage, receive_whole, segment_of
from pyiwarp.conformance.bench.patterns import Failed, message
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_delivered, expect_nothing_delivered
from pyiwarp.conformance.cases.rfc5040_reads import request as read_request

__all__ = ["ALL_ONES", "ATOMIC", "EXTENDED", "atomic_request", "word_offset"]

TARGET: Final = Level.TARGET
EXTENDED: Final = (Need.EXTENSIONS,)
ATOMIC: Final = Opcode.ATOMIC_REQUEST
RESPONSE: Final = Opcode.ATOMIC_RESPONSE
ALL_ONES: Final = (1 << 64) - 1
FETCH_ADD, COMPARE_SWAP = 0, 2
REQUEST_QUEUE, RESPONSE_QUEUE = 1, 3


def atomic_request(
    stag: int,
    to: int,
    operation: int = FETCH_ADD,
    data: int = 0,
    mask: int = 0,
    compare: int = 0,
    compare_mask: int = ALL_ONES,
    *,
    request_id: int = 0x11,
) -> bytes:
    """The 52 octets of an Atomic Request (RFC 7306 §5.2.1)."""
    return struct.pack(
        ">IIIQQQQQ", operation, request_id, stag, to & ALL_ONES, data, mask, compare & ALL_ONES, compare_mask
    )


def word_offset(region: Region) -> int:
    """The first offset in the region whose address is a multiple of eight, seen from its TO."""
    return -region.to % 8


class Word:
    """Eight aligned octets of the region, on a stream that tells their byte order."""

    def __init__(self, bench: Bench, stream: Stream) -> None:
        self.bench = bench
        self.stream = stream
        self.offset = word_offset(bench.rw)
        self.order: Literal["little", "big"] = "little"

    @classmethod
    async def open(cls, bench: Bench, value: int = 0) -> Word:
        """A fresh stream and a word that holds `value`."""
        word = cls(bench, await bench.open())
        await word.poke(b"\1" + bytes(7))
        found = await word.fetch_add(0)
        if found not in (1, 1 << 56):
            raise Failed("the number 1 in one byte order or the other", f"{found:#x}")
        word.order = "little" if found == 1 else "big"
        await word.put(value)
        return word

    async def poke(self, octets: bytes) -> None:
        """Have the target write these octets there."""
        await self.bench.target.command("poke", {"region": "rw", "off": self.offset, "data": octets})

    async def put(self, value: int) -> None:
        """Have the target write a number there."""
        await self.poke(value.to_bytes(8, self.order))

    async def expect(self, value: int) -> None:
        """The target must say that this number is there."""
        await self.bench.target.expect_memory("rw", self.offset, value.to_bytes(8, self.order))

    def request(
        self,
        operation: int,
        data: int = 0,
        mask: int = 0,
        compare: int = 0,
        compare_mask: int = ALL_ONES,
        *,
        request_id: int = 0x11,
        shift: int = 0,
    ) -> bytes:
        """A segment with an Atomic Request for this word, or `shift` octets after it."""
        region = self.bench.rw
        to = region.to + self.offset + shift
        payload = atomic_request(region.stag, to, operation, data, mask, compare, compare_mask, request_id=request_id)
        return self.stream.untagged(ATOMIC, REQUEST_QUEUE, payload)

    async def answer(self, request_id: int | None = 0x11) -> int:
        """The next Atomic Response, which must name this request; returns the value in it."""
        seen = await self.stream.expect_message(message(RESPONSE, tagged=False, qn=RESPONSE_QUEUE, last=True))
        payload = segment_of(seen).payload
        if len(payload) != 12:
            raise Failed("12 octets of Atomic Response", f"{len(payload)}", seen.annotated())
        came, value = struct.unpack(">IQ", payload)
        if request_id is not None and came != request_id:
            raise Failed(f"request identifier {request_id:#x}", f"{came:#x}", seen.annotated())
        return int(value)

    async def fetch_add(self, add: int, mask: int = 0) -> int:
        """One FetchAdd; returns what was there."""
        await self.stream.fpdu(self.request(FETCH_ADD, add, mask))
        return await self.answer()

    async def compare_swap(self, compare: int, swap: int, compare_mask: int, swap_mask: int) -> int:
        """One CmpSwap; returns what was there."""
        await self.stream.fpdu(self.request(COMPARE_SWAP, swap, swap_mask, compare, compare_mask))
        return await self.answer()


def expect_value(due: int, came: int) -> None:
    """The value of a Response."""
    if came != due:
        raise Failed(f"the value {due:#018x}", f"{came:#018x}")


def masked_sum(value: int, add: int, mask: int) -> int:
    """RFC 7306 §5.1.1 bit by bit: the carry out of each bit that `mask` names is dropped."""
    result = carry = 0
    for bit in range(64):
        total = (value >> bit & 1) + (add >> bit & 1) + carry
        result |= (total & 1) << bit
        carry = 0 if mask >> bit & 1 else total >> 1
    return result


# --- FetchAdd --------------------------------------------------------------------------------------------------------


@case("EXT-7306-5.1.1-06", "FetchAdd without a mask adds 64 bits", level=TARGET, needs=EXTENDED)
async def plain_sum(bench: Bench) -> None:
    """FetchAdds of 1 to 41 and to the greatest number.

    Accepts: 41 and the greatest number as values; 42 and 0 in the memory.
    """
    word = await Word.open(bench, 41)
    expect_value(41, await word.fetch_add(1))
    await word.expect(42)
    await word.put(ALL_ONES)
    expect_value(ALL_ONES, await word.fetch_add(1))
    await word.expect(0)


@case("EXT-7306-5.1.1-05", "FetchAdd with a mask adds field by field", level=TARGET, needs=EXTENDED)
async def masked_sums(bench: Bench) -> None:
    """FetchAdds with masks for fields of 8, 16, 32, 1 and of different numbers of bits.

    Accepts: sums from which the carry out of each field is dropped.
    """
    word = await Word.open(bench)
    for value, add, mask in (
        (0x00FF00FF00FF00FF, 0x0001000100010001, 0x0080008000800080),
        (0xFFFFFFFFFFFFFFFF, 0x0101010101010101, 0x8080808080808080),
        (0x7FFFFFFF80000000, 0x0000000180000000, 0x8000000080000000),
        (0xAAAAAAAAAAAAAAAA, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF),
        (0x123456789ABCDEF0, 0xFEDCBA9876543210, 0x0000800000020001),
    ):
        await word.put(value)
        expect_value(value, await word.fetch_add(add, mask))
        await word.expect(masked_sum(value, add, mask))


@case("EXT-7306-5.1.1-07", "FetchAdd works in the byte order of the host", level=TARGET, needs=EXTENDED)
async def byte_order(bench: Bench) -> None:
    """Octets 01 02 03 04 05 06 07 08 in memory; a FetchAdd of 1.

    Accepts: the octets as a number of one byte order, big-endian in the Response, and its successor in memory.
    """
    word = await Word.open(bench)
    octets = bytes(range(1, 9))
    await word.poke(octets)
    due = int.from_bytes(octets, word.order)
    expect_value(due, await word.fetch_add(1))
    await word.expect(due + 1)


@case("EXT-7306-5.2.1-09", "FetchAdd ignores Compare Data and Compare Mask", level=TARGET, needs=EXTENDED)
async def compare_ignored(bench: Bench) -> None:
    """A FetchAdd of 5 with other numbers in Compare Data and Compare Mask.

    Accepts: a Response, and a sum in memory, as without them.
    """
    word = await Word.open(bench, 10)
    await word.stream.fpdu(word.request(FETCH_ADD, 5, 0, 0x1234, 0x5678))
    expect_value(10, await word.answer())
    await word.expect(15)


# --- CmpSwap ---------------------------------------------------------------------------------------------------------

OLD: Final = 0x1122334455667788
TELLS: Final = "EXT-7306-5.1.2-03"
"""The rule that the value from before is told, whether it fits or not."""


def _compare_swap(id: str, title: str, compare: int, swap: int, compare_mask: int, swap_mask: int, due: int) -> None:
    """One CmpSwap on the word 0x1122334455667788."""

    async def run(bench: Bench) -> None:
        word = await Word.open(bench, OLD)
        expect_value(OLD, await word.compare_swap(compare, swap, compare_mask, swap_mask))
        await word.expect(due)

    run.__doc__ = (
        f"CmpSwap of {OLD:#x}: compare {compare:#x} under {compare_mask:#x}, swap {swap:#x} under {swap_mask:#x}.\n\n"
        f"Accepts: {OLD:#x} as value, and {due:#x} in the memory."
    )
    also = () if id.startswith(TELLS) else (TELLS,)
    case(id, title, level=TARGET, needs=EXTENDED, also=also)(run)


_compare_swap("EXT-7306-5.1.2-01", "CmpSwap that fits swaps", OLD, 7, ALL_ONES, ALL_ONES, 7)
_compare_swap("EXT-7306-5.1.2-01/2", "CmpSwap without Compare Mask always fits", 0, 7, 0, ALL_ONES, 7)
_compare_swap("EXT-7306-5.1.2-01/3", "CmpSwap compares the bits of its mask alone", 0x88, 7, 0xFF, ALL_ONES, 7)
_compare_swap(
    "EXT-7306-5.1.2-01/4", "CmpSwap swaps the bits of its mask alone", OLD, ALL_ONES, ALL_ONES, 0xFF00, OLD | 0xFF00
)
_compare_swap("EXT-7306-5.1.2-02", "CmpSwap that does not fit changes nothing", OLD ^ 1, 7, ALL_ONES, ALL_ONES, OLD)
_compare_swap(
    "EXT-7306-5.1.2-02/2", "CmpSwap that fails in one masked bit changes nothing", 0x89, 7, 0xFF, ALL_ONES, OLD
)
_compare_swap("EXT-7306-5.1.2-03", "CmpSwap without Swap Mask tells and changes nothing", OLD, 7, ALL_ONES, 0, OLD)
_compare_swap(
    "EXT-7306-5.1.2-02/3",
    "CmpSwap keeps what its Swap Mask leaves out",
    OLD,
    0xAABBCCDDEEFF0011,
    ALL_ONES,
    0xFFFFFFFF00000000,
    0xAABBCCDD55667788,
)


# --- Responses -------------------------------------------------------------------------------------------------------


@case(
    "EXT-7306-5.2.1-18",
    "an Atomic Request is answered with an Atomic Response",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-4.1-01", "EXT-7306-4.1-03"),
)
async def response(bench: Bench) -> None:
    """A FetchAdd of 0 on the word 0x29 with request identifier 0x11.

    Accepts: one untagged segment of 30 octets: opcode 0xb, STag field 0, queue 3, MO 0, L, identifier 0x11 and 0x29.
    """
    word = await Word.open(bench, 0x29)
    await word.stream.fpdu(word.request(FETCH_ADD))
    whole = await receive_whole(word.stream)
    due = struct.pack(">IQ", 0x11, 0x29)
    whole.fields(tagged=False, opcode=RESPONSE, inval_stag=0, qn=RESPONSE_QUEUE, mo=0, last=True, payload=due)


@case(
    "EXT-7306-5-05",
    "an Atomic Response is untagged and on queue 3",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-5.2-02", "EXT-7306-5.2.2-03", "EXT-7306-5.2.2-04", "EXT-7306-4.1-05"),
)
async def response_queue(bench: Bench) -> None:
    """A FetchAdd.

    Accepts: an answer with control octets 0x41 and 0x4b, no STag, on queue 3 with MSN 1.
    """
    stream = await bench.open()
    to = bench.rw.to + word_offset(bench.rw)
    await stream.fpdu(stream.untagged(ATOMIC, REQUEST_QUEUE, atomic_request(bench.rw.stag, to)))
    seen = await stream.expect_message(message())
    if seen.fpdu.ulpdu[:14] != bytes.fromhex("414b000000000000000300000001"):
        raise Failed("41 4b, no STag, queue 3, MSN 1", seen.fpdu.ulpdu[:14].hex(" "), seen.annotated())


@case("EXT-7306-5-03", "whoever does one Atomic does both", level=TARGET, needs=EXTENDED, also=("EXT-7306-5.2.1-04",))
async def both_operations(bench: Bench) -> None:
    """A FetchAdd and a CmpSwap.

    Accepts: an Atomic Response to each.
    """
    word = await Word.open(bench, 1)
    expect_value(1, await word.fetch_add(1))
    expect_value(2, await word.compare_swap(2, 3, ALL_ONES, ALL_ONES))


@case("EXT-7306-5.2.2-01", "an Atomic Response has 12 octets after its DDP header", level=TARGET, needs=EXTENDED)
async def response_size(bench: Bench) -> None:
    """A FetchAdd.

    Accepts: a ULPDU of 30 octets.
    """
    word = await Word.open(bench)
    await word.stream.fpdu(word.request(FETCH_ADD))
    seen = await word.stream.expect_message(message(RESPONSE))
    if len(seen.fpdu.ulpdu) != 30:
        raise Failed("a ULPDU of 30 octets", f"{len(seen.fpdu.ulpdu)}", seen.annotated())


@case("EXT-7306-5.2.2-02", "the value is that before the operation", level=TARGET, needs=EXTENDED)
async def value_before(bench: Bench) -> None:
    """Eight octets that a Write brings, and a FetchAdd of 1.

    Accepts: these octets as a number of the host's byte order.
    """
    word = await Word.open(bench)
    octets = bytes.fromhex("0f1e2d3c4b5a6978")
    await word.stream.write(bench.rw.stag, bench.rw.to + word.offset, octets)
    expect_value(int.from_bytes(octets, word.order), await word.fetch_add(1))


@case("EXT-7306-5.2.1-05", "the request identifier comes back", level=TARGET, needs=EXTENDED)
async def identifiers(bench: Bench) -> None:
    """FetchAdds with request identifiers 0, 0xffffffff, 7 and 7 again.

    Accepts: Responses with these identifiers.
    """
    word = await Word.open(bench)
    for number in (0, 0xFFFF_FFFF, 7, 7):
        await word.stream.fpdu(word.request(FETCH_ADD, request_id=number))
        await word.answer(number)


@case("EXT-7306-5.2.1-03", "the reserved bits of an Atomic Request are ignored", level=TARGET, needs=EXTENDED)
async def reserved_ignored(bench: Bench) -> None:
    """A FetchAdd with 0xfffffff0 as its first four octets, a CmpSwap with 0xfffffff2.

    Accepts: Responses, and the results in memory.
    """
    word = await Word.open(bench, 5)
    await word.stream.fpdu(word.request(0xFFFF_FFF0, 1))
    expect_value(5, await word.answer())
    await word.stream.fpdu(word.request(0xFFFF_FFF2, 9, ALL_ONES, 6))
    expect_value(6, await word.answer())
    await word.expect(9)


@case("EXT-7306-4.1-04", "the STag field of an Atomic Request is ignored", level=TARGET, needs=EXTENDED)
async def stag_field_ignored(bench: Bench) -> None:
    """A FetchAdd whose STag field names the region; then a Read of the region.

    Accepts: a Response to each.
    """
    word = await Word.open(bench, 5)
    payload = atomic_request(bench.rw.stag, bench.rw.to + word.offset)
    await word.stream.fpdu(word.stream.untagged(ATOMIC, REQUEST_QUEUE, payload, inval_stag=bench.rw.stag))
    expect_value(5, await word.answer())
    await word.stream.expect_read(bench.rw.stag, bench.rw.to, 8)


@case("EXT-7306-5.2.1-06", "an Atomic may name any word of the buffer", level=TARGET, needs=EXTENDED)
async def every_word(bench: Bench) -> None:
    """FetchAdds of 1 on the first, the second and the last word of the region.

    Accepts: Responses with what was there.
    """
    word = await Word.open(bench)
    region = region_pattern("rw", bench.rw.length)
    last = (bench.rw.length - word.offset) // 8 * 8 - 8
    for shift in (8, last):
        await word.stream.fpdu(word.request(FETCH_ADD, 1, shift=shift))
        at = word.offset + shift
        expect_value(int.from_bytes(region[at : at + 8], word.order), await word.answer())


@case("EXT-7306-5.2.1-12", "Atomics are answered without the program", level=TARGET, needs=EXTENDED)
async def without_program(bench: Bench) -> None:
    """Fifty FetchAdds of 1 to a target that has posted no receive.

    Accepts: fifty Responses, and no completion.
    """
    stream = await bench.open(session={"receives": ""})
    word = Word(bench, stream)
    await word.poke(bytes(8))
    for _ in range(50):
        await word.fetch_add(0)
    await expect_nothing_delivered(bench, 0.0)


@case("EXT-7306-5.2.1-13", "Atomic Requests consume no receive", level=TARGET, needs=EXTENDED)
async def no_receive_consumed(bench: Bench) -> None:
    """Five FetchAdds, then a Send to a target with one receive.

    Accepts: the Send is delivered into this receive.
    """
    stream = await bench.open(session={"receives": "64"})
    word = Word(bench, stream)
    for _ in range(5):
        await word.fetch_add(0)
    await stream.send(b"still there")
    await expect_delivered(bench, b"still there")


# --- order -----------------------------------------------------------------------------------------------------------


@case("EXT-7306-5.2.1-17", "Atomics are done in the order sent", level=TARGET, needs=EXTENDED)
async def sixteen_in_order(bench: Bench) -> None:
    """Sixteen FetchAdds of 1 in one piece on a word that holds 0.

    Accepts: values 0 to 15 in order, and 16 in the memory.
    """
    word = await Word.open(bench)
    await word.stream.fpdus(word.request(FETCH_ADD, 1, request_id=n) for n in range(16))
    for number in range(16):
        expect_value(number, await word.answer(number))
    await word.expect(16)


@case("EXT-7306-5.4-09", "each Atomic sees the one before", level=TARGET, needs=EXTENDED)
async def chain(bench: Bench) -> None:
    """CmpSwaps of 0 for 1, 1 for 2 and 2 for 3 in one piece on a word that holds 0.

    Accepts: values 0, 1, 2, and 3 in the memory.
    """
    word = await Word.open(bench)
    await word.stream.fpdus(word.request(COMPARE_SWAP, n + 1, ALL_ONES, n) for n in range(3))
    for number in range(3):
        expect_value(number, await word.answer())
    await word.expect(3)


@case("EXT-7306-5.2.2-09", "Atomic Responses leave in the order of the Requests", level=TARGET, needs=EXTENDED)
async def response_order(bench: Bench) -> None:
    """Eight FetchAdds in one piece with request identifiers 8 to 1.

    Accepts: Responses with identifiers 8 to 1 in this order.
    """
    word = await Word.open(bench)
    await word.stream.fpdus(word.request(FETCH_ADD, request_id=n) for n in range(8, 0, -1))
    for number in range(8, 0, -1):
        await word.answer(number)


@case(
    "EXT-7306-7-01",
    "Reads and Atomics are answered in one order",
    level=TARGET,
    needs=EXTENDED,
    also=("EXT-7306-5.4-10",),
)
async def mixed_order(bench: Bench) -> None:
    """In one piece, an Atomic, a Read of 3,000 octets, an Atomic and a Read of zero octets.

    Accepts: Responses in this order.
    """
    word = await Word.open(bench)
    stream = word.stream
    await stream.fpdus(
        [
            word.request(FETCH_ADD, 1, request_id=1),
            stream.untagged(Opcode.READ_REQUEST, 1, read_request(bench.rw, 3000, sink_stag=2)),
            word.request(FETCH_ADD, 1, request_id=3),
            stream.untagged(Opcode.READ_REQUEST, 1, read_request(bench.rw, 0, sink_stag=4)),
        ]
    )
    await word.answer(1)
    await stream.expect_response(3000, 2)
    await word.answer(3)
    await stream.expect_response(0, 4)


@case(
    "EXT-7306-5-06",
    "the MSN of queue 3 counts Atomic Responses alone",
    level=TARGET,
    needs=EXTENDED,
    also=("DDP-5041-4.3-07",),
)
async def response_msn(bench: Bench) -> None:
    """FetchAdds and Reads in turn, four of each.

    Accepts: Atomic Responses with MSNs that grow by one.
    """
    word = Word(bench, await bench.open())
    for msn in range(1, 5):
        await word.stream.fpdu(word.request(FETCH_ADD))
        WholeMessage((await word.stream.expect_message(message(RESPONSE)),)).fields(msn=msn)
        await word.stream.probe()


@case("EXT-7306-5.4-04", "an Atomic sees the Write before it", level=TARGET, needs=EXTENDED)
async def sees_write(bench: Bench) -> None:
    """In one piece, a Write of a word and a FetchAdd of it.

    Accepts: a Response with what was written.
    """
    word = await Word.open(bench)
    written = (5).to_bytes(8, word.order)
    to = bench.rw.to + word.offset
    await word.stream.fpdus([build_tagged(0, bench.rw.stag, to, written), word.request(FETCH_ADD, 1)])
    expect_value(5, await word.answer())
    await word.expect(6)


@case("EXT-7306-5.4-05", "a Write after an Atomic may be seen by it", level=TARGET, needs=EXTENDED)
async def write_behind(bench: Bench) -> None:
    """In one piece, a FetchAdd of 0 on a word that holds 7, and a Write of 9 to it.

    Accepts: a Response with 7 or with 9; then 9 in the memory.
    """
    word = await Word.open(bench, 7)
    write = build_tagged(0, bench.rw.stag, bench.rw.to + word.offset, (9).to_bytes(8, word.order))
    await word.stream.fpdus([word.request(FETCH_ADD), write])
    if (came := await word.answer()) not in (7, 9):
        raise Failed("7 or 9", f"{came:#x}")
    await word.stream.probe()
    await word.expect(9)


@case("EXT-7306-5.4-06", "an Atomic is not begun before its Request is whole", level=TARGET, needs=EXTENDED)
async def held_back(bench: Bench) -> None:
    """A FetchAdd of 1 on a word that holds 7, the last four octets of its FPDU held back for a while.

    Accepts: silence, and 7 in the memory; then a Response, and 8.
    """
    word = await Word.open(bench, 7)
    octets = word.stream.framer.frame(word.request(FETCH_ADD, 1))
    await word.stream.send_octets(octets[:-4])
    await word.stream.expect_quiet()
    await word.expect(7)
    await word.stream.send_octets(octets[-4:])
    expect_value(7, await word.answer())
    await word.expect(8)


@case("EXT-7306-7-03", "a Send before an Atomic is complete when the Response comes", level=TARGET, needs=EXTENDED)
async def send_before_response(bench: Bench) -> None:
    """In one piece, a Send and a FetchAdd.

    Accepts: a Response; the completion of the Send is there then.
    """
    word = await Word.open(bench)
    await word.stream.fpdus([word.stream.untagged(Opcode.SEND, 0, b"before"), word.request(FETCH_ADD)])
    await word.answer()
    works = await bench.target.completions(0, 0.0)
    if [work.status for work in works] != ["success"]:
        raise Failed("the completion of the Send", "; ".join(map(str, works)) or "none")


@case("EXT-7306-5.4-07", "a Send after an Atomic is delivered", level=TARGET, needs=EXTENDED)
async def send_behind(bench: Bench) -> None:
    """In one piece, a FetchAdd and a Send.

    Accepts: a Response and a completion, in whichever order.
    """
    word = await Word.open(bench)
    await word.stream.fpdus([word.request(FETCH_ADD), word.stream.untagged(Opcode.SEND, 0, b"after")])
    await expect_delivered(bench, b"after")
    await word.answer()


@case("EXT-7306-5.2.1-11", "Reads and Atomics share IRD", level=TARGET, needs=EXTENDED)
async def share_ird(bench: Bench) -> None:
    """A Read and an Atomic in one piece to a target with an IRD of two, three times over.

    Accepts: a Response to each.
    """
    stream = await bench.open(session={"ird": 2})
    word = Word(bench, stream)
    for _ in range(3):
        read = stream.untagged(Opcode.READ_REQUEST, 1, read_request(bench.rw, 8))
        await stream.fpdus([read, word.request(FETCH_ADD)])
        await stream.expect_response(8)
        await word.answer()
