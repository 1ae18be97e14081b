"""What this host has: IPv6 or not, and ports at which nobody listens."""

from __future__ import annotations

import asyncio.trsock
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

HOST = "127.0.0.1"


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


ipv6 = pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6 address ::1")


def keep_little(*sockets: socket.socket | asyncio.trsock.TransportSocket) -> None:
    """Let the kernel hold little of what these send and receive, however much memory it has for TCP."""
    for each in sockets:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            each.setsockopt(socket.SOL_SOCKET, option, 1 << 16)


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses connections: it is bound, so that no other process is given it, and nobody listens."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a listener may take it over
        held.bind((HOST, 0))
        yield held.getsockname()[1]
