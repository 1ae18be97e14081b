"""Hosts of several addresses: one that does not answer delays, and does not prevent (RFC 8305); awaited and polled."""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from time import monotonic
from typing import Any, cast

import pytest

import pyiwarp
from pyiwarp import Connection, Options, blocking, blockingcm, cm, rdmacm
from pyiwarp.cm import asyncio_dialing, polled_dialing
from pyiwarp.cm.addresses import Address, in_turns, not_connected
from pyiwarp.errors import StartupTimeout
from pyiwarp.verbs import QpCap
from tests.hosts import HOST
from tests.integration.loops import QUICK, Runner, run
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

NAME = "two.example"
CAP = QpCap(max_send_wr=4, max_recv_wr=4)
LIMIT = Options(timeout=PATIENCE)
FIRST = "127.0.0.2"  # of the addresses of the name; nobody listens there, unless the test does


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for DNS: a name of two addresses, of which the second serves."""
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **more: Any) -> list[Any]:
        hosts = (FIRST, HOST) if host in (NAME, NAME.encode()) else (host,)
        return [one for each in hosts for one in real(each, *args, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@contextmanager
def swallows(host: str, port: int) -> Iterator[None]:
    """A listener whose queue is full drops what comes, as a firewall does."""
    with ExitStack() as stack:
        stack.enter_context(socket.create_server((host, port), backlog=0))
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex((host, port))
        yield


async def hello(conn: Connection) -> None:
    await conn.send(b"hello")


@contextmanager
def serving() -> Iterator[int]:
    """A server in a thread of its own; gives its port."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def within(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE)

    server = within(pyiwarp.serve(hello, HOST))
    try:
        yield server.port
    finally:
        within(server.close())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.close()


@pytest.fixture(params=["refuses", "swallows"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a server whose first address refuses, or does not answer."""
    with serving() as served, ExitStack() as stack:
        if request.param == "swallows":
            stack.enter_context(swallows(FIRST, served))
        yield served


def test_connect_goes_on_to_the_second_address(run: Runner, port: int) -> None:
    async def main() -> None:
        async with pyiwarp.connect(NAME, port, options=LIMIT) as conn:
            assert await conn.recv() == b"hello"
            assert conn.peername == f"{HOST}:{port}"

    run(main)


def test_an_identifier_goes_on_to_the_second_address(run: Runner, port: int) -> None:
    async def main() -> None:
        async with rdmacm.CmId() as one:
            await one.resolve_addr(NAME, port)
            assert one.peer_addr == (FIRST, port)
            await one.resolve_route()
            one.create_qp(cap=CAP)
            await one.connect(timeout=PATIENCE)
            assert one.peer_addr == (HOST, port)
            assert one.local_addr is not None
            assert one.local_addr[0] == HOST

    run(main)


def test_blocking_connect_goes_on_to_the_second_address(port: int) -> None:
    with nothing_left(), blocking.connect(NAME, port, options=LIMIT) as conn:
        assert conn.recv(timeout=PATIENCE) == b"hello"
        assert conn.peername == f"{HOST}:{port}"


def test_a_script_s_identifier_goes_on_to_the_second_address(port: int) -> None:
    with nothing_left(), blockingcm.CmId() as one:
        one.resolve_addr(NAME, port)
        one.resolve_route()
        one.create_qp(cap=CAP)
        one.connect(timeout=PATIENCE)
        assert one.peer_addr == (HOST, port)


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port where neither address answers."""
    with socket.create_server((HOST, 0), backlog=0) as chosen:
        found = chosen.getsockname()[1]
    with swallows(HOST, found), swallows(FIRST, found):
        yield found


def test_all_addresses_have_one_budget_of_time(run: Runner, dead_port: int) -> None:
    limit = 0.6  # longer than the head start of an attempt

    async def main() -> None:
        began = monotonic()
        with pytest.raises(StartupTimeout, match=r"was not established within 0.6 s"):
            await pyiwarp.connect(NAME, dead_port, options=Options(timeout=limit))
        assert limit * 0.9 < monotonic() - began < 2 * limit + PATIENCE / 2

    run(main)


def test_all_addresses_have_one_budget_of_time_polled(dead_port: int) -> None:
    with nothing_left():
        began = monotonic()
        with pytest.raises(StartupTimeout, match=r"was not established within 0.6 s"):
            blocking.connect(NAME, dead_port, options=Options(timeout=0.6))
        assert 0.5 < monotonic() - began < 1.2 + PATIENCE / 2


@pytest.fixture
def slow_first(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of a server whose first address does not answer, and has a head start that outlasts the test."""
    for module in (asyncio_dialing, polled_dialing):
        monkeypatch.setattr(module, "ATTEMPT_DELAY", 2 * PATIENCE)
    with serving() as port, swallows(FIRST, port):
        yield port


def test_the_second_address_waits_until_the_first_has_had_its_time(run: Runner, slow_first: int) -> None:
    async def main() -> None:
        with pytest.raises(StartupTimeout):
            await pyiwarp.connect(NAME, slow_first, options=Options(timeout=0.5))

    run(main)


def test_the_second_address_waits_until_the_first_has_had_its_time_polled(slow_first: int) -> None:
    with nothing_left(), pytest.raises(StartupTimeout):
        blocking.connect(NAME, slow_first, options=Options(timeout=0.5))


def test_cancelling_closes_every_attempt(run: Runner, dead_port: int) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.4):  # both attempts are under way
                await pyiwarp.connect(NAME, dead_port, options=QUICK)

    run(main)  # which looks for sockets and tasks that are left


def test_the_error_is_what_the_peer_said(run: Runner) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as chosen:
            closed = chosen.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match=f"Connection refused: {NAME} port {closed}"):
            await pyiwarp.connect(NAME, closed)
        with pytest.raises(ConnectionRefusedError, match=f"Connection refused: {NAME} port {closed}"):
            blocking.connect(NAME, closed)

    run(main)


def test_a_refusal_says_more_than_no_route() -> None:
    unreachable, refused = OSError(errno.ENETUNREACH, ""), OSError(errno.ECONNREFUSED, "")
    assert isinstance(not_connected("h", 1, [unreachable, refused]), ConnectionRefusedError)
    assert isinstance(not_connected("h", 1, [refused, unreachable]), ConnectionRefusedError)
    assert not_connected("h", 1, [unreachable]).errno == errno.ENETUNREACH


def address(host: str) -> Address:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(family, socket.SOCK_STREAM, 0, "", (host, 1))


def test_the_families_take_turns() -> None:
    given = [address(host) for host in ("::1", "::2", "::3", "192.0.2.1", "192.0.2.2")]
    assert [each.address[0] for each in in_turns(given)] == ["::1", "192.0.2.1", "::2", "192.0.2.2", "::3"]
    assert in_turns([]) == []


@pytest.mark.parametrize("local", [HOST, FIRST])
def test_the_local_address_is_kept(run: Runner, local: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server((HOST, 0)) as server:
            server.setblocking(False)
            found = await asyncio_dialing.resolve(HOST, server.getsockname()[1])
            with await asyncio_dialing.dial(HOST, found[0].port, found, local) as sock:
                peer, name = await loop.sock_accept(server)
                peer.close()
                assert name == sock.getsockname()
                assert name[0] == local
            with pytest.raises(OSError, match="Cannot assign"):
                await asyncio_dialing.dial(HOST, found[0].port, found, "::1")

    run(main)


def test_the_polled_dialer_keeps_the_local_address() -> None:
    over: list[socket.socket | Exception | None] = []
    with nothing_left(), socket.create_server((HOST, 0)) as server:
        found = polled_dialing.resolve(HOST, server.getsockname()[1])
        for local in (FIRST, "::1"):
            dialer = polled_dialing.Dialer(
                blocking.poller(), (HOST, found[0].port), found, local, PATIENCE, lambda *both: over.extend(both)
            )
            dialer.next()
        assert blocking.wait_until(lambda: len(over) == 4, PATIENCE)
        errors = [each for each in over if isinstance(each, OSError) and not isinstance(each, socket.socket)]
        socks = [each for each in over if isinstance(each, socket.socket)]
        assert [error.errno for error in errors] == [errno.EADDRNOTAVAIL]
        assert socks[0].getsockname()[0] == FIRST
        socks[0].close()


def test_without_a_local_address_the_system_chooses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    over: list[socket.socket | Exception | None] = []
    with nothing_left(), socket.create_server((HOST, 0)) as server:
        target = (HOST, server.getsockname()[1])
        found = polled_dialing.resolve(*target)
        monkeypatch.setattr(polled_dialing, "resolve", lambda host, port: pytest.fail(f"{host} is looked up"))
        polled_dialing.Dialer(blocking.poller(), target, found, None, PATIENCE, lambda *both: over.extend(both)).next()
        assert blocking.wait_until(lambda: bool(over), PATIENCE)
        assert isinstance(over[0], socket.socket)
        over[0].close()


async def test_addresses_that_were_looked_up_before() -> None:
    with serving() as port:
        found = await asyncio_dialing.resolve(HOST, port)
        conn = cast("Any", rdmacm.CmId())
        conn.create_qp(cap=CAP)
        llp = await cm.connect(conn.qp, "unknown.invalid", port, addresses=found)
        llp.abort()
        conn.close()
