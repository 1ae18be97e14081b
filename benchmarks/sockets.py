"""The limit: blocking sockets with nothing around them, and sockets that are asked again and again without waiting.

Bandwidth is `sendall` of messages and `recv_into` of 1 MiB. Each phase has a connection of its own, whose end tells
the receiver that all was sent; its single octet tells the sender that all has come.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Final

from benchmarks.pairs import HOST, Job, Sample, filled
from benchmarks.timing import back_and_forth, now
from pyiwarp.drivers.tcp import unpace

__all__ = [
    "bandwidth_client",
    "bandwidth_server",
    "echo_client",
    "echo_server",
    "polled_client",
    "polled_server",
]

CHUNK: Final = 1 << 20


def _listening(announce: Callable[[int], None]) -> socket.socket:
    listener = socket.create_server((HOST, 0))
    announce(listener.getsockname()[1])
    return listener


# --- bandwidth -------------------------------------------------------------------------------------------------------


def bandwidth_server(job: Job, announce: Callable[[int], None]) -> None:
    with _listening(announce) as listener:
        while True:
            connection, _ = listener.accept()
            with connection:
                if job.both_ways:
                    connection.recv_into(bytearray(1), 1)  # the client begins; then both do the same
                    _both_ways(connection, job, job.seconds)
                else:
                    _swallow(connection)
                    connection.sendall(b"!")


def bandwidth_client(job: Job, port: int) -> Sample:
    for seconds in (job.warmup, job.seconds):
        with socket.create_connection((HOST, port)) as connection:
            if job.unpaced:
                unpace(connection, HOST)
            began = now()
            if job.both_ways:
                connection.sendall(b"!")
                nbytes = _both_ways(connection, job, seconds)
            else:
                nbytes = _pour(connection, job.size, seconds)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)
            rate = nbytes / (now() - began)
    return {"GB/s": rate / 1e9, "messages/s": rate / job.size}


def _pour(connection: socket.socket, size: int, seconds: float) -> int:
    """Send messages for so long; how many octets that were."""
    message = memoryview(filled(size))
    until, nbytes = now() + seconds, 0
    while now() < until:
        connection.sendall(message)
        nbytes += size
    return nbytes


def _swallow(connection: socket.socket) -> int:
    """Receive until the peer has no more to send; how many octets that were."""
    room, nbytes = filled(CHUNK), 0
    while got := connection.recv_into(room):
        nbytes += got
    return nbytes


def _both_ways(connection: socket.socket, job: Job, seconds: float) -> int:
    """Send and receive at once, each in a thread; octets of both directions."""
    sent: list[int] = []

    def pour() -> None:
        sent.append(_pour(connection, job.size, seconds))
        connection.shutdown(socket.SHUT_WR)

    sender = threading.Thread(target=pour)
    sender.start()
    received = _swallow(connection)
    sender.join()
    return received + sent[0]


# --- latency ---------------------------------------------------------------------------------------------------------


def echo_server(job: Job, announce: Callable[[int], None]) -> None:
    with _listening(announce) as listener:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            message = filled(job.size)
            while connection.recv_into(message, job.size, socket.MSG_WAITALL) == job.size:
                connection.sendall(message)


def echo_client(job: Job, port: int) -> Sample:
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        message = filled(job.size)

        def there_and_back() -> None:
            connection.sendall(message)
            connection.recv_into(message, job.size, socket.MSG_WAITALL)

        return back_and_forth(job, there_and_back)


def polled_server(job: Job, announce: Callable[[int], None]) -> None:
    with _listening(announce) as listener:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            message = filled(job.size)
            while _spin(connection, message):
                connection.send(message)


def polled_client(job: Job, port: int) -> Sample:
    with socket.create_connection((HOST, port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setblocking(False)
        message = filled(job.size)

        def there_and_back() -> None:
            connection.send(message)
            _spin(connection, message)

        return back_and_forth(job, there_and_back)


def _spin(connection: socket.socket, message: bytearray) -> bool:
    """Receive a whole message without ever sleeping; False when the peer has gone."""
    view, have = memoryview(message), 0
    while have < len(message):
        try:
            got = connection.recv_into(view[have:])
        except BlockingIOError:
            continue
        if not got:
            return False
        have += got
    return True
