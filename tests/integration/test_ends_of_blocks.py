"""How a connection ends when its block is left, by an exception or without; what waits for it then."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

import pyiwarp
from pyiwarp import blocking
from pyiwarp.errors import Closed, ConnectionLost, Disconnected
from tests.hosts import HOST
from tests.integration.forms import Form, awaited, form
from tests.integration.loops import joined, run_on
from tests.integration.polled import pair
from tests.patience import PATIENCE

__all__ = ["form"]  # the fixture


class Mistake(Exception):
    """One of the program's."""


async def _end_seen(body: str, *, polled: bool) -> tuple[list[bytes], Exception | None]:
    """What a server receives, and how its connection ends, when a client's block does `body`."""
    seen: asyncio.Future[tuple[list[bytes], Exception | None]] = asyncio.get_running_loop().create_future()

    async def handler(conn: pyiwarp.Connection) -> None:
        messages = []
        error: Exception | None = None
        try:
            while True:
                messages.append(await conn.recv())
                await conn.send(b"received")
        except (Disconnected, ConnectionLost) as end:
            error = end
        seen.set_result((messages, error))

    async with await pyiwarp.serve(handler, HOST) as server:
        if polled:
            await asyncio.to_thread(_client, server.port, body)
        else:
            try:
                async with pyiwarp.connect(HOST, server.port) as conn:
                    await conn.send(b"a part")
                    await conn.recv()
                    if body == "raise":
                        raise Mistake
                    if body == "cancel":
                        async with asyncio.timeout(0.01):
                            await conn.recv()
            except (Mistake, TimeoutError):
                pass
        async with asyncio.timeout(PATIENCE):
            return await seen


def _client(port: int, body: str) -> None:
    with suppress(Mistake, KeyboardInterrupt), blocking.connect(HOST, port) as conn:
        conn.send(b"a part", timeout=PATIENCE)
        conn.recv(timeout=PATIENCE)
        if body == "raise":
            raise Mistake
        if body == "cancel":
            raise KeyboardInterrupt


@pytest.mark.parametrize("polled", [False, True], ids=["awaitable", "blocking"])
@pytest.mark.parametrize(
    ("body", "end"), [("return", Disconnected), ("raise", ConnectionLost), ("cancel", ConnectionLost)]
)
def test_a_stream_that_was_cut_off_does_not_look_complete(body: str, end: type[Exception], polled: bool) -> None:
    async def main() -> None:
        messages, error = await _end_seen(body, polled=polled)
        assert messages == [b"a part"]
        assert type(error) is end

    run_on(asyncio.new_event_loop, main)


def test_an_error_that_tells_of_the_peers_end_is_no_mistake(form: Form) -> None:
    """A client that waits for one message more than there are: its own end is graceful too."""

    async def body(one: pyiwarp.Connection, other: pyiwarp.Connection) -> None:
        other.qp.disconnect()
        with pytest.raises(Disconnected):
            await awaited(one.recv)
        assert one.tells_of_the_end(Disconnected("gone"))
        assert one.tells_of_the_end(ExceptionGroup("", [Disconnected("gone")]))
        assert not one.tells_of_the_end(ExceptionGroup("", [Disconnected("gone"), Mistake()]))
        assert not one.tells_of_the_end(Mistake())

    form.connected(body)


def test_waiting_for_the_end(form: Form) -> None:
    async def body(one: pyiwarp.Connection, other: pyiwarp.Connection) -> None:
        one.abort()
        await awaited(one.wait_closed)
        await awaited(other.wait_closed)
        assert one.is_closed
        assert other.is_closed
        await awaited(other.wait_closed)

    form.connected(body)


def test_waiting_for_the_end_has_a_limit() -> None:
    with pair() as (one, _), pytest.raises(TimeoutError, match="has not ended"):
        one.wait_closed(timeout=0.01)


def test_waiting_for_the_end_is_cancelled() -> None:
    async def main() -> None:
        async with joined() as (one, _):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await one.wait_closed()
            await one.send(b"goes on")

    run_on(asyncio.new_event_loop, main)


def test_iterating_ends_when_this_side_closes() -> None:
    async def main() -> None:
        async with joined() as (one, _):

            async def iterate() -> list[bytes]:
                return [message async for message in one]

            iterating = asyncio.create_task(iterate())
            await asyncio.sleep(0)
            await one.close()
            async with asyncio.timeout(PATIENCE):
                assert await iterating == []
            with pytest.raises(Closed):
                await one.recv()

    run_on(asyncio.new_event_loop, main)


def test_iterating_ends_when_this_side_has_closed() -> None:
    with pair() as (one, _):
        one.abort()
        assert list(one) == []
