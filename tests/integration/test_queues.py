"""Completion queues, channels and confirmed completions on real sockets, on the stock loop and on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import pyiwarp
from pyiwarp import Access, Closed, ConnectionLost, Options, TerminatedByPeer, UsageError, cm
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Read, Recv, Send, Status, Write
from pyiwarp.verbs import AsyncEventType, Context
from tests.harness import Node
from tests.hosts import HOST
from tests.integration.loops import Runner, exchange_advertisement, joined, run, soon
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture

OK = Status.SUCCESS


@asynccontextmanager
async def connected(left: Node, right: Node) -> AsyncIterator[None]:
    """Two queue pairs joined over loopback by the connection manager."""
    async with await cm.listen(HOST, 0) as listener:
        connecting = asyncio.ensure_future(cm.connect(left.qp, HOST, listener.port))
        there = (await listener.get_request()).accept(right.qp)
        here = await connecting
        left.qp.post_send(Write(signaled=False))  # the Responder may speak from now on
        try:
            yield
        finally:
            left.qp.disconnect()
            right.qp.disconnect()
            await asyncio.gather(here.closed, there.closed)


def test_a_program_of_completions_alone(run: Runner) -> None:
    """`async for completion in cq` is all that the two sides know of each other."""

    async def main() -> None:
        left, right = Node(), Node()
        sizes = [0, 1, 5000, 100_000]
        memory = right.region(100_000)
        heard: list[tuple[object, int]] = []

        async def serve() -> None:
            async for done in right.recv_cq:
                heard.append((done.wr_id, done.nbytes))
                if len(heard) == len(sizes):
                    return

        for number in range(len(sizes)):
            right.qp.post_recv(Recv((memory[:],), number))
        async with connected(left, right):
            server = asyncio.create_task(serve())
            source = left.region(100_000)
            for number, size in enumerate(sizes):
                left.qp.post_send(Send((source[:size],), number))
            sent = [(await anext(left.send_cq)).wr_id for _ in sizes]
            await server
            await left.qp.drain_sq()
        assert sent == list(range(len(sizes)))
        assert heard == list(enumerate(sizes))

    run(main)


def test_a_channel_whose_file_descriptor_the_loop_watches(run: Runner) -> None:
    async def main() -> None:
        context = Context()
        channel = context.create_comp_channel()
        right = Node.__new__(Node)
        right.context, right.pd = context, context.alloc_pd()
        right.send_cq = context.create_cq(16, channel=channel)
        right.recv_cq = context.create_cq(16, channel=channel)
        right.srq = None
        right.qp = right.pd.create_qp(right.send_cq, right.recv_cq)
        left, loop, seen = Node(), asyncio.get_running_loop(), list[object]()

        def on_readable() -> None:
            cq = channel.get_cq_event()
            assert cq is not None
            cq.request_notify()
            seen.extend(done.wr_id for done in cq.poll())
            cq.ack_events()

        for number in range(8):
            right.receive(8, number)
        right.recv_cq.request_notify()
        loop.add_reader(channel.fileno(), on_readable)
        try:
            async with connected(left, right):
                for number in range(8):
                    left.send(b"x")
                    if number % 3 == 0:
                        await asyncio.sleep(0.002)
                await soon(lambda: len(seen) == 8)
        finally:
            loop.remove_reader(channel.fileno())
            channel.close()
        assert seen == list(range(8))

    run(main)


def test_a_channel_is_iterated(run: Runner) -> None:
    async def main() -> None:
        context = Context()
        channel = context.create_comp_channel()
        left, right = Node(), Node(context)
        right.qp.close()
        right.recv_cq = context.create_cq(16, channel=channel)
        right.srq = None
        right.qp = right.pd.create_qp(right.send_cq, right.recv_cq)
        right.receive(8, "r")
        right.recv_cq.request_notify(solicited_only=True)
        async with connected(left, right):
            left.send(b"hello", solicited=True)
            async for cq in channel:
                assert cq is right.recv_cq
                assert [done.solicited for done in cq.poll()] == [True]
                cq.ack_events()
                break

    run(main)


def test_events_are_iterated_while_connections_come_and_go(run: Runner) -> None:
    async def main() -> None:
        left, right = Node(), Node()
        told: list[tuple[AsyncEventType, object]] = []

        async def watch() -> None:
            async for event in right.context.async_events:
                told.append((event.type, event.source))

        watcher = asyncio.create_task(watch())
        async with connected(left, right):
            left.post(Write((), right.region(4, Access.LOCAL_WRITE)[:].remote(), 1, b"x"))
            await soon(lambda: told)
        right.context.close()
        await asyncio.wait_for(watcher, PATIENCE)
        assert told == [(AsyncEventType.QP_ACCESS_ERR, right.qp)]

    run(main)


def test_a_queue_pair_is_reset_and_used_again(run: Runner) -> None:
    async def main() -> None:
        left, right = Node(), Node()
        for number in range(3):
            right.receive(8, number)
            async with connected(left, right):
                left.send(b"x", number)
                assert (await anext(right.recv_cq)).wr_id == number
                left.qp.modify(QpState.ERROR)
                await soon(lambda: right.qp.state is not QpState.RTS)
            for node in (left, right):
                node.qp.modify(QpState.IDLE)
        assert left.qp.counters().sends_sent == right.qp.counters().sends_received == 3

    run(main)


@pytest.mark.parametrize("end", ["abort", "close", "modify"])
def test_who_is_cut_off_sees_no_graceful_end(run: Runner, end: str) -> None:  # MPA-5044-8-01
    async def main() -> None:
        left, right = Node(), Node()
        async with connected(left, right):
            left.send(b"")
            right.receive(8)
            await anext(right.recv_cq)
            calls = {"abort": lambda: left.qp.abort(Closed("enough")), "close": left.qp.close}
            calls.get(end, lambda: left.qp.modify(QpState.ERROR))()
            await soon(lambda: right.qp.state is not QpState.RTS)
        assert right.qp.state is QpState.ERROR
        assert isinstance(right.qp.error, ConnectionLost)

    run(main)


def test_a_connection_with_confirmed_completions(run: Runner) -> None:
    async def main() -> None:
        async with joined(Options(confirm=True), Options()) as (one, two):
            async with two.register(bytearray(8), Access.REMOTE_WRITE | Access.LOCAL_WRITE) as region:
                remote = await exchange_advertisement(region, two, one)
                await one.write(b"12345678", remote)
                assert bytes(region.view) == b"12345678", "it is there when `write` returns"
                await asyncio.gather(*[one.write(bytes([n]) * 8, remote) for n in range(50)])
                assert bytes(region.view) == bytes([49]) * 8
                assert one.qp.counters().reads_sent < 50, "one Read confirms many"
            with pytest.raises(TerminatedByPeer, match="invalid STag"):
                await one.write(b"too late", remote)

    run(main)


def test_a_connection_that_can_confirm_nothing_is_not_made(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(UsageError, match="ord is 0: completions can be confirmed by Reads alone"):
            await pyiwarp.connect(HOST, 1, options=Options(confirm=True, ord=0))

    run(main)


def test_reads_and_confirmations_share_ord(run: Runner) -> None:
    async def main() -> None:
        left, right = Node(confirm=True), Node()
        there, sink = right.region(64_000)[:].remote(), left.region(64_000)
        async with connected(left, right):
            for number in range(100):
                left.post((Write((sink[:],), there, number), Read(sink[:], there, number))[number % 2])
            done = [await anext(left.send_cq) for _ in range(100)]
        assert [(each.wr_id, each.status) for each in done] == [(number, OK) for number in range(100)]

    run(main)
