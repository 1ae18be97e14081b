"""Windows, threads, digests, page faults: what runs beside a transfer, and ends with it."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import threading

import pytest

from pyiwarp.files import digests as digest_module
from pyiwarp.files import prefault as prefault_module
from pyiwarp.files.digests import DigestCache, FollowingDigest
from pyiwarp.files.prefault import Prefault
from pyiwarp.files.source import Identity
from pyiwarp.files.tasks import Window, in_thread
from tests.integration.loops import soon
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


@pytest.mark.parametrize("nbytes", [0, 1, 1000, 4096])
async def test_a_digest_follows(nbytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_module, "STEP", 1000)
    octets = bytearray(b"x" * nbytes)
    async with FollowingDigest(memoryview(octets)) as digest:
        for upto in range(0, nbytes, 700):
            digest.advance(upto)
            await asyncio.sleep(0)
        digest.advance(nbytes)
        assert await digest.finish() == hashlib.sha256(octets).hexdigest()
    octets.clear()  # nothing holds the memory any more


async def test_a_digest_can_be_given_up() -> None:
    octets = bytearray(1 << 20)
    async with FollowingDigest(memoryview(octets), 1 << 19) as digest:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(digest.finish(), 0.01)
    octets.clear()


async def test_a_known_digest_is_not_computed() -> None:
    async with FollowingDigest(memoryview(b"abc"), 3, "known") as digest:
        assert await digest.finish() == "known"


async def test_pages_are_brought_in_not_far_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    size = mmap.PAGESIZE
    monkeypatch.setattr(prefault_module, "STEP", size)
    monkeypatch.setattr(prefault_module, "AHEAD", 2 * size)
    steps: list[tuple[int, int]] = []
    real = Prefault._populate

    def populate(self: Prefault, start: int, end: int) -> bool:
        steps.append((start // size, end // size))
        return real(self, start, end) or True

    monkeypatch.setattr(Prefault, "_populate", populate)
    with mmap.mmap(-1, 9 * size) as memory, memoryview(memory) as view:
        async with Prefault(view) as prefault:
            await soon(lambda: len(steps) == 2)
            await asyncio.sleep(0.05)  # more would have come meanwhile
            assert steps == [(0, 1), (1, 2)]
            prefault.advance(7 * size + 1)
            await soon(lambda: len(steps) == 4)
            assert steps[2:] == [(7, 8), (8, 9)]
        memory[0:3] = b"abc"


def test_digests_are_remembered_for_exactly_that_file() -> None:
    cache = DigestCache(capacity=2)
    first, second, third = (Identity(1, inode, 5, 1000, 1000) for inode in (1, 2, 3))
    cache.add(first, "a")
    cache.add(second, "b")
    assert cache.get(first) == "a"
    assert cache.get(first._replace(mtime_ns=1001)) is None
    cache.add(third, "c")
    assert (cache.get(second), len(cache)) == (None, 2)
    cache.forget(first)
    cache.forget(first)
    assert cache.get(first) is None


def test_files_that_changed_just_now_are_not_remembered() -> None:
    import time

    cache = DigestCache()
    cache.add(Identity(1, 1, 5, 1000, time.time_ns()), "a")
    assert len(cache) == 0
