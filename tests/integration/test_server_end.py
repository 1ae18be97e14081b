"""A server that is closed ends, whatever its peers do (RFC 5042 §6.4)."""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import suppress
from typing import Final

import pytest

import pyiwarp
from pyiwarp.connections.options import Options
from pyiwarp.errors import ConnectionLost, Disconnected
from tests.harness import fpdu, write
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST: Final = b"MPA ID Req Frame\x50\x01\0\0"
EMPTY: Final = fpdu(write(1, 0).octets(0))


async def receives_one(conn: pyiwarp.Connection) -> None:
    await conn.recv()


def test_neither_silent_nor_flooding_peers_hold_up_the_end(run: Runner) -> None:
    async def main() -> None:
        there = asyncio.Semaphore(0)

        async def handler(conn: pyiwarp.Connection) -> None:
            there.release()
            await conn.recv()

        def flood(peer: socket.socket) -> None:
            with suppress(OSError):
                while True:
                    peer.sendall(EMPTY * 1000)

        loop = asyncio.get_running_loop()
        async with await pyiwarp.serve(handler, HOST, options=Options(linger=math.inf)) as server:
            peers = [socket.create_connection((HOST, server.port), PATIENCE) for _ in range(2)]
            for peer in peers:
                peer.sendall(REQUEST)
                assert len(await asyncio.to_thread(peer.recv, 20)) == 20
                peer.sendall(EMPTY)
                await there.acquire()
            flooding = loop.run_in_executor(None, flood, peers[0])
            async with asyncio.timeout(PATIENCE):
                await server.close()
                await flooding
            for peer in peers:
                peer.close()

    run(main)


def test_who_has_asked_has_an_answer_when_the_server_ends(run: Runner) -> None:
    """Their tasks are cancelled before they have begun."""

    async def main() -> None:
        async with await pyiwarp.serve(receives_one, HOST) as server:
            peers = [socket.create_connection((HOST, server.port), PATIENCE) for _ in range(2)]
            for peer in peers:
                peer.sendall(REQUEST)
            async with asyncio.timeout(PATIENCE):
                while "2 connections" not in repr(server):  # noqa: ASYNC110 - the server has no event for tests
                    await asyncio.sleep(0)
            await server.close()
            for peer in peers:
                reply = await asyncio.to_thread(peer.recv, 20, socket.MSG_WAITALL)
                assert reply[16] & 0x20, "the R flag"
                peer.close()

    run(main)


def test_a_server_that_stops_accepting_lets_its_handlers_end(run: Runner) -> None:
    async def main() -> None:
        async def echo(conn: pyiwarp.Connection) -> None:
            async for message in conn:
                await conn.send(message)

        async with pyiwarp.serve(echo, HOST) as server:
            port = server.port
            async with pyiwarp.connect(HOST, port) as conn:
                await conn.send(b"before")
                assert await conn.recv() == b"before"
                ending = asyncio.ensure_future(server.wait_closed())
                forever = asyncio.ensure_future(server.serve_forever())
                for _ in range(2):
                    server.stop_accepting()
                with pytest.raises(ConnectionRefusedError):
                    await pyiwarp.connect(HOST, port)
                await conn.send(b"after")
                assert await conn.recv() == b"after"
                assert not ending.done()
                assert not forever.done()
            async with asyncio.timeout(PATIENCE):
                await ending
                await forever

    run(main)


def test_a_server_that_stops_accepting_can_be_closed(run: Runner) -> None:
    async def main() -> None:
        async with pyiwarp.serve(receives_one, HOST) as server, pyiwarp.connect(HOST, server.port) as conn:
            server.stop_accepting()
            waiting = asyncio.ensure_future(server.wait_closed())
            await asyncio.sleep(0)
            waiting.cancel()
            await server.close()
            await server.wait_closed()
            with pytest.raises((Disconnected, ConnectionLost)):
                await conn.recv()

    run(main)
