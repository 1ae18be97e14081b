"""Programs without an event loop that wait with `select` or `epoll`, as verbs programs do: descriptors tell of news."""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import pytest

from pyiwarp import Access, blocking
from pyiwarp.blockingcm import CmEventType, CmId, EventChannel
from pyiwarp.drivers import descriptors
from pyiwarp.drivers.poller import Poller
from pyiwarp.errors import Closed, UsageError
from pyiwarp.negotiation import Offer
from pyiwarp.verbs import CompletionChannel, Context, QueuePair, Recv
from tests.hosts import HOST
from tests.integration.polled import Peer, nothing_left, soon
from tests.patience import PATIENCE

pytestmark = pytest.mark.skipif(not descriptors.GATHERS, reason="this system has no epoll")


@contextmanager
def speaker(tell: threading.Event) -> Iterator[int]:
    """A peer in a thread of its own that sends a message when it is told to; the port where it listens."""
    where: list[int] = []
    listening, over = threading.Event(), threading.Event()

    def serve() -> None:
        with blocking.listen(HOST) as listener:
            where.append(listener.port)
            listening.set()
            with listener.get_request(timeout=PATIENCE).accept() as conn:
                soon(lambda: tell.is_set() or over.is_set())
                if tell.is_set():
                    conn.send(b"hello", timeout=PATIENCE)
                soon(over.is_set)

    with Peer(serve):
        assert listening.wait(PATIENCE)
        try:
            yield where[0]
        finally:
            over.set()


@contextmanager
def connected(port: int) -> Iterator[tuple[CompletionChannel, QueuePair]]:
    """A queue pair with one receive, whose completions a channel tells of."""
    with nothing_left():
        pd = Context().alloc_pd()
        channel = pd.context.create_comp_channel()
        cq, send_cq = pd.context.create_cq(16, channel=channel), pd.context.create_cq(16)
        qp = pd.create_qp(send_cq, cq)
        qp.post_recv(Recv((pd.register(bytearray(64), Access.LOCAL_WRITE)[:],)))
        yield channel, qp
        pd.close(force=True)
        channel.close()


def wait_with_select(fd: int) -> bool:
    return bool(select.select([fd], [], [], PATIENCE)[0])


def wait_with_poll(fd: int) -> bool:
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    return bool(waiting.poll(PATIENCE * 1000))


def wait_with_epoll(fd: int) -> bool:
    with select.epoll() as waiting:
        waiting.register(fd, select.EPOLLIN)
        return bool(waiting.poll(PATIENCE))


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("wait", [wait_with_select, wait_with_poll, wait_with_epoll])
def test_a_channel_is_waited_for_without_a_loop(wait: Callable[[int], bool], when: str) -> None:
    """The descriptor is asked for before or after the queue pair is connected."""
    tell = threading.Event()
    with speaker(tell) as port, connected(port) as (channel, qp):
        if when == "before":
            channel.fileno()
        blocking.connect_qp(qp, HOST, port, Offer(open_at_once=True))
        cq = qp.recv_cq
        cq.request_notify()
        tell.set()
        deadline = monotonic() + PATIENCE
        while channel.get_cq_event() is not cq:
            assert monotonic() < deadline
            assert wait(channel.fileno()), "the descriptor does not tell of the message"
        (completion,) = cq.poll()
        assert completion.nbytes == 5
        cq.ack_events()


def test_it_is_silent_while_nothing_comes() -> None:
    tell = threading.Event()
    with speaker(tell) as port, connected(port) as (channel, qp):
        blocking.connect_qp(qp, HOST, port, Offer(open_at_once=True))
        qp.recv_cq.request_notify()
        assert channel.get_cq_event() is None
        assert not select.select([channel], [], [], 0.05)[0]


def test_an_event_queue_tells_of_the_end() -> None:
    """A peer that sends into no receive: the context's event comes, by waiting for its descriptor alone."""
    tell = threading.Event()
    with speaker(tell) as port, connected(port) as (_, qp):
        events = qp.pd.context.async_events  # type: ignore[attr-defined]
        blocking.connect_qp(qp, HOST, port, Offer(open_at_once=True))
        qp.modify(qp.state.ERROR)
        deadline = monotonic() + PATIENCE
        while not qp.recv_cq.poll():
            assert monotonic() < deadline
            select.select([events], [], [], PATIENCE)
        events.close()


def test_a_time_limit_wakes_who_waits() -> None:
    """Nobody answers: `select` alone learns that the wait for the MPA Reply is over."""
    import socket

    with nothing_left(), socket.create_server((HOST, 0)) as silent:
        channel = EventChannel()
        one = CmId(channel)
        one.resolve_addr(*silent.getsockname())
        one.resolve_route()
        one.create_qp()
        one.connect(timeout=0.2)
        deadline = monotonic() + PATIENCE
        types: list[CmEventType] = []
        while CmEventType.UNREACHABLE not in types:
            assert monotonic() < deadline, types
            assert wait_with_select(channel.fileno())
            try:
                types.append(channel.get_event(timeout=0).type)
            except TimeoutError:
                continue
        one.close()
        channel.close()


def test_an_event_channel_of_rdma_cm() -> None:
    with nothing_left():
        channel = EventChannel()
        with CmId(channel) as listener, CmId(channel) as one:
            listener.bind_addr(HOST)
            listener.listen()
            assert listener.local_addr is not None
            one.resolve_addr(HOST, listener.local_addr[1])
            types: list[CmEventType] = []
            others = []
            while CmEventType.ESTABLISHED not in types or len(types) < 5:
                assert wait_with_select(channel.fileno())
                try:
                    event = channel.get_event(timeout=0)
                except TimeoutError:
                    continue
                types.append(event.type)
                if event.type is CmEventType.ADDR_RESOLVED:
                    one.resolve_route()
                elif event.type is CmEventType.ROUTE_RESOLVED:
                    one.create_qp()
                    one.connect()
                elif event.type is CmEventType.CONNECT_REQUEST:
                    others.append(event.id)
                    event.id.create_qp()
                    event.id.accept()
            others[0].close()
        channel.close()
        with pytest.raises(Closed):
            channel.fileno()


def test_a_poller_is_watched_by_a_loop_of_ones_own() -> None:
    tell = threading.Event()
    with speaker(tell) as port, nothing_left(), blocking.connect(HOST, port) as conn:
        tell.set()
        deadline = monotonic() + PATIENCE
        while not conn._inbox:
            assert monotonic() < deadline
            assert wait_with_select(blocking.poller().fileno())
            blocking.progress()
        assert conn.recv(timeout=0) == b"hello"


class Busy:
    """A driver that is behind for some turns."""

    def __init__(self, poller: Poller, turns: int) -> None:
        self.poller = poller
        self.left = turns
        poller.wait_for_turn(self)

    def next_turn(self, fpdus: int) -> None:
        self.left -= 1
        if self.left:
            self.poller.wait_for_turn(self)


@pytest.mark.parametrize("watched", ["before", "after"])
def test_a_poller_tells_of_turns_that_are_waited_for(watched: str) -> None:
    poller = Poller()
    if watched == "before":
        poller.fileno()
    one, other = Busy(poller, 3), Busy(poller, 1)
    for left in (2, 1), (2, 0), (1, 0), (0, 0):
        assert wait_with_select(poller.fileno())
        poller.progress()
        assert (one.left, other.left) == left, "one has its turn"
    assert not select.select([poller.fileno()], [], [], 0)[0]
    Busy(poller, 1)
    assert poller.wait(lambda: not poller._behind, PATIENCE), "nobody sleeps while a turn is waited for"


def test_without_epoll_one_is_told_what_to_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyiwarp.drivers.poller.GATHERS", False)
    with pytest.raises(UsageError, match="call progress"):
        Poller().fileno()


def test_without_epoll_getting_makes_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "GATHERS", False)
    tell = threading.Event()
    with speaker(tell) as port, connected(port) as (channel, qp):
        channel.fileno()
        blocking.connect_qp(qp, HOST, port, Offer(open_at_once=True))
        qp.recv_cq.request_notify()
        tell.set()
        deadline = monotonic() + PATIENCE
        while channel.get_cq_event() is None:
            assert monotonic() < deadline
            select.select([channel], [], [], 0.01)
        qp.recv_cq.ack_events()
