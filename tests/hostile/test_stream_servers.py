"""Hostile peers of a server of streams in a process of its own: others are served, and nothing is left of them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import cache

import pytest

from pyiwarp import RemoteRegion
from pyiwarp.sockets import open_connection
from pyiwarp.sockets.wire import NATIVE, Op
from tests.harness import fpdu, send
from tests.hostile.server import Figures, Server
from tests.hostile.streampeers import (
    LOOPS,
    OPTIONS,
    StreamPeer,
    conversation,
    hello_of,
    request_of,
    serving_streams,
)
from tests.hosts import HOST
from tests.patience import PATIENCE

GROWTH = 8.0  # MB


@pytest.fixture(params=LOOPS)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with serving_streams(request.param) as server:
        yield server


def honest(server: Server) -> None:
    """A good client is served."""
    options = replace(OPTIONS, connection=replace(OPTIONS.connection, timeout=PATIENCE))

    async def main() -> None:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await open_connection(HOST, server.port, options=options)
            writer.write(bytes(range(256)) * 40)
            assert await reader.readexactly(10_240) == bytes(range(256)) * 40
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


def assert_flat(before: Figures, after: Figures) -> None:
    assert after.faults == 0, "no error is logged"
    assert after.tasks <= before.tasks
    assert after.descriptors <= before.descriptors
    assert after.resident - before.resident < GROWTH


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.tools)])
def test_a_peer_that_ends_at_every_octet(server: Server, every: int) -> None:
    """At every one where time does not matter."""
    honest(server)
    before = server.at_rest()
    request = request_of(hello_of())
    for length in range(0, len(request), every):
        with socket.create_connection((HOST, server.port), PATIENCE) as sock:
            sock.sendall(request[:length])
    with StreamPeer(server.port) as peer:
        octets = len(conversation(peer))
    for length in range(0, octets + 1, every):
        with StreamPeer(server.port) as peer:
            peer.sock.sendall(conversation(peer)[:length])
            if length % 2:
                peer.sock.shutdown(socket.SHUT_WR)
                assert peer.is_ended()
    honest(server)
    assert_flat(before, server.at_rest())


@cache
def words(op: Op, value: int, count: int) -> bytes:
    """So many words, the first of a stream."""
    return b"".join(fpdu(send(NATIVE.word(op, value)).octets(msn), crc=0) for msn in range(1, count + 1))


def flood_of_words(peer: StreamPeer) -> None:
    peer.sock.sendall(words(Op.SGL, 384, 3000))


def flood_of_messages(peer: StreamPeer) -> None:
    """More than was granted."""
    peer.sock.sendall(words(Op.DATA, 1, 500))


def garbage_words(peer: StreamPeer) -> None:
    peer.sock.sendall(peer.data(b"well") + peer.word(Op.DATA, 0x1FFF_FFFF))


def garbage_entries(peer: StreamPeer) -> None:
    peer.sock.sendall(peer.entry(0, RemoteRegion((1 << 64) - 1, 1, 100)) + peer.word(Op.SGL, 384))


def entries_of_nothing(peer: StreamPeer) -> None:
    """Many, so that the server looks at its array again and again."""
    nothing = b"".join(peer.entry(1, RemoteRegion(0, 0, 0)) + peer.word(Op.SGL, 384) for _ in range(100))
    peer.sock.sendall(nothing)


def never_reads(peer: StreamPeer) -> None:
    """It says much, and what is sent back stays in TCP, then in the server."""
    for _ in range(8):
        peer.sock.sendall(peer.data(bytes(200)))


def says_nothing(peer: StreamPeer) -> None:
    """It is connected, and that is all."""


PEERS: dict[str, tuple[Callable[[StreamPeer], None], bytes]] = {
    "a flood of words": (flood_of_words, hello_of()),
    "a flood of messages": (flood_of_messages, hello_of(credits=0)),
    "garbage words": (garbage_words, hello_of()),
    "garbage entries": (garbage_entries, hello_of()),
    "entries of nothing": (entries_of_nothing, hello_of()),
    "a slow reader": (never_reads, hello_of()),
    "no credit": (never_reads, hello_of(credits=0)),
    "no room": (never_reads, hello_of(room=0)),
    "one octet of room": (never_reads, hello_of(room=1)),
    "silence": (says_nothing, hello_of()),
}


@pytest.mark.parametrize("kind", PEERS)
def test_hostile_peers_while_others_are_served(server: Server, kind: str) -> None:
    hostile, hello = PEERS[kind]
    honest(server)
    before = server.at_rest()
    for _ in range(2):
        with ExitStack() as peers:
            for _ in range(10):
                peer = peers.enter_context(StreamPeer(server.port, hello))
                with suppress(ConnectionError):  # the server has ended it
                    hostile(peer)
            honest(server)
    honest(server)
    assert_flat(before, server.at_rest())


def test_a_crowd_in_startup(server: Server) -> None:
    """Some say nothing, some half of a Request, some no MPA, some no rsockets."""
    honest(server)
    before = server.at_rest()
    said = b"", request_of(hello_of())[:30], b"GET / HTTP/1.1\r\n\r\n", request_of(b""), request_of(b"\2" + bytes(39))
    with ExitStack() as crowd:
        for number in range(300):
            sock = crowd.enter_context(socket.create_connection((HOST, server.port), PATIENCE))
            with suppress(ConnectionError):
                sock.sendall(said[number % len(said)])
            if number % 100 == 99:
                honest(server)
    honest(server)
    assert_flat(before, server.at_rest())
