"""Clients of an echo server that have no stack, so that nearly all work is the server's, and one that floods."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Final

from benchmarks.pairs import HOST, Job, Sample
from benchmarks.siege import PATIENCE, flood, in_full_operation, request_of
from benchmarks.timing import now
from pyiwarp.buffers import Octets
from pyiwarp.mpa import Framer, fpdu_size

__all__ = ["stackless_client"]

SEND: Final = bytes((0x41, 0x43))  # the control octets of DDP and RDMAP: a Send in one segment
LEAD: Final = struct.Struct(">2s4xIII")  # then STag, QN, MSN and MO
MOST: Final = 65_536  # octets that are taken at once


class Messages:
    """The FPDUs of one stream after the other, which all streams have in common."""

    def __init__(self, size: int) -> None:
        self._payload = bytes(size)
        self._framer = Framer(crc=True)
        self._made: list[bytes] = []
        self.fpdu_size = fpdu_size(LEAD.size + size)

    def numbered(self, msn: int) -> bytes:
        """The FPDU of the Send with that MSN."""
        while len(self._made) < msn:
            pieces: list[Octets] = []
            header = LEAD.pack(SEND, 0, len(self._made) + 1, 0)
            self._framer.frame(header, (self._payload,), len(self._payload), pieces)
            self._made.append(b"".join(pieces))
        return self._made[msn - 1]


class Client:
    """Sends a message, waits until as many octets have come, and begins again."""

    def __init__(self, connected: socket.socket, messages: Messages) -> None:
        self._socket = connected
        self._messages = messages
        self._owed = 0  # octets that the server has not sent yet
        self.sent = 0

    def send(self) -> None:
        self.sent += 1
        self._socket.send(self._messages.numbered(self.sent))
        self._owed += self._messages.fpdu_size

    def take(self) -> None:
        taken = len(self._socket.recv(MOST))
        if not taken:
            raise RuntimeError("the server has closed the connection of a client")
        self._owed -= taken
        if not self._owed:
            self.send()


def stackless_client(job: Job, port: int) -> Sample:
    """Messages/s of `connections` clients together, and the slowest over the fastest, for `iwarp.awaited_server`.

    `flooding` more send empty Writes.
    """
    messages = Messages(job.size)
    with _flooding(port, job.flooding), contextlib.ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        clients = []
        for _ in range(job.connections):
            connected = in_full_operation(port, HOST, request_of(b""))
            if connected is None:
                raise RuntimeError("the server refuses a client")
            stack.callback(connected.close)
            clients.append(Client(connected, messages))
            selector.register(connected, selectors.EVENT_READ, clients[-1])
        for client in clients:
            client.send()
        _keep_going(selector, job.warmup)
        before = [client.sent for client in clients]
        took = _keep_going(selector, job.seconds)
        counts = [client.sent - sent for client, sent in zip(clients, before, strict=True)]
    return {"messages/s": sum(counts) / took, "slowest / fastest": min(counts) / max(1, *counts)}


def _keep_going(selector: selectors.BaseSelector, seconds: float) -> float:
    """Let the clients take what comes, for so long; returns how long it was."""
    began = now()
    while now() < began + seconds:
        ready = selector.select(PATIENCE)
        if not ready:
            raise RuntimeError(f"the server answered nobody within {PATIENCE:g} s")
        for key, _ in ready:
            key.data.take()
    return now() - began


@contextlib.contextmanager
def _flooding(port: int, count: int) -> Iterator[None]:
    """So many floods, from one thread, which mostly waits for room in its sockets."""
    if not count:
        yield
        return
    there, over = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: flood(port, count, [HOST], request_of(b""), there, over))
    thread.start()
    try:
        if not there.wait(PATIENCE):
            raise RuntimeError(f"no flood has begun within {PATIENCE:g} s")
        yield
    finally:
        over.set()
        thread.join(PATIENCE)
