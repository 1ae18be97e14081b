"""What a program drops unclosed it is told of, by name; no alarm when the interpreter ends, or in a forked child."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest

import pyiwarp
from pyiwarp import Connection, blocking, blockingcm, rdmacm
from tests.children import finished
from tests.hosts import HOST
from tests.patience import PATIENCE


@contextmanager
def told() -> Iterator[list[str]]:
    """What is told of unclosed connections and listeners inside, by the end."""
    gc.collect()
    words: list[str] = []

    def show(message: Warning | str, category: type[Warning], *more: object) -> None:
        # recorded warnings would keep what they are about
        word = str(message)
        if issubclass(category, ResourceWarning) and word.startswith(
            ("unclosed <Conn", "unclosed <List", "unclosed <CmId")
        ):
            words.append(word)

    with warnings.catch_warnings(), patch.object(warnings, "showwarning", show):
        warnings.simplefilter("always")
        yield words
        gc.collect()


async def wait(conn: Connection) -> None:
    await conn.recv()


@contextmanager
def peer() -> Iterator[list[int]]:
    """A peer that keeps its end until the block is left; the list has the port at which it listens."""

    def serve() -> None:
        with blocking.listen(HOST) as listener:
            ports.append(listener.port)
            there.set()
            with listener.get_request(timeout=PATIENCE).accept():
                leave.wait(PATIENCE)

    ports: list[int] = []
    there, leave = threading.Event(), threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    assert there.wait(PATIENCE)
    try:
        yield ports
    finally:
        leave.set()
        server.join(PATIENCE)


def test_a_connection_that_is_dropped_is_told_with_its_peer() -> None:
    async def main() -> None:
        conn = await pyiwarp.connect(HOST, ports[0])
        await conn.send(b"and no close")

    with peer() as ports, told() as words:
        asyncio.run(main())
    assert words == [f"unclosed <Connection with {HOST}:{ports[0]} ready to send>"]


@pytest.mark.parametrize("end", ["close", "abort", "peer"])
def test_one_that_is_closed_or_has_ended_is_not_told(end: str) -> None:
    async def main() -> None:
        async with pyiwarp.serve(wait, HOST) as server:
            conn = await pyiwarp.connect(HOST, server.port)
            if end == "close":
                await conn.close()
            elif end == "abort":
                conn.abort()
            else:
                await conn.send(b"enough")
                await conn.wait_closed()

    with told() as words:
        asyncio.run(main())
    assert words == []


def test_a_listener_that_is_dropped_is_told() -> None:
    below: list[Any] = []

    async def main() -> None:
        listener = await pyiwarp.listen(HOST)
        below.append(listener._listener)
        name = repr(listener)
        with told() as words:
            del listener
        assert words == [f"unclosed {name}"]
        below.pop().close()

    asyncio.run(main())


def test_a_server_that_is_not_closed_is_told() -> None:
    async def main() -> None:
        await pyiwarp.serve(wait, HOST)
        await asyncio.sleep(0)

    with told() as words:
        asyncio.run(main())
    assert len(words) == 1
    assert words[0].startswith("unclosed <Listener port ")


def test_polled_ones_are_told_when_their_thread_has_ended() -> None:
    def program() -> None:
        listener = blocking.listen(HOST)
        name.append(repr(listener))
        with server_at(listener.port):
            request = listener.get_request(timeout=PATIENCE)
            conn = request.accept()
            name.append(repr(conn))

    name: list[str] = []
    with told() as words:
        thread = threading.Thread(target=program)
        thread.start()
        thread.join(PATIENCE)
        del thread
    assert len(words) == 2
    assert f"unclosed {name[1]}" in words
    assert f"unclosed {name[0].split(' 0 ')[0]}" in {word.split(" 0 ")[0] for word in words}


def test_an_identifier_that_listens_is_told() -> None:
    async def main() -> None:
        closed, dropped = rdmacm.CmId(), rdmacm.CmId()
        for each in (closed, dropped):
            each.bind_addr(HOST)
            await each.listen()
        closed.close()
        rdmacm.CmId().bind_addr(HOST)  # which holds nothing

    def program() -> None:
        dropped = blockingcm.CmId()
        dropped.bind_addr(HOST)
        dropped.listen()

    with told() as words:
        asyncio.run(main())
    assert [word.partition("(")[0] for word in words] == ["unclosed <CmId listening at "]
    with told() as words:
        thread = threading.Thread(target=program)
        thread.start()
        thread.join(PATIENCE)
        del thread
    assert [word.partition("(")[0] for word in words] == ["unclosed <CmId listening at "]


def test_an_identifier_that_is_connected_is_told_with_its_peer() -> None:
    async def main() -> None:
        one = rdmacm.CmId()
        await one.resolve_addr(HOST, ports[0])
        await one.resolve_route()
        one.create_qp()
        await one.connect()

    with peer() as ports, told() as words:
        asyncio.run(main())
    assert len(words) == 1
    assert f"('{HOST}', {ports[0]})" in words[0]


@contextmanager
def server_at(port: int) -> Iterator[None]:
    """A peer of a listener, which closes its connection at last."""

    def visit() -> None:
        conn = blocking.connect(HOST, port)
        leave.wait(PATIENCE)
        conn.abort()

    leave = threading.Event()
    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield
    finally:
        leave.set()
        visitor.join(PATIENCE)


AT_EXIT = """
import gc, os, sys, threading
from pyiwarp import blocking

def serve():
    with blocking.listen("127.0.0.1") as listener:
        ports.append(listener.port)
        there.set()
        with listener.get_request(timeout=60).accept() as conn:
            left.wait()

ports, there, left = [], threading.Event(), threading.Event()
server = threading.Thread(target=serve, daemon=True)
server.start()
there.wait()
conn = blocking.connect("127.0.0.1", ports[0])
listener = blocking.listen("127.0.0.1")
"""
IN_A_CHILD = """
child = os.fork()
if child == 0:
    del conn, listener
    gc.collect()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
conn.abort()
listener.close()
"""


@pytest.mark.parametrize("more", ["", IN_A_CHILD], ids=["exit", "fork"])
def test_no_false_alarm(more: str) -> None:
    done = finished([sys.executable, "-W", "always", "-c", AT_EXIT + more])
    assert done.returncode == 0, done.stderr
    assert "unclosed <Connection" not in done.stderr
    assert "unclosed <Listener" not in done.stderr
