"""Listening on a socket that the program has bound, as systemd passes them: `sock=` of each listener."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, UsageError, blocking
from tests.hosts import HOST, ipv6
from tests.integration.forms import AwaitableForm, Form, awaited, form
from tests.integration.loops import QUICK, Runner, run
from tests.integration.polled import Peer, nothing_left
from tests.patience import PATIENCE

__all__ = ["form", "run"]  # the fixtures


def bound(family: int = socket.AF_INET, host: str = HOST) -> socket.socket:
    sock = socket.socket(family)
    sock.bind((host, 0))
    return sock


async def hello(conn: Connection) -> None:
    await conn.send(b"hello")


@pytest.mark.parametrize("listens", [False, True])
def test_a_server_serves_at_it_and_closes_it(run: Runner, listens: bool) -> None:
    async def main() -> None:
        sock = bound()
        if listens:
            sock.listen()
        port = sock.getsockname()[1]
        async with pyiwarp.serve(hello, sock=sock, options=QUICK) as server:
            assert server.port == port
            async with pyiwarp.connect(HOST, port, options=QUICK) as conn:
                assert await conn.recv() == b"hello"
        assert sock.fileno() == -1

    run(main)


def test_a_polled_listener_listens_at_it_and_closes_it() -> None:
    def greeted(port: int) -> bytes:
        with blocking.connect(HOST, port) as conn:
            return conn.recv(timeout=PATIENCE)

    with nothing_left():
        sock = bound()
        peer = Peer(greeted, sock.getsockname()[1])
        with blocking.listen(sock=sock) as listener, peer, listener.get_request(timeout=PATIENCE).accept() as conn:
            conn.send(b"hello")
            assert list(conn) == []
        assert peer.result == b"hello"
        assert sock.fileno() == -1


@ipv6
def test_one_socket_for_both_families(run: Runner) -> None:
    async def main() -> None:
        sock = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        async with pyiwarp.serve(hello, sock=sock, options=QUICK) as server:
            for host in (HOST, "::1"):
                async with pyiwarp.connect(host, server.port, options=QUICK) as conn:
                    assert await conn.recv() == b"hello"

    run(main)


def closed() -> socket.socket:
    sock = bound()
    sock.close()
    return sock


def connected() -> socket.socket:
    """To itself, as TCP allows: nobody else has an end to close."""
    sock = bound()
    sock.connect(sock.getsockname())
    return sock


UNFIT: list[tuple[Callable[[], Any], str]] = [
    (lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM), "another type than SOCK_STREAM"),
    (lambda: socket.socket(socket.AF_UNIX), "another family than AF_INET and AF_INET6"),
    (lambda: socket.socket(), "not bound to a port"),
    (connected, "sock is connected"),
    (closed, "sock is closed"),
    (lambda: 7, "sock is a socket.socket, not 7"),
]


@pytest.mark.parametrize(("make", "word"), UNFIT, ids=[word for _, word in UNFIT])
def test_what_is_no_socket_to_listen_at_is_refused(form: Form, make: Callable[[], Any], word: str) -> None:
    listen = pyiwarp.listen if isinstance(form, AwaitableForm) else blocking.listen

    async def main() -> None:
        sock = make()
        with pytest.raises(UsageError, match=word):
            await awaited(listen, sock=sock)
        if isinstance(sock, socket.socket):
            assert sock.fileno() == -1 or sock.gettimeout() is None, "it is the program's as it was"
            sock.close()

    form.run(main)


@pytest.mark.parametrize("more", [{"host": HOST}, {"port": 1}])
def test_a_socket_and_an_address_are_too_much(form: Form, more: dict[str, Any]) -> None:
    listen: Any = pyiwarp.listen if isinstance(form, AwaitableForm) else blocking.listen

    async def main() -> None:
        with bound() as sock, pytest.raises(UsageError, match="sock says where to listen"):
            await awaited(listen, sock=sock, **more)

    form.run(main)


def test_an_identifier_listens_at_it(form: Form) -> None:
    async def main() -> None:
        sock = bound()
        name = sock.getsockname()
        listener, one = form.rdma_cm.CmId(), form.rdma_cm.CmId()
        await awaited(listener.listen, sock=sock)
        assert listener.local_addr == name
        one.create_qp()
        await awaited(one.resolve_addr, *name)
        assert one.peer_addr == name
        with socket.create_connection(name, PATIENCE):
            one.close()
        listener.close()
        assert sock.fileno() == -1

    form.run(main)


def test_an_identifier_is_bound_or_given_a_socket(form: Form) -> None:
    async def main() -> None:
        listener = form.rdma_cm.CmId()
        listener.bind_addr(HOST)
        with bound() as sock, pytest.raises(UsageError, match="sock says where to listen"):
            await awaited(listener.listen, sock=sock)
        listener.close()

    form.run(main)
