"""Calls of AF_IWARP's sockets whose arguments say how much, how long and how: they mean what TCP's mean."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest

from pyiwarp.sockets.family import socketclass
from pyiwarp.sockets.family.socketclass import Socket
from tests.hosts import HOST, closed_port
from tests.integration.socketrig import new, pair_of, quick, serving
from tests.patience import PATIENCE

__all__ = ["quick"]


def test_octets_are_received_into_as_much_of_a_buffer_as_is_asked_for() -> None:
    with pair_of() as (one, other):
        one.sendall(b"0123456789")
        buffer = bytearray(8)
        assert other.recv_into(buffer, 3) == 3
        assert buffer == b"012" + bytes(5)
        assert other.recvfrom_into(buffer, 2) == (2, None)
        assert buffer == b"342" + bytes(5)
        with pytest.raises(ValueError, match="buffer too small"):
            other.recv_into(buffer, 9)
        with pytest.raises(ValueError, match="negative"):
            other.recv_into(buffer, -1)
        nbytes, ancillary, _, address = other.recvmsg_into([memoryview(buffer)[:2], memoryview(buffer)[2:4]])
        assert (nbytes, ancillary, address) == (4, [], None)
        assert buffer == b"5678" + bytes(4)
        assert other.recv(8) == b"9"


def test_a_copy_of_a_socket_waits_as_long_as_the_first() -> None:
    with pair_of() as (one, _):
        one.settimeout(1234.5)
        with one.dup() as copy:
            assert copy.gettimeout() == 1234.5
            assert copy.getpeername() == one.getpeername()


def test_a_copy_that_is_closed_leaves_the_socket_as_it_is() -> None:
    with new() as listener:
        listener.bind((HOST, 0))
        place = listener.getsockname()
        listener.dup().close()
        assert listener.getsockname() == place
        listener.listen()
        listener.dup().close()
        with new() as one:
            one.connect(listener.getsockname())
            one.dup().close()
            other, _ = listener.accept()
            with other:
                other.settimeout(PATIENCE)
                one.sendall(b"it works")
                assert other.recv(16) == b"it works"


def test_sendall_waits_its_timeout_once_for_all_octets() -> None:
    """A peer that takes an octet now and then does not begin the wait anew."""
    now = [1000.0]
    waits: list[float] = []

    def wait(sock: socket.socket, events: int, timeout: float) -> None:
        waits.append(timeout)
        if not timeout:
            raise TimeoutError("timed out")
        now[0] += 4.0

    with pair_of() as (one, _), pytest.MonkeyPatch.context() as patch:
        one.settimeout(10.0)
        patch.setattr(socketclass, "wait_ready", wait)
        patch.setattr(socketclass, "time", SimpleNamespace(monotonic=lambda: now[0]))  # that of no other thread
        patch.setattr(Socket, "_send", lambda self, ops, buffers, flags: 1)
        with pytest.raises(TimeoutError):
            one.sendall(bytes(100))
    assert waits == [10.0, 6.0, 2.0, 0.0]


def test_options_of_tcp_outlive_an_attempt_that_failed() -> None:
    with closed_port() as port, serving() as listener, new() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
        with pytest.raises(ConnectionRefusedError):
            sock.connect((HOST, port))
        sock.connect(listener.getsockname())
        other, _ = listener.accept()
        with other:
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 77
            other.settimeout(PATIENCE)
            sock.sendall(b"it works")
            assert other.recv(16) == b"it works"
