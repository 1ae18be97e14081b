"""`close` returns within `linger`, however the peer goes on: on both loops, and polled."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Final

import pyiwarp
from pyiwarp import blocking
from pyiwarp.connections.options import Options
from pyiwarp.mpa import Framer
from tests.harness import write
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST: Final = b"MPA ID Req Frame\x50\x01\0\0"
LINGER: Final = 0.3


@contextlib.contextmanager
def talker(port: int) -> Iterator[threading.Event]:
    """A peer that sends one empty Write after the other and never closes, until it is told to or TCP has ended."""
    out: list[bytes | bytearray | memoryview] = []
    Framer(crc=True).frame(write(1, 0).octets(0), (), 0, out)
    done = threading.Event()

    def talk() -> None:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), PATIENCE) as sock:
            sock.sendall(REQUEST)
            sock.recv(len(REQUEST))  # the Reply: FPDUs before it would end the startup
            while not done.wait(LINGER / 10):
                sock.sendall(b"".join(out))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield done
    finally:
        done.set()
        thread.join(PATIENCE)


def test_close_returns_on_the_loop(run: Runner) -> None:
    async def main() -> None:
        ends: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def handler(conn: pyiwarp.Connection) -> None:
            await conn.close()
            ends.set_result(peer.is_set())

        async with await pyiwarp.serve(handler, HOST, options=Options(linger=LINGER)) as server:
            with talker(server.port) as peer:
                assert await ends is False, "the peer went on all the time"

    run(main)


def test_close_returns_polled() -> None:
    options = Options(linger=LINGER)
    with nothing_left(), blocking.listen(HOST, options=options) as listener, talker(listener.port) as done:
        conn = listener.get_request(timeout=PATIENCE).accept()
        assert blocking.wait_until(lambda: conn.qp.alive, PATIENCE)
        conn.close()
        assert not done.is_set(), "the peer went on all the time"
