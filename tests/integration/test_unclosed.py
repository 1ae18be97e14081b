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
from pyiwarp import Connection, blocking
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
        if issubclass(category, ResourceWarning) and ("<Connection" in str(message) or "<Listener" in str(message)):
            words.append(str(message))

    with warnings.catch_warnings(), patch.object(warnings, "showwarning", show):
        warnings.simplefilter("always")
        yield words
        gc.collect()


async def wait(conn: Connection) -> None:
    await conn.recv()


def test_a_connection_that_is_dropped_is_told_with_its_peer() -> None:
    def keep(listener: blocking.Listener) -> None:
        with listener.get_request(timeout=PATIENCE).accept():
            dropped.wait(PATIENCE)

    def serve() -> None:
        with blocking.listen(HOST) as listener:
            ports.append(listener.port)
            there.set()
            keep(listener)

    async def main() -> None:
        conn = await pyiwarp.connect(HOST, ports[0])
        await conn.send(b"and no close")

    ports: list[int] = []
    there, dropped = threading.Event(), threading.Event()
    server = threading.Thread(target=serve)
    server.start()
    assert there.wait(PATIENCE)
    with told() as words:
        asyncio.run(main())
    dropped.set()
    server.join()
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
        thread.join()
        del thread
    assert len(words) == 2
    assert f"unclosed {name[1]}" in words
    assert f"unclosed {name[0].split(' 0 ')[0]}" in {word.split(" 0 ")[0] for word in words}


@contextmanager
def server_at(port: int) -> Iterator[None]:
    """A peer of a listener, which closes its connection at last."""

    def visit() -> None:
        conn = blocking.connect(HOST, port)
        leave.wait()
        conn.abort()

    leave = threading.Event()
    visitor = threading.Thread(target=visit)
    visitor.start()
    yield
    leave.set()
    visitor.join()


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
