"""Where asyncio runs no event loop, what is awaited says what it needs; what is not awaited yet says so too."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, rdmacm
from pyiwarp.errors import WrongState
from pyiwarp.verbs import Context
from tests.hosts import HOST
from tests.integration.loops import run_on

NEEDED = "needs a running event loop of asyncio or uvloop, and {}; pyiwarp.blocking has the same"
NONE = NEEDED.format("none runs in this thread")
TRIO = NEEDED.format("trio runs here")


async def nothing(conn: Connection) -> None:
    raise AssertionError("nobody connects")


async def connect() -> None:
    await pyiwarp.connect(HOST, 1)


async def enter() -> None:
    async with pyiwarp.connect(HOST, 1):
        pass


async def listen() -> None:
    await pyiwarp.listen(HOST)


async def serve() -> None:
    await pyiwarp.serve(nothing, HOST)


async def identifier() -> None:
    rdmacm.CmId()


async def channel() -> None:
    await rdmacm.EventChannel().get_event()


async def queue() -> None:
    async for _ in Context().create_cq():
        pass


AWAITED = [connect, enter, listen, serve, identifier, channel, queue]


@pytest.mark.parametrize("program", AWAITED)
def test_without_a_loop_each_says_what_it_needs(program: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with pytest.raises(WrongState, match=NONE):
        program().send(None)


@pytest.mark.parametrize("program", AWAITED)
def test_trio_is_named(program: Callable[[], Coroutine[Any, Any, None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As sniffio tells of it, which trio imports; anyio on trio is the same."""
    sniffio = types.SimpleNamespace(current_async_library=lambda: "trio", AsyncLibraryNotFoundError=RuntimeError)
    monkeypatch.setitem(sys.modules, "sniffio", sniffio)
    with pytest.raises(WrongState, match=TRIO):
        program().send(None)


def test_a_library_that_is_imported_and_does_not_run_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class AsyncLibraryNotFoundError(RuntimeError):
        pass

    def current_async_library() -> str:
        raise AsyncLibraryNotFoundError

    found = {"current_async_library": current_async_library, "AsyncLibraryNotFoundError": AsyncLibraryNotFoundError}
    monkeypatch.setitem(sys.modules, "sniffio", types.SimpleNamespace(**found))
    with pytest.raises(WrongState, match=NONE):
        connect().send(None)


def test_what_is_not_awaited_yet_says_so() -> None:
    opening = pyiwarp.connect(HOST, 1)
    with pytest.raises(AttributeError, match=r"'recv' is not there before it is awaited.*pyiwarp\.blocking"):
        opening.recv()  # type: ignore[attr-defined]
    opening.close()


def test_what_is_never_awaited_is_told() -> None:
    with pytest.warns(RuntimeWarning, match="connect.*never awaited"):
        pyiwarp.connect(HOST, 1)


def test_each_is_awaited_entered_or_made_a_task() -> None:
    async def greet(conn: Connection) -> None:
        await conn.send(b"hello")

    async def main() -> None:
        async with pyiwarp.serve(greet, HOST) as server:
            async with pyiwarp.connect(HOST, server.port) as one:
                assert await one.recv() == b"hello"
            async with await asyncio.create_task(pyiwarp.connect(HOST, server.port)) as other:
                assert await other.recv() == b"hello"
            opening = asyncio.create_task(pyiwarp.connect(HOST, server.port))
            opening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await opening
        async with pyiwarp.listen(HOST) as listener:
            assert listener.port
        assert server.port == listener.port == 0

    run_on(asyncio.new_event_loop, main)


def test_a_loop_runs_what_connect_returns() -> None:
    with asyncio.Runner() as runner:
        listener = runner.run(pyiwarp.listen(HOST))
        listener.close()
