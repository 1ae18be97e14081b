"""Tunnels as processes, and programs of TCP at their ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tests.hosts import HOST
from tests.integration.test_cli import Process
from tests.patience import PATIENCE


class Tunneled(Process):
    """A tunnel, which clients reach at `port`."""

    def __init__(self, listen: str, target: str, *words: str) -> None:
        super().__init__("tunnel", f"{listen}:{HOST}:0", target, "--json", *words)
        listening = self.told()
        assert (listening["event"], listening["kind"], listening["target"]) == ("listening", listen, target)
        self.port: int = listening["port"]
        self.told_of = 0
        """Clients that it has told of."""

    def client(self) -> dict[str, Any]:
        """What it tells of the next client that has left."""
        told = self.told()
        assert told["event"] == "client", told
        self.told_of += 1
        return told

    def stopped(self, interrupted: int = 0) -> dict[str, int]:
        """End it as a service manager does; returns its counters."""
        errors = self.end(signal.SIGTERM, expect=1 if interrupted else 0)
        assert f"stopped; {interrupted} client{'' if interrupted == 1 else 's'} interrupted" in errors
        told = [json.loads(line) for line in self.rest().splitlines()][-1]
        assert (told["event"], told["interrupted"]) == ("stopped", interrupted)
        counters: dict[str, int] = told["counters"]
        return counters


@contextmanager
def tunnel(listen: str, target: str, *words: str) -> Iterator[Tunneled]:
    """A tunnel that listens on a port of the system's choice."""
    tunneled = Tunneled(listen, target, *words)
    try:
        yield tunneled
    finally:
        tunneled.stop()


@contextmanager
def two_tunnels(port: int, *words: str) -> Iterator[tuple[Tunneled, Tunneled]]:
    """From TCP to iWARP, and from there to a TCP port of this host."""
    with ExitStack() as stack:
        far = stack.enter_context(tunnel("iwarp", f"tcp:{HOST}:{port}", *words))
        near = stack.enter_context(tunnel("tcp", f"iwarp:{HOST}:{far.port}", *words))
        yield near, far


def connected(port: int) -> socket.socket:
    """A TCP client of this host's `port`."""
    return socket.create_connection((HOST, port), PATIENCE)


class Joined:
    """A TCP server, and two tunnels through which clients come to it."""

    def __init__(self, server: socket.socket, near: Tunneled, far: Tunneled) -> None:
        self.server, self.near, self.far = server, near, far
        self.visits = 0

    @contextmanager
    def ends(self) -> Iterator[tuple[socket.socket, socket.socket]]:
        """A client, and the server's end of it."""
        self.visits += 1
        with connected(self.near.port) as client, self.server.accept()[0] as accepted:
            accepted.settimeout(PATIENCE)
            yield client, accepted

    def hear_of_all(self) -> None:
        """Wait until both tunnels have told of every client: they do so some time after it has left."""
        for each in (self.near, self.far):
            while each.told_of < self.visits:
                each.client()


@contextmanager
def joined(*words: str) -> Iterator[Joined]:
    """A TCP server behind two tunnels."""
    with socket.create_server((HOST, 0)) as server, two_tunnels(server.getsockname()[1], *words) as (near, far):
        server.settimeout(PATIENCE)
        yield Joined(server, near, far)


def read_all(sock: socket.socket) -> bytes:
    """Everything up to the end."""
    octets = bytearray()
    while piece := sock.recv(1 << 20):
        octets += piece
    return bytes(octets)
