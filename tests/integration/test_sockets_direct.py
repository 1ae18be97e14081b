"""Direct writes of blocking sockets: riomap, riowrite, riounmap."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from pyiwarp.sockets import RDMA_IOMAPSIZE, SOL_RDMA, Socket
from pyiwarp.sockets.iomap import DirectWrites
from tests.children import status_of
from tests.hosts import HOST
from tests.integration.socketrig import Ends, new, pair_of, quick
from tests.patience import PATIENCE

__all__ = ["quick"]  # the fixture


@contextmanager
def mapped_pair(iomaps: int = 2) -> Iterator[Ends]:
    """The accepted end, which takes offers, and the connecting one."""
    with new() as listener, new() as one:
        listener.setsockopt(SOL_RDMA, RDMA_IOMAPSIZE, iomaps)
        listener.bind((HOST, 0))
        listener.listen()
        one.connect(listener.getsockname())
        other, _ = listener.accept()
        assert isinstance(other, Socket)
        other.settimeout(PATIENCE)
        with other:
            yield one, other


def hear(sock: Socket, word: bytes) -> None:
    assert sock.recv(len(word), socket.MSG_WAITALL) == word


def test_the_octets_are_there_before_what_is_sent_next() -> None:
    buffer = bytearray(1000)
    with mapped_pair() as (offers, writes):
        assert offers.riomap(buffer, 5000) == 5000
        offers.sendall(b"offered")
        hear(writes, b"offered")
        for turn in range(20):
            assert writes.riowrite(bytes([turn]) * 900, 5050) == 900
            writes.sendall(b"look")
            hear(offers, b"look")
            assert buffer == bytes(50) + bytes([turn]) * 900 + bytes(50)
            offers.sendall(b"seen")
            hear(writes, b"seen")


def test_without_an_offset_it_is_the_buffer_s_own_place() -> None:
    buffer = bytearray(8)
    with mapped_pair() as (offers, writes):
        offset = offers.riomap(buffer)
        offers.sendall(offset.to_bytes(8, "big"))
        place = int.from_bytes(writes.recv(8, socket.MSG_WAITALL), "big")
        assert place == offset >= 0
        writes.riowrite(memoryview(b"directly"), place)
        writes.sendall(b"x")
        hear(offers, b"x")
        assert buffer == b"directly"


def refused(call: Callable[[], object], number: int = errno.EINVAL) -> str:
    """What the error says whose number this is."""
    with pytest.raises(OSError, match=rf"\[Errno {number}\]") as caught:
        call()
    return str(caught.value)


def test_what_cannot_be_offered() -> None:
    with mapped_pair(iomaps=1) as (offers, writes):
        assert "no buffer" in refused(lambda: writes.riomap(bytearray(1), 0))  # the other end has no table
        refused(lambda: offers.riomap(b"not writable", 0))
        offers.riomap(bytearray(1), 0)
        assert "room for 0" in refused(lambda: offers.riomap(bytearray(1), 1))
        offers.riounmap(0)
        offers.riomap(bytearray(1), 1)
        assert "no buffer is offered under 0" in refused(lambda: offers.riounmap(0))


def test_what_cannot_be_written() -> None:
    with mapped_pair() as (offers, writes):
        offers.riomap(bytearray(10), 100)
        offers.sendall(b"!")
        hear(writes, b"!")
        for data, offset in ((b"x" * 11, 100), (b"x", 110), (b"x", 99)):
            assert "no buffer of the peer" in refused(partial(writes.riowrite, data, offset))
        assert writes.riowrite(b"x" * 10, 100) == 10


def test_a_write_into_what_was_withdrawn_ends_the_stream() -> None:
    with mapped_pair() as (offers, writes):
        offers.riomap(bytearray(10), 0)
        offers.sendall(b"!")
        hear(writes, b"!")
        offers.riounmap(0)
        writes.riowrite(b"x", 0)
        with pytest.raises(ConnectionError):
            hear(offers, b"nothing comes")


def test_sockets_that_have_none() -> None:
    with new() as sock:
        refused(lambda: sock.riomap(bytearray(1)), errno.ENOTCONN)
        refused(lambda: sock.riowrite(b"x", 0), errno.ENOTCONN)
        refused(lambda: sock.riounmap(0), errno.ENOTCONN)
    refused(lambda: sock.riowrite(b"x", 0), errno.EBADF)
    with Socket(socket.AF_INET) as tcp:
        refused(lambda: tcp.riomap(bytearray(1)), errno.EOPNOTSUPP)
    with pair_of() as (one, other):
        other.close()
        assert one.recv(1) == b""
        refused(lambda: one.riowrite(b"x", 0), errno.ENOTCONN)


def test_without_waiting() -> None:
    with mapped_pair() as (offers, writes):
        offers.riomap(bytearray(1 << 20), 0)
        offers.sendall(b"!")
        hear(writes, b"!")
        writes.settimeout(0)
        for _ in range(3):
            with suppress(BlockingIOError):  # where none of the places is free yet
                assert writes.riowrite(b"x" * 100, 0) == 100


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_write_that_was_interrupted_is_not_done_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """And its octets are the program's again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with mapped_pair() as (_, writes), monkeypatch.context() as patched:
            patched.setattr(DirectWrites, "ready", property(lambda self: False))
            writes.settimeout(None)
            octets = bytearray(8)
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt):
                writes.riowrite(octets, 0)
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    octets += b"more"
                    break
                except BufferError:
                    assert time.monotonic() < deadline, "the write still waits, with the octets"
                    time.sleep(0.01)
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_child_has_none_on_its_parent_s_stream() -> None:
    with mapped_pair() as (offers, _):
        child = os.fork()
        if child == 0:
            try:
                refused(lambda: offers.riomap(bytearray(1), 0), errno.EOPNOTSUPP)
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert status_of(child) == 0
