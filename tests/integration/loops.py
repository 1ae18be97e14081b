"""Runs coroutines on the stock loop and on uvloop, and fails a test that leaves anything behind."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
import uvloop

import pyiwarp
from pyiwarp import Access, Connection, Options, RemoteRegion
from pyiwarp.connections.serving import Listener, listen
from tests.children import prepared_fd
from tests.hosts import HOST, keep_little
from tests.patience import PATIENCE

BOTH_WAYS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
QUICK = Options(timeout=PATIENCE, linger=0.3)

T = TypeVar("T")
Main = Callable[[], Coroutine[Any, Any, None]]
Runner = Callable[[Main], None]

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def open_sockets() -> set[str]:
    """The sockets that this process has open, but for the one that all tests share."""
    found = set[str]()
    for name in os.listdir("/proc/self/fd"):
        if name == str(prepared_fd()):
            continue
        try:
            found.add(f"{name}:{os.readlink('/proc/self/fd/' + name)}")
        except OSError:
            continue
    return {name for name in found if "socket" in name}


def run_on(
    factory: Callable[[], asyncio.AbstractEventLoop],
    main: Main,
    patience: float = PATIENCE,
    grace: float = PATIENCE / 2,
) -> None:
    """Run `main`, for `patience` seconds at most, and look closely at what it leaves: complaints, tasks, sockets.

    Tasks and sockets have `grace` seconds to end.
    """
    complaints: list[dict[str, Any]] = []

    async def watched() -> None:
        before = open_sockets()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        async with asyncio.timeout(patience):
            await main()
        until = time.monotonic() + grace
        while len(asyncio.all_tasks()) > 1 or leaked(before):  # closing sockets takes the loops some turns
            if time.monotonic() > until:
                break
            await asyncio.sleep(0.002)
        gc.collect()
        await asyncio.sleep(0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not others, f"tasks were left: {others}"
        assert not leaked(before), f"sockets were left: {leaked(before)}"

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(watched())
    gc.collect()
    assert not complaints, f"the loop complained: {complaints}"


def leaked(before: set[str]) -> set[str]:
    return open_sockets() - before


@asynccontextmanager
async def joined(
    left: Options | None = None, right: Options | None = None, port: int | None = None
) -> AsyncIterator[tuple[Connection, Connection]]:
    """Two connections joined over loopback, both the test's; with `port` by way of a proxy that forwards to it."""
    listener = await listen(HOST, options=right)
    async with listener, connecting(listener, left, port) as (one, two):
        yield one, two


@asynccontextmanager
async def connecting(
    listener: Listener, options: Options | None, port: int | None = None
) -> AsyncIterator[tuple[Connection, Connection]]:
    connect = asyncio.ensure_future(_connected(port or listener.port, options))
    request = await anext(listener)
    other = await request.accept()
    mine = await connect
    try:
        yield mine, other
    finally:
        await asyncio.gather(mine.close(), other.close())


async def _connected(port: int, options: Options | None) -> Connection:
    return await pyiwarp.connect(HOST, port, options=options)


async def exchange_advertisement(region: pyiwarp.Region, one: Connection, other: Connection) -> RemoteRegion:
    """Tell the other side of a region, as programs do."""
    await one.send(region.advertise())
    return RemoteRegion.parse(await other.recv())


async def soon(condition: Callable[[], object]) -> None:
    """Wait until it holds; the test fails if it never does."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what is waited for is often not ours to signal
            await asyncio.sleep(0.001)


def hold_little(*connections: Connection) -> None:
    """Let the kernel keep little of what they send each other: else it may hold all that a test sends."""
    for connection in connections:
        assert connection._llp is not None
        assert connection._llp._socket is not None
        keep_little(connection._llp._socket)


@pytest.fixture(params=LOOPS)
def run(request: pytest.FixtureRequest) -> Runner:
    """Runs a coroutine on each loop in turn."""
    factory = LOOPS[request.param]
    return lambda main: run_on(factory, main)


def octets(nbytes: int, seed: int = 1) -> bytes:
    """The same ones for the same seed."""
    return random.Random(seed).randbytes(nbytes)


def start(awaitable: Awaitable[T]) -> asyncio.Future[T]:
    """Let it run beside the test."""
    return asyncio.ensure_future(awaitable)


@asynccontextmanager
async def silent_listener() -> AsyncIterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]
