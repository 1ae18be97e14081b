"""Messages that come: Writes, the four Sends, versions and opcodes (RFC 5040 §4.1, §5.1, §5.3, §7.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import region_pattern
from pyiwarp.conformance.bench.observed import Message
from pyiwarp.conformance.bench.patterns import Failed, ended, in_words, message, silence, terminate
from pyiwarp.conformance.bench.segments import build_read_request, build_tagged, build_untagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.terms import (
    DDP_TAGGED_STAG,
    DDP_UNTAGGED_NO_BUFFER,
    DDP_UNTAGGED_QN,
    DDP_UNTAGGED_TOO_LONG,
    RDMAP_CANNOT_INVALIDATE,
    RDMAP_OPCODE,
    RDMAP_OPERATION_CANNOT_INVALIDATE,
    RDMAP_STAG,
    RDMAP_VERSION,
)
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_delivered, expect_nothing_delivered
from pyiwarp.conformance.cases.refusals import Build, refusal, unknown_stag
from pyiwarp.errors import Term

__all__: list[str] = []

TARGET: Final = Level.TARGET
SENDS: Final = (Opcode.SEND, Opcode.SEND_SE, Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL)
NO_READ: Final = build_read_request(0x50524F42, 0, 0, 0, 0)
CANNOT_INVALIDATE: Final = (RDMAP_CANNOT_INVALIDATE, RDMAP_OPERATION_CANNOT_INVALIDATE)
MISPLACED: Final = (RDMAP_OPCODE, DDP_UNTAGGED_QN)


def numbered(id: str, number: int) -> str:
    """The id of the `number`-th case of a requirement."""
    return id if number == 1 else f"{id}/{number}"


# --- RDMA Write ------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.1-02", "a Write is not announced to the program", level=TARGET, also=("RDMAP-5040-3.2-05",))
async def write_is_silent(bench: Bench) -> None:
    """A Write of 16 octets to the region, and a Send.

    Accepts: one completion, that of the Send, in the first receive; the 16 octets are in the memory.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to, b"0123456789abcdef")
    await stream.send(b"then")
    await expect_delivered(bench, b"then")
    await bench.target.expect_memory("rw", 0, b"0123456789abcdef")
    await expect_nothing_delivered(bench)


@case("RDMAP-5040-5.1-04", "a Write may begin anywhere in the buffer", level=Level.RPING, needs=[Need.REGION])
async def write_at_offset(bench: Bench) -> None:
    """A Write of eight octets to the region's 17th octet, and a Read of these.

    Accepts: a Read Response with the eight octets.
    """
    stream = await bench.open()
    await stream.write(bench.rw.stag, bench.rw.to + 16, b"12345678")
    came = await stream.expect_read(bench.rw.stag, bench.rw.to + 16, 8)
    if came != b"12345678":
        raise Failed(b"12345678".hex(), came.hex())


@case("RDMAP-5040-5.1-05", "a Write may cover the whole buffer, or part of it", level=TARGET)
async def write_whole_and_part(bench: Bench) -> None:
    """A Write of the whole region in one message, then one of its middle third.

    Accepts: the memory holds both, the later one in the middle.
    """
    stream = await bench.open(session={"regionsize": 3000})
    whole, part = bytes(range(250)) * 12, b"\xff" * 1000
    await stream.write(bench.rw.stag, bench.rw.to, whole)
    await stream.write(bench.rw.stag, bench.rw.to + 1000, part)
    await stream.probe()
    await bench.target.expect_memory("rw", 0, whole[:1000] + part + whole[2000:])


@case("RDMAP-5040-5.1-07", "a Send tells that the Writes before it have arrived", level=TARGET)
async def send_after_writes(bench: Bench) -> None:
    """A hundred Writes of 32 octets and a Send, in one piece.

    Accepts: when the Send is delivered, all of them are in the memory.
    """
    stream = await bench.open()
    octets = bytes((i * 3) & 0xFF for i in range(3200))
    segments = [
        build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to + at, octets[at : at + 32]) for at in range(0, 3200, 32)
    ]
    await stream.fpdus([*segments, stream.untagged(Opcode.SEND, 0, b"done")])
    await expect_delivered(bench, b"done")
    await bench.target.expect_memory("rw", 0, octets + region_pattern("rw", bench.rw.length)[3200:])


@case("RDMAP-5040-5.1-09", "empty Writes are lawful")
async def empty_writes(bench: Bench) -> None:
    """Ten empty Writes, and a Read of zero octets.

    Accepts: an empty Read Response, and nothing before it.
    """
    stream = await bench.open()
    for number in range(10):
        await stream.write(number, number)
    await stream.probe()


@case("RDMAP-5040-5.1-06", "the later of two Writes to one place stays", level=Level.RPING, needs=[Need.REGION])
async def later_write_stays(bench: Bench) -> None:
    """Sixteen Writes of eight octets to the same place, in one piece, and a Read.

    Accepts: a Read Response with the octets of the last.
    """
    stream = await bench.open()
    await stream.fpdus(build_tagged(Opcode.WRITE, bench.rw.stag, bench.rw.to, bytes([n]) * 8) for n in range(16))
    came = await stream.expect_read(bench.rw.stag, bench.rw.to, 8)
    if came != bytes([15]) * 8:
        raise Failed("the octets of the last Write", came.hex())


# --- Sends -----------------------------------------------------------------------------------------------------------


@case("RDMAP-5040-5.3-02", "each Send consumes one receive", level=TARGET)
async def each_its_receive(bench: Bench) -> None:
    """Five Sends of different sizes.

    Accepts: five receives that complete, each with its message from its first octet on.
    """
    stream = await bench.open()
    payloads = [b"one", b"twenty-two", b"3", b"four-four", b"fivefive5"]
    for payload in payloads:
        await stream.send(payload)
    await expect_delivered(bench, *payloads)


@case("RDMAP-5040-5.3-02/2", "all four kinds of Send use the same receives", level=TARGET)
async def four_kinds_in_turn(bench: Bench) -> None:
    """The four kinds of Send in turn, those with Invalidate for the regions that are only readable or writable.

    Accepts: four receives that complete in order.
    """
    stream = await bench.open()
    stags = (0, 0, bench.ro.stag, bench.wo.stag)
    for opcode, stag in zip(SENDS, stags, strict=True):
        await stream.send(bytes([opcode]), opcode=opcode, inval_stag=stag)
    await expect_delivered(bench, *(bytes([opcode]) for opcode in SENDS))


@case("RDMAP-5040-5.3-03", "a Send may be shorter than its receive", level=TARGET)
async def shorter_send(bench: Bench) -> None:
    """A Send of ten octets to a receive of 4,096.

    Accepts: a receive that completes with ten octets; the rest of its buffer is as it was.
    """
    stream = await bench.open()
    await stream.send(b"0123456789")
    await expect_delivered(bench, b"0123456789")
    rest = (await bench.target.received(0))[10:]
    if rest != bytes([rest[0]]) * len(rest):
        raise Failed("nothing after the message", "octets after the message were written")


@case("RDMAP-5040-5.3-05", "Sends are delivered in the order sent", level=TARGET, also=("RDMAP-5040-5.3-03",))
async def hundred_sends(bench: Bench) -> None:
    """A hundred Sends that carry their number, of all sizes up to 700 octets, some in two segments.

    Accepts: receives that complete in order, each with its own number.
    """
    stream = await bench.open(session={"receives": ",".join(["700"] * 100), "guard": 8})
    payloads = [bytes([n]) * (7 * n + 1) for n in range(100)]
    for number, payload in enumerate(payloads):
        if number % 3:
            await stream.send(payload)
        else:
            half = len(payload) // 2
            await stream.send(payload[:half], last=False)
            await stream.send(payload[half:], mo=half)
    works = await bench.target.expect_completions(100)
    if wrong := [work for number, work in enumerate(works) if (work.wr_id, work.nbytes) != (number, 7 * number + 1)]:
        raise Failed("receives in order", str(wrong[0]))
    for number in (0, 33, 66, 99):
        await bench.target.expect_received(payloads[number], number)


@case("RDMAP-5040-5.3-10", "an empty Send is lawful", level=TARGET, also=("DDP-5041-5.2-10",))
async def empty_send(bench: Bench) -> None:
    """An empty Send, and one of an octet.

    Accepts: a receive that completes with no octets, and one with one.
    """
    stream = await bench.open()
    await stream.send()
    await stream.send(b"x")
    await expect_delivered(bench, b"", b"x")


@case("RDMAP-5040-5.3-11", "an empty Send consumes a receive", level=TARGET)
async def empty_send_consumes(bench: Bench) -> None:
    """An empty Send and one of an octet to a target with one receive.

    Accepts: Terminate 1/2/02 to the second; or it waits until a receive is posted, and is delivered into that.
    """
    stream = await bench.open(session={"receives": "64"})
    await stream.send()
    await stream.send(b"x")
    await expect_delivered(bench, b"")
    seen = await stream.observe(bench.settings.quiet)
    if terminate(DDP_UNTAGGED_NO_BUFFER).fits(seen):
        await stream.expect_over()
        return
    await bench.target.command("recv", {"sizes": 64})
    await expect_delivered(bench, b"x", first=1)


@case(
    "RDMAP-5040-5.3-06",
    "a Send tells whether it solicits an event",
    level=TARGET,
    needs=[Need.SOLICITED],
    also=("DDP-5041-5.4-05",),
)
async def solicited(bench: Bench) -> None:
    """A plain Send, one with Solicited Event, and a plain one.

    Accepts: three completions, of which the second says that it was solicited.
    """
    stream = await bench.open()
    for opcode in (Opcode.SEND, Opcode.SEND_SE, Opcode.SEND):
        await stream.send(b"x", opcode=opcode)
    works = await expect_delivered(bench, b"x", b"x", b"x")
    if (came := [work.solicited for work in works]) != [False, True, False]:
        raise Failed("solicited: 0, 1, 0", in_words(came))


@case(
    "RDMAP-5040-3.2-03",
    "a Send with Invalidate tells which STag",
    level=TARGET,
    needs=[Need.INVALIDATE],
    also=("DDP-5041-4.3-03",),
)
async def tells_invalidated(bench: Bench) -> None:
    """A Send with Invalidate for the region, and a Send with Solicited Event and Invalidate for another.

    Accepts: completions that name these STags; the second says that it was solicited.
    """
    stream = await bench.open()
    await stream.send(b"x", opcode=Opcode.SEND_INVAL, inval_stag=bench.rw.stag)
    await stream.send(b"y", opcode=Opcode.SEND_SE_INVAL, inval_stag=bench.ro.stag)
    works = await expect_delivered(bench, b"x", b"y")
    if (came := [work.inval_stag for work in works]) != [bench.rw.stag, bench.ro.stag]:
        raise Failed(f"STags {bench.rw.stag:#x} and {bench.ro.stag:#x}", in_words(came))
    if not works[1].solicited:
        raise Failed("a solicited second Send", "an unsolicited one")


@case("RDMAP-5040-4.1-09", "RDMAP's reserved bits are ignored", level=TARGET)
async def reserved_ignored(bench: Bench) -> None:
    """Sends with control octets 0x53, 0x63 and 0x73.

    Accepts: three receives that complete.
    """
    stream = await bench.open()
    for rsvd in (1, 2, 3):
        await stream.send(bytes([rsvd]), rdmap_rsvd=rsvd)
    await expect_delivered(bench, b"\1", b"\2", b"\3")


@case("RDMAP-5040-4.1-09/2", "RDMAP's reserved bits are ignored in Writes and Read Requests")
async def reserved_ignored_without_program(bench: Bench) -> None:
    """Empty Writes, and Read Requests for nothing, with each of the reserved bits set, and with both.

    Accepts: an empty Read Response to each Request.
    """
    stream = await bench.open()
    for rsvd in (1, 2, 3):
        await stream.write(0, 0, rdmap_rsvd=rsvd)
        await stream.read(0, 0, 0, rdmap_rsvd=rsvd)
        await stream.expect_response(0)


@case("RDMAP-5040-4.1-11", "the STag field of Sends that invalidate nothing is ignored", level=TARGET)
async def stag_field_ignored(bench: Bench) -> None:
    """A Send and a Send with Solicited Event whose STag field names the region; then a Write to the region.

    Accepts: both Sends are delivered, and the Write is placed.
    """
    stream = await bench.open()
    for opcode in (Opcode.SEND, Opcode.SEND_SE):
        await stream.send(b"x", opcode=opcode, inval_stag=bench.rw.stag)
    await expect_delivered(bench, b"x", b"x")
    await stream.write(bench.rw.stag, bench.rw.to, b"still here")
    await stream.probe()
    await bench.target.expect_memory("rw", 0, b"still here")


@case("RDMAP-5040-4.1-11/2", "the STag field of a Read Request is ignored", level=Level.RPING, needs=[Need.REGION])
async def stag_field_of_read_ignored(bench: Bench) -> None:
    """A Read Request for nothing whose STag field names the region; then a Read of the region.

    Accepts: two Read Responses.
    """
    stream = await bench.open()
    await stream.read(0, 0, 0, inval_stag=bench.rw.stag)
    await stream.expect_response(0)
    await stream.expect_read(bench.rw.stag, bench.rw.to, 8)


# --- invalidating ----------------------------------------------------------------------------------------------------


async def _invalidated(bench: Bench, opcode: Opcode) -> Stream:
    """A stream on which the region was just invalidated."""
    stream = await bench.open()
    await stream.send(b"bye", opcode=opcode, inval_stag=bench.rw.stag)
    await expect_delivered(bench, b"bye")
    return stream


@case("RDMAP-5040-5.3-14", "a Write to an invalidated STag is refused", level=TARGET, needs=[Need.INVALIDATE])
async def write_after_invalidate(bench: Bench) -> None:
    """A Send with Invalidate for the region, which is delivered; then a Write to it.

    Accepts: Terminate 1/1/00; the memory is unchanged.
    """
    stream = await _invalidated(bench, Opcode.SEND_INVAL)
    await stream.write(bench.rw.stag, bench.rw.to, b"late")
    await stream.expect_terminated(DDP_TAGGED_STAG)
    await bench.target.expect_memory_unchanged("rw")


@case("RDMAP-5040-5.3-14/2", "a Read of an invalidated STag is refused", level=TARGET, needs=[Need.INVALIDATE])
async def read_after_invalidate(bench: Bench) -> None:
    """A Send with Solicited Event and Invalidate for the region, which is delivered; then a Read of it.

    Accepts: Terminate 0/1/00, and no Read Response.
    """
    stream = await _invalidated(bench, Opcode.SEND_SE_INVAL)
    await stream.read(bench.rw.stag, bench.rw.to, 16)
    await stream.expect_terminated(RDMAP_STAG)


@case("RDMAP-5040-5.3-14/3", "a second invalidation is refused", level=TARGET, needs=[Need.INVALIDATE])
async def invalidate_twice(bench: Bench) -> None:
    """Two Sends with Invalidate for the region.

    Accepts: the first is delivered; Terminate 0/1/09, 0/2/09 or 0/1/00 to the second.
    """
    stream = await _invalidated(bench, Opcode.SEND_INVAL)
    await stream.send(b"again", opcode=Opcode.SEND_INVAL, inval_stag=bench.rw.stag)
    await stream.expect_terminated(*CANNOT_INVALIDATE, RDMAP_STAG)


@case("RDMAP-5040-5.3-14/4", "one STag is invalidated and no other", level=TARGET, needs=[Need.INVALIDATE])
async def others_stay(bench: Bench) -> None:
    """A Send with Invalidate for the region that may only be read, then a Write to the other and a Read of it.

    Accepts: both work.
    """
    stream = await bench.open()
    await stream.send(b"x", opcode=Opcode.SEND_INVAL, inval_stag=bench.ro.stag)
    await expect_delivered(bench, b"x")
    await stream.write(bench.rw.stag, bench.rw.to, b"works")
    if (came := await stream.expect_read(bench.rw.stag, bench.rw.to, 5)) != b"works":
        raise Failed("what was written", came.hex())


@case("RDMAP-5040-5.3-14/5", "the STag is valid until the Send is delivered", level=TARGET, needs=[Need.INVALIDATE])
async def valid_until_delivered(bench: Bench) -> None:
    """The first of two segments of a Send with Invalidate, a Write to the STag, the last segment, another Write.

    Accepts: the first Write is placed; Terminate 1/1/00 to the second. A Terminate of any kind for the Write amid the
    segments of a Send is lawful too.
    """
    stream = await bench.open()
    await stream.send(b"a", opcode=Opcode.SEND_INVAL, inval_stag=bench.rw.stag, last=False)
    await stream.write(bench.rw.stag, bench.rw.to, b"before")
    await stream.send(b"b", opcode=Opcode.SEND_INVAL, inval_stag=bench.rw.stag, mo=1)
    if isinstance(await stream.expect(terminate() | ended() | silence(), bench.settings.quiet), Message):
        return
    await expect_delivered(bench, b"ab")
    await stream.write(bench.rw.stag, bench.rw.to, b"after")
    await stream.expect_terminated(DDP_TAGGED_STAG)
    await bench.target.expect_memory("rw", 0, b"before")


refusal(
    "RDMAP-5040-7.2-04",
    "a Send that invalidates an unknown STag is refused",
    "A Send with Invalidate for an STag that names nothing.",
    lambda bench, stream: stream.untagged(Opcode.SEND_INVAL, 0, b"x", inval_stag=unknown_stag(bench)),
    *CANNOT_INVALIDATE,
    RDMAP_STAG,
    level=TARGET,
)
refusal(
    "RDMAP-5040-7.2-04/2",
    "a Send with Solicited Event that invalidates STag 0 is refused",
    "A Send with Solicited Event and Invalidate for STag 0.",
    lambda bench, stream: stream.untagged(Opcode.SEND_SE_INVAL, 0, b"x", inval_stag=0),
    *CANNOT_INVALIDATE,
    RDMAP_STAG,
    level=TARGET,
)


@case(
    "RDMAP-5040-5.3-15",
    "an STag of another protection domain is not invalidated",
    level=TARGET,
    also=("RDMAP-5040-5.3-13", "RDMAP-5040-7.2-05"),
)
async def others_stag(bench: Bench) -> None:
    """A Send with Invalidate for the region that is not associated with this stream.

    Accepts: Terminate 0/1/09, 0/2/09 or 0/1/03; no receive completes with success.
    """
    stream = await bench.open()
    await stream.send(b"x", opcode=Opcode.SEND_INVAL, inval_stag=bench.other.stag)
    await stream.expect_terminated(*CANNOT_INVALIDATE, Term(0, 1, 0x03))
    await expect_nothing_delivered(bench, 0.0)


# --- versions and opcodes --------------------------------------------------------------------------------------------


def _family(
    id: str,
    titles: Sequence[str],
    sends: Sequence[str],
    builds: Sequence[Build],
    *terms: Term,
    level: Level,
    also: tuple[str, ...] = (),
) -> None:
    """Refusals of one requirement, numbered."""
    for number, (title, sending, build) in enumerate(zip(titles, sends, builds, strict=True), 1):
        refusal(numbered(id, number), title, sending, build, *terms, level=level, also=also)


def _write_with_version(rv: int) -> Build:
    return lambda bench, stream: build_tagged(Opcode.WRITE, 0, 0, rv=rv)


def _send_with_version(rv: int) -> Build:
    return lambda bench, stream: stream.untagged(Opcode.SEND, 0, b"x", rv=rv)


def _tagged_opcode(opcode: int) -> Build:
    return lambda bench, stream: build_tagged(opcode, 0, 0)


def _untagged_opcode(opcode: int, qn: int, payload: bytes) -> Build:
    return lambda bench, stream: stream.untagged(opcode, qn, payload)


VERSIONS: Final = (0, 2, 3)
_family(
    "RDMAP-5040-5.1-03",
    [f"RDMAP version {rv} in a Write is refused" for rv in VERSIONS],
    [f"An empty Write with RV {rv}." for rv in VERSIONS],
    [_write_with_version(rv) for rv in VERSIONS],
    RDMAP_VERSION,
    level=Level.BARE,
)
_family(
    "RDMAP-5040-5.3-07",
    [f"RDMAP version {rv} in a Send is refused" for rv in VERSIONS],
    [f"A Send of one octet with RV {rv}." for rv in VERSIONS],
    [_send_with_version(rv) for rv in VERSIONS],
    RDMAP_VERSION,
    level=TARGET,
    also=("RDMAP-5040-7.2-03",),
)
refusal(
    "DDP-5041-5.2-11/2",
    "the RDMAP version of an empty segment counts, whatever its STag",
    "An empty Write with RV 2 to an unknown STag at the greatest TO.",
    lambda bench, stream: build_tagged(Opcode.WRITE, unknown_stag(bench), (1 << 64) - 1, rv=2),
    RDMAP_VERSION,
)
RESERVED: Final = (0xC, 0xD, 0xE, 0xF)
_family(
    "RDMAP-6580-3.4-02",
    [f"opcode {opcode:#x} is refused on queue 0" for opcode in RESERVED],
    [f"An untagged segment of one octet on queue 0 with opcode {opcode:#x}." for opcode in RESERVED],
    [_untagged_opcode(opcode, 0, b"x") for opcode in RESERVED],
    RDMAP_OPCODE,
    level=Level.RPING,
    also=("EXT-7306-8.2-02",),
)
for _number, _opcode in enumerate(RESERVED, len(RESERVED) + 1):
    refusal(
        numbered("RDMAP-6580-3.4-02", _number),
        f"opcode {_opcode:#x} is refused on queue 1",
        f"An untagged segment of 28 octets on queue 1 with opcode {_opcode:#x}.",
        _untagged_opcode(_opcode, 1, NO_READ),
        *MISPLACED,
    )
NEVER_TAGGED: Final = (0x1, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0xA, 0xC, 0xF, 0xB, 0xD, 0xE, 0x9)
_family(
    "RDMAP-5040-4.1-04",
    [f"opcode {opcode:#x} is refused in a tagged segment" for opcode in NEVER_TAGGED],
    [f"An empty tagged segment with opcode {opcode:#x}." for opcode in NEVER_TAGGED],
    [_tagged_opcode(opcode) for opcode in NEVER_TAGGED],
    *MISPLACED,
    level=Level.BARE,
)
_family(
    "RDMAP-5040-7.2-02",
    ["a Write may not be untagged", "a Read Response may not be untagged", "a Terminate may not come on queue 0"],
    [f"An untagged segment on queue 0 with opcode {opcode}." for opcode in ("0", "2", "7")],
    [_untagged_opcode(0, 0, b"x"), _untagged_opcode(2, 0, b"x"), _untagged_opcode(7, 0, bytes(4))],
    *MISPLACED,
    level=TARGET,
)
_family(
    "RDMAP-5040-5.3-08",
    ["a Send may not come on queue 1", "a Send may not come on queue 2"],
    ["A Send of 28 octets on queue 1.", "A Send of four octets on queue 2."],
    [_untagged_opcode(3, 1, NO_READ), _untagged_opcode(3, 2, bytes(4))],
    *MISPLACED,
    level=Level.BARE,
)
refusal(
    "RDMAP-5040-5.3-04",
    "a Send longer than its receive is refused",
    "A Send of 65 octets to a receive of 64.",
    lambda bench, stream: stream.untagged(Opcode.SEND, 0, bytes(65)),
    DDP_UNTAGGED_TOO_LONG,
    DDP_UNTAGGED_NO_BUFFER,
    level=TARGET,
    session={"receives": "64"},
    also=("RDMAP-5040-3.2-04",),
)


@case("RDMAP-5040-7.2-01", "DDP's checks hold for a Read Response too", level=TARGET)
async def response_checked_by_ddp(bench: Bench) -> None:
    """The target Reads; the Response has DDP version 3.

    Accepts: Terminate 1/1/04, and nothing is placed.
    """
    stream = await bench.open()
    request = (await bench.provoke_read(stream, 16)).segment
    assert request is not None, "the pattern admits segments alone"
    sink = request.payload
    stag, to = int.from_bytes(sink[:4], "big"), int.from_bytes(sink[4:12], "big")
    await stream.respond(stag, to, bytes(16), dv=3)
    await stream.expect_terminated(Term(1, 1, 0x04))
    scratch = await bench.target.memory("scratch", 0, 16)
    if scratch == bytes(16):
        raise Failed("memory as it was", "the octets of the Response")


@case("RDMAP-5040-4.1-07", "a message with another RDMAP version has no effect", level=TARGET)
async def version_has_no_effect(bench: Bench) -> None:
    """A Send with Invalidate for the region with RV 2.

    Accepts: Terminate 0/2/05; no receive completes with success.
    """
    stream = await bench.open()
    await stream.send(b"x", opcode=Opcode.SEND_INVAL, inval_stag=bench.rw.stag, rv=2)
    await stream.expect_terminated(RDMAP_VERSION)
    await expect_nothing_delivered(bench, 0.0)


@case(
    "RDMAP-5040-6.1-01",
    "what a peer sends are messages of RDMAP with known opcodes",
    level=TARGET,
    also=("RDMAP-5040-3.1-01", "RDMAP-6580-3.4-01"),
)
async def known_opcodes(bench: Bench) -> None:
    """The target Sends, Writes and Reads; then it is brought to send a Terminate.

    Accepts: opcodes 3, 0, 1 and 7, and then the end.
    """
    stream = await bench.open()
    await bench.target.post("send", len=5, signaled=0)
    await bench.target.post("write", len=5, stag=1, to=0, signaled=0)
    await bench.target.post("read", len=5, stag=1, to=0, signaled=0)
    for opcode in (Opcode.SEND, Opcode.WRITE, Opcode.READ_REQUEST):
        await stream.expect_message(message(opcode, last=True))
    await stream.fpdu(build_untagged(Opcode.SEND, QueueNumber.SEND, 77, b"x"))
    await stream.expect_terminated()
