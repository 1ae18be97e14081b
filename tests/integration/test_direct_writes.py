"""Direct writes of streams: buffers that one program offers, and the other one writes without a word."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace

import pytest

from pyiwarp.errors import BadWorkRequest, WrongState
from pyiwarp.sockets import StreamOptions, StreamTransport
from pyiwarp.sockets.iomap import DirectWrites
from tests.integration.loops import Runner, run
from tests.integration.streamrig import QUICK, SMALL, Ends, pair

__all__ = ["run"]

MAPPED = replace(QUICK, iomaps=2)


def transport_of(ends: Ends) -> StreamTransport:
    transport = ends[1].transport
    assert isinstance(transport, StreamTransport)
    return transport


async def tell(one: Ends, other: Ends) -> None:
    """What is written behind an offer or a direct write has come when they are there."""
    one[1].write(b"!")
    assert await other[0].readexactly(1) == b"!"


@pytest.mark.parametrize("options", [MAPPED, replace(SMALL, iomaps=2)], ids=["usual", "small"])
def test_octets_are_there_before_what_is_written_next(run: Runner, options: StreamOptions) -> None:
    """Many more than are on their way at once."""

    async def main() -> None:
        async with pair(options, options) as (one, other):
            buffer = bytearray(100_000)
            assert await transport_of(one).iomap(buffer, 1000) == 1000
            await tell(one, other)
            for at in range(100):
                await transport_of(other).iowrite(bytes([at]) * 1000, 1000 + at * 1000)
            await tell(other, one)
            assert buffer == b"".join(bytes([at]) * 1000 for at in range(100))

    run(main)


def test_octets_that_were_given_may_change(run: Runner) -> None:
    async def main() -> None:
        async with pair(MAPPED, MAPPED) as (one, other):
            buffer, octets = bytearray(8), bytearray(b"directly")
            offset = await transport_of(one).iomap(buffer)
            await tell(one, other)
            await transport_of(other).iowrite(octets, offset)
            octets[:] = bytes(8)
            await tell(other, one)
            assert buffer == b"directly"

    run(main)


def test_an_entry_is_used_again_when_its_buffer_is_withdrawn(run: Runner) -> None:
    async def main() -> None:
        async with pair(MAPPED, MAPPED) as (one, other):
            here = transport_of(one)
            await here.iomap(bytearray(8), 0)
            with pytest.raises(WrongState, match="offered under 0 already"):
                await here.iomap(bytearray(8), 0)
            await here.iomap(bytearray(8), 100)
            with pytest.raises(WrongState, match="its table has room for 0"):
                await here.iomap(bytearray(8), 200)
            for at in range(50):
                here.iounmap(0)
                buffer = bytearray(8)
                await here.iomap(buffer, 0)
                await tell(one, other)
                await transport_of(other).iowrite(b"turn %03d" % at, 0)
                await tell(other, one)
                assert buffer == b"turn %03d" % at
            with pytest.raises(WrongState, match="no buffer is offered under 7"):
                here.iounmap(7)

    run(main)


def test_a_write_where_nothing_is_offered_is_refused_here(run: Runner) -> None:
    async def main() -> None:
        async with pair(MAPPED, MAPPED) as (one, other):
            await transport_of(one).iomap(bytearray(8), 0)
            await tell(one, other)
            for offset in (1, -1, 8):
                with pytest.raises(BadWorkRequest, match="no buffer of the peer"):
                    await transport_of(other).iowrite(bytes(8), offset)
            await tell(other, one)

    run(main)


def test_a_write_into_a_buffer_that_was_withdrawn_ends_the_stream(run: Runner) -> None:
    async def main() -> None:
        async with pair(MAPPED, MAPPED) as (one, other):
            buffer = bytearray(8)
            await transport_of(one).iomap(buffer, 0)
            await tell(one, other)
            transport_of(one).iounmap(0)
            await transport_of(other).iowrite(b"directly", 0)
            for reader, _ in (one, other):
                with pytest.raises(ConnectionResetError):
                    await reader.readexactly(1)
            assert buffer == bytes(8)

    run(main)


def test_what_waits_for_room_ends_with_the_stream(run: Runner) -> None:
    """The peer gives no credit: an offer waits for it."""

    async def main() -> None:
        async with pair(replace(SMALL, iomaps=2), replace(SMALL, iomaps=2)) as (one, other):
            transport_of(other).pause_reading()
            while one[1].transport.get_write_buffer_size() == 0:
                one[1].write(b"x")
                await asyncio.sleep(0)
            waiting = asyncio.ensure_future(transport_of(one).iomap(bytearray(8), 0))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            transport_of(one).abort()
            with pytest.raises(WrongState, match="there are no direct writes"):
                await waiting
            with pytest.raises(WrongState):
                await transport_of(one).iowrite(b"x", 0)

    run(main)


def test_tries_that_were_given_up_leave_nothing(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that asks again and again, while the peer gives no room."""

    def given_up() -> int:
        gc.collect()
        return sum(isinstance(each, asyncio.Future) and each.cancelled() for each in gc.get_objects())

    async def main() -> None:
        async with pair(MAPPED, MAPPED) as (one, _):
            before = given_up()
            with monkeypatch.context() as patched:
                patched.setattr(DirectWrites, "ready", property(lambda self: False))
                for _ in range(50):
                    with pytest.raises(TimeoutError):
                        async with asyncio.timeout(0):
                            await transport_of(one).iowrite(b"x", 0)
            assert given_up() - before < 10

    run(main)
