"""Blocking sockets with a proxy between them, and with peers that do harm: an error in time, and others are served."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from pyiwarp import IwarpError
from pyiwarp.sockets import PeerViolation, Socket, StreamLost, counters, open_connection
from pyiwarp.sockets.family.iwarpsock import set_stream_options
from tests.adversity.test_proxy import Proxy
from tests.hosts import HOST
from tests.integration.loops import octets
from tests.integration.polled import Peer, soon
from tests.integration.socketrig import QUICK, new, quick, read_all, serving
from tests.integration.streamrig import speaking_to
from tests.patience import PATIENCE

__all__ = ["quick"]  # the fixture

DATA = octets(700)


class Echo:
    """Answers every peer of a listener with what it sends; the errors that it has seen."""

    def __init__(self, listener: Socket) -> None:
        self._listener = listener
        self.errors: list[OSError] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:  # the test is done
                return
            with peer:
                peer.settimeout(PATIENCE)
                try:
                    while data := peer.recv(1 << 16):
                        peer.sendall(data)
                except OSError as error:
                    self.errors.append(error)

    def end(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)


@contextmanager
def echoing() -> Iterator[tuple[Echo, int]]:
    """An echo and its port; when the block ends an honest client is served."""
    with serving() as listener:
        echo = Echo(listener)
        try:
            yield echo, listener.getsockname()[1]
            assert talk(listener.getsockname()[1]) == DATA
        finally:
            echo.end()


@contextmanager
def proxied(target: int, **proxy: Any) -> Iterator[int]:
    """The port of a proxy before `target`."""
    ports: list[int] = []
    ends: list[Callable[[], object]] = []

    async def main() -> None:
        ended, loop = asyncio.Event(), asyncio.get_running_loop()
        async with Proxy(target, **proxy) as between:
            ends.append(lambda: loop.call_soon_threadsafe(ended.set))
            ports.append(between.port)
            await ended.wait()

    with Peer(asyncio.run, main()):
        soon(lambda: ports)
        try:
            yield ports[0]
        finally:
            ends[0]()


def talk(port: int) -> bytes:
    """Send everything, then read everything that comes back."""
    with new() as sock:
        sock.connect((HOST, port))
        sock.sendall(DATA)
        sock.shutdown(socket.SHUT_WR)
        return read_all(sock)


def test_octet_by_octet() -> None:
    with echoing() as (echo, target):
        with proxied(target, chunk=1) as port:
            assert talk(port) == DATA
        assert not echo.errors


@pytest.mark.parametrize("direction", [0, 1])
def test_cut_anywhere(direction: int) -> None:
    """In startup the client is refused, later the stream is lost; what was cut never looks complete."""
    with echoing() as (_, target):
        for cut in range(1, 900, 83):
            with proxied(target, cut_at=(direction, cut)) as port, pytest.raises(ConnectionError):
                talk(port)


def test_a_peer_that_stalls_in_startup() -> None:
    options = replace(QUICK, connection=replace(QUICK.connection, timeout=0.3))
    with echoing() as (_, target), proxied(target, stall_at=(0, 20)) as port:
        set_stream_options(options)
        with new() as sock, pytest.raises(TimeoutError):
            sock.connect((HOST, port))
        set_stream_options(QUICK)


def test_a_damaged_octet_ends_the_stream() -> None:
    def damage(direction: int, offset: int, data: bytes) -> bytes:
        at = 300 - offset
        return data if direction or not 0 <= at < len(data) else data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    with echoing() as (echo, target):
        with proxied(target, change=damage) as port, pytest.raises(ConnectionError):
            talk(port)
        soon(lambda: echo.errors)
        assert isinstance(echo.errors[0], StreamLost)


def test_a_word_that_may_not_come_is_the_error_of_the_next_call() -> None:
    async def harm(port: int) -> None:
        async with speaking_to(port) as speaker:
            await speaker.connection.send((0x20000001).to_bytes(4, sys.byteorder))
            with suppress(IwarpError):
                while True:
                    await speaker.heard()

    with echoing() as (echo, port):
        asyncio.run(asyncio.wait_for(harm(port), PATIENCE))
        soon(lambda: echo.errors)
        assert isinstance(echo.errors[0], PeerViolation)
        assert "the ops 1, 2, 3 and 5 are reserved" in str(echo.errors[0])


def test_many_peers_whom_nobody_accepts() -> None:
    """What waits for a program is bounded by its backlog; the others wait outside, and are served when it accepts."""

    async def client(port: int) -> bytes:
        reader, writer = await open_connection(HOST, port, options=QUICK)
        writer.write(b"hello")
        answer = await reader.readexactly(5)
        writer.close()
        await writer.wait_closed()
        return answer

    async def clients(port: int) -> list[bytes]:
        return await asyncio.gather(*(client(port) for _ in range(60)))

    before = counters().accepted
    with serving(backlog=1) as listener, Peer(asyncio.run, clients(listener.getsockname()[1])) as peers:
        soon(lambda: counters().accepted > before)
        threading.Event().wait(0.5)
        assert counters().accepted - before < 20
        echo = Echo(listener)
        soon(lambda: peers.result is not None)
        assert peers.result == [b"hello"] * 60
        echo.end()
