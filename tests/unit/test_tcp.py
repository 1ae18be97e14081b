"""What the drivers ask of TCP, on sockets of this host."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import pytest

from pyiwarp.drivers.tcp import emss_of, reset_at_end, unpace
from tests.patience import PATIENCE

HOST = "127.0.0.1"


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server((HOST, 0)) as server, socket.create_connection(server.getsockname(), PATIENCE) as near:
        far, _ = server.accept()
        with far:
            yield near, far


def test_the_segment_size_is_tcps(ends: tuple[socket.socket, socket.socket]) -> None:
    assert emss_of(ends[0]) >= 536


def test_the_end_is_a_reset(ends: tuple[socket.socket, socket.socket]) -> None:
    near, far = ends
    reset_at_end(near)
    near.close()
    far.settimeout(PATIENCE)
    with pytest.raises(ConnectionResetError):
        far.recv(1)


class FakeSocket:
    """A socket with that congestion control, which may choose those that are allowed."""

    def __init__(self, present: bytes, *allowed: bytes) -> None:
        self.present = present
        self.allowed = allowed

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_CONGESTION)
        if not self.present:
            raise OSError("not here")
        return self.present.ljust(size, b"\0")

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if value not in self.allowed:
            raise PermissionError(value)
        self.present = value


@pytest.mark.parametrize(
    ("peer", "present", "allowed", "then"),
    [
        ("127.0.0.1:4420", b"bbr", [b"cubic", b"reno"], b"cubic"),
        ("127.9.9.9:1", b"bbr", [b"reno"], b"reno"),
        ("[::1]:4420", b"bbr", [b"reno"], b"reno"),
        ("[::ffff:127.0.0.1]:4420", b"bbr", [b"reno"], b"reno"),
        ("127.0.0.1:4420", b"bbr", [], b"bbr"),
        ("127.0.0.1:4420", b"cubic", [b"reno"], b"cubic"),
        ("127.0.0.1:4420", b"", [b"reno"], b""),
        ("192.0.2.127:4420", b"bbr", [b"cubic"], b"bbr"),
        ("[2001:db8::1]:4420", b"bbr", [b"cubic"], b"bbr"),
        ("?", b"bbr", [b"cubic"], b"bbr"),
    ],
)
def test_only_what_is_paced_on_loopback_is_changed(
    peer: str, present: bytes, allowed: list[bytes], then: bytes
) -> None:
    sock = FakeSocket(present, *allowed)
    unpace(cast("Any", sock), peer)
    assert sock.present == then


def test_a_system_without_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "TCP_CONGESTION")
    sock = FakeSocket(b"bbr", b"cubic")
    unpace(cast("Any", sock), "127.0.0.1:4420")
    assert sock.present == b"bbr"


def test_no_connection_on_loopback_is_paced(ends: tuple[socket.socket, socket.socket]) -> None:
    near, _ = ends
    unpace(near, f"{HOST}:1")
    assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0") != b"bbr"
