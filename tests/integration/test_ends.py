"""How connections over loopback end: in grace, by an abort, a violation, a Terminate, a killed peer, a time limit."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Closed, ConnectionLost, Disconnected, Options, RemoteRegion, TerminatedByPeer, cm
from pyiwarp.connections.serving import listen
from pyiwarp.errors import InvalidStag, StartupTimeout
from pyiwarp.negotiation import Offer
from pyiwarp.queues.work import Send
from tests.harness import Node
from tests.hosts import HOST
from tests.integration.loops import BOTH_WAYS, Runner, joined, octets, run, soon, start
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture


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
            pending: list[asyncio.Future[Any]] = [
                start(one.recv()),
                start(one.read(region[:], source[:].remote())),
                start(one.send(region[:])),
                *[start(one.send(b"x")) for _ in range(6)],
            ]
            await soon(lambda: not other.qp.wants_input)
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
        async with joined(Options(linger=PATIENCE), Options(linger=PATIENCE)) as (one, other):
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
        async with joined(Options(linger=2 * PATIENCE), Options(recv_depth=1, linger=2 * PATIENCE)) as (one, other):
            for _ in range(10):
                await one.send(b"unread")
            await soon(lambda: not other.qp.wants_input)
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(one.close(), other.close())
            assert one.close_reason is other.close_reason is None

    run(main)


def test_a_peer_that_never_closes_is_left_after_the_linger(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(linger=0.1), Options(recv_depth=1)) as (one, other):
            for _ in range(3):
                await one.send(b"starves the other side, which will not see the FIN")
            await soon(lambda: not other.qp.wants_input)
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
            await llp.closed
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
