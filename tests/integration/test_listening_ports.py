"""Port 0 and several addresses: one port for all of them, in every listener there is."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, blocking, blockingcm, cm, rdmacm
from pyiwarp.cli.tunnels import place as tunnel_place
from pyiwarp.cli.tunnels.place import IWARP, TCP, Place, Startup
from pyiwarp.cm import listening
from pyiwarp.cm.addresses import Address
from pyiwarp.connections.serving import listen
from pyiwarp.sockets import StreamOptions, StreamServer
from tests.hosts import HOST, ipv6
from tests.integration.loops import QUICK, Runner, run
from tests.integration.polled import nothing_left, soon
from tests.patience import PATIENCE

__all__ = ["run"]

LOCAL = (HOST, "::1")
SEVERAL = "several.example"


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that stands for several addresses of this host."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **more: Any) -> list[Any]:
        return [
            one
            for each in (LOCAL if host in (SEVERAL, SEVERAL.encode()) else (host,))
            for one in real(each, *args, **more)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


async def hello(conn: Connection) -> None:
    await conn.send(b"hello")


async def greets_at_both(port: int) -> None:
    for host in LOCAL:
        async with pyiwarp.connect(host, port, options=QUICK) as conn:
            assert await conn.recv() == b"hello"


@ipv6
@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("host", [None, "", SEVERAL])
def test_a_server_at_all_addresses(run: Runner, host: str | None) -> None:
    async def main() -> None:
        async with await pyiwarp.serve(hello, host) as server:
            await greets_at_both(server.port)

    run(main)


def take_reply(host: str, port: int) -> socket.socket:
    sock = socket.create_connection((host, port), PATIENCE)
    sock.sendall(b"MPA ID Req Frame\x40\x01\x00\x00")
    return sock


@ipv6
@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("host", [None, SEVERAL])
def test_a_blocking_listener_at_all_addresses(host: str | None) -> None:
    with nothing_left(), blocking.listen(host) as listener:
        for each in LOCAL:
            with take_reply(each, listener.port):
                listener.get_request(timeout=10).reject()
        soon(lambda: not listener._listener._reception._starting)


@ipv6
@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("host", [None, SEVERAL])
def test_an_identifier_that_listens_at_all_addresses(run: Runner, host: str | None) -> None:
    async def main() -> None:
        async with rdmacm.CmId() as listener:
            if host:
                listener.bind_addr(host)
            await listener.listen()
            assert listener.local_addr is not None
            for each in LOCAL:
                with await asyncio.to_thread(take_reply, each, listener.local_addr[1]):
                    async with await listener.get_request():
                        pass

    run(main)


class Leaving(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


@ipv6
@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("kind", [TCP, IWARP])
def test_a_tunnel_at_all_addresses(run: Runner, kind: str) -> None:
    async def main() -> None:
        place, startup = Place.parse(f"{kind}:{SEVERAL}:0"), Startup(10, 10)
        server = await place.listen(Leaving, StreamOptions(), startup, 10)
        for each in LOCAL:
            with await asyncio.to_thread(socket.create_connection, (each, server.port), PATIENCE) as sock:
                if kind == TCP:
                    assert await asyncio.to_thread(sock.recv, 1) == b""
        server.close()
        if isinstance(server, StreamServer):
            await server.wait_closed()

    run(main)


@ipv6
def test_a_script_s_identifier_that_listens_at_all_addresses() -> None:
    with nothing_left(), blockingcm.CmId() as listener:
        listener.listen()
        assert listener.local_addr is not None
        for each in LOCAL:
            with take_reply(each, listener.local_addr[1]):
                listener.get_request(timeout=10).close()


# --- the sockets themselves ------------------------------------------------------------------------------------------


def address(host: str, port: int = 0) -> Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(family, socket.SOCK_STREAM, 0, "", (host, port, 0, 0) if ":" in host else (host, port))


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for sock in sockets:
        sock.close()


def test_a_port_that_is_not_free_everywhere_is_given_back(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system knows of the first address alone when it chooses; what it chose may be taken at the next."""
    real = listening._bound
    refused: list[int] = []

    def bound(address: Address, port: int) -> socket.socket:
        if port and len(refused) < 3:
            refused.append(port)
            raise OSError(errno.EADDRINUSE, "taken")
        return real(address, port)

    monkeypatch.setattr(listening, "_bound", bound)
    opened += listening.listening_sockets([address(HOST), address("127.0.0.2")], 1)
    assert len(refused) == 3
    ports = {sock.getsockname()[1] for sock in opened}
    assert len(ports) == 1


def test_a_port_that_is_asked_for_and_taken(opened: list[socket.socket]) -> None:
    opened += listening.listening_sockets([address(HOST)], 1)
    port = opened[0].getsockname()[1]
    with pytest.raises(OSError, match=rf"cannot listen at {HOST}:{port}: Address already in use") as caught:
        listening.listening_sockets([address("127.0.0.2", port), address(HOST, port)], 1)
    assert caught.value.errno == errno.EADDRINUSE
    opened += listening.listening_sockets([address("127.0.0.2", port)], 1)  # which was closed again


def test_addresses_that_this_host_does_not_have_are_passed_over(opened: list[socket.socket]) -> None:
    foreign = address("192.0.2.1")  # TEST-NET-1
    opened += listening.listening_sockets([foreign, address(HOST), address(HOST)], 1)
    assert [sock.getsockname()[0] for sock in opened] == [HOST]
    with pytest.raises(OSError, match="Cannot assign requested address"):
        listening.listening_sockets([foreign], 1)


async def test_a_port_in_use_is_an_os_error() -> None:
    async with await listen(HOST) as listener:
        with pytest.raises(OSError, match="already in use"):
            await cm.listen(HOST, listener.port)
        with pytest.raises(OSError, match="already in use"):
            blocking.listen(HOST, listener.port)


def test_errors_of_one_connection_do_not_stop_accepting(opened: list[socket.socket]) -> None:
    """accept(2): what is wrong with the new connection is told by `accept` of the listening socket."""

    class Listening:
        def __init__(self) -> None:
            aborted, broken = ConnectionAbortedError(errno.ECONNABORTED, ""), OSError(errno.EPROTO, "")
            self.answers: list[OSError | None] = [aborted, broken, None, BlockingIOError()]

        def fileno(self) -> int:
            return 1

        def accept(self) -> tuple[socket.socket, tuple[str, int]]:
            answer = self.answers.pop(0)
            if answer is not None:
                raise answer
            opened.append(socket.socket())
            return opened[-1], (HOST, 1)

    received: list[str] = []
    error = listening.accept_waiting(Listening(), lambda sock, peer: received.append(peer[0]))  # type: ignore[arg-type]
    assert error is None
    assert received == [HOST]


def test_a_tunnel_that_cannot_listen_everywhere_listens_nowhere(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second of two sockets the loop refuses to serve."""
    made: list[socket.socket] = []

    def two(*args: Any) -> list[socket.socket]:
        made[:] = *listening.listening_sockets(*args), socket.socket(type=socket.SOCK_DGRAM)
        return list(made)

    async def main() -> None:
        with pytest.raises(ValueError, match=r"[Ss]tream"):
            await Place.parse(f"{TCP}:{HOST}:0").listen(Leaving, StreamOptions(), Startup(4, 4), 4)
        await asyncio.sleep(0)  # uvloop closes in its next turn
        for sock in made:
            assert sock.fileno() == -1

    monkeypatch.setattr(tunnel_place, "listening_sockets", two)
    run(main)
