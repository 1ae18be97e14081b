"""Blocking sockets of AF_IWARP: connecting, octets both ways, ends and errors, as a sockets program sees them."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, get_origin

import pytest

from pyiwarp import ConnectionLost, cm
from pyiwarp.sockets import AF_IWARP, Socket, counters
from pyiwarp.sockets.family import startupbridge
from pyiwarp.sockets.family.enginethread import EngineThread, engine
from pyiwarp.sockets.family.streamsock import State, StreamSock
from tests.hosts import HOST, closed_port
from tests.integration.loops import octets
from tests.integration.socketrig import new, pair_of, quick, read_all, serving
from tests.patience import PATIENCE

__all__ = ["quick"]  # the fixture


def in_thread(*calls: Callable[[], object]) -> list[threading.Thread]:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_a_request_and_its_answer() -> None:
    with pair_of() as (one, other):
        assert one.send(b"GET /") == 5
        assert other.recv(100) == b"GET /"
        other.sendall(b"200 OK")
        other.close()
        assert read_all(one) == b"200 OK"


def test_it_is_a_socket() -> None:
    with pair_of() as (one, other):
        for sock in (one, other):
            assert isinstance(sock, socket.socket)
            assert (sock.family, sock.type, sock.proto) == (AF_IWARP, socket.SOCK_STREAM, 0)
        assert one.getpeername() == other.getsockname()
        assert other.getpeername() == one.getsockname()
        assert one.getsockname()[0] == HOST
        assert "iWARP as initiator, MPA revision 2 with CRC" in repr(one)
        assert "iWARP as responder, MPA revision 2 with CRC" in repr(other)
        assert f"raddr={one.getpeername()}" in repr(one)


@pytest.mark.parametrize("nbytes", [1, 65_537, 3_000_000])
def test_octets_both_ways_at_once(nbytes: int) -> None:
    there, back = octets(nbytes, 1), octets(nbytes, 2)

    def send(sock: Socket, data: bytes) -> None:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    with pair_of() as (one, other):
        read: dict[Socket, bytes] = {}
        threads = in_thread(
            lambda: send(one, there),
            lambda: send(other, back),
            lambda: read.update({other: read_all(other)}),
            lambda: read.update({one: read_all(one)}),
        )
        for thread in threads:
            thread.join(PATIENCE)
        assert read[other] == there
        assert read[one] == back


def test_half_close() -> None:
    with pair_of() as (one, other):
        one.sendall(b"question")
        one.shutdown(socket.SHUT_WR)
        assert read_all(other) == b"question"
        with pytest.raises(BrokenPipeError):
            one.send(b"more")
        other.sendall(b"answer")
        other.shutdown(socket.SHUT_WR)
        assert read_all(one) == b"answer"


def test_a_slow_reader_slows_the_writer_down() -> None:
    """What is under way is bounded; then the writer is told that it would block, and goes on later."""
    with pair_of() as (one, other):
        one.setblocking(False)
        sent = 0
        while select.select([], [one], [], 1.0)[1]:
            sent += one.send(bytes(1 << 16))
            assert sent < 1 << 26
        with suppress(BlockingIOError):
            while sent < 1 << 26:  # on a busy machine there may be room again
                sent += one.send(bytes(1 << 20))
        assert 1 << 20 < sent < 1 << 26
        left = sent
        while left:
            left -= len(other.recv(1 << 16))
        assert select.select([], [one], [], PATIENCE)[1]


def test_refused() -> None:
    with closed_port() as port, new() as sock:
        with pytest.raises(ConnectionRefusedError):
            sock.connect((HOST, port))
        assert sock.connect_ex((HOST, port)) == errno.ECONNREFUSED
        with pytest.raises(OSError, match="not connected") as raised:
            sock.getpeername()
        assert raised.value.errno == errno.ENOTCONN


def test_a_socket_that_was_refused_connects_later() -> None:
    with closed_port() as port, new() as sock, serving() as listener:
        assert sock.connect_ex((HOST, port)) == errno.ECONNREFUSED
        sock.connect(listener.getsockname())
        listener.accept()[0].close()
        assert sock.recv(1) == b""


def test_a_peer_that_speaks_something_else_is_refused_with_the_reason() -> None:
    with socket.create_server((HOST, 0)) as plain, new() as sock:
        plain.settimeout(PATIENCE)

        def speak() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.settimeout(PATIENCE)
                peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n" * 3)
                with suppress(ConnectionResetError):
                    read_all(peer)

        (thread,) = in_thread(speak)
        with pytest.raises(ConnectionRefusedError, match="speaks no rsockets over MPA"):
            sock.connect(plain.getsockname())
        thread.join(PATIENCE)


def test_connecting_without_waiting() -> None:
    with serving() as listener, new() as sock:
        sock.setblocking(False)
        assert not select.select([sock], [sock], [], 0)[1]
        assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
        assert select.select([], [sock], [], PATIENCE)[1] == [sock]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert sock.connect_ex(listener.getsockname()) == errno.EISCONN
        assert select.select([listener], [], [], PATIENCE)[0] == [listener]
        listener.accept()[0].close()


def test_connecting_without_waiting_to_nobody() -> None:
    with closed_port() as port, new() as sock:
        sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            sock.connect((HOST, port))
        assert select.select([], [sock], [], PATIENCE)[1] == [sock]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_while_connecting() -> None:
    """A peer that never answers: nothing can be sent yet, and one attempt is enough."""
    with socket.create_server((HOST, 0)) as silent, new() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(silent.getsockname()) == errno.EINPROGRESS
        assert sock.connect_ex(silent.getsockname()) == errno.EALREADY
        for call in (lambda: sock.send(b"x"), lambda: sock.recv(1)):
            with pytest.raises(BlockingIOError):
                call()
        assert not select.select([sock], [sock], [], 0.1)[1]


def test_who_waits_for_octets_while_connecting_is_told_that_it_has_failed() -> None:
    with socket.create_server((HOST, 0)) as silent, new() as sock:
        sock.setblocking(False)
        assert sock.connect_ex(silent.getsockname()) == errno.EINPROGRESS
        silent.settimeout(PATIENCE)
        sock.settimeout(PATIENCE)
        raised: list[BaseException] = []

        def receive() -> None:
            try:
                raised.append(AssertionError(sock.recv(100)))
            except OSError as error:
                raised.append(error)

        (thread,) = in_thread(receive)
        time.sleep(0.1)  # it most likely waits by now; if not, it is told all the same
        silent.accept()[0].close()
        thread.join(PATIENCE)
        assert isinstance(raised[0], ConnectionError)


def test_another_attempt_waits_until_the_pair_is_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program sees that an attempt has failed while the engine thread still cleans up behind it."""
    usual = StreamSock.make_writable

    def make_writable(sk: StreamSock, near: socket.socket) -> None:
        usual(sk, near)
        time.sleep(0.2)

    monkeypatch.setattr(StreamSock, "make_writable", make_writable)
    with closed_port() as port, new() as sock, serving() as listener:
        sock.setblocking(False)
        for name in ((HOST, port), listener.getsockname()):
            assert sock.connect_ex(name) == errno.EINPROGRESS
            assert select.select([], [sock], [], PATIENCE)[1] == [sock]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        listener.accept()[0].close()


def test_an_engine_thread_that_connects_before_the_program_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """What connect says does not depend on who is faster: under way without waiting, else writable."""
    usual, usual_call = StreamSock.make_writable, EngineThread.call

    def make_writable(sk: StreamSock, near: socket.socket) -> None:
        time.sleep(0.2)
        usual(sk, near)

    def call(thread: EngineThread, what: Callable[[], object]) -> None:
        usual_call(thread, what)
        deadline = time.monotonic() + PATIENCE
        while sock.sk.state is State.CONNECTING and time.monotonic() < deadline:
            time.sleep(0.001)
        assert sock.sk.state is State.CONNECTED

    with serving() as listener:
        monkeypatch.setattr(StreamSock, "make_writable", make_writable)
        monkeypatch.setattr(EngineThread, "call", call)
        with new() as sock:
            sock.setblocking(False)
            assert sock.connect_ex(listener.getsockname()) == errno.EINPROGRESS
            listener.accept()[0].close()
        with new() as sock:
            sock.connect(listener.getsockname())
            assert sock.send(b"x", socket.MSG_DONTWAIT) == 1
            listener.accept()[0].close()


def test_a_socket_that_is_closed_as_soon_as_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = StreamSock.make_writable
    complaints: list[dict[str, Any]] = []
    loop = engine().loop
    monkeypatch.setattr(loop, "call_exception_handler", complaints.append)
    with closed_port() as port, new() as sock:

        def make_writable(sk: StreamSock, near: socket.socket) -> None:
            usual(sk, near)
            sock.close()

        monkeypatch.setattr(StreamSock, "make_writable", make_writable)
        sock.setblocking(False)
        before = counters().refused
        assert sock.connect_ex((HOST, port)) == errno.EINPROGRESS
        deadline = time.monotonic() + PATIENCE
        while counters().refused == before and time.monotonic() < deadline:
            time.sleep(0.01)
        engine().ask(lambda: None)  # what has counted it is over
    assert not complaints


def test_a_connect_that_takes_too_long() -> None:
    with socket.create_server((HOST, 0)) as silent, new() as sock:
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.connect(silent.getsockname())


def test_what_needs_a_connection() -> None:
    with new() as sock:
        for call in (
            lambda: sock.send(b"x"),
            lambda: sock.recv(1),
            lambda: sock.shutdown(socket.SHUT_WR),
            sock.getpeername,
        ):
            with pytest.raises(OSError, match="not connected") as raised:
                call()
            assert raised.value.errno == errno.ENOTCONN
        with pytest.raises(OSError, match="Invalid argument"):
            sock.accept()
        assert sock.getsockname() == ("0.0.0.0", 0)


def test_what_a_connected_socket_cannot_become() -> None:
    with pair_of() as (one, _):
        calls: list[Callable[[], object]] = [lambda: one.connect((HOST, 1)), lambda: one.bind((HOST, 0)), one.listen]
        for call in calls:
            with pytest.raises(OSError, match=r"connected|Invalid") as raised:
                call()
            assert raised.value.errno in (errno.EISCONN, errno.EINVAL)


def test_a_closed_socket() -> None:
    sock = new()
    sock.close()
    for call in (lambda: sock.send(b"x"), lambda: sock.recv(1), lambda: sock.bind((HOST, 0)), sock.getsockname):
        with pytest.raises(OSError, match="Bad file descriptor") as raised:
            call()
        assert raised.value.errno == errno.EBADF


def test_a_timeout() -> None:
    with pair_of() as (one, other), serving() as listener:
        for sock in (one, listener):
            sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            one.recv(1)
        with pytest.raises(TimeoutError):
            listener.accept()
        with pytest.raises(TimeoutError):
            one.sendall(bytes(1 << 26))
        assert other.recv(1)


def test_a_lost_connection_is_an_error_once() -> None:
    with pair_of() as (one, other):
        one.sendall(b"before")
        assert other.recv(6) == b"before"
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()  # which resets
        with pytest.raises(ConnectionResetError):
            other.recv(1)
        assert other.recv(1) == b""
        with pytest.raises(ConnectionError):
            other.send(b"x")


def test_so_error_tells_of_it_once() -> None:
    with pair_of() as (one, other):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        one.close()
        assert select.select([other], [], [], PATIENCE)[0]
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET
        assert other.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        assert other.recv(1) == b""


def test_sending_to_one_that_has_left() -> None:
    """As with TCP: the first octets are lost without a word, then it is known."""
    with pair_of() as (one, other):
        other.close()
        assert one.recv(1) == b""

        deadline = time.monotonic() + PATIENCE
        with pytest.raises(BrokenPipeError):  # noqa: PT012  # that it is over takes a moment to be known
            while time.monotonic() < deadline:
                assert one.send(b"x") == 1
                time.sleep(0.001)


def test_a_peer_that_leaves_in_the_middle() -> None:
    with pair_of() as (one, other):

        def leave() -> None:
            assert other.recv(1024)
            other.close()

        (thread,) = in_thread(leave)
        with pytest.raises(ConnectionError):
            one.sendall(bytes(1 << 26))
        thread.join(PATIENCE)


def test_what_was_sent_arrives_although_the_socket_is_closed() -> None:
    data = octets(300_000)

    def send() -> None:
        one.sendall(data)
        one.close()

    with pair_of() as (one, other):
        (thread,) = in_thread(send)
        assert read_all(other) == data
        thread.join(PATIENCE)


def test_a_listener_is_readable_for_each_that_waits() -> None:
    with serving() as listener:
        assert not select.select([listener], [], [], 0)[0]
        clients = [new() for _ in range(3)]
        for client in clients:
            client.connect(listener.getsockname())
        for _ in clients:
            assert select.select([listener], [], [], PATIENCE)[0]
            accepted, address = listener.accept()
            assert address in [client.getsockname() for client in clients]
            accepted.close()
        assert not select.select([listener], [], [], 0)[0]
        for client in clients:
            client.close()


def test_a_port_is_free_when_close_returns() -> None:
    with serving() as listener:
        name = listener.getsockname()
    with new() as again, new() as client:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert client.connect_ex(name) == errno.ECONNREFUSED
        again.bind(name)
        with new() as third, pytest.raises(OSError, match="in use") as raised:
            third.bind(name)
        assert raised.value.errno == errno.EADDRINUSE


def test_a_port_is_free_when_close_of_a_detached_listener_returns() -> None:
    with serving() as first:
        name = first.getsockname()
        listener = Socket(fileno=first.detach())  # as TLS does it
    engine().call(lambda: time.sleep(0.2))  # it is busy with others
    listener.close()
    with new() as again:
        again.bind(name)
        again.listen()


def test_those_whom_nobody_accepts_are_told() -> None:
    with new() as client:
        with serving() as listener:
            client.connect(listener.getsockname())
            client.sendall(b"hello")
            assert select.select([listener], [], [], PATIENCE)[0]
        assert client.recv(1) == b""


def test_a_peer_that_leaves_while_there_are_no_descriptors_does_not_end_the_listener(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_pair() -> NoReturn:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    refused = threading.Event()

    def has_left(request: cm.ConnectRequest) -> NoReturn:
        refused.set()
        raise ConnectionLost("the peer has left")

    with serving() as listener:
        with monkeypatch.context() as patched, new() as first:
            patched.setattr(startupbridge, "pair", no_pair)
            patched.setattr(get_origin(cm.ConnectRequest), "reject", has_left)
            first.setblocking(False)
            assert first.connect_ex(listener.getsockname()) == errno.EINPROGRESS
            assert refused.wait(PATIENCE)
        with new() as second:
            second.connect(listener.getsockname())
            listener.accept()[0].close()


def test_counters() -> None:
    before = counters()
    with pair_of(), closed_port() as port, new() as sock:
        sock.connect_ex((HOST, port))
        now = counters()
    assert [b - a for a, b in zip(before, now, strict=True)] == [1, 1, 1]
