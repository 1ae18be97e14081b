"""Peers that connect and say nothing keep nobody out (RFC 5042 §6.4): every listener, on both loops and polled."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, Options, Rejected, UsageError, blocking, blockingcm, rdmacm
from pyiwarp.cm import foldedlog, polling_cm
from pyiwarp.cm.listening import network_of
from pyiwarp.connections.serving import listen
from tests.hosts import HOST
from tests.integration.loops import QUICK, Runner, run, soon
from tests.integration.polled import nothing_left
from tests.integration.polled import soon as polled_soon
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST = b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0))
REPLY_OF_REJECTION = b"MPA ID Rep Frame" + bytes((0x60, 1, 0, 0))
BACKLOG = 6
OTHER_HOST = "127.0.0.2"  # Linux: all of 127/8 is this host


@contextmanager
def half_open(port: int, number: int, source: str = HOST) -> Iterator[list[socket.socket]]:
    """Connections that TCP has established and that say nothing."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((HOST, port), PATIENCE, source_address=(source, 0)))
            for _ in range(number)
        ]


def is_reset(sock: socket.socket) -> bool:
    sock.settimeout(PATIENCE)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


async def hello(conn: Connection) -> None:
    await conn.send(b"hello")
    await conn.recv()


async def greeted(port: int) -> bytes:
    async with pyiwarp.connect(HOST, port, options=QUICK) as conn:
        return await conn.recv()


def test_half_open_connections_do_not_shut_a_server(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with await pyiwarp.serve(hello, HOST, backlog=BACKLOG, per_address=BACKLOG) as server:
            with half_open(server.port, 5 * BACKLOG) as strangers:
                await soon(lambda: server.counters.connections == 5 * BACKLOG)
                for _ in range(3):
                    assert await greeted(server.port) == b"hello"
                assert await asyncio.to_thread(is_reset, strangers[0])
                counters = server.counters
                assert counters.requests == 3
                assert counters.dropped_of_address == counters.connections - BACKLOG - 2
                assert (counters.dropped_for_room, counters.turned_away, counters.failed) == (0, 0, 0)

    run(main)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1, "folded to one line"


def test_an_address_has_its_share(run: Runner) -> None:
    """What one address holds goes first to its own newcomers, and not the connections of others."""

    async def main() -> None:
        async with await listen(HOST, backlog=BACKLOG, per_address=BACKLOG // 2) as listener:
            with half_open(listener.port, 1, OTHER_HOST) as (other,), half_open(listener.port, 3 * BACKLOG):
                await soon(lambda: listener.counters.connections == 3 * BACKLOG + 1)
                assert listener.counters.dropped_of_address == 3 * BACKLOG - BACKLOG // 2
                other.sendall(REQUEST)
                request = await asyncio.wait_for(anext(listener), PATIENCE)
                assert request.peername.startswith(OTHER_HOST)
                await request.reject()

    run(main)


def test_the_room_is_for_all_addresses_together(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST, backlog=BACKLOG, per_address=BACKLOG) as listener:
            with half_open(listener.port, BACKLOG, OTHER_HOST) as strangers, half_open(listener.port, 1) as (one,):
                one.sendall(REQUEST)
                request = await asyncio.wait_for(anext(listener), PATIENCE)
                assert request.peername.startswith(HOST)
                assert listener.counters.dropped_for_room == 1
                assert await asyncio.to_thread(is_reset, strangers[0])
                await request.reject()

    run(main)


def test_who_has_asked_is_not_dropped(run: Runner) -> None:
    """If everybody waits for the program's decision, a newcomer is turned away."""

    async def main() -> None:
        async with await listen(HOST, backlog=2) as listener:
            with half_open(listener.port, 2) as waiting:
                for each in waiting:
                    each.sendall(REQUEST)
                await soon(lambda: listener.counters.requests == 2)
                with half_open(listener.port, 1) as (late,):
                    assert await asyncio.to_thread(is_reset, late)
                assert listener.counters.turned_away == 1
                for _ in range(2):
                    await (await anext(listener)).reject()

    run(main)


def test_who_has_asked_is_not_dropped_before_its_request_is_read(run: Runner) -> None:
    """All come in one turn of the loop: the Request still lies in its socket when room must be made."""

    async def main() -> None:
        async with await listen(HOST, backlog=BACKLOG, per_address=BACKLOG) as listener:
            with half_open(listener.port, 1) as (good,):
                good.sendall(REQUEST)
                with half_open(listener.port, 3 * BACKLOG):
                    request = await asyncio.wait_for(anext(listener), PATIENCE)
                    await soon(lambda: listener.counters.connections == 3 * BACKLOG + 1)
                    await request.reject()
                    assert await asyncio.to_thread(good.recv, 20, socket.MSG_WAITALL) == REPLY_OF_REJECTION
                    assert listener.counters.dropped_of_address == 2 * BACKLOG + 1

    run(main)


def test_a_part_of_a_request_keeps_no_place(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST, backlog=BACKLOG, per_address=BACKLOG) as listener:
            with half_open(listener.port, 1) as (slow,):
                slow.sendall(REQUEST[:-1])
                with half_open(listener.port, BACKLOG):
                    assert await asyncio.to_thread(is_reset, slow)
                await soon(lambda: listener.counters.dropped_of_address == 1)

    run(main)


def test_a_blocking_listener_reads_the_request_before_it_drops_anybody() -> None:
    with nothing_left(), blocking.listen(HOST, backlog=BACKLOG, per_address=BACKLOG) as listener:
        with half_open(listener.port, 1) as (good,):
            good.sendall(REQUEST)
            with half_open(listener.port, 3 * BACKLOG):
                listener.get_request(timeout=PATIENCE).reject()
                assert good.recv(20, socket.MSG_WAITALL) == REPLY_OF_REJECTION
        polled_soon(lambda: not listener._listener._reception._starting)


def test_a_burst_of_honest_clients_is_served(run: Runner) -> None:
    number = 200
    arrived = 0

    async def together(conn: Connection) -> None:
        nonlocal arrived
        arrived += 1
        await conn.send(b"hello")
        await conn.recv()

    async def main() -> None:
        async with await pyiwarp.serve(together, HOST) as server:
            results = await asyncio.gather(*(greeted(server.port) for _ in range(number)))
            assert results == [b"hello"] * number
            assert server.counters.requests == number

    run(main)
    assert arrived == number


def test_a_server_has_a_number_of_connections(run: Runner) -> None:
    async def main() -> None:
        async with await pyiwarp.serve(hello, HOST, max_connections=2) as server:
            async with pyiwarp.connect(HOST, server.port) as one, pyiwarp.connect(HOST, server.port) as two:
                assert [await one.recv(), await two.recv()] == [b"hello"] * 2
                with pytest.raises(Rejected):
                    await pyiwarp.connect(HOST, server.port, options=QUICK)
                assert server.counters.over_limit == 1
            await soon(lambda: not server._tasks)
            assert await greeted(server.port) == b"hello"

    run(main)


@pytest.mark.parametrize("bounds", [{"backlog": 0}, {"per_address": 0}, {"backlog": -1}, {"max_connections": 0}])
async def test_bounds_are_positive(bounds: dict[str, Any]) -> None:
    (name,) = bounds
    with pytest.raises(UsageError, match=name):
        await pyiwarp.serve(hello, HOST, **bounds)
    if name != "max_connections":
        with pytest.raises(UsageError, match=name):
            blocking.listen(HOST, **bounds)


@pytest.mark.parametrize("backlog", [BACKLOG, 0])
def test_half_open_connections_do_not_shut_an_identifier(run: Runner, backlog: int) -> None:
    async def main() -> None:
        async with rdmacm.CmId() as listener:
            listener.bind_addr(HOST)
            await listener.listen(backlog, per_address=BACKLOG)
            assert listener.local_addr is not None
            with half_open(listener.local_addr[1], 3 * BACKLOG), half_open(listener.local_addr[1], 1) as (one,):
                one.sendall(REQUEST)
                async with await asyncio.wait_for(listener.get_request(), PATIENCE):
                    pass

    run(main)


def test_half_open_connections_do_not_shut_a_blocking_listener() -> None:
    with nothing_left(), blocking.listen(HOST, backlog=BACKLOG, per_address=BACKLOG - 1) as listener:
        with half_open(listener.port, 3 * BACKLOG), half_open(listener.port, 1) as (one,):
            one.sendall(REQUEST)
            listener.get_request(timeout=PATIENCE).reject()
            assert listener.counters.dropped_of_address == 2 * BACKLOG + 2
        polled_soon(lambda: not listener._listener._reception._starting)


def test_half_open_connections_do_not_shut_a_script_s_identifier() -> None:
    with nothing_left(), blockingcm.CmId() as listener:
        listener.bind_addr(HOST)
        listener.listen(BACKLOG)
        assert listener.local_addr is not None
        with half_open(listener.local_addr[1], 3 * BACKLOG), half_open(listener.local_addr[1], 1) as (one,):
            one.sendall(REQUEST)
            listener.get_request(timeout=PATIENCE).close()


def test_a_polled_listener_turns_away_when_all_wait_for_the_program() -> None:
    with nothing_left():
        listener = polling_cm.Listener(blocking.poller(), HOST, 0, backlog=1)
        with half_open(listener.port, 1) as (first,):
            first.sendall(REQUEST)
            polled_soon(lambda: listener.counters.requests == 1)
            with half_open(listener.port, 1) as (late,):
                polled_soon(lambda: listener.counters.turned_away == 1)
                assert is_reset(late)
        listener.close()


@pytest.mark.parametrize("kind", ["awaited", "blocking"])
def test_a_rejected_peer_that_stays_holds_no_descriptor_for_long(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far less than the whole time limit of startup, although TCP is left open for the peer (MPA-5044-7.1.2-07)."""
    monkeypatch.setattr("pyiwarp.startup.REJECTED_LINGER", 0.1)
    options = Options(timeout=100 * PATIENCE)

    def ends(port: int, reject: Callable[[], object], progress: Callable[[], object]) -> None:
        with half_open(port, 1) as (peer,):
            peer.sendall(REQUEST)
            reject()
            progress()

    if kind == "blocking":
        with blocking.listen(HOST, options=options) as listener:
            starting = listener._listener._reception._starting
            ends(
                listener.port,
                lambda: listener.get_request(timeout=PATIENCE).reject(),
                lambda: polled_soon(lambda: not starting),
            )
        return

    async def main() -> None:
        async with await listen(HOST, options=options) as listener:
            with half_open(listener.port, 1) as (peer,):
                peer.sendall(REQUEST)
                await (await anext(listener)).reject()
                await soon(lambda: not listener._listener._reception._starting)

    asyncio.run(main())


def test_a_rejected_peer_that_stays_makes_room(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST, backlog=1) as listener:
            with half_open(listener.port, 1) as (first,):
                first.sendall(REQUEST)
                await (await anext(listener)).reject()
                with half_open(listener.port, 1) as (second,):
                    second.sendall(REQUEST)
                    await (await asyncio.wait_for(anext(listener), PATIENCE)).reject()

    run(main)


def test_failures_of_startup_are_counted(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST, options=Options(timeout=0.05)) as listener:
            with half_open(listener.port, 2) as (_, talker):
                talker.sendall(b"GET / HTTP/1.1\r\n\r\n")
                await soon(lambda: listener.counters.failed == 2)
            assert str(listener.counters) == "connections=2 failed=2"

    run(main)


def test_what_happens_often_is_logged_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = 1000.0
    monkeypatch.setattr(foldedlog, "monotonic", lambda: now)
    folded = foldedlog.FoldedLog(logging.getLogger("test"))
    for step in (0.0, 1.0, 2.0, foldedlog.LOG_INTERVAL, 0.5, foldedlog.LOG_INTERVAL):
        now += step
        folded.say(logging.WARNING, "it is full", "by 127.0.0.1")
    assert caplog.messages == [
        "it is full: by 127.0.0.1",
        "it is full: by 127.0.0.1 (3 times since the last such line)",
        "it is full: by 127.0.0.1 (2 times since the last such line)",
    ]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("a name", "another", False),
    ],
)
def test_what_counts_as_one_address(one: str, other: str, same: bool) -> None:
    assert (network_of(one) == network_of(other)) is same


def test_a_listener_on_a_loop_that_watches_no_sockets() -> None:
    """As Windows' proactor, whose `add_reader` is not there."""

    class Unwatched(asyncio.SelectorEventLoop):
        def add_reader(self, *arguments: object) -> None:
            raise NotImplementedError

    async def main() -> None:
        async with await pyiwarp.serve(hello, HOST) as server:
            assert await greeted(server.port) == b"hello"

    with asyncio.Runner(loop_factory=Unwatched) as runner:
        runner.run(main())
