"""Cancelling whatever can be awaited on two connections over loopback: nothing is lost, nothing is left behind."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, ConnectionLost, Disconnected, Options, cm
from pyiwarp.cm import asyncio_cm
from pyiwarp.connections.serving import listen
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.negotiation import Offer
from tests.harness import Node
from tests.hosts import HOST
from tests.integration.loops import (
    BOTH_WAYS,
    Runner,
    connecting,
    hold_little,
    joined,
    octets,
    run,
    silent_listener,
    soon,
    start,
)
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture


async def cancelled(task: asyncio.Future[Any]) -> None:
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE):
            await task


def test_cancelling_recv_loses_nothing(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            await cancelled(start(other.recv()))
            readers = [start(other.recv()) for _ in range(3)]
            await asyncio.sleep(0)
            await one.send(b"1")
            await asyncio.sleep(0)
            readers[0].cancel()
            await one.send(b"2")
            results = await asyncio.gather(*readers[:2], return_exceptions=True)
            got = [result for result in results if isinstance(result, bytes)]
            if len(got) < 2:
                got.append(await readers[2])
            else:
                readers[2].cancel()
            assert got == [b"1", b"2"]
            await asyncio.gather(*readers, return_exceptions=True)

    run(main)


def test_a_reader_that_is_woken_and_cancelled_at_once_passes_the_news_on(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            first, second = start(other.recv()), start(other.recv())
            await asyncio.sleep(0)
            sending = start(one.send(b"news"))  # it is on its way before this side knows of it
            while not (other._inbox or other._given):  # noqa: ASYNC110 - to be there before the reader runs
                await asyncio.sleep(0)
            assert not first.done()
            first.cancel()
            await sending
            async with asyncio.timeout(PATIENCE):
                assert await second == b"news"
            with pytest.raises(asyncio.CancelledError):
                await first

    run(main)


def test_cancelling_send_and_write_does_not_undo_them(run: Runner) -> None:
    """The waiter goes at once; the memory stays pinned until the work is complete; every octet arrives."""
    count, size = 80, 100_000

    async def main() -> None:
        options = Options(recv_depth=1, recv_size=size)
        async with joined(options, options) as (one, other):
            memory = bytearray(octets(size))
            region = one.register(memory)
            lent = bytearray(octets(size))
            hold_little(one, other)
            senders = [start(one.send(region[:])) for _ in range(count)] + [start(one.send(lent)) for _ in range(8)]
            await soon(lambda: not other.qp.wants_input)
            waiting = [sender for sender in senders if not sender.done()]
            assert len(waiting) > 8
            for sender in waiting:
                sender.cancel()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*waiting, return_exceptions=True)
            assert region.pins == len(waiting) - 8
            with pytest.raises(BufferError):
                lent.extend(b"more")
            released = start(region.aclose())
            await asyncio.sleep(0.01)
            assert not released.done()
            for _ in range(count + 8):
                assert await other.recv() == octets(size)
            async with asyncio.timeout(PATIENCE):
                await released
            memory.extend(b"more")
            await soon(lambda: one.qp.send_room == options.send_depth)
            lent.extend(b"more")

    run(main)


def test_cancelling_read_leaves_the_memory_pinned_until_the_octets_are_here(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(), Options(recv_depth=1)) as (one, other):
            source = other.register(bytearray(octets(5000)), BOTH_WAYS)
            for _ in range(2):
                await one.send(b"makes the other side starve")  # and hold back its answers
            memory = bytearray(5000)
            sink = one.register(memory)
            reader = start(one.read(sink[:], source[:].remote()))
            await cancelled(reader)
            assert sink.pins == 1
            closing = start(sink.aclose())
            await cancelled(closing)
            again = start(sink.aclose())
            await asyncio.sleep(0.01)
            assert not again.done(), "closing twice is waiting twice"
            await other.recv()
            await other.recv()
            async with asyncio.timeout(PATIENCE):
                await again
            assert memory == octets(5000)
            memory.clear()
            await one.send(b"all is well")
            assert await other.recv() == b"all is well"

    run(main)


def test_cancelling_connect_leaves_nothing_behind(run: Runner) -> None:
    async def main() -> None:
        async with silent_listener() as port:
            for delay in (0.0, 0.0, 0.001, 0.02):
                pd = pyiwarp.Context().alloc_pd()
                task = asyncio.ensure_future(pyiwarp.connect(HOST, port, pd=pd).__aenter__())
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (pd.regions, pd.queue_pairs) == ([], [])

    run(main)


async def drained(conn: Connection) -> None:
    """Take messages until the connection ends."""
    while True:
        await conn.recv()


def test_cancelling_connect_in_the_moment_of_its_failure(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[AsyncioDriver] = []

    def seen(*args: Any) -> AsyncioDriver:  # not a subclass: the compiled class has none
        made.append(AsyncioDriver(*args))
        return made[-1]

    async def main() -> None:
        monkeypatch.setattr(asyncio_cm, "AsyncioDriver", seen)
        with socket.create_server((HOST, 0)) as server:
            node = Node()
            task = start(cm.connect(node.qp, HOST, server.getsockname()[1], Offer()))
            server.settimeout(PATIENCE)
            peer = (await asyncio.get_running_loop().run_in_executor(None, server.accept))[0]
            with peer:
                peer.sendall(b"no MPA")
                while getattr(made[-1].pump, "error", None) is None:  # noqa: ASYNC110 - before the task runs again
                    await asyncio.sleep(0)
                assert not task.done()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            node.qp.close()

    run(main)


def test_cancelling_close_aborts(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(linger=2 * PATIENCE), Options(recv_depth=1)) as (one, other):
            for _ in range(3):
                await one.send(b"unread")
            await soon(lambda: not other.qp.wants_input)
            closing = start(one.close())  # waits for the other side, which does not read
            await cancelled(closing)
            await one.close()
            assert one.qp.state.name == "ERROR"
            with pytest.raises((ConnectionLost, Disconnected)):
                await drained(other)

    run(main)


def test_cancelling_whoever_waits_for_a_request(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            await cancelled(start(anext(listener)))
            async with connecting(listener, None) as (one, other):
                await one.send(b"x")
                assert await other.recv() == b"x"

    run(main)
