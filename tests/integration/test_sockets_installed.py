"""What `install` does to `socket.socket`: all TCP, chosen places, what stays; unmodified modules over it; TLS."""

from __future__ import annotations

import asyncio
import errno
import http.server
import pickle
import socket
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

import pyiwarp
import pyiwarp.blocking
from pyiwarp import sockets
from pyiwarp.sockets import AF_IWARP, Socket, counters, install, uninstall
from pyiwarp.sockets.family.installing import OnPlain
from pyiwarp.sockets.family.socketclass import KernelSocket
from tests.hosts import HOST
from tests.integration.socketrig import QUICK, quick
from tests.integration.test_stream_transports import unauthenticated
from tests.patience import PATIENCE

__all__ = ["quick"]  # the fixture

Plain = list[tuple[str, Any]]


@pytest.fixture
def plain(quick: None) -> Iterator[Plain]:
    """Which streams have stayed TCP; what is installed is undone."""
    told: Plain = []
    yield told
    uninstall()
    assert socket.socket is KernelSocket
    assert not hasattr(socket, "AF_IWARP")
    assert ssl.SSLSocket.__bases__ == (KernelSocket,)


def teller(told: Plain) -> OnPlain:
    return lambda verb, address: told.append((verb, address))


def exchange(listener: socket.socket) -> socket.socket:
    """One connection to a listener; returns the connecting end, closed."""
    with socket.create_connection(listener.getsockname(), timeout=PATIENCE) as one:
        listener.settimeout(PATIENCE)
        other, address = listener.accept()
        with other:
            other.settimeout(PATIENCE)
            assert address == one.getsockname()
            one.sendall(b"hello")
            assert other.recv(5) == b"hello"
            assert isinstance(other, socket.socket)
    return one


def test_the_family_alone(plain: Plain) -> None:
    """TCP stays TCP, and the number makes a socket."""
    install(on_plain=teller(plain), options=QUICK)
    before = counters()
    with socket.create_server((HOST, 0)) as listener:
        exchange(listener)
        name = listener.getsockname()
    assert plain == [("listen", name), ("connect", name)]
    assert counters() == before
    number: int = vars(socket)["AF_IWARP"]
    with socket.socket(number) as sock:
        assert sock.family == AF_IWARP
    for end in socket.socketpair(number):
        end.close()


def test_all(plain: Plain) -> None:
    old = socket.socket()
    install(all=True, on_plain=teller(plain), options=QUICK)
    with old:
        assert isinstance(old, socket.socket)
        assert issubclass(KernelSocket, socket.socket)
        assert not isinstance(7, socket.socket)
    before = counters()
    with socket.create_server((HOST, 0)) as listener:
        one = exchange(listener)
        assert isinstance(one, KernelSocket)
        assert (one.family, one.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert [b - a for a, b in zip(before, counters(), strict=True)] == [1, 1, 0]
    assert not plain
    assert pickle.loads(pickle.dumps(socket.AF_INET)) is socket.AF_INET
    for family, kind in ((socket.AF_UNIX, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM)):
        with socket.socket(family, kind) as other:
            assert isinstance(other, Socket)
            assert other.ops is None


def test_places_that_are_chosen(plain: Plain) -> None:
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    install(only={("localhost", port)}, on_plain=teller(plain), options=QUICK)
    before = counters()
    with socket.create_server((HOST, port)) as chosen, socket.create_server((HOST, 0)) as other:
        exchange(chosen)
        assert [b - a for a, b in zip(before, counters(), strict=True)] == [1, 1, 0]
        exchange(other)
        name = other.getsockname()
    assert plain == [("listen", name), ("connect", name)]
    assert [b - a for a, b in zip(before, counters(), strict=True)] == [1, 1, 0]


def test_a_host_is_looked_up_only_where_it_matters(plain: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = []
    usual = socket.getaddrinfo

    def getaddrinfo(host: Any, *words: Any, **options: Any) -> Any:
        looked_up.append(host)
        return usual(host, *words, **options)

    with socket.create_server((HOST, 0)) as probe, socket.create_server((HOST, 0)) as listener:
        install(only={(HOST, probe.getsockname()[1]), (None, 1)}, options=QUICK)
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        with socket.socket() as sock:
            sock.connect(("localhost", listener.getsockname()[1]))
        with socket.socket() as sock:
            assert sock.connect_ex((HOST, 1)) == errno.ECONNREFUSED
    assert not {"localhost", b"localhost"} & set(looked_up)


@pytest.mark.parametrize("place", [(None, None), (HOST, None)])
def test_places_with_any_port(plain: Plain, place: tuple[str | None, int | None]) -> None:
    install(only={place}, on_plain=teller(plain), options=QUICK)
    with socket.create_server((HOST, 0)) as listener:
        exchange(listener)
    assert not plain


def test_a_chosen_socket_keeps_its_options_and_its_timeout(plain: Plain) -> None:
    install(only={(None, None)}, options=QUICK)
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.settimeout(0.05)
        sock.bind((HOST, 0))
        sock.listen()
        assert isinstance(sock, Socket)
        assert sock.ops is not None
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 1
        with pytest.raises(TimeoutError):
            sock.accept()


def test_descriptors_stay_what_they_are(plain: Plain) -> None:
    with socket.create_server((HOST, 0)) as tcp:
        install(all=True, options=QUICK)
        with socket.fromfd(tcp.fileno(), tcp.family, tcp.type) as copy:
            assert isinstance(copy, Socket)
            assert copy.ops is None
            assert copy.getsockname() == tcp.getsockname()
        with (
            socket.create_server((HOST, 0)) as listener,
            socket.fromfd(listener.fileno(), listener.family, listener.type) as copy,
        ):
            assert copy.getsockname() == listener.getsockname()


def test_pyiwarp_s_own_connections_stay_on_tcp(plain: Plain) -> None:
    """With all of TCP replaced, what carries iWARP is not; the other way to connect is a polled one."""
    install(all=True, options=QUICK)
    before = counters()

    async def echo(conn: pyiwarp.Connection) -> None:
        await conn.send(await conn.recv())

    async def main() -> None:
        async with pyiwarp.serve(echo, HOST) as server, pyiwarp.connect(HOST, server.port) as conn:
            await conn.send(b"hello")
            assert await conn.recv() == b"hello"

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    with pyiwarp.blocking.listen(HOST) as listener:
        assert listener.port
    assert counters() == before


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.path.encode() * 10_000
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """No test reads it."""


def serve_one(server: http.server.HTTPServer) -> threading.Thread:
    server.timeout = PATIENCE
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    return thread


def test_http_and_urllib(plain: Plain) -> None:
    install(all=True, options=QUICK)
    before = counters()
    with http.server.ThreadingHTTPServer((HOST, 0), Handler) as server:
        thread = serve_one(server)
        with urllib.request.urlopen(f"http://{HOST}:{server.server_port}/path", timeout=PATIENCE) as answer:
            assert answer.read() == b"/path" * 10_000
        thread.join(PATIENCE)
    assert [b - a for a, b in zip(before, counters(), strict=True)] == [1, 1, 0]


def test_tls(plain: Plain) -> None:
    """A listener, a connection and its names, all wrapped."""
    install(all=True, options=QUICK)
    server, client = (unauthenticated(each) for each in (ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS_CLIENT))
    before = counters()
    with socket.create_server((HOST, 0)) as bare, server.wrap_socket(bare, server_side=True) as listener:
        said: list[bytes] = []
        listener.settimeout(PATIENCE)

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(PATIENCE)
                said.append(peer.recv(100))
                peer.sendall(said[0].upper())

        thread = threading.Thread(target=serve)
        thread.start()
        with (
            socket.create_connection(listener.getsockname(), timeout=PATIENCE) as tcp,
            client.wrap_socket(tcp) as secure,
        ):
            assert secure.getpeername() == listener.getsockname()
            secure.sendall(b"secret")
            assert secure.recv(100) == b"SECRET"
        thread.join(PATIENCE)
    assert said == [b"secret"]
    assert [b - a for a, b in zip(before, counters(), strict=True)] == [1, 1, 0]


def test_without_install_a_number_of_the_table_is_unknown_to_the_kernel() -> None:
    with pytest.raises(OSError, match="not supported"):
        socket.socket(AF_IWARP)
    assert sockets.has_family(AF_IWARP)
