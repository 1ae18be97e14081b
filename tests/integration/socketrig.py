"""Blocking sockets of AF_IWARP for tests: a listener, two ends, and what nothing of them may leave."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import pytest

from pyiwarp.sockets import AF_IWARP, Socket, StreamOptions
from pyiwarp.sockets.family.enginethread import engine
from pyiwarp.sockets.family.iwarpsock import set_stream_options
from tests.hosts import HOST
from tests.integration.loops import open_sockets
from tests.patience import PATIENCE

__all__ = ["QUICK", "Ends", "new", "nothing_left", "pair_of", "quick", "read_all", "serving", "within"]

T = TypeVar("T")
Ends = tuple[Socket, Socket]
QUICK = replace(StreamOptions(), connection=replace(StreamOptions().connection, timeout=PATIENCE, linger=1.0))


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Every socket waits as long as tests do, and a test leaves no descriptor behind."""
    set_stream_options(QUICK)
    with nothing_left():
        yield
    set_stream_options(StreamOptions())


@contextmanager
def nothing_left() -> Iterator[None]:
    """No descriptor of a socket that was opened in the block is open when the engine thread has had its time."""
    engine()  # which has some of its own
    before = open_sockets()
    yield
    deadline = time.monotonic() + PATIENCE / 2
    while (left := open_sockets() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    assert not left


def new() -> Socket:
    """A socket that waits for as long as a test does."""
    sock = Socket(AF_IWARP)
    sock.settimeout(PATIENCE)
    return sock


@contextmanager
def serving(backlog: int = 5) -> Iterator[Socket]:
    """A socket that listens."""
    with new() as listener:
        listener.bind((HOST, 0))
        listener.listen(backlog)
        yield listener


@contextmanager
def pair_of() -> Iterator[Ends]:
    """The connecting and the accepted end of one stream."""
    with serving() as listener, new() as one:
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        assert isinstance(other, Socket)
        other.settimeout(PATIENCE)
        with other:
            yield one, other


def within(call: Callable[[], T]) -> T:
    """What a call returns that waits as long as the system does; it must return within `PATIENCE`."""
    returned: list[T] = []
    thread = threading.Thread(target=lambda: returned.append(call()), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert returned, "it has not returned"
    return returned[0]


def read_all(sock: socket.socket) -> bytes:
    """Everything until the end."""
    octets = bytearray()
    while piece := sock.recv(1 << 16):
        octets += piece
    return bytes(octets)
