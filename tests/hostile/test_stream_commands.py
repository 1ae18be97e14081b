"""Hostile peers of the commands that carry streams: others are served, and no descriptor is left of them.

`pyiwarp run` stands for the sockets of the family: its program is a server with blocking sockets and threads.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from pyiwarp.cli.rsockets.rcopy import ANSWER, HEADER_SIZE, Command, Header
from pyiwarp.sockets import open_connection
from tests.children import COMMAND, first_line, started
from tests.hostile.streampeers import OPTIONS, StreamPeer, conversation, hello_of, request_of
from tests.hostile.test_stream_servers import PEERS
from tests.hosts import HOST
from tests.patience import PATIENCE

LINES = Path(__file__).parents[1] / "integration/programs/threading_server.py"


class Attacked(NamedTuple):
    """A command that serves: its process, its port, what a good client says, and how what it is answered begins."""

    process: subprocess.Popen[str]
    port: int
    says: bytes
    hears: bytes

    @property
    def descriptors(self) -> int:
        """How many it has."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def serves(self) -> None:
        """A good client is served."""
        options = replace(OPTIONS, connection=replace(OPTIONS.connection, timeout=PATIENCE))

        async def main() -> None:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await open_connection(HOST, self.port, options=options)
                writer.write(self.says)
                assert await reader.readexactly(len(self.hears)) == self.hears
                writer.close()
                await writer.wait_closed()

        asyncio.run(main())

    def at_rest(self, before: int) -> None:
        """Wait until it has no more descriptors than `before`."""
        deadline = time.monotonic() + PATIENCE
        while (now := self.descriptors) > before:
            assert time.monotonic() < deadline, f"{now} descriptors, {before} before"
            time.sleep(0.02)


@contextmanager
def a_program(tmp_path: Path) -> Iterator[Attacked]:
    with serving("run", "--no-crc", os.fspath(LINES)) as (process, port):
        yield Attacked(process, port, b"hello\n", b"HELLO\n")


@contextmanager
def a_tunnel(tmp_path: Path) -> Iterator[Attacked]:
    """To a server of TCP that is such a program too, without iWARP."""
    python = COMMAND[0], os.fspath(LINES)
    with started(python, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as target:
        place = f"tcp:{HOST}:{int(first_line(target))}"
        with serving("tunnel", "--no-crc", f"iwarp:{HOST}:0", place) as (process, port):
            yield Attacked(process, port, b"hello\n", b"HELLO\n")


@contextmanager
def an_rcopy(tmp_path: Path) -> Iterator[Attacked]:
    path = b"file\0\0\0\0"
    asks = bytes(Header(Command.OPEN, HEADER_SIZE + len(path), 0o644, 7)) + path
    with serving("rcopy", "--no-crc", "--root", os.fspath(tmp_path), "-p", "0") as (process, port):
        yield Attacked(process, port, asks, bytes(Header(Command.OPEN | ANSWER, HEADER_SIZE, 0, 7)))


@contextmanager
def serving(*words: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A command of ours, and the port that its first line ends with or names behind a colon."""
    with started([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        line = first_line(process)
        found = re.search(rf"\b{re.escape(HOST)}:(\d+)", line) or re.search(r"\b(\d{4,5})\b", line)
        assert found is not None, line
        yield process, int(found[1])


SERVERS: dict[str, Callable[[Path], AbstractContextManager[Attacked]]] = {
    "run": a_program,
    "tunnel": a_tunnel,
    "rcopy": an_rcopy,
}
LAZY = 4
"""Descriptors that a process opens when it needs them first, and keeps."""


@pytest.fixture(params=SERVERS)
def attacked(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Attacked]:
    with SERVERS[request.param](tmp_path) as server:
        most = server.descriptors + LAZY
        server.serves()
        yield server
        server.serves()
        server.at_rest(most)


def test_hostile_peers_while_others_are_served(attacked: Attacked) -> None:
    for hostile, hello in PEERS.values():
        with ExitStack() as peers:
            for _ in range(10):
                peer = peers.enter_context(StreamPeer(attacked.port, hello))
                with suppress(ConnectionError):  # the server has ended it
                    hostile(peer)
            attacked.serves()


@pytest.mark.parametrize("every", [29, pytest.param(1, marks=pytest.mark.tools)])
def test_a_peer_that_ends_at_every_octet(attacked: Attacked, every: int) -> None:
    """At every one where time does not matter."""
    request = request_of(hello_of())
    for length in range(0, len(request), every):
        with socket.create_connection((HOST, attacked.port), PATIENCE) as sock:
            sock.sendall(request[:length])
    with StreamPeer(attacked.port) as peer:
        octets = len(conversation(peer))
    for length in range(0, octets + 1, every):
        with StreamPeer(attacked.port) as peer:
            peer.sock.sendall(conversation(peer)[:length])


@pytest.mark.parametrize("kind", ["a flood of messages", "garbage entries", "no credit", "silence"])
def test_rstream_gives_a_hostile_client_up(kind: str) -> None:
    """It is the server of one client, and ends with it: with an error, and in its time."""
    hostile, hello = PEERS[kind]
    words = ("-S", "64", "-C", "2", "-I", "2", "--timeout", "2")
    with serving("rstream", "--no-crc", "-p", "0", *words) as (process, port), StreamPeer(port, hello) as peer:
        with suppress(ConnectionError):
            hostile(peer)
        assert process.wait(PATIENCE) == 1
