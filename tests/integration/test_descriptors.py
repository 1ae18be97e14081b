"""File descriptors: every listener goes on when they were used up for a while, and a refused Request holds none."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic

import pytest

import pyiwarp
from pyiwarp import Options, blocking, blockingcm, rdmacm
from pyiwarp.cm import identifiers
from pyiwarp.errors import WrongState
from tests.children import COMMAND, end_prepared, finished
from tests.hosts import HOST
from tests.integration.loops import Runner, open_sockets, run, soon
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST = b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0))
REJECTED = 0x20


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Whoever asks for a file descriptor gets EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with suppress(OSError):  # EMFILE: what is closed from now on is all that there is
            while True:
                fillers.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in fillers:
            os.close(descriptor)


def asks_to_connect(sock: socket.socket, port: int) -> None:
    """TCP, which the kernel establishes without the listener, and an MPA Request."""
    sock.connect((HOST, port))
    sock.sendall(REQUEST)


# --- used up ---------------------------------------------------------------------------------------------------------


async def _takes_in_afterwards(port: int, next_request: Callable[[], Awaitable[object]]) -> None:
    """The loop's listener: one came in vain, the next one is heard."""
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context["message"]))
    with socket.socket() as early, socket.socket() as late:
        with no_descriptor_left():
            asks_to_connect(early, port)
            for _ in range(20):
                await asyncio.sleep(0.005)
        asks_to_connect(late, port)
        async with asyncio.timeout(PATIENCE):
            await next_request()


def test_an_awaited_listener_goes_on(run: Runner) -> None:
    async def main() -> None:
        async with await pyiwarp.listen(HOST) as listener:
            await _takes_in_afterwards(listener.port, lambda: anext(listener))
            assert listener.counters.connections == 2, "the early one waited in the kernel"
            assert listener.counters.rests >= 1

    run(main)


def test_an_identifier_that_listens_goes_on(run: Runner) -> None:
    async def main() -> None:
        async with rdmacm.CmId() as listener:
            listener.bind_addr(HOST)
            await listener.listen()
            assert listener.local_addr is not None
            taken: list[rdmacm.CmId] = []

            async def take() -> None:
                taken.append(await listener.get_request())

            await _takes_in_afterwards(listener.local_addr[1], take)
            taken[0].close()

    run(main)


def test_descriptors_that_silent_peers_hold_are_taken_from_them(run: Runner) -> None:
    """A process that has no descriptor left because of half-open connections takes in others all the same."""

    async def main() -> None:
        async with await pyiwarp.listen(HOST) as listener:
            with socket.socket() as silent, socket.socket() as asking:
                silent.connect((HOST, listener.port))
                await soon(lambda: listener.counters.connections == 1)
                with no_descriptor_left():
                    asks_to_connect(asking, listener.port)
                    request = await asyncio.wait_for(anext(listener), PATIENCE)
                    assert listener.counters.dropped_for_room == 1
                await request.reject()

    run(main)


def test_descriptors_that_silent_peers_hold_are_taken_from_them_polled() -> None:
    with nothing_left(), blocking.listen(HOST) as listener, socket.socket() as silent, socket.socket() as asking:
        silent.connect((HOST, listener.port))
        assert blocking.wait_until(lambda: listener.counters.connections == 1, PATIENCE)
        with no_descriptor_left():
            asks_to_connect(asking, listener.port)
            request = listener.get_request(timeout=PATIENCE)
            assert listener.counters.dropped_for_room == 1
        request.reject()


def test_an_awaited_listener_that_rests_can_be_closed(run: Runner) -> None:
    async def main() -> None:
        listener = await pyiwarp.listen(HOST)
        with socket.socket() as early:
            with no_descriptor_left():
                asks_to_connect(early, listener.port)
                await soon(lambda: listener.counters.rests == 1)
            listener.close()

    run(main)


def _polled_takes_in_afterwards(port: int, next_request: Callable[[], object]) -> None:
    with socket.socket() as early, socket.socket() as late:
        with no_descriptor_left():
            asks_to_connect(early, port)
            began, used = monotonic(), os.times()
            assert not blocking.wait_until(lambda: False, 0.2)
            spent = os.times().user + os.times().system - used.user - used.system
            assert spent < 0.15 or spent < (monotonic() - began) / 2, "a listener that cannot accept rests"
        asks_to_connect(late, port)
        assert next_request() is not None
        assert next_request() is not None  # the early one waited in the kernel


def test_a_blocking_listener_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with nothing_left(), blocking.listen(HOST) as listener:
        _polled_takes_in_afterwards(listener.port, lambda: listener.get_request(timeout=PATIENCE))
    assert caplog.text.count("no connection is accepted") == 1


def test_a_script_s_identifier_that_listens_goes_on() -> None:
    with nothing_left(), blockingcm.CmId() as listener:
        listener.bind_addr(HOST)
        listener.listen()
        assert listener.local_addr is not None
        taken: list[blockingcm.CmId] = []

        def take() -> blockingcm.CmId:
            taken.append(listener.get_request(timeout=PATIENCE))
            return taken[-1]

        _polled_takes_in_afterwards(listener.local_addr[1], take)
        for each in taken:
            each.close()


@pytest.mark.parametrize("listening", ["blocking", "identifier"])
def test_a_listener_that_rests_can_be_closed(listening: str) -> None:
    with nothing_left(), socket.socket() as early:
        if listening == "blocking":
            listener = blocking.listen(HOST)
            port, close = listener.port, listener.close
        else:
            cm_id = blockingcm.CmId()
            cm_id.bind_addr(HOST)
            cm_id.listen()
            assert cm_id.local_addr is not None
            port, close = cm_id.local_addr[1], cm_id.close
        with no_descriptor_left():
            asks_to_connect(early, port)
            blocking.wait_until(lambda: False, 0.05)
        close()
        assert not blocking.wait_until(lambda: False, 0.05)


# --- refused ---------------------------------------------------------------------------------------------------------

OPTIONS = Options(timeout=0.5, linger=0.3)
REFUSED = 5


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """An identifier that listens waits ten seconds for a peer that does not close its half; here half a second."""
    monkeypatch.setattr(identifiers, "CONNECT_TIMEOUT", 0.5)


def hears_the_refusal(sock: socket.socket) -> bool:
    """Whether a Reply that rejects has come, and the end behind it; the peer's own half stays open."""
    octets = b""
    sock.settimeout(PATIENCE)
    while piece := sock.recv(4096):
        octets += piece
    return octets[:16] == b"MPA ID Rep Frame" and bool(octets[16] & REJECTED)


async def _refuses(port: int, refuse: Callable[[], Awaitable[object]]) -> None:
    """The peers read the refusal and do not close; the listener stays open, and holds no descriptor for them."""
    gc.collect()
    peers = [socket.socket() for _ in range(REFUSED)]
    before = open_sockets()
    try:
        for peer in peers:
            asks_to_connect(peer, port)
            await refuse()
            assert await asyncio.to_thread(hears_the_refusal, peer)
        async with asyncio.timeout(PATIENCE):
            while open_sockets() - before:  # noqa: ASYNC110 - the kernel signals nothing
                await asyncio.sleep(0.01)
    finally:
        for peer in peers:
            peer.close()


async def test_an_awaited_refusal_holds_no_descriptor() -> None:  # MPA-5044-7.1.2-14
    async with await pyiwarp.listen(HOST, options=OPTIONS) as listener:

        async def refuse() -> None:
            request = await anext(listener)
            await request.reject(b"no")
            with pytest.raises(WrongState):
                await request.accept()

        await _refuses(listener.port, refuse)


@pytest.mark.usefixtures("_soon")
async def test_a_refusal_by_an_identifier_holds_no_descriptor() -> None:  # MPA-5044-7.1.2-14
    async with rdmacm.CmId() as listener:
        listener.bind_addr(HOST)
        await listener.listen()
        assert listener.local_addr is not None

        async def refuse() -> None:
            (await listener.get_request()).reject(b"no")

        await _refuses(listener.local_addr[1], refuse)


def _polled_refuses(port: int, refuse: Callable[[], object]) -> None:
    gc.collect()
    peers = [socket.socket() for _ in range(REFUSED)]
    before = open_sockets()
    try:
        for peer in peers:
            asks_to_connect(peer, port)
            refuse()
            peer.settimeout(0.001)
            octets = bytearray()

            def ended(peer: socket.socket = peer, octets: bytearray = octets) -> bool:
                try:
                    piece = peer.recv(4096)
                except TimeoutError:
                    return False
                octets.extend(piece)
                return not piece

            assert blocking.wait_until(ended, PATIENCE)
            assert octets[16] & REJECTED
        assert blocking.wait_until(lambda: not open_sockets() - before, PATIENCE)
    finally:
        for peer in peers:
            peer.close()


def test_a_blocking_refusal_holds_no_descriptor() -> None:  # MPA-5044-7.1.2-14
    with nothing_left(), blocking.listen(HOST, options=OPTIONS) as listener:
        _polled_refuses(listener.port, lambda: listener.get_request(timeout=PATIENCE).reject(b"no"))


@pytest.mark.usefixtures("_soon")
def test_a_refusal_by_a_script_s_identifier_holds_no_descriptor() -> None:  # MPA-5044-7.1.2-14
    with nothing_left(), blockingcm.CmId() as listener:
        listener.bind_addr(HOST)
        listener.listen()
        assert listener.local_addr is not None
        _polled_refuses(listener.local_addr[1], lambda: listener.get_request(timeout=PATIENCE).reject(b"no"))


# --- what tests count ------------------------------------------------------------------------------------------------


def test_the_first_command_that_a_process_of_tests_starts_is_no_leak(run: Runner) -> None:
    """The process that forks commands lasts, whatever test was the first one."""
    end_prepared()

    async def main() -> None:
        done = await asyncio.to_thread(finished, [*COMMAND, "--version"])
        assert done.returncode == 0, done.stderr

    run(main)
