"""The peer as the one that gets a Terminate, right or wrong (RFC 5040 §4.8, §5.4, §6.2.1)."""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.conformance.bench.abilities import Level, Need
from pyiwarp.conformance.bench.control import State
from pyiwarp.conformance.bench.patterns import Failed, ended, message, terminate
from pyiwarp.conformance.bench.segments import build_tagged
from pyiwarp.conformance.bench.stream import Stream
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import case
from pyiwarp.conformance.cases.deliveries import expect_flushed, expect_nothing_delivered

__all__: list[str] = []

TARGET: Final = Level.TARGET
UNSPECIFIED: Final = bytes.fromhex("02ff0000")


async def end(stream: Stream, payload: bytes = UNSPECIFIED, **fields: int) -> None:
    """Send a Terminate with this payload."""
    await stream.fpdu(stream.untagged(Opcode.TERMINATE, QueueNumber.TERMINATE, payload, **fields))


async def expect_ended(stream: Stream) -> None:
    """The stream ends, once this side has closed its half; a Terminate may come before."""
    stream.finish()
    await stream.expect_torn_down()


async def told(bench: Bench, payload: bytes) -> State:
    """The state of a target without receives that has got a Terminate with this payload."""
    stream = await bench.open(session={"receives": ""})
    await end(stream, payload)
    await expect_ended(stream)
    return await bench.target.expect_state("terminated", "error")


@case("RDMAP-5040-5.4-05", "a Terminate ends the stream", level=TARGET)
async def ends(bench: Bench) -> None:
    """A Terminate 0/2/ff.

    Accepts: the end of the stream, with or without a Terminate before it; the target says terminated or in error.
    """
    stream = await bench.open()
    await end(stream)
    await expect_ended(stream)
    await bench.target.expect_state("terminated", "error")


@case("RDMAP-5040-5.4-10", "whoever got a Terminate closes, and need not answer")
async def closes(bench: Bench) -> None:
    """A Terminate 0/2/ff, and a FIN.

    Accepts: the end of the stream, with or without a Terminate before it.
    """
    stream = await bench.open()
    await end(stream)
    await expect_ended(stream)


@case("RDMAP-5040-5.4-04", "there is always a buffer for a Terminate", level=TARGET, needs=[Need.TERMINATES])
async def without_receives(bench: Bench) -> None:
    """A Terminate 0/1/02 to a target that has posted no receive.

    Accepts: the target tells these octets.
    """
    state = await told(bench, bytes.fromhex("01020000"))
    _expect_octets(state, bytes.fromhex("0102"))


@case("RDMAP-5040-5.4-03", "a Terminate consumes no receive", level=TARGET)
async def consumes_none(bench: Bench) -> None:
    """A Terminate to a target with one receive.

    Accepts: the receive completes in error.
    """
    stream = await bench.open(session={"receives": "64"})
    await end(stream)
    await expect_ended(stream)
    await expect_flushed(bench, 1)


@case(
    "RDMAP-5040-5.4-06",
    "the program is given the Terminate",
    level=TARGET,
    needs=[Need.TERMINATES],
    also=("RDMAP-5040-5.4-04",),
)
async def program_given(bench: Bench) -> None:
    """A Terminate 1/1/01 with length and a copy of a tagged header.

    Accepts: the target tells these octets, or the first four.
    """
    header = build_tagged(Opcode.WRITE, 0x12345678, 0x1000)
    octets = bytes.fromhex("1101c000") + (114).to_bytes(2, "big") + header
    _expect_octets(await told(bench, octets), octets[:2])


@case("RDMAP-5040-4.8-17", "a local catastrophe may have any code", level=TARGET, needs=[Need.TERMINATES])
async def any_code(bench: Bench) -> None:
    """A Terminate 0/0/5a.

    Accepts: the target tells these octets.
    """
    _expect_octets(await told(bench, bytes.fromhex("005a0000")), bytes.fromhex("005a"))


@case("RDMAP-5040-4.8-08", "the reserved bits of a Terminate are ignored", level=TARGET, needs=[Need.TERMINATES])
async def reserved_ignored(bench: Bench) -> None:
    """A Terminate 0/2/ff with all 13 reserved bits set.

    Accepts: the target tells its layer, type and code.
    """
    _expect_octets(await told(bench, bytes.fromhex("02ff1fff")), bytes.fromhex("02ff"))


def _expect_octets(state: State, first: bytes) -> None:
    came = state.octets("got")
    if came[: len(first)] != first:
        raise Failed(f"a Terminate that begins with {first.hex(' ')}", came[:4].hex(" ") or "none")


def _invalid(id: str, title: str, sends: str, payload: bytes, **fields: int) -> None:
    """A Terminate that is none: the stream ends, and the peer lives."""

    async def run(bench: Bench) -> None:
        stream = await bench.open()
        await end(stream, payload, **fields)
        await expect_ended(stream)
        if bench.has_target:
            await bench.target.expect_state("terminated", "error", "closed")
        stream = await bench.open()
        await stream.probe()

    run.__doc__ = (
        f"{sends}\n\nAccepts: the end of the stream, with or without a Terminate before it; a new connection works."
    )
    case(id, title)(run)


_invalid("RDMAP-5040-5.4-07", "a Terminate with MSN 2", "A Terminate with MSN 2.", UNSPECIFIED, msn=2)
_invalid("RDMAP-5040-5.4-07/2", "a Terminate with an MO", "A Terminate with MO 4.", UNSPECIFIED, mo=4)
_invalid("RDMAP-5040-5.4-07/3", "a Terminate of two octets", "A Terminate of two octets.", UNSPECIFIED[:2])
_invalid("RDMAP-5040-5.4-07/4", "an empty Terminate", "A Terminate without any octet.", b"")
_invalid(
    "RDMAP-5040-5.4-07/5", "a Terminate without what it announces", "A Terminate with M, D and R.", b"\x01\x00\xe0\x00"
)


@case("RDMAP-5040-6.2.1-02", "what is outstanding when a Terminate comes completes in error", level=TARGET)
async def flushes(bench: Bench) -> None:
    """A Terminate to a target with three unanswered Reads and five receives.

    Accepts: eight completions in error.
    """
    stream = await bench.open(session={"receives": "64,64,64,64,64"})
    for number in range(3):
        await bench.target.post("read", wr=number, len=8, stag=1, to=0)
    for _ in range(3):
        await stream.expect_message(message(Opcode.READ_REQUEST))
    await end(stream)
    await expect_ended(stream)
    await expect_flushed(bench, 8)


@case("RDMAP-5040-6.2.1-02/2", "nothing is delivered after a Terminate", level=TARGET)
async def nothing_behind(bench: Bench) -> None:
    """In one piece, a Terminate and a Send.

    Accepts: no receive completes with success.
    """
    stream = await bench.open()
    await stream.fpdus(
        [stream.untagged(Opcode.TERMINATE, 2, UNSPECIFIED), stream.untagged(Opcode.SEND, 0, b"too late")]
    )
    stream.finish()
    await stream.expect(terminate() | ended())
    await expect_nothing_delivered(bench, 0.0)
