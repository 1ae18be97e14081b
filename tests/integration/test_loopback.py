"""Two connections on real sockets, on the stock loop and on uvloop: data, back-pressure, many at once, sharing."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import Awaitable, Callable

import pytest

import pyiwarp
from pyiwarp import Connection, Options, RemoteRegion
from pyiwarp.codes import Rtr
from pyiwarp.connections.serving import listen
from pyiwarp.errors import BadWorkRequest
from pyiwarp.negotiation import Role
from tests.hosts import HOST
from tests.integration.loops import (
    BOTH_WAYS,
    LOOPS,
    Main,
    Runner,
    connecting,
    exchange_advertisement,
    hold_little,
    joined,
    octets,
    run,
    run_on,
    soon,
)
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture


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
            async with right.register(bytearray(1), BOTH_WAYS) as second:
                await left.send(sink[:5], solicited=True, invalidate=second.stag)
                assert await right.recv_message() == (data[:5], True, second.stag, False)


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
    # MPA-5044-7.1-02, MPA-5044-7.1-06, DDP-5041-6.1-01, MPA-5044-4.4-07, RDMAP-5040-3.2-01, -03, RDMAP-5040-5.3-12
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
            await asyncio.wait_for(other.send(b"the Responder speaks first"), PATIENCE)
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


def test_messages_of_every_size_keep_their_order(run: Runner) -> None:  # DDP-5041-5.3-06
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
            hold_little(one, other)
            payload = octets(size)
            senders = [asyncio.ensure_future(one.send(payload)) for _ in range(count)]
            await soon(lambda: not other.qp.wants_input and any(sender.done() for sender in senders))
            assert not all(sender.done() for sender in senders), "the writer is held up"
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
            run_on(factory, main, grace=0.1)
    for leak in sockets:
        leak.close()
