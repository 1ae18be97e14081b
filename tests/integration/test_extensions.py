"""The operations of RFC 7306 as a program awaits them, on sockets: Atomics, Immediate Data, and a Write that tells."""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pyiwarp import Access, Connection, Options, RemoteRegion
from pyiwarp.connections.awaitable import Region
from pyiwarp.errors import BadWorkRequest
from tests.integration.loops import Runner, exchange_advertisement, joined, run

__all__ = ["run"]

ALL_RIGHTS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ | Access.REMOTE_ATOMIC


@asynccontextmanager
async def within_reach(
    one: Connection, other: Connection, nbytes: int = 64
) -> AsyncIterator[tuple[Region, RemoteRegion]]:
    """Memory of `other` that begins at a multiple of eight, and how `one` names it."""
    async with other.register(mmap.mmap(-1, nbytes), ALL_RIGHTS) as region:
        yield region, await exchange_advertisement(region, other, one)


def number(region: Region) -> int:
    return ctypes.c_uint64.from_buffer_copy(region.view[:8]).value


def test_atomics_are_awaited(run: Runner) -> None:  # EXT-7306-5.1.1-05, EXT-7306-5.1.2-01
    async def main() -> None:
        async with joined() as (one, other), within_reach(one, other) as (region, remote):
            assert await one.fetch_add(remote, 41) == 0
            assert await one.fetch_add(remote, 2**64 - 1) == 41
            assert await one.compare_swap(remote, 39, 7) == 40, "39 is not there"
            assert number(region) == 40
            assert await one.compare_swap(remote, 40, 0x1234) == 40
            assert await one.compare_swap(remote, 0x34, 0xFF, compare_mask=0xFF, swap_mask=0x0F) == 0x1234
            assert number(region) == 0x123F
            assert await one.fetch_add(remote, 0xF1, mask=0x80) == 0x123F
            assert number(region) == 0x1230, "the field's carry is dropped"

    run(main)


def test_immediate_data_is_awaited(run: Runner) -> None:  # EXT-7306-6.3-05, EXT-7306-6.3-06
    async def main() -> None:
        async with joined() as (one, other):
            await one.send_immediate(b"12345678")
            await one.send_immediate(b"abcdefgh", solicited=True)
            for octets, solicited in ((b"12345678", False), (b"abcdefgh", True)):
                assert await other.recv_message() == (octets, solicited, None, True)

    run(main)


@pytest.mark.parametrize("depth", [1, 2, 3, 128])
def test_a_write_is_there_when_its_immediate_data_comes(run: Runner, depth: int) -> None:
    # EXT-7306-6.3-06, EXT-7306-6.4-01: also while others compete for the send queue
    async def main() -> None:
        options = Options(send_depth=depth)
        async with joined(options) as (one, other), within_reach(one, other) as (region, remote):
            source = one.register(bytearray(b"r" * 64))

            async def compete() -> None:
                for _ in range(100):
                    await one.send(b"")

            async def tell() -> None:
                for turn in range(100):
                    data = source[:] if turn % 2 else b"b" * 64
                    await one.write_with_immediate(data, remote, turn.to_bytes(8, "big"), solicited=bool(turn % 3))

            async def listen() -> None:
                told = 0
                while told < 100:
                    message = await other.recv_message()
                    if message.immediate:
                        assert message.data == told.to_bytes(8, "big")
                        assert message.solicited is bool(told % 3)
                        told += 1
                        assert bytes(region.view) in (b"b" * 64, b"r" * 64)

            rivals = [asyncio.ensure_future(compete()) for _ in range(3)]
            await asyncio.gather(tell(), listen())
            for rival in rivals:
                rival.cancel()
            await asyncio.gather(*rivals, return_exceptions=True)

    run(main)


def test_nobody_is_told_of_a_write_that_was_not_made(run: Runner) -> None:
    # EXT-7306-6.3-06: Immediate Data behind a Write that was refused would say what is not so
    async def main() -> None:
        async with joined() as (one, other), within_reach(one, other) as (region, remote):
            local = one.register(bytearray(b"x" * 65))
            with pytest.raises(BadWorkRequest):
                await one.write_with_immediate(local[:], remote, b"complete")
            with pytest.raises(BadWorkRequest):
                await one.write_with_immediate(bytes(65), remote, b"complete")
            await one.send(b"next")
            assert await other.recv_message() == (b"next", False, None, False)
            assert bytes(region.view) == bytes(64)

    run(main)


def test_no_write_is_made_that_nobody_can_be_told_of(run: Runner) -> None:  # EXT-7306-6.3-05
    async def main() -> None:
        async with joined() as (one, other), within_reach(one, other) as (region, remote):
            with pytest.raises(BadWorkRequest):
                await one.write_with_immediate(b"x" * 64, remote, b"seven..")
            await one.send(b"next")
            assert await other.recv_message() == (b"next", False, None, False)
            assert bytes(region.view) == bytes(64)

    run(main)
