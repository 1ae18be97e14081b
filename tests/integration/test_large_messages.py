"""Messages larger than a receive: advertised, read, answered; the protocol is that of `docs/large-messages.md`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from pyiwarp import Access, Connection, Options, RemoteRegion, blocking
from pyiwarp.connections import endpoint
from pyiwarp.connections.large import Arrival
from pyiwarp.errors import BadWorkRequest, Closed, ConnectionLost, Disconnected, MessageRefused, TerminatedByPeer
from tests.hosts import HOST
from tests.integration.forms import AwaitableForm, Form, awaited, form
from tests.integration.loops import joined, run_on
from tests.integration.polled import Peer, nothing_left, pair, soon
from tests.patience import PATIENCE

__all__ = ["form"]  # the fixture

Program = Callable[[Any], Coroutine[Any, Any, None]]
SIZES = [0, 1, 4096, 4097, 1_000_003]
SMALL = Options(max_message=1000)


def call(program: Program, conn: Any) -> None:
    """Run a program whose calls never suspend it."""
    with pytest.raises(StopIteration):
        program(conn).send(None)


def beside(form: Form, left: Program, right: Program, options: Options | None = None, theirs: Any = None) -> None:
    """Run two programs, one at each end; polled ones each in a thread of its own."""

    async def main() -> None:
        async with joined(options, theirs) as (one, other):
            await asyncio.gather(left(one), right(other))

    def answer(where: list[int], listening: threading.Event) -> None:
        with blocking.listen(HOST, options=theirs) as listener:
            where.append(listener.port)
            listening.set()
            with listener.get_request(timeout=PATIENCE).accept() as conn:
                call(right, conn)

    if isinstance(form, AwaitableForm):
        run_on(asyncio.new_event_loop, main)
        return
    where: list[int] = []
    listening = threading.Event()
    with nothing_left(), Peer(answer, where, listening):
        assert listening.wait(PATIENCE)
        with blocking.connect(HOST, where[0], options=options) as conn:
            call(left, conn)


@pytest.mark.parametrize("nbytes", SIZES)
def test_messages_of_any_length_go_both_ways(form: Form, nbytes: int) -> None:
    message = bytes(n % 251 for n in range(nbytes))

    async def left(conn: Any) -> None:
        await awaited(conn.send_large, message)
        assert await awaited(conn.recv_large) == message[::-1]
        assert len(conn.pd.regions) == 1, "only the receives"

    async def right(conn: Any) -> None:
        got = await awaited(conn.recv_large)
        assert type(got) is bytearray
        assert got == message
        with conn.register(bytearray(b"#" + message[::-1])) as region:
            await awaited(conn.send_large, region[1:])
        got += b"it can be resized"

    beside(form, left, right)


def test_they_keep_their_order_among_other_messages(form: Form) -> None:
    async def left(conn: Any) -> None:
        await awaited(conn.send, b"before")
        await awaited(conn.send_large, b"large" * 1000)
        await awaited(conn.send, b"after")

    async def right(conn: Any) -> None:
        with pytest.raises(BadWorkRequest, match="does not tell of a large one; receive it by recv"):
            await awaited(conn.recv_large)
        assert await awaited(conn.recv) == b"before"
        assert await awaited(conn.recv_large) == b"large" * 1000
        assert await awaited(conn.recv) == b"after"

    beside(form, left, right)


def test_one_that_is_too_large_is_refused_and_the_connection_goes_on(form: Form) -> None:
    async def left(conn: Any) -> None:
        with pytest.raises(MessageRefused, match="1001 octets are more than the peer takes"):
            await awaited(conn.send_large, bytes(1001))
        await awaited(conn.send_large, bytes(1000))

    async def right(conn: Any) -> None:
        with pytest.raises(MessageRefused, match=r"has 1001 octets; Options\.max_message is 1000"):
            await awaited(conn.recv_large)
        assert await awaited(conn.recv_large) == bytes(1000)

    beside(form, left, right, None, SMALL)


def test_the_octets_of_the_protocol(form: Form) -> None:
    """What the page says, by hand: the announcement and the answer."""

    async def left(conn: Any) -> None:
        await awaited(conn.send_large, b"by hand")
        with pytest.raises(MessageRefused, match="means nothing: 02 03"):
            await awaited(conn.send_large, b"x")
        assert await awaited(conn.recv_large) == b"theirs"

    async def right(conn: Any) -> None:
        announcement = await awaited(conn.recv)
        assert announcement[:8] == b"pyiwarp\1"
        remote = RemoteRegion.parse(announcement[8:])
        memory = bytearray(7)
        await awaited(conn.read, memory, remote)
        assert memory == b"by hand"
        await awaited(conn.send, b"\0", invalidate=remote.stag)
        remote = RemoteRegion.parse((await awaited(conn.recv))[8:])
        await awaited(conn.send, b"\2\3", invalidate=remote.stag)
        region = conn.register(bytearray(b"theirs"), Access.REMOTE_READ, shared=False)
        await awaited(conn.send, b"pyiwarp\1" + region.advertise())
        answer = await awaited(conn.recv_message)
        assert (answer.data, answer.inval_stag) == (b"\0", region.stag)
        await awaited(region.wait_closed)

    beside(form, left, right)


def test_an_announcement_of_nothing_ends_the_connection_and_costs_no_more_than_the_limit(form: Form) -> None:
    async def left(conn: Any) -> None:
        await awaited(conn.send, b"pyiwarp\1" + bytes(RemoteRegion(0x1000, 0x4711, 900)))
        with pytest.raises(Exception, match="STag"):
            await awaited(conn.recv)

    async def right(conn: Any) -> None:
        with pytest.raises(TerminatedByPeer, match="STag"):
            await awaited(conn.recv_large)

    beside(form, left, right, None, SMALL)


NO_ANNOUNCEMENTS = [
    b"",
    b"pyiwarp\1",
    b"pyiwarp\1" + bytes(15),
    b"pyiwarp\2" + bytes(16),
    bytes(24),
    b"pyiwarp\1" + bytes(RemoteRegion((1 << 64) - 1, 0x4711, 2)),  # no memory wraps
]


@pytest.mark.parametrize("octets", NO_ANNOUNCEMENTS)
def test_what_is_no_announcement_is_a_plain_message(form: Form, octets: bytes) -> None:
    async def body(one: Any, other: Any) -> None:
        await awaited(one.send, octets)
        with pytest.raises(BadWorkRequest, match="receive it by recv"):
            await awaited(other.recv_large)
        assert await awaited(other.recv) == octets

    form.connected(body)


def test_reads_must_be_possible(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with pytest.raises(BadWorkRequest, match="IRD is 0"):
            await awaited(one.send_large, b"x")
        with pytest.raises(BadWorkRequest, match="ORD is 0 and send_depth 128"):
            await awaited(other.recv_large)

    form.connected(body, Options(ird=0))


def test_the_receiver_has_room_for_two(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with pytest.raises(BadWorkRequest, match="send_depth 1: a large message takes 1 and 2"):
            await awaited(one.recv_large)

    form.connected(body, Options(send_depth=1))


def test_the_end_ends_the_wait_for_an_answer(form: Form) -> None:
    memory = bytearray(100)

    async def left(conn: Any) -> None:
        with pytest.raises((Disconnected, ConnectionLost)):
            await awaited(conn.send_large, memory)
        memory.clear()

    async def right(conn: Any) -> None:
        await awaited(conn.recv)
        await awaited(conn.close)

    beside(form, left, right)


def test_a_closed_half_ends_it_too(form: Form) -> None:
    async def left(conn: Any) -> None:
        with pytest.raises(Disconnected):
            await awaited(conn.send_large, bytes(100))

    async def right(conn: Any) -> None:
        await awaited(conn.recv)
        await awaited(conn.close)

    beside(form, left, right, Options(half_close=True, linger=0.2), Options(linger=0.2))


def test_an_announcement_that_stays_when_the_peer_has_left() -> None:
    with pair(None, Options(half_close=True)) as (one, other):
        one.send(b"pyiwarp\1" + bytes(RemoteRegion(0x1000, 0x4711, 900)))
        one.qp.disconnect()
        soon(lambda: other.qp.stream.peer_closed)
        with pytest.raises(Disconnected):
            other.recv_large(timeout=PATIENCE)
        assert len(other.recv(timeout=PATIENCE)) == 24


def test_a_lack_of_memory_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(memory: bytearray) -> Arrival:
        raise MemoryError

    with pair() as (one, other):
        with pytest.raises(TimeoutError):
            one.send_large(b"large", timeout=0.0)
        with monkeypatch.context() as starved:
            starved.setattr(endpoint, "Arrival", none_left)
            with pytest.raises(MemoryError):
                other.recv_large(timeout=PATIENCE)
        assert other.recv_large(timeout=PATIENCE) == b"large"


@pytest.mark.parametrize("options", [Options(confirm=True), Options(revision=1), Options(ird=1, ord=1)])
def test_every_kind_of_connection_carries_them(form: Form, options: Options) -> None:
    async def left(conn: Any) -> None:
        await awaited(conn.send_large, b"a" * 5000)
        assert await awaited(conn.recv_large) == b"b" * 5000

    async def right(conn: Any) -> None:
        assert await awaited(conn.recv_large) == b"a" * 5000
        await awaited(conn.send_large, b"b" * 5000)

    beside(form, left, right, options, options)


# --- given up and taken up again -------------------------------------------------------------------------------------


def test_one_that_is_given_up_is_there_for_the_next_call() -> None:
    with pair() as (one, other):
        memory = bytearray(b"large" * 2000)
        with pytest.raises(TimeoutError, match="has not read the message yet"):
            one.send_large(memory, timeout=0.0)
        soon(lambda: other._inbox)
        with pytest.raises(TimeoutError, match="under way"):
            other.recv_large(timeout=0.0)
        assert other.recv_large(timeout=PATIENCE) == b"large" * 2000
        soon(lambda: len(one.pd.regions) == 1)
        memory.clear()
        with pytest.raises(TimeoutError, match=r"no message came within 0\.01 s"):
            other.recv_large(timeout=0.01)


def test_one_that_is_cancelled_is_there_for_the_next_call() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            memory = bytearray(b"large" * 2000)
            sending = asyncio.ensure_future(one.send_large(memory))
            await asyncio.sleep(0)
            sending.cancel()
            receiving = asyncio.ensure_future(other.recv_large())
            await until(lambda: other._arrivals)
            waiting = asyncio.ensure_future(other.recv_large())
            await asyncio.sleep(0)
            receiving.cancel()
            assert await waiting == b"large" * 2000
            await until(lambda: len(one.pd.regions) == 1)
            memory.clear()

    run_on(asyncio.new_event_loop, main)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the loop knows no event for it
            await asyncio.sleep(0)


def test_closing_takes_back_what_was_lent() -> None:
    async def main() -> None:
        memory = bytearray(100)
        async with joined() as (one, _):
            sending = asyncio.ensure_future(one.send_large(memory))
            await asyncio.sleep(0)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            with pytest.raises(BufferError):
                memory.clear()
        memory.clear()

    run_on(asyncio.new_event_loop, main)


def test_aborting_ends_the_wait_for_a_large_message() -> None:
    async def main() -> None:
        async with joined() as (one, other):
            sending = asyncio.ensure_future(one.send_large(bytes(10_000)))
            receiving = asyncio.ensure_future(other.recv_large())
            await until(lambda: other._arrivals)
            other.abort()
            with pytest.raises(Closed):
                await receiving
            with pytest.raises((ConnectionLost, Disconnected)):
                await sending

    run_on(asyncio.new_event_loop, main)


def test_aborting_ends_a_polled_wait_for_a_large_message(monkeypatch: pytest.MonkeyPatch) -> None:
    wait = blocking.Connection._completion

    def aborted(conn: blocking.Connection, *args: Any) -> Any:
        conn.abort()  # as a signal handler may; a second time it does nothing
        return wait(conn, *args)

    with pair() as (one, other):
        one._lend(bytes(10_000))
        monkeypatch.setattr(blocking.Connection, "_completion", aborted)
        with pytest.raises(Closed):
            other.recv_large(timeout=PATIENCE)
        monkeypatch.undo()


def test_many_at_once_each_have_their_answer() -> None:
    async def main() -> None:
        async with joined() as (one, other):

            async def take(conn: Connection) -> list[bytearray]:
                return sorted(await asyncio.gather(*(conn.recv_large() for _ in range(40))))

            messages = [b"%02d" % n * 5000 for n in range(40)]
            sending = [asyncio.ensure_future(conn.send_large(m)) for m in messages for conn in (one, other)]
            for got in await asyncio.gather(take(one), take(other)):
                assert [bytes(message) for message in got] == messages
            await asyncio.gather(*sending)

    run_on(asyncio.new_event_loop, main)
