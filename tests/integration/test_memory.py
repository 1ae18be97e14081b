"""Windows, fast registration, logs and the end of regions as a program awaits them, on sockets."""

from __future__ import annotations

import asyncio

import pytest

from pyiwarp import Access, Options, RemoteRegion
from pyiwarp.errors import Closed, InvalidStag, TerminatedByPeer, WrongState
from pyiwarp.verbs import AccessLog, RegionCounters, WindowType
from tests.integration.loops import Runner, exchange_advertisement, joined, run
from tests.patience import PATIENCE

__all__ = ["run"]

BINDABLE = Access.LOCAL_WRITE | Access.WINDOW_BIND
REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE


@pytest.mark.parametrize("kind", WindowType)
def test_a_window_is_bound_used_and_taken_back(run: Runner, kind: WindowType) -> None:
    async def main() -> None:
        async with joined() as (one, other), other.register(bytearray(b"0123456789"), BINDABLE) as region:
            with other.pd.alloc_window(kind) as window:
                await other.bind(window, region[2:6], REMOTE)
                await other.send(window.advertise())
                remote = RemoteRegion.parse(await one.recv())
                await one.write(b"ab", remote.at(1))
                async with one.register(bytearray(4)) as sink:
                    await one.read(sink[:], remote)
                    assert bytes(sink.view) == b"2ab5"
                if kind is WindowType.TYPE_1:
                    await other.bind(window, None)
                else:
                    with pytest.raises(WrongState):
                        await other.bind(window, region[:])
                    await other.invalidate(window)
                await one.write(b"x", remote)
                with pytest.raises(TerminatedByPeer):
                    await one.recv()
                with pytest.raises(InvalidStag):
                    await other.recv()

    run(main)


def test_a_peer_gives_back_what_it_was_lent(run: Runner) -> None:  # RDMAP-5040-5.3-14
    async def main() -> None:
        async with joined() as (one, other):
            buffer = bytearray(8)
            region = other.register(buffer, REMOTE)
            remote = await exchange_advertisement(region, other, one)
            await one.write(b"returned", remote)
            await one.send(b"done", invalidate=remote.stag)
            await other.recv()
            async with asyncio.timeout(PATIENCE):
                await region.wait_closed()
            assert buffer == b"returned"
            buffer.clear()

    run(main)


def test_fast_registration_of_many_buffers(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            region = other.pd.alloc_stag(4)
            for turn in range(5):
                buffers = [bytearray(size) for size in (10_000, 1, 70_000)]
                await other.register_fast(region, buffers, REMOTE)
                await other.send(region.advertise())
                remote = RemoteRegion.parse(await one.recv())
                octets = bytes([turn]) * 80_001
                await one.write(octets, remote)
                await one.send(b"done")
                await other.recv()
                assert b"".join(buffers) == octets
                await other.invalidate(region, fence=True)
                buffers[0].clear()
            region.close()
            with pytest.raises(Closed):
                await other.register_fast(region, bytearray(1))

    run(main)


def test_a_read_that_invalidates_its_sink(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other), other.register(b"constant", Access.REMOTE_READ) as region:
            remote = await exchange_advertisement(region, other, one)
            buffer = bytearray(8)
            sink = one.register(buffer)
            await one.read(sink[:], remote, invalidate_sink=True)
            assert not sink.is_open
            await sink.wait_closed()
            assert buffer == b"constant"
            buffer.clear()

    run(main)


def test_who_wrote_where(run: Runner) -> None:
    async def main() -> None:
        log = AccessLog(10)
        async with joined(Options(mulpdu=1024)) as (one, other):
            async with other.register(bytearray(5000), REMOTE, log=log) as region:
                remote = await exchange_advertisement(region, other, one)
                await one.write(bytes(3000), remote.at(100))
                async with one.register(bytearray(10)) as sink:
                    await one.read(sink[:], remote)
            write, read = log
            assert (write.kind.value, write.offset, write.nbytes, write.segments) == ("write", 100, 3000, 3)
            assert (read.kind.value, read.nbytes, read.qp_num) == ("read", 10, other.qp.qp_num)
            assert write.peer == read.peer == other.peername
            assert log.counters == RegionCounters(3, 3000, 1, 10)

    run(main)


def test_waiting_for_the_end_of_a_region_can_be_cancelled(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, _):
            region = one.register(bytearray(8))
            region.pin()
            region.retire()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await region.wait_closed()
            region.unpin()
            await region.wait_closed()

    run(main)
