"""`half_close` in the blocking form: what the awaited form does (`test_half_close`), for scripts."""

from __future__ import annotations

import socket

import pytest

from pyiwarp import Access, Disconnected, Options, RemoteRegion
from pyiwarp.blocking import Connection
from pyiwarp.errors import WrongState
from tests.integration.polled import pair
from tests.patience import PATIENCE

HALF = Options(half_close=True, linger=5.0)


def closes_its_half(conn: Connection) -> None:
    """A peer whose program has said all that it has to say."""
    assert conn._llp is not None
    conn._llp._socket.shutdown(socket.SHUT_WR)
    conn._llp._sent_fin = True


def test_sending_goes_on_after_the_peers_fin() -> None:  # DDP-5041-6.2.1-04, DDP-5041-6.2.1-07
    memory = bytearray(100_000)
    with pair(HALF) as (one, other), other.register(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE) as region:
        one.send(b"first", timeout=PATIENCE)
        assert other.recv(timeout=PATIENCE) == b"first"
        other.send(region.advertise(), timeout=PATIENCE)
        other.send(b"last", timeout=PATIENCE)
        closes_its_half(other)
        remote = RemoteRegion.parse(one.recv(timeout=PATIENCE))
        assert one.recv(timeout=PATIENCE) == b"last"  # what came before the end is received
        for _ in range(2):
            with pytest.raises(Disconnected, match="its half"):
                one.recv(timeout=PATIENCE)
        one.send(b"still", timeout=PATIENCE)
        one.write(bytes(range(256)) * 300, remote, timeout=PATIENCE)
        one.send(b"here", timeout=PATIENCE)
        for ask in (
            lambda: one.fetch_add(remote, 1, timeout=PATIENCE),
            lambda: one.read(one.register(bytearray(8))[:], remote, timeout=PATIENCE),
        ):
            with pytest.raises(WrongState, match="answer nothing"):
                ask()
        assert [other.recv(timeout=PATIENCE) for _ in range(2)] == [b"still", b"here"]
        assert bytes(memory[: 256 * 300]) == bytes(range(256)) * 300
        assert list(one) == []


def test_closing_ends_this_half_too() -> None:  # DDP-5041-6.2.1-01
    with pair(HALF) as (one, other):
        one.send(b"first", timeout=PATIENCE)
        assert other.recv(timeout=PATIENCE) == b"first"
        closes_its_half(other)
        with pytest.raises(Disconnected, match="its half"):
            one.recv(timeout=PATIENCE)
        one.send(b"bye", timeout=PATIENCE)
        one.close()
        assert one.close_reason is None
        assert list(other) == [b"bye"]
        assert other.close_reason is None


def test_without_it_the_end_of_one_half_is_the_end() -> None:
    with pair() as (one, other):
        one.send(b"first", timeout=PATIENCE)
        assert other.recv(timeout=PATIENCE) == b"first"
        closes_its_half(other)
        with pytest.raises(Disconnected, match="closed the connection"):
            one.recv(timeout=PATIENCE)
        with pytest.raises(Disconnected):
            one.send(b"too late", timeout=PATIENCE)
