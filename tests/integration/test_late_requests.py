"""What comes when this side has closed its half of the connection, and ends that cross on the way."""

from __future__ import annotations

import asyncio

import pytest

from pyiwarp import Access, ConnectionLost
from tests.integration.loops import Runner, exchange_advertisement, joined, run
from tests.patience import PATIENCE

__all__ = ["run"]


def test_a_read_that_comes_after_the_fin_ends_the_connection(run: Runner) -> None:
    """It can be answered no more: TCP has no half to answer on."""

    async def main() -> None:
        async with joined() as (one, other):
            source = other.register(bytearray(100), Access.REMOTE_READ)
            remote = await exchange_advertisement(source, other, one)
            sink = one.register(bytearray(100))
            closing = asyncio.ensure_future(other.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # its FIN has left, and this side has not seen it
            with pytest.raises(ConnectionLost):
                await one.read(sink[:], remote)
            await asyncio.wait_for(closing, PATIENCE)

    run(main)


def test_a_fault_that_is_found_after_the_fin_is_not_told(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            target = other.register(bytearray(100), Access.REMOTE_READ | Access.LOCAL_WRITE)
            remote = await exchange_advertisement(target, other, one)
            closing = asyncio.ensure_future(other.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # its FIN has left, and this side has not seen it
            await one.write(bytes(100), remote)  # which it grants nobody
            await asyncio.wait_for(closing, PATIENCE)

    run(main)


def test_a_close_that_meets_a_reset(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            other.abort()
            await one.close()

    run(main)
