"""Waits that are cancelled, or run out of time, leave nothing behind: a program may wait a little, again and again."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pyiwarp import Closed, Disconnected, Message, rdmacm
from pyiwarp.blockingcm import CmEventType
from pyiwarp.verbs import Context, QpCap
from tests.hosts import HOST
from tests.integration.loops import LOOPS, Runner, joined, run_on
from tests.integration.polled import pair
from tests.patience import PATIENCE

MANY = 50


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Runner:
    """Each loop in turn, with time to look at every object of the process again and again."""
    return lambda main: run_on(LOOPS[request.param], main, patience=2 * PATIENCE)


async def cancelled_once(wait: Callable[[], Awaitable[Any]]) -> None:
    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done(), "what is waited for does not come"
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()


def objects() -> int:
    """How many objects there are that may hold others."""
    gc.collect()
    return len(gc.get_objects())


async def check_nothing_is_kept(wait: Callable[[], Awaitable[Any]]) -> None:
    """Wait in vain many times; the objects do not become more."""
    await cancelled_once(wait)
    growth = []
    for _ in range(2):  # what the other end does meanwhile, as to accept the connection, it does once
        before = objects()
        for _ in range(MANY):
            await cancelled_once(wait)
        growth.append(objects() - before)
    assert min(growth) < MANY / 2, "each wait that is kept is an object, if not several"


def test_waits_for_a_message(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            await check_nothing_is_kept(one.recv)
            await check_nothing_is_kept(one.recv_message)
            still = asyncio.ensure_future(one.recv())
            await other_speaks(one, other)
            assert await still == b"now"

    async def other_speaks(one: Any, other: Any) -> None:
        await one.send(b"you may")
        assert await other.recv() == b"you may"
        await other.send(b"now")

    run(main)


def test_a_message_goes_to_the_one_who_still_waits(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            waits = [asyncio.ensure_future(other.recv()) for _ in range(5)]
            await asyncio.sleep(0)
            for wait in waits[:3]:
                wait.cancel()
            await asyncio.wait(waits[:3])
            await one.send(b"first")
            await one.send(b"second")
            assert sorted(await asyncio.gather(*waits[3:])) == [b"first", b"second"]
            again = asyncio.ensure_future(other.recv())
            await asyncio.sleep(0)
            await one.close()
            with pytest.raises(Disconnected):
                await again

    run(main)


def test_octets_given_to_one_who_is_cancelled_are_the_next_message(run: Runner) -> None:
    """A small Send has come and its octets were given to a reader that is cancelled before it runs."""

    async def main() -> None:
        async with joined() as (one, other):
            await one.send(b"you may")
            assert await other.recv() == b"you may"

            async def given(octets: bytes) -> None:
                first = asyncio.ensure_future(one.recv())
                await asyncio.sleep(0)
                assert one._on_octets(memoryview(octets)), "as the driver does"
                assert not one._on_octets(memoryview(b"later")), "its octets come behind, whoever reads them"
                first.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await first

            await given(b"again")
            assert await one.recv() == b"again"
            await given(b"whole")
            assert await one.recv_message() == Message(b"whole")
            await given(b"into")
            buffer = bytearray(8)
            assert await one.recv_into(buffer) == 4
            assert buffer[:4] == b"into"
            await given(b"before")
            await other.send(b"behind")
            assert [await one.recv(), await one.recv()] == [b"before", b"behind"]
            first, second = asyncio.ensure_future(one.recv()), asyncio.ensure_future(one.recv_message())
            await asyncio.sleep(0)
            assert not one._on_octets(memoryview(b"plain")), "one of them wants more than the octets"
            await other.send(b"one")
            await other.send(b"two")
            assert (await first, (await second).data) == (b"one", b"two")
            await given(b"gone")
            one.abort()
            with pytest.raises(Closed):
                await one.recv()

    run(main)


@pytest.mark.parametrize("end", ["message", "abort"])
def test_what_is_waited_for_comes_in_the_moment_of_cancelling(run: Runner, end: str) -> None:
    """The wait has been cancelled and its task has not run yet: it is cancelled, and nobody else misses the news."""

    async def main() -> None:
        async with joined() as (one, other):
            await one.send(b"you may")
            assert await other.recv() == b"you may"
            first, second = asyncio.ensure_future(one.recv()), asyncio.ensure_future(one.recv())
            await asyncio.sleep(0)
            sending = asyncio.ensure_future(other.send(b"news"))
            first.cancel()
            if end == "abort":
                one.abort()
                with pytest.raises(Closed):
                    await second
            else:
                one._on_message()  # as the driver does, if the message has come by now
                assert await second == b"news"
            with pytest.raises(asyncio.CancelledError):
                await first
            await asyncio.gather(sending, return_exceptions=True)

    run(main)


def test_waits_for_memory_that_is_in_use(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, _):
            region = one.register(bytearray(8))
            region.pin()  # as work in flight does
            region.retire()
            await check_nothing_is_kept(region.wait_closed)
            await check_nothing_is_kept(region.aclose)
            waits = [asyncio.ensure_future(region.wait_closed()) for _ in range(2)]
            await asyncio.sleep(0)
            region.unpin()
            await asyncio.gather(*waits)
            await region.wait_closed()

    run(main)


def test_waits_for_the_end_of_a_connection(run: Runner) -> None:
    """A step of rdma_cm's that is awaited for a while, and then again."""

    async def main() -> None:
        async with rdmacm.CmId() as listener, rdmacm.CmId() as one:
            listener.bind_addr(HOST)
            await listener.listen()
            assert listener.local_addr is not None
            await one.resolve_addr(HOST, listener.local_addr[1])
            await one.resolve_route()
            one.create_qp(cap=QpCap(8, 8))
            connecting = one.connect(timeout=2 * PATIENCE)  # the waits below take long on a busy machine

            async def step() -> None:
                await connecting

            await check_nothing_is_kept(step)
            await check_nothing_is_kept(rdmacm.EventChannel().get_event)
            async with await listener.get_request() as other:
                other.create_qp(cap=QpCap(8, 8))
                await check_nothing_is_kept(listener.get_request)
                await other.accept()
                assert (await connecting).type is CmEventType.ESTABLISHED
                assert (await connecting).type is CmEventType.ESTABLISHED

    run(main)


def test_waits_for_completions_and_events(run: Runner) -> None:
    async def main() -> None:
        context = Context()
        channel = context.create_comp_channel()
        cq = context.create_cq(8, channel=channel)
        cq.request_notify()
        await check_nothing_is_kept(channel.__aiter__().__anext__)
        await check_nothing_is_kept(context.async_events.__aiter__().__anext__)

    run(main)


def test_time_limits_of_a_blocking_drain() -> None:
    with pair() as (one, _):
        region = one.register(bytearray(8))
        region.pin()

        def in_vain() -> None:
            with pytest.raises(TimeoutError, match="work in flight"):
                region.drain(timeout=0)

        in_vain()
        before = objects()
        for _ in range(MANY):
            in_vain()
        assert objects() - before < MANY / 2
        region.unpin()
        region.drain(timeout=5)
