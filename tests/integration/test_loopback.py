"""Two connections on real sockets, on the stock loop and on uvloop: data, back-pressure, cancelling, every end."""

from __future__ import annotations

import asyncio
import itertools
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

import pyiwarp
from pyiwarp import (
    Access,
    Closed,
    Connection,
    ConnectionLost,
    Disconnected,
    Options,
    Rejected,
    RemoteRegion,
    TerminatedByPeer,
    UsageError,
    cm,
)
from pyiwarp.api import Request, listen
from pyiwarp.codes import Rtr
from pyiwarp.errors import BadWorkRequest, InvalidStag, MalformedStartup, NoMatchingRtr, StartupTimeout, WrongState
from pyiwarp.llp import Llp
from pyiwarp.startup import Offer, Role
from pyiwarp.work import Send
from tests.harness import Node
from tests.integration.loops import (
    HOST,
    LOOPS,
    Main,
    Runner,
    connecting,
    exchange_advertisement,
    joined,
    run,
    run_on,
    soon,
)

__all__ = ["run"]  # the fixture

BOTH_WAYS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
QUICK = Options(timeout=2.0, linger=0.3)


def octets(nbytes: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(nbytes)


# --- data ------------------------------------------------------------------------------------------------------------


async def converse(one: Connection, other: Connection, nbytes: int) -> None:
    """Every operation, in both directions."""
    data = octets(nbytes)
    for left, right in ((one, other), (other, one)):
        async with right.register(bytearray(nbytes), BOTH_WAYS) as target, left.register(bytearray(nbytes)) as sink:
            remote = await exchange_advertisement(target, right, left)
            await left.write(data, remote)
            await left.send(b"written", solicited=True)
            message = await right.recv_message()
            assert (message.data, message.solicited) == (b"written", True)
            assert bytes(target.view) == data
            await left.read(sink[:], remote)
            assert bytes(sink.view) == data
            await left.send(b"done", invalidate=target.stag)
            assert (await right.recv_message()).inval_stag == target.stag


AGREEMENTS = {
    "as it comes": Options(),
    "no crc": Options(crc=False),
    "markers": Options(markers=True),
    "markers, no crc": Options(markers=True, crc=False),
    "revision 1": Options(revision=1),
    "mulpdu 128": Options(mulpdu=128),
    "mulpdu 1442": Options(mulpdu=1442),
    "mulpdu 64768": Options(mulpdu=64_768),
    "mulpdu 64768, markers": Options(mulpdu=64_768, markers=True),
}


@pytest.mark.parametrize("name", AGREEMENTS)
def test_a_conversation(run: Runner, name: str) -> None:
    # MPA-5044-7.1-02, MPA-5044-7.1-06, DDP-5041-6.1-01, MPA-5044-4.4-07
    options = AGREEMENTS[name]

    async def main() -> None:
        async with joined(options, options) as (one, other):
            await one.send(b"")  # the Responder is mute until it has heard something
            assert await other.recv() == b""
            await converse(one, other, 70_001)
            assert one.agreement.crc is other.agreement.crc is (options.crc is not False)
            assert one.agreement.revision == options.revision
            assert one.agreement.send_markers is options.markers
            assert (one.agreement.role, other.agreement.role) == (Role.INITIATOR, Role.RESPONDER)

    run(main)


@pytest.mark.parametrize("rtr", Rtr)
def test_peer_to_peer(run: Runner, rtr: Rtr) -> None:  # MPA2-6581-9.2-10
    async def main() -> None:
        async with joined(Options(rtr=rtr), Options(rtr=rtr)) as (one, other):
            await asyncio.wait_for(other.send(b"the Responder speaks first"), 2)
            assert await one.recv() == b"the Responder speaks first"
            assert one.agreement.rtr is rtr
            if rtr is Rtr.SEND:
                assert await other.recv() == b""
            await converse(one, other, 1000)

    run(main)


def test_private_data_goes_both_ways(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            connecting = asyncio.ensure_future(pyiwarp.connect(HOST, listener.port, private_data=b"v1").__aenter__())
            request = await anext(listener)
            assert request.private_data == b"v1"
            assert request.peername.startswith(HOST)
            assert "deciding" in repr(request)
            other = await request.accept(b"welcome")
            one = await connecting
            assert (one.private_data, other.private_data) == (b"welcome", b"v1")
            assert one.peername == f"{HOST}:{listener.port}"
            assert repr(one) == f"<Connection with {HOST}:{listener.port} ready to send>"
            await asyncio.gather(one.close(), other.close())

    run(main)


def test_messages_of_every_size_keep_their_order(run: Runner) -> None:
    sizes = [0, 1, 2, 3, 1423, 1424, 1425, 4096, 4097, 5000, 20_000, 0, 7]

    async def main() -> None:
        options = Options(recv_size=20_000, mulpdu=1442)
        async with joined(options, options) as (one, other):
            senders = [asyncio.ensure_future(one.send(octets(size, n))) for n, size in enumerate(sizes)]
            for number, size in enumerate(sizes):
                assert await other.recv() == octets(size, number)
            await asyncio.gather(*senders)

    run(main)


def test_big_transfers_in_both_directions_at_once(run: Runner) -> None:
    nbytes = 6_000_000

    async def main() -> None:
        async with joined() as (one, other):
            await one.send(b"")
            await other.recv()
            async with (
                one.register(bytearray(nbytes), BOTH_WAYS) as mine,
                other.register(bytearray(nbytes), BOTH_WAYS) as its,
            ):
                to_its, to_mine = its[:].remote(), mine[: nbytes // 2].remote()
                await asyncio.gather(one.write(octets(nbytes), to_its), other.write(octets(nbytes // 2, 2), to_mine))
                await asyncio.gather(one.send(b"fin"), other.send(b"fin"))
                await asyncio.gather(one.recv(), other.recv())
                assert bytes(its.view) == octets(nbytes)
                assert bytes(mine.view)[: nbytes // 2] == octets(nbytes // 2, 2)
                await asyncio.gather(
                    one.read(mine[nbytes // 2 :], its[: nbytes // 2].remote()),
                    other.read(its[nbytes // 2 :], mine[: nbytes // 2].remote()),
                )
                assert bytes(mine.view)[nbytes // 2 :] == octets(nbytes)[: nbytes // 2]
                assert bytes(its.view)[nbytes // 2 :] == octets(nbytes // 2, 2)

    run(main)


# --- back-pressure ---------------------------------------------------------------------------------------------------


def test_a_slow_reader_stops_the_writer(run: Runner) -> None:
    """Sends beyond what the receives, the staging and the kernel hold wait; nothing is lost and nothing piles up."""
    count, size = 200, 100_000

    async def main() -> None:
        options = Options(recv_depth=2, recv_size=size, send_depth=256)
        async with joined(options, options) as (one, other):
            payload = octets(size)
            senders = [asyncio.ensure_future(one.send(payload)) for _ in range(count)]
            for _ in range(20):
                await asyncio.sleep(0.005)
            assert 0 < sum(sender.done() for sender in senders) < count, "the writer is held up"
            for _ in range(count):
                assert await other.recv() == payload
            await asyncio.gather(*senders)
            assert other.qp.wants_input

    run(main)


def test_two_writers_that_hold_each_other_up(run: Runner) -> None:
    """Both outputs are clogged and both sides starve; taking messages must set both going again."""
    count, size = 120, 100_000

    async def main() -> None:
        options = Options(recv_depth=1, recv_size=size, send_depth=256)
        async with joined(options, options) as (one, other):
            await one.send(b"")
            await other.recv()
            payload = octets(size)
            senders = [asyncio.ensure_future(side.send(payload)) for side in (one, other) for _ in range(count)]
            await soon(lambda: not one.qp.wants_input and not other.qp.wants_input)

            async def take(side: Connection) -> None:
                for _ in range(count):
                    assert await side.recv() == payload

            await asyncio.gather(take(one), take(other), *senders)

    run(main)


def test_more_senders_than_the_send_queue_holds(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(send_depth=2)) as (one, other):
            senders = [asyncio.ensure_future(one.send(bytes([n]))) for n in range(50)]
            assert [await other.recv() for _ in range(50)] == [bytes([n]) for n in range(50)]
            await asyncio.gather(*senders)

    run(main)


# --- many ------------------------------------------------------------------------------------------------------------


def test_many_connections_at_once(run: Runner) -> None:
    async def main() -> None:
        async def echo(conn: Connection) -> None:
            async for message in conn:
                await conn.send(message)

        async def talk(port: int, number: int) -> None:
            async with pyiwarp.connect(HOST, port) as conn:
                for turn in range(5):
                    text = f"{number} {turn}".encode()
                    await conn.send(text)
                    assert await conn.recv() == text

        async with await pyiwarp.serve(echo, HOST) as server:
            await asyncio.gather(*(talk(server.port, number) for number in range(50)))

    run(main)


def test_a_thousand_short_connections_leave_nothing_behind(run: Runner) -> None:
    async def main() -> None:
        async def greet(conn: Connection) -> None:
            await conn.recv()

        pd = pyiwarp.Context().alloc_pd()
        async with await pyiwarp.serve(greet, HOST, options=Options(recv_depth=2)) as server:
            for _ in range(25):
                await asyncio.gather(*(one_greeting(server.port, pd) for _ in range(20)))
        assert (pd.regions, pd.queue_pairs) == ([], [])
        pd.close()

    async def one_greeting(port: int, pd: pyiwarp.ProtectionDomain) -> None:
        async with pyiwarp.connect(HOST, port, pd=pd, options=Options(recv_depth=2)) as conn:
            await conn.send(b"hi")

    run(main)  # 500 on each loop


# --- cancelling ------------------------------------------------------------------------------------------------------


async def cancelled(task: asyncio.Future[object]) -> None:
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await task


def start(awaitable: Awaitable[object]) -> asyncio.Future[object]:
    return asyncio.ensure_future(awaitable)


def test_cancelling_recv_loses_nothing(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            await cancelled(start(other.recv()))
            readers = [start(other.recv()) for _ in range(3)]
            await asyncio.sleep(0)
            await one.send(b"1")
            await asyncio.sleep(0)
            readers[0].cancel()
            await one.send(b"2")
            results = await asyncio.gather(*readers[:2], return_exceptions=True)
            got = [result for result in results if isinstance(result, bytes)]
            if len(got) < 2:
                got.append(await readers[2])  # type: ignore[arg-type]
            else:
                readers[2].cancel()
            assert got == [b"1", b"2"]
            await asyncio.gather(*readers, return_exceptions=True)

    run(main)


def test_a_reader_that_is_woken_and_cancelled_at_once_passes_the_news_on(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            first, second = start(other.recv()), start(other.recv())
            await asyncio.sleep(0)
            await one.send(b"news")
            while not other._inbox:  # noqa: ASYNC110 - to be there before the reader runs
                await asyncio.sleep(0)
            assert not first.done()
            first.cancel()
            async with asyncio.timeout(2):
                assert await second == b"news"
            with pytest.raises(asyncio.CancelledError):
                await first

    run(main)


def test_cancelling_send_and_write_does_not_undo_them(run: Runner) -> None:
    """The waiter goes at once; the memory stays pinned until the work is complete; every octet arrives."""
    count, size = 80, 100_000

    async def main() -> None:
        options = Options(recv_depth=1, recv_size=size)
        async with joined(options, options) as (one, other):
            memory = bytearray(octets(size))
            region = one.register(memory)
            lent = bytearray(octets(size))
            senders = [start(one.send(region[:])) for _ in range(count)] + [start(one.send(lent)) for _ in range(8)]
            await asyncio.sleep(0.05)
            waiting = [sender for sender in senders if not sender.done()]
            assert len(waiting) > 8
            for sender in waiting:
                sender.cancel()
            async with asyncio.timeout(1):
                await asyncio.gather(*waiting, return_exceptions=True)
            assert region.pins == len(waiting) - 8
            with pytest.raises(BufferError):
                lent.extend(b"more")
            released = start(region.aclose())
            await asyncio.sleep(0.01)
            assert not released.done()
            for _ in range(count + 8):
                assert await other.recv() == octets(size)
            async with asyncio.timeout(2):
                await released
            memory.extend(b"more")
            await soon(lambda: one.qp.send_room == options.send_depth)
            lent.extend(b"more")

    run(main)


def test_cancelling_read_leaves_the_memory_pinned_until_the_octets_are_here(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(), Options(recv_depth=1)) as (one, other):
            source = other.register(bytearray(octets(5000)), BOTH_WAYS)
            for _ in range(2):
                await one.send(b"makes the other side starve")  # and hold back its answers
            memory = bytearray(5000)
            sink = one.register(memory)
            reader = start(one.read(sink[:], source[:].remote()))
            await cancelled(reader)
            assert sink.pins == 1
            closing = start(sink.aclose())
            await cancelled(closing)
            again = start(sink.aclose())
            await asyncio.sleep(0.01)
            assert not again.done(), "closing twice is waiting twice"
            await other.recv()
            await other.recv()
            async with asyncio.timeout(2):
                await again
            assert memory == octets(5000)
            memory.clear()
            await one.send(b"all is well")
            assert await other.recv() == b"all is well"

    run(main)


def test_cancelling_connect_leaves_nothing_behind(run: Runner) -> None:
    async def main() -> None:
        async with silent_listener() as port:
            for delay in (0.0, 0.0, 0.001, 0.02):
                pd = pyiwarp.Context().alloc_pd()
                task = asyncio.ensure_future(pyiwarp.connect(HOST, port, pd=pd).__aenter__())
                await asyncio.sleep(delay)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert (pd.regions, pd.queue_pairs) == ([], [])

    run(main)


async def drained(conn: Connection) -> None:
    """Take messages until the connection ends."""
    while True:
        await conn.recv()


def test_cancelling_connect_in_the_moment_of_its_failure(run: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Llp] = []

    class Seen(Llp):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    async def main() -> None:
        monkeypatch.setattr(cm, "Llp", Seen)
        with socket.create_server((HOST, 0)) as server:
            node = Node()
            task = start(cm.connect(node.qp, HOST, server.getsockname()[1], Offer()))
            peer = (await asyncio.get_running_loop().run_in_executor(None, server.accept))[0]
            with peer:
                peer.sendall(b"no MPA")
                while getattr(made[-1].pump, "error", None) is None:  # noqa: ASYNC110 - before the task runs again
                    await asyncio.sleep(0)
                assert not task.done()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            node.qp.close()

    run(main)


def test_cancelling_close_aborts(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(), Options(recv_depth=1)) as (one, other):
            for _ in range(3):
                await one.send(b"unread")
            await asyncio.sleep(0.01)
            closing = start(one.close())  # waits for the other side, which does not read
            await cancelled(closing)
            await one.close()
            assert one.qp.state.name == "ERROR"
            with pytest.raises((ConnectionLost, Disconnected)):
                await drained(other)

    run(main)


def test_cancelling_whoever_waits_for_a_request(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            await cancelled(start(anext(listener)))
            async with connecting(listener, None) as (one, other):
                await one.send(b"x")
                assert await other.recv() == b"x"

    run(main)


# --- connecting ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def silent_listener() -> AsyncIterator[int]:
    """Takes connections and says nothing."""
    with socket.create_server((HOST, 0)) as server:
        yield server.getsockname()[1]


async def refused_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    return port


def test_a_port_where_nobody_listens(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(ConnectionRefusedError):
            await pyiwarp.connect(HOST, await refused_port())

    run(main)


def test_a_peer_that_says_nothing(run: Runner) -> None:  # MPA-5044-7.1.2-27
    async def main() -> None:
        async with silent_listener() as port:
            with pytest.raises(StartupTimeout, match=r"the MPA Reply did not come within 0.05 s"):
                await pyiwarp.connect(HOST, port, options=Options(timeout=0.05))

    run(main)


@pytest.mark.parametrize("revision", [1, 2])
def test_a_rejection_arrives_with_its_private_data(run: Runner, revision: int) -> None:  # MPA-5044-7.1.2-14
    async def main() -> None:
        async with await listen(HOST, options=Options(timeout=0.2, rtr=Rtr.WRITE)) as listener:
            connecting = start(pyiwarp.connect(HOST, listener.port, options=Options(revision=revision)).__aenter__())
            request = await anext(listener)
            await request.reject(b"not today")
            with pytest.raises(Rejected) as caught:
                await connecting
            assert caught.value.private_data == b"not today"
            with pytest.raises(WrongState):
                await request.accept()

    run(main)


def test_a_peer_that_speaks_something_else(run: Runner) -> None:  # MPA-5044-7.1.2-13, MPA-5044-7.1.2-17
    async def main() -> None:
        async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            with suppress(ConnectionError):
                assert len(await reader.read()) == 24
            writer.close()

        server = await asyncio.start_server(http, HOST, 0)
        async with server:
            with pytest.raises(MalformedStartup, match="does not speak MPA"):
                await pyiwarp.connect(HOST, server.sockets[0].getsockname()[1])
            await asyncio.sleep(0.01)

    run(main)


def test_strangers_at_the_listener(run: Runner) -> None:  # MPA-5044-7.1.2-04, MPA-5044-7.1.2-22, MPA-5044-8-07
    async def main() -> None:
        async with await listen(HOST, options=Options(timeout=0.1)) as listener:
            for hello in (b"GET / HTTP/1.1\r\n", b"", b"MPA ID Req Fra"):
                reader, writer = await asyncio.open_connection(HOST, listener.port)
                writer.write(hello)
                async with asyncio.timeout(2):
                    with suppress(ConnectionResetError):
                        assert await reader.read() == b"", "a stranger is told nothing"
                writer.close()
                with suppress(ConnectionError):
                    await writer.wait_closed()
            async with connecting(listener, None) as (one, other):
                await one.send(b"a friend")
                assert await other.recv() == b"a friend"

    run(main)


def test_an_initiator_that_leaves_before_the_decision(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            connecting_ = start(pyiwarp.connect(HOST, listener.port).__aenter__())
            request = await anext(listener)
            connecting_.cancel()
            await asyncio.gather(connecting_, return_exceptions=True)
            await asyncio.sleep(0.02)
            with pytest.raises(ConnectionLost, match="left before the decision"):
                await request.accept()
            with pytest.raises(ConnectionLost):
                await request.reject()

    run(main)


def test_requests_of_initiators_that_left_are_not_given(run: Runner) -> None:
    async def main() -> None:
        async with await listen(HOST) as listener:
            gone = start(pyiwarp.connect(HOST, listener.port).__aenter__())
            await soon(lambda: listener._listener._reception._waiting)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await soon(lambda: not listener._listener._reception._waiting)
            async with connecting(listener, None) as (one, other):
                await one.send(b"x")
                assert await other.recv() == b"x"

    run(main)


def test_no_opening_message_in_common(run: Runner) -> None:  # MPA2-6581-9.2-11, MPA2-6581-9.2-12
    async def main() -> None:
        async with await listen(HOST, options=Options(rtr=Rtr.SEND)) as listener:
            connecting_ = start(pyiwarp.connect(HOST, listener.port, options=Options(rtr=Rtr.WRITE)).__aenter__())
            other = await (await anext(listener)).accept()
            with pytest.raises(NoMatchingRtr):
                await connecting_
            with pytest.raises(TerminatedByPeer) as caught:
                await other.recv()
            assert str(caught.value.term) == "2/0/07"
            await other.close()

    run(main)


def test_the_backlog_is_a_bound(run: Runner) -> None:  # RFC 5042 §6.4
    async def main() -> None:
        async with await listen(HOST, backlog=3) as listener:
            connecting_ = [start(pyiwarp.connect(HOST, listener.port, options=QUICK).__aenter__()) for _ in range(8)]
            await soon(lambda: sum(task.done() for task in connecting_) == 5)
            lost = [task for task in connecting_ if task.done()]
            assert all(isinstance(task.exception(), ConnectionError) for task in lost)
            assert len(listener._listener._reception._starting) == 3
            kept = [await (await anext(listener)).accept() for _ in range(3)]
            mine = [await task for task in connecting_ if task not in lost]
            async with connecting(listener, None) as (one, other):
                await one.send(b"there is room again")
                await other.recv()
            await asyncio.gather(*(conn.close() for conn in [*kept, *mine]))  # type: ignore[attr-defined]

    run(main)


def test_closing_a_listener(run: Runner) -> None:
    """A Request that was taken may still be accepted; one that nobody took is gone."""

    async def main() -> None:
        listener = await listen(HOST)
        taken = start(pyiwarp.connect(HOST, listener.port).__aenter__())
        request = await anext(listener)
        refused = start(pyiwarp.connect(HOST, listener.port, options=QUICK).__aenter__())
        other_request = await anext(listener)
        untaken = start(pyiwarp.connect(HOST, listener.port).__aenter__())
        await soon(lambda: listener._listener._reception._waiting)
        listener.close()
        listener.close()
        assert listener.port == 0
        with pytest.raises(ConnectionError):
            await untaken
        await other_request.reject()
        with pytest.raises(Rejected):
            await refused
        assert len([request async for request in listener]) <= 1
        other = await request.accept()
        one = await taken
        await asyncio.gather(other.close(), one.close())  # type: ignore[attr-defined]

    run(main)


def test_closing_a_listener_wakes_whoever_waits(run: Runner) -> None:
    async def main() -> None:
        listener = await listen(HOST)
        waiting = [start(anext(listener)) for _ in range(3)]
        await asyncio.sleep(0)
        listener.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {StopAsyncIteration}

    run(main)


def test_a_queue_pair_connects_once(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, _), await listen(HOST) as listener:
            with pytest.raises(WrongState, match="only a queue pair that is IDLE"):
                await cm.connect(one.qp, HOST, listener.port)

    run(main)


def test_every_address(run: Runner) -> None:
    async def main() -> None:
        async with await listen("::1") as listener:
            task = start(pyiwarp.connect("::1", listener.port).__aenter__())
            other = await (await anext(listener)).accept()
            one = await task
            assert one.peername == f"[::1]:{listener.port}"  # type: ignore[attr-defined]
            await asyncio.gather(one.close(), other.close())  # type: ignore[attr-defined]

    run(main)


# --- ends ------------------------------------------------------------------------------------------------------------


def test_a_graceful_end(run: Runner) -> None:  # DDP-5041-6.2.1-01
    async def main() -> None:
        async with joined() as (one, other):
            for number in range(5):
                await one.send(bytes([number]))
            closing = start(one.close())
            assert [message async for message in other] == [bytes([number]) for number in range(5)]
            with pytest.raises(Disconnected, match="the peer closed the connection"):
                await other.recv()
            with pytest.raises(Disconnected):
                await other.send(b"too late")
            await other.close()
            await closing
            assert one.close_reason is other.close_reason is None
            for call in (one.recv(), one.send(b"x"), other.recv()):
                with pytest.raises(Closed):
                    await call
            await one.close()

    run(main)


def test_a_reader_is_woken_by_the_end(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            readers = [start(other.recv()) for _ in range(3)]
            await asyncio.sleep(0.01)
            await one.close()
            for reader in readers:
                with pytest.raises(Disconnected):
                    await reader

    run(main)


def test_a_peer_that_is_killed(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(send_depth=4)) as (one, other):
            region = one.register(bytearray(1000))
            source = other.register(bytearray(1000), BOTH_WAYS)
            for _ in range(17):
                await one.send(b"the other side starves")
            pending = [
                start(one.recv()),
                start(one.read(region[:], source[:].remote())),
                start(one.send(region[:])),
                *[start(one.send(b"x")) for _ in range(6)],
            ]
            await asyncio.sleep(0.02)
            assert other._llp is not None
            assert other._llp._transport is not None
            other._llp._transport.abort()
            for task in pending[:2]:
                with pytest.raises(ConnectionLost):
                    await task
            results = await asyncio.gather(*pending[2:], return_exceptions=True)
            assert results
            assert all(isinstance(result, ConnectionLost) for result in results)
            with pytest.raises(ConnectionLost):
                await one.send(b"x")
            assert isinstance(one.close_reason, ConnectionLost)
            assert region.pins == 0
            region.close()

    run(main)


def test_an_abort_is_seen_by_the_other_side(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            reader = start(other.recv())
            await asyncio.sleep(0)
            one.abort()
            one.abort()
            with pytest.raises((ConnectionLost, Disconnected)):
                await reader
            with pytest.raises(Closed):
                await one.send(b"x")

    run(main)


def test_a_violation_is_told_to_both_sides(run: Runner) -> None:  # RDMAP-5040-3.2-04, RDMAP-5040-3.2-05
    async def main() -> None:
        async with joined() as (one, other):
            reader = start(other.recv())
            mine = start(one.recv())
            await one.write(b"x", RemoteRegion(0, 0x12345678, 1))
            with pytest.raises(InvalidStag, match="0x12345678"):
                await reader
            with pytest.raises(TerminatedByPeer) as caught:
                await mine
            assert caught.value.term == InvalidStag.term
            assert caught.value.header == bytes.fromhex("C140 12345678 0000000000000000")
            assert isinstance(one.close_reason, TerminatedByPeer)
            assert isinstance(other.close_reason, InvalidStag)

    run(main)


def test_a_terminate_arrives_through_lots_of_data_in_flight(run: Runner) -> None:  # RDMAP-5040-6.2.1-04
    """Closing with octets unread would reset TCP and destroy the Terminate; so it is not done."""
    nbytes = 8_000_000

    async def main() -> None:
        async with joined(Options(linger=3), Options(linger=3)) as (one, other):
            await one.send(b"")
            await other.recv()
            mine, its = one.register(bytearray(nbytes), BOTH_WAYS), other.register(bytearray(nbytes), BOTH_WAYS)
            writers = [start(one.write(mine[:], its[:].remote())) for _ in range(4)]
            writers += [start(other.write(its[:], mine[:].remote())) for _ in range(4)]
            bad = start(one.write(b"x", RemoteRegion(0, 0x12345678, 1)))
            writers += [start(one.write(mine[:], its[:].remote())) for _ in range(2)]
            results = await asyncio.gather(bad, *writers, return_exceptions=True)
            await asyncio.gather(one._llp.closed, other._llp.closed)  # type: ignore[union-attr]
            assert isinstance(other.close_reason, InvalidStag)
            assert isinstance(one.close_reason, TerminatedByPeer)
            failures = {type(result) for result in results if isinstance(result, BaseException)}
            assert failures <= {InvalidStag, TerminatedByPeer}

    run(main)


def test_a_message_longer_than_the_receives(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(), Options(recv_size=100)) as (one, other):
            await one.send(bytes(101))
            with pytest.raises(pyiwarp.ProtocolViolation, match="needs 101 octets, the buffer has 100"):
                await other.recv()

    run(main)


def test_closing_with_messages_unread_does_not_wait_for_the_linger(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(linger=5), Options(recv_depth=1, linger=5)) as (one, other):
            for _ in range(10):
                await one.send(b"unread")
            await soon(lambda: not other.qp.wants_input)
            async with asyncio.timeout(2):
                await asyncio.gather(one.close(), other.close())
            assert one.close_reason is other.close_reason is None

    run(main)


def test_a_peer_that_never_closes_is_left_after_the_linger(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(linger=0.1), Options(recv_depth=1)) as (one, other):
            for _ in range(3):
                await one.send(b"starves the other side, which will not see the FIN")
            await soon(lambda: not other.qp.wants_input)
            async with asyncio.timeout(2):
                await one.close()
            assert isinstance(one.close_reason, ConnectionLost)

    run(main)


def test_the_first_fpdu_is_waited_for_a_while(run: Runner) -> None:  # MPA-5044-7.1.2-28
    async def main() -> None:
        async with await listen(HOST, options=Options(first_fpdu_timeout=0.05)) as listener:
            node = Node()
            connecting_ = start(cm.connect(node.qp, HOST, listener.port, Offer()))
            other = await (await anext(listener)).accept()
            llp = await connecting_
            with pytest.raises(StartupTimeout, match="the first FPDU"):
                await other.recv()
            await other.close()
            await llp.closed  # type: ignore[attr-defined]
            node.qp.close()

    run(main)


def test_send_work_that_waits_is_sent_before_the_end(run: Runner) -> None:
    """Reads beyond ORD and what is fenced behind them still happen when the program closes."""

    async def main() -> None:
        options = Options(ord=1, ird=1)
        async with joined(options, options) as (one, other):
            source = other.register(bytearray(octets(50_000)), BOTH_WAYS)
            sinks = [one.register(bytearray(50_000)) for _ in range(4)]
            readers = [start(one.read(sink[:], source[:].remote())) for sink in sinks]
            await asyncio.sleep(0)
            one.qp.post_send(Send(wr_id=asyncio.get_running_loop().create_future(), inline=b"last", fence=True))
            closing = start(one.close())
            assert [message async for message in other] == [b"last"]
            await other.close()
            await asyncio.gather(closing, *readers)
            assert one.close_reason is other.close_reason is None

    run(main)


# --- serving ---------------------------------------------------------------------------------------------------------


def test_serving(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        seen: list[bytes] = []

        def accept(request: Request) -> bytes | None:
            if request.private_data == b"crash":
                raise RuntimeError("a bug in the program")
            return None if request.private_data == b"bad" else b"ok"

        async def handler(conn: Connection) -> None:
            if conn.private_data == b"fail":
                raise RuntimeError("a bug in the handler")
            async for message in conn:
                seen.append(message)

        async with await pyiwarp.serve(handler, HOST, accept=accept) as server:
            async with pyiwarp.connect(HOST, server.port, private_data=b"good") as conn:
                assert conn.private_data == b"ok"
                await conn.send(b"hello")
            await soon(lambda: seen == [b"hello"])
            for refused in (b"bad", b"crash"):
                with pytest.raises(Rejected):
                    await pyiwarp.connect(HOST, server.port, private_data=refused, options=QUICK)
            async with pyiwarp.connect(HOST, server.port, private_data=b"fail") as conn:
                with pytest.raises(Disconnected):
                    await conn.recv()
            await soon(lambda: "a bug in the handler" in caplog.text)
            forever = start(server.serve_forever())
            await asyncio.sleep(0)
            forever.cancel()
        assert "a bug in the handler" in caplog.text
        assert "a bug in the program" in caplog.text
        with pytest.raises(UsageError):
            await server.serve_forever()
        await server.close()

    run(main)


def test_closing_a_server_ends_its_handlers(run: Runner) -> None:
    async def main() -> None:
        async def handler(conn: Connection) -> None:
            async for _ in conn:
                pass

        server = await pyiwarp.serve(handler, HOST, options=QUICK)
        conns = [await pyiwarp.connect(HOST, server.port, options=QUICK) for _ in range(3)]
        readers = [start(conn.recv()) for conn in conns]
        await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            await server.close()
        for reader in readers:
            with pytest.raises((Disconnected, ConnectionLost)):
                await reader
        await asyncio.gather(*(conn.close() for conn in conns))

    run(main)


# --- usage -----------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_it_ends_the_connection(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            remote = RemoteRegion(0, 5, 10)
            region = one.register(bytearray(11))
            calls: list[Callable[[], Awaitable[None]]] = [
                lambda: one.write(bytes(11), remote),
                lambda: one.write(region[:], remote),
                lambda: one.read(region[:], remote),
            ]
            for call in calls:
                with pytest.raises(BadWorkRequest, match="11 octets do not fit"):
                    await call()
            assert region.pins == 0
            await one.send(b"still here")
            assert await other.recv() == b"still here"

    run(main)


def test_connections_may_share_a_protection_domain(run: Runner) -> None:  # SEC-5042-2.2.4-01
    # SEC-5042-6.1.1-01
    async def main() -> None:
        context = pyiwarp.Context()
        with context.alloc_pd() as pd:
            async with await listen(HOST, pd=pd) as listener:
                async with connecting(listener, None) as (one, two), connecting(listener, None) as (three, four):
                    region = two.register(bytearray(8), BOTH_WAYS)
                    await one.write(b"1234", region[:4].remote())
                    await three.write(b"5678", region[4:].remote())
                    for sender, receiver in ((one, two), (three, four)):
                        await sender.send(b"")
                        await receiver.recv()
                    assert bytes(region.view) == b"12345678"
                region.close()

    run(main)


def test_the_runner_notices_what_is_left_behind() -> None:

    async def leaks_a_task() -> None:
        tasks.append(asyncio.ensure_future(asyncio.sleep(60)))

    async def leaks_a_socket() -> None:
        sockets.append(socket.create_server((HOST, 0)))

    tasks: list[asyncio.Future[None]] = []
    sockets: list[socket.socket] = []
    mains: list[tuple[Main, str]] = [(leaks_a_task, "tasks were left"), (leaks_a_socket, "sockets were left")]
    for factory, (main, complaint) in itertools.product(LOOPS.values(), mains):
        with pytest.raises(AssertionError, match=complaint):
            run_on(factory, main)
    for leak in sockets:
        leak.close()
