"""The proxy of `test_proxy` between a polled client and an awaitable server: the same promises on the other driver."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import pyiwarp
from pyiwarp import ConnectionLost, Disconnected, IwarpError, Options, RemoteRegion, TerminatedByPeer, blocking
from pyiwarp.errors import CrcMismatch
from tests.adversity.test_proxy import IMPATIENT, OPTIONS, STARTUP, Proxy, answer
from tests.hosts import HOST
from tests.integration.polled import Peer, nothing_left, soon
from tests.patience import PATIENCE


@contextmanager
def proxied(options: Options = OPTIONS, **proxy: Any) -> Iterator[int]:
    """A server that answers, and the port of a proxy before it."""
    ports: list[int] = []
    end = []

    async def handler(conn: pyiwarp.Connection) -> None:
        await answer(conn)

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with (
            await pyiwarp.serve(handler, HOST, options=options) as server,
            Proxy(server.port, **proxy) as between,
        ):
            end.append(lambda: loop.call_soon_threadsafe(ended.set))
            ports.append(between.port)
            await ended.wait()

    with nothing_left(), Peer(asyncio.run, main()):
        soon(lambda: ports)
        try:
            yield ports[0]
        finally:
            end[0]()


def talk(port: int, options: Options = OPTIONS, patience: float = PATIENCE) -> None:
    """A Send, a Write, a Read and a Send, of a few hundred octets."""
    with blocking.connect(HOST, port, options=options) as conn:
        conn.send(b"hello", timeout=patience)
        remote = RemoteRegion.parse(conn.recv(timeout=patience))
        with conn.register(bytearray(300)) as memory:
            conn.write(bytes(range(250)), remote, timeout=patience)
            conn.send(b"written", timeout=patience)
            conn.read(memory[:250], remote, timeout=patience)
            assert bytes(memory.view)[:250] == bytes(range(250))
        conn.send(b"bye", timeout=patience)
        assert conn.recv(timeout=patience) == b"bye"


@pytest.mark.parametrize("chunk", [1, 7, 1 << 16])
def test_any_cutting_will_do(chunk: int) -> None:  # MPA-5044-5.1-05, MPA-5044-A.4-01
    with proxied(chunk=chunk) as port:
        talk(port)


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("at", [0, 1, 19, STARTUP - 1, STARTUP, 60, 150, 300])
def test_a_cut_is_heard_of(direction: int, at: int) -> None:  # DDP-5041-6.2.2-01, MPA-5044-8-01
    with proxied(cut_at=(direction, at)) as port:
        with pytest.raises((ConnectionError, Disconnected, OSError)) as caught:
            talk(port)
        assert str(caught.value)


@pytest.mark.parametrize("at", [0, STARTUP - 1, STARTUP + 30, STARTUP + 100])
def test_a_stall_ends_in_time(at: int) -> None:  # MPA-5044-7.1.2-27
    """The time limit of an operation ends it, and neither memory nor connection waits for the peer any longer."""
    with proxied(IMPATIENT, stall_at=(1, at)) as port, pytest.raises((TimeoutError, IwarpError)):
        talk(port, IMPATIENT, patience=0.5)


@pytest.mark.parametrize("direction", [0, 1])
def test_a_flipped_bit_is_a_crc_error(direction: int) -> None:  # MPA-5044-4.4-18
    def flip(way: int, offset: int, octets: bytes) -> bytes:
        at = STARTUP + 30 - offset  # behind startup and the length of the first FPDU with octets
        if way == direction and 0 <= at < len(octets):
            octets = octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :]
        return octets

    with proxied(change=flip) as port:
        with pytest.raises((CrcMismatch, TerminatedByPeer, ConnectionLost)) as caught:
            talk(port)
        if direction == 1:
            assert isinstance(caught.value, CrcMismatch)
