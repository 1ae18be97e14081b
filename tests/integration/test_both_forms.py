"""What connections do is the same whether one awaits them or calls them; so are the identifiers of rdma_cm's model."""

from __future__ import annotations

import inspect
import socket
from collections.abc import Callable
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Access, blocking, blockingcm, cm, rdmacm
from pyiwarp.cm import polling_cm
from pyiwarp.connections import serving
from pyiwarp.errors import BadWorkRequest, Closed, InvalidStag, TerminatedByPeer, UsageError, WrongState
from pyiwarp.mr import RemoteRegion
from pyiwarp.verbs import AccessLog, WindowType
from tests.harness import agreed
from tests.hosts import HOST
from tests.integration.forms import AwaitableForm, Form, awaited, form
from tests.integration.polled import nothing_left, pair
from tests.patience import PATIENCE

__all__ = ["form"]  # the fixture

BINDABLE = Access.LOCAL_WRITE | Access.WINDOW_BIND
REMOTE = Access.REMOTE_READ | Access.REMOTE_WRITE
LOST = (InvalidStag, TerminatedByPeer)


# --- the same operations ---------------------------------------------------------------------------------------------

WAITING = {
    "timeout",  # a blocking operation has a time limit; one that is awaited is cancelled
    "on_request",  # with an event loop a task waits for the next peer
}
ONLY = {
    "Connection": (set[str](), ""),
    "Region": ({"aclose", "drain", "poller"}, "closing that waits has the name that its kind of program expects"),
    "Request": ({"accept_qp"}, "queue pairs of one's own: on asyncio those are connected by pyiwarp.cm"),
    "Listener": ({"take_request"}, "with an event loop a task waits for the next peer"),
    "CmId": (set[str](), ""),
    "EventChannel": ({"fileno"}, "a program with an event loop awaits the events"),
}
"""What one of the two forms has alone, and why."""

PAIRS: list[tuple[type, type]] = [
    (pyiwarp.Connection, blocking.Connection),
    (pyiwarp.Region, blocking.Region),
    (serving.Request, blocking.Request),
    (serving.Listener, blocking.Listener),
    (rdmacm.CmId, blockingcm.CmId),
    (rdmacm.EventChannel, blockingcm.EventChannel),
]


def operations(kind: type) -> dict[str, Any]:
    """The public names of a class."""
    return {name: getattr(kind, name) for name in dir(kind) if name[0] != "_"}


def parameters(operation: Any) -> list[tuple[str, Any, Any]]:
    """The parameters of an operation, without those that bound its waiting."""
    if not callable(operation):
        return []
    found = inspect.signature(operation).parameters.values()
    return [(each.name, each.default, each.kind) for each in found if each.name not in WAITING]


@pytest.mark.parametrize(("awaitable", "polled"), PAIRS, ids=lambda kind: kind.__name__)
def test_both_have_the_same_operations(awaitable: type, polled: type) -> None:
    mine, theirs = operations(awaitable), operations(polled)
    only, _ = ONLY[awaitable.__name__]
    assert set(mine) ^ set(theirs) == only
    for name in set(mine) & set(theirs):
        assert parameters(mine[name]) == parameters(theirs[name]), name


@pytest.mark.parametrize(
    ("awaitable", "polled"),
    [(pyiwarp.connect, blocking.connect), (pyiwarp.listen, blocking.listen)],
    ids=["connect", "listen"],
)
def test_both_are_made_alike(awaitable: Any, polled: Any) -> None:
    assert parameters(awaitable) == parameters(polled)


def test_both_managers_take_the_same() -> None:
    # where a program without an event loop says who makes progress and who is told; names that were looked up before
    own = {"poller", "on_request", "addresses"}

    def foreign(operation: Any) -> list[tuple[str, Any]]:
        return [(name, default) for name, default, _ in parameters(operation) if name not in own]

    def names(operation: Any) -> list[str]:
        return [name for name, _ in foreign(operation)]

    assert foreign(cm.connect) == foreign(polling_cm.connect)
    assert names(cm.listen) == names(polling_cm.Listener)


# --- what had come apart ---------------------------------------------------------------------------------------------


async def advertised(region: Any, owner: Any, peer: Any) -> RemoteRegion:
    """Tell `peer` of a region or window of `owner`'s."""
    await awaited(owner.send, region.advertise())
    return RemoteRegion.parse(await awaited(peer.recv))


def test_an_access_log_names_the_peer(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        log = AccessLog()
        region = other.register(bytearray(8), REMOTE, log=log)
        remote = await advertised(region, other, one)
        await awaited(one.write, b"noted", remote)
        await awaited(one.send, b"done")
        await awaited(other.recv)
        (record,) = log
        assert record.nbytes == 5
        assert record.peer == other.peername
        assert record.peer.startswith(HOST)
        assert record.peer in str(record)
        region.close()

    form.connected(body)


def test_a_window_is_bound_and_invalidated(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with other.pd.register(bytearray(b"0123456789"), BINDABLE) as region:
            window = other.pd.alloc_window(WindowType.TYPE_2B)
            await awaited(other.bind, window, region[2:6], REMOTE, key=7)
            assert window.stag & 0xFF == 7
            remote = await advertised(window, other, one)
            await awaited(one.write, b"ab", remote.at(1))
            sink = one.register(bytearray(4))
            await awaited(one.read, sink[:], remote)
            assert bytes(sink.view) == b"2ab5"
            with pytest.raises(WrongState):
                await awaited(other.bind, window, region[:])
            await awaited(other.invalidate, window, fence=True)
            await awaited(one.write, b"x", remote)
            with pytest.raises(LOST):
                await awaited(one.recv)
            sink.close()
            window.close()

    form.connected(body)


def test_a_region_begins_at_the_to_that_was_chosen(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with other.register(bytearray(8), REMOTE, to=0x5000) as region:
            remote = await advertised(region, other, one)
            assert remote.to == 0x5000
            await awaited(one.write, b"x", remote.at(7))
            await awaited(one.send, b"done")
            await awaited(other.recv)
            assert bytes(region.view) == bytes(7) + b"x"
        with pytest.raises(BadWorkRequest, match="do not fit behind TO"):
            other.register(bytearray(8), to=-1)

    form.connected(body)


def test_a_region_is_given_memory_by_fast_registration(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        region = other.pd.alloc_stag()
        first, second = bytearray(3), bytearray(5)
        await awaited(other.register_fast, region, [first, second], REMOTE | Access.LOCAL_WRITE, key=9)
        assert region.stag & 0xFF == 9
        remote = await advertised(region, other, one)
        await awaited(one.write, b"abcdefgh", remote)
        await awaited(one.send, b"done")
        await awaited(other.recv)
        assert bytes(first) == b"abc"
        assert bytes(second) == b"defgh"
        with pytest.raises(WrongState):
            await awaited(other.register_fast, region, bytearray(1))
        await awaited(other.invalidate, region)
        region.close()

    form.connected(body)


def test_a_read_invalidates_its_sink(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        source = other.register(bytearray(b"source"), REMOTE)
        remote = await advertised(source, other, one)
        sink = one.register(bytearray(6))
        await awaited(one.read, sink[:3], remote)
        assert not sink.is_retired
        view = sink.view
        await awaited(one.read, sink[:], remote, invalidate_sink=True)
        assert sink.is_retired
        assert bytes(view) == b"source"
        source.close()

    form.connected(body)


def test_memory_that_a_peer_gives_back_is_waited_for(form: Form) -> None:  # RDMAP-5040-5.3-14
    async def body(one: Any, other: Any) -> None:
        memory = bytearray(8)
        region = other.register(memory, REMOTE)
        remote = await advertised(region, other, one)
        await awaited(one.write, b"returned", remote)
        await awaited(one.send, b"done", invalidate=remote.stag)
        await awaited(region.wait_closed)
        assert region.is_retired
        assert memory == b"returned"
        memory.clear()

    form.connected(body)


def test_waiting_for_memory_voids_nothing() -> None:
    with pair() as (one, _):
        region = one.register(bytearray(8))
        with pytest.raises(TimeoutError, match="used the memory"):
            region.wait_closed(timeout=0.01)
        assert region.is_open
        region.close()


def test_what_does_not_fit_is_refused_before_anything_is_sent(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        remote = RemoteRegion(0, 0x100, 4)
        sink = one.register(bytearray(8))
        with pytest.raises(BadWorkRequest, match="8 octets do not fit"):
            await awaited(one.write, bytes(8), remote)
        with pytest.raises(BadWorkRequest, match="8 octets do not fit"):
            await awaited(one.read, sink[:], remote)
        with pytest.raises(BadWorkRequest, match="8 octets do not fit"):
            await awaited(one.fetch_add, remote, 1)
        with pytest.raises(BadWorkRequest, match="8 octets do not fit"):
            await awaited(one.compare_swap, remote, 1, 2)
        with pytest.raises(BadWorkRequest, match="Immediate Data has 8 octets"):
            await awaited(one.write_with_immediate, bytes(2), remote, b"short")
        await awaited(one.send, b"alive")
        assert await awaited(other.recv) == b"alive"
        sink.close()

    form.connected(body)


# --- listeners -------------------------------------------------------------------------------------------------------


def test_a_listener_that_is_closed_gives_nobody(form: Form) -> None:
    async def body() -> None:
        listener: Any = await awaited((pyiwarp if isinstance(form, AwaitableForm) else blocking).listen, HOST)
        assert repr(listener).startswith(f"<Listener port {listener.port} ")
        listener.close()
        with pytest.raises(Closed):
            await awaited(listener.get_request)

    form.run(body)


def test_iteration_ends_when_a_polled_listener_is_closed_meanwhile() -> None:
    with nothing_left(), blocking.listen(HOST) as listener, socket.create_connection((HOST, listener.port), PATIENCE):
        closed = Later(listener.close)
        assert list(listener) == []
        assert closed.called


class Later:
    """Calls a function once the poller of this thread makes progress."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call
        self._mine, self._theirs = socket.socketpair()
        self._poller = blocking.poller()
        self._poller.watch(self, 4)  # POLLOUT: it can be written to at once
        self.deadline = float("inf")
        self.called = False

    def fileno(self) -> int:
        return self._mine.fileno()

    def ready(self, happened: int) -> None:
        self._poller.forget(self)
        self._mine.close()
        self._theirs.close()
        self.called = True
        self._call()

    def expired(self) -> None:
        raise AssertionError("it has no deadline")


# --- rdma_cm's model -------------------------------------------------------------------------------------------------


async def resolved(identifier: Any, port: int) -> None:
    await awaited(identifier.resolve_addr, HOST, port)
    await awaited(identifier.resolve_route)


async def listening(form: Form) -> Any:
    identifier = form.rdma_cm.CmId()
    identifier.bind_addr(HOST)
    await awaited(identifier.listen)
    return identifier


def test_an_access_log_names_the_peer_of_an_identifier(form: Form) -> None:
    async def body() -> None:
        listener = await listening(form)
        mine = form.rdma_cm.CmId(form.rdma_cm.EventChannel())
        await resolved(mine, listener.local_addr[1])
        mine.create_qp()
        connecting = mine.connect()
        child = await awaited(listener.get_request)
        child.create_qp()
        await awaited(child.accept)
        await awaited(lambda: connecting)
        while mine.state is not rdmacm.CmState.CONNECTED:
            await awaited(mine.channel.get_event)
        assert child.qp.peer == child.driver.peername
        assert mine.qp.peer == "{}:{}".format(*listener.local_addr)
        for identifier in (mine, child, listener):
            identifier.close()

    form.run(body)


def test_private_data_that_fits_no_request_begins_no_step(form: Form) -> None:
    async def body() -> None:
        listener = await listening(form)
        identifier = form.rdma_cm.CmId()
        await resolved(identifier, listener.local_addr[1])
        identifier.create_qp()
        with pytest.raises(UsageError, match="private data"):
            await awaited(identifier.connect, rdmacm.ConnParam(private_data=bytes(512)))
        assert identifier.state is rdmacm.CmState.ROUTE_RESOLVED
        identifier.close()
        listener.close()

    form.run(body)


def test_a_queue_pair_that_is_not_idle_fails_the_step(form: Form) -> None:
    async def body() -> None:
        listener = await listening(form)
        identifier = form.rdma_cm.CmId()
        await resolved(identifier, listener.local_addr[1])
        identifier.create_qp().connect(agreed())
        with pytest.raises(WrongState, match="IDLE"):
            await awaited(identifier.connect)
        assert identifier.state is rdmacm.CmState.ENDED
        identifier.close()
        listener.close()

    form.run(body)


def test_nobody_is_given_by_an_identifier_that_is_closed(form: Form) -> None:
    async def body() -> None:
        listener = await listening(form)
        with socket.create_connection((HOST, listener.local_addr[1]), PATIENCE):
            listener.close()
            with pytest.raises(Closed):
                await awaited(listener.get_request)

    form.run(body)


def test_a_polled_identifier_that_is_closed_meanwhile_ends_the_wait() -> None:
    listener = blockingcm.CmId()
    listener.bind_addr(HOST)
    listener.listen()
    Later(listener.close)
    with pytest.raises(Closed):
        listener.get_request(timeout=PATIENCE)


def test_a_channel_is_closed(form: Form) -> None:
    async def body() -> None:
        channel = form.rdma_cm.EventChannel()
        identifier = form.rdma_cm.CmId(channel)
        identifier.resolve_addr(HOST, 1)
        event = await awaited(channel.get_event)
        assert event.id is identifier
        identifier.close()
        channel.close()
        with pytest.raises(Closed):
            await awaited(channel.get_event)

    form.run(body)


def test_iteration_ends_when_a_polled_channel_is_closed() -> None:
    channel = blockingcm.EventChannel()
    Later(channel.close)
    assert list(channel) == []
