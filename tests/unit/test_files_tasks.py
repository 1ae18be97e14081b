"""Windows and threads of a transfer; digests that are remembered."""

from __future__ import annotations

import asyncio
import threading

import pytest

from pyiwarp.files.digests import Digest, DigestCache
from pyiwarp.files.source import Identity
from pyiwarp.files.tasks import Window, in_thread, opened_in_thread
from tests.patience import PATIENCE


class Tally:
    """Operations that note how many of them run at once."""

    def __init__(self) -> None:
        self.running = self.most = self.done = 0
        self.order: list[int] = []

    async def operation(self, number: int, fails: bool = False) -> None:
        self.order.append(number)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.001)
            if fails:
                raise OSError(f"operation {number}")
            self.done += 1
        finally:
            self.running -= 1


async def test_a_window_keeps_order_and_depth() -> None:
    tally = Tally()
    async with Window(3) as window:
        for number in range(10):
            await window.begin(tally.operation(number))
    assert (tally.order, tally.most, tally.done, tally.running) == ([*range(10)], 3, 10, 0)


async def test_a_failure_ends_the_window() -> None:
    tally = Tally()

    async def fill() -> None:
        async with Window(2) as window:
            for number in range(10):
                await window.begin(tally.operation(number, fails=number == 1))

    with pytest.raises(OSError, match="operation 1"):
        await fill()
    assert tally.running == 0
    assert tally.done < 5


async def test_an_error_inside_lets_the_rest_go() -> None:
    tally = Tally()

    async def fill() -> None:
        async with Window(5) as window:
            await window.begin(tally.operation(0, fails=True))
            await window.begin(tally.operation(1))
            await asyncio.sleep(0)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await fill()
    assert tally.running == 0


async def test_cancelling_waits_for_the_thread() -> None:
    begun, may_end, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(PATIENCE)
        ended.set()
        raise OSError("nobody is there to hear it")

    task = asyncio.ensure_future(in_thread(work))
    await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.sleep(0.01)
    assert not task.done()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_what_a_thread_has_opened_is_closed_if_nobody_gets_it(cancelled: bool) -> None:
    begun, may_end, closed = threading.Event(), threading.Event(), list[str]()

    def work(name: str) -> str:
        begun.set()
        assert may_end.wait(PATIENCE)
        return name

    task = asyncio.ensure_future(opened_in_thread(closed.append, work, "opened"))
    await asyncio.to_thread(begun.wait, PATIENCE)
    if cancelled:
        task.cancel()
        await asyncio.sleep(0.01)
    may_end.set()
    if cancelled:
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        assert await task == "opened"
    assert closed == (["opened"] if cancelled else [])


async def test_work_that_fails_when_the_call_is_cancelled_has_opened_nothing() -> None:
    begun, may_end, closed = threading.Event(), threading.Event(), list[str]()

    def work() -> str:
        begun.set()
        assert may_end.wait(PATIENCE)
        raise OSError("it cannot be opened")

    task = asyncio.ensure_future(opened_in_thread(closed.append, work))
    await asyncio.to_thread(begun.wait, PATIENCE)
    task.cancel()
    await asyncio.sleep(0.01)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not closed


def test_digests_are_remembered_for_exactly_that_file() -> None:
    cache = DigestCache(capacity=2)
    first, second, third = (Identity(1, inode, 5, 1000, 1000) for inode in (1, 2, 3))
    cache.add(first, Digest.SHA256, "a")
    cache.add(second, Digest.SHA256, "b")
    assert cache.get(first, Digest.SHA256) == "a"
    assert cache.get(first, Digest.BLAKE3) is None
    assert cache.get(first._replace(mtime_ns=1001), Digest.SHA256) is None
    cache.add(third, Digest.BLAKE3, "c")
    assert (cache.get(second, Digest.SHA256), len(cache)) == (None, 2)
    cache.forget(first, Digest.BLAKE3)
    assert cache.get(first, Digest.SHA256) == "a"
    for _ in range(2):
        cache.forget(first, Digest.SHA256)
    assert cache.get(first, Digest.SHA256) is None


def test_files_that_changed_just_now_are_not_remembered() -> None:
    import time

    cache = DigestCache()
    cache.add(Identity(1, 1, 5, 1000, time.time_ns()), Digest.SHA256, "a")
    assert len(cache) == 0
