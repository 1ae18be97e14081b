"""rdma_cm's model, awaited and for scripts: every step, every event, data over what was connected."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import cast

import pytest

from pyiwarp import ConnectionLost, Rejected, UsageError, blocking, blockingcm, rdmacm
from pyiwarp.blockingcm import create_ep, getaddrinfo
from pyiwarp.cm.cm_events import CmEventType, ConnParam
from pyiwarp.cm.identifiers import NEXT, CmState
from pyiwarp.devices import device_named
from pyiwarp.errors import Closed, MalformedStartup, StartupTimeout, WrongState
from pyiwarp.verbs import Context, ProtectionDomain, QpCap, Recv, Send, Status
from tests.hosts import HOST, closed_port
from tests.integration.loops import Runner, run, soon
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

CAP = QpCap(max_send_wr=8, max_recv_wr=8)


# --- on asyncio ------------------------------------------------------------------------------------------------------


async def listening(
    channel: rdmacm.EventChannel | None = None, context: Context | None = None
) -> tuple[rdmacm.CmId, int]:
    listener = rdmacm.CmId(channel, context=context)
    listener.bind_addr(HOST)
    await listener.listen()
    assert listener.local_addr is not None
    return listener, listener.local_addr[1]


async def resolved(port: int, channel: rdmacm.EventChannel | None = None) -> rdmacm.CmId:
    cm_id = rdmacm.CmId(channel)
    await cm_id.resolve_addr(HOST, port or 1)
    await cm_id.resolve_route()
    cm_id.create_qp(cap=CAP)
    return cm_id


def test_two_ids_without_channels(run: Runner) -> None:
    async def main() -> None:
        listener, port = await listening()
        async with listener, await resolved(port) as one:
            assert one.state is CmState.ROUTE_RESOLVED
            connecting = one.connect(ConnParam(private_data=b"v1", responder_resources=3, initiator_depth=5))
            async with await listener.get_request() as other:
                asked = other.request_param
                assert (asked.private_data, asked.responder_resources, asked.initiator_depth) == (b"v1", 5, 3)
                qp = other.create_qp(cap=CAP)
                memory = qp.pd.register(bytearray(8))
                qp.post_recv(Recv((memory[:],), "r"))
                assert (await other.accept(ConnParam(private_data=b"ok"))).type is CmEventType.ESTABLISHED
                event = await connecting
                assert event.type is CmEventType.ESTABLISHED
                assert event.param is not None
                assert event.param.private_data == b"ok"
                assert (one.agreement.ird, one.agreement.ord) == (3, 5)
                assert (other.agreement.ird, other.agreement.ord) == (5, 3)
                assert one.peer_addr == (HOST, port)
                one.qp.post_send(Send((), "s", b"hello"))
                await soon(lambda: len(qp.recv_cq))
                assert bytes(memory.view[:5]) == b"hello"
                assert (await one.disconnect()).type is CmEventType.DISCONNECTED
                assert (await other.disconnect()).type is CmEventType.DISCONNECTED
                assert (one.state.name, other.state.name) == ("ENDED", "ENDED")

    run(main)


def test_what_was_posted_is_sent_before_the_end(run: Runner) -> None:  # DDP-5041-6.2.1-01
    async def main() -> None:
        listener, port = await listening()
        async with listener, await resolved(port) as one:
            connecting = one.connect(ConnParam())
            async with await listener.get_request() as other:
                qp = other.create_qp(cap=CAP)
                sink = qp.pd.register(bytearray(1_000_000))
                source = one.qp.pd.register(bytearray(b"x" * 1_000_000))
                qp.post_recv(Recv((sink[:],), "r"))
                await other.accept(ConnParam())
                await connecting
                one.qp.post_send(Send((source[:],), "s"))
                assert (await one.disconnect()).type is CmEventType.DISCONNECTED
                assert [(done.wr_id, done.ok, done.nbytes) for done in qp.recv_cq.poll()] == [("r", True, 1_000_000)]
                assert [(done.wr_id, done.ok) for done in one.qp.send_cq.poll()] == [("s", True)]

    run(main)


def test_a_program_of_events(run: Runner) -> None:
    """One channel for everything, as librdmacm's programs are written."""

    async def main() -> None:
        channel = rdmacm.EventChannel()
        listener, port = await listening(channel)
        one = rdmacm.CmId(channel)
        one.resolve_addr(HOST, port)
        seen = []
        others = []
        async with asyncio.timeout(PATIENCE), listener, one:
            async for event in channel:
                seen.append((event.type.name, event.id is one))
                match event.type:
                    case CmEventType.ADDR_RESOLVED:
                        one.resolve_route()
                    case CmEventType.ROUTE_RESOLVED:
                        one.create_qp(cap=CAP)
                        one.connect(ConnParam(private_data=b"hi"))
                    case CmEventType.CONNECT_REQUEST:
                        assert event.listen_id is listener
                        assert event.param is not None
                        assert event.param.private_data == b"hi"
                        assert isinstance(event.id, rdmacm.CmId)
                        others.append(event.id)
                        event.id.create_qp(cap=CAP)
                        event.id.accept()
                    case CmEventType.ESTABLISHED if event.id is one:
                        one.disconnect()
                    case CmEventType.DISCONNECTED if [name for name, _ in seen].count("DISCONNECTED") == 2:
                        channel.close()
            others[0].close()
        assert seen[:4] == [
            ("ADDR_RESOLVED", True),
            ("ROUTE_RESOLVED", True),
            ("CONNECT_REQUEST", False),
            ("ESTABLISHED", False),
        ]
        assert ("ESTABLISHED", True) in seen
        with pytest.raises(Closed):
            await channel.get_event()

    run(main)


def test_a_rejection_has_its_octets(run: Runner) -> None:
    async def main() -> None:
        channel = rdmacm.EventChannel()
        listener, port = await listening()
        async with listener, await resolved(port, channel) as one:
            while channel._events:
                await channel.get_event()
            connecting = one.connect()
            (await listener.get_request()).reject(b"not today")
            event = await channel.get_event()
            assert event.type is CmEventType.REJECTED
            assert event.param is not None
            assert event.param.private_data == b"not today"
            with pytest.raises(Rejected):
                await connecting
            with pytest.raises(WrongState):
                one.connect()

    run(main)


def test_ways_to_fail(run: Runner) -> None:
    async def main() -> None:
        channel = rdmacm.EventChannel()
        with socket.create_server((HOST, 0)) as deaf:
            async with await resolved(deaf.getsockname()[1], channel) as one:
                with pytest.raises(StartupTimeout):
                    await one.connect(timeout=0.05)
        with socket.create_server((HOST, 0)) as rude:
            async with await resolved(rude.getsockname()[1], channel) as one:
                connecting = one.connect()
                rude.settimeout(PATIENCE)
                peer, _ = await asyncio.get_running_loop().run_in_executor(None, rude.accept)
                peer.close()
                with pytest.raises((ConnectionLost, OSError)):
                    await connecting
        with closed_port() as port:
            async with await resolved(port, channel) as one:
                with pytest.raises(ConnectionRefusedError):
                    await one.connect()
                kinds = [(await channel.get_event()).type for _ in range(len(channel._events))]
                assert kinds[-1] is CmEventType.REJECTED, "as kernel iWARP tells it"
        one = rdmacm.CmId(channel)
        with pytest.raises(socket.gaierror):
            await one.resolve_addr("nobody.invalid", 1)
        assert (await channel.get_event()).type is CmEventType.ADDR_ERROR
        assert one.state is CmState.IDLE
        one.close()

    run(main)


def test_closing_stops_what_is_under_way(run: Runner) -> None:
    async def main() -> None:
        listener, port = await listening()
        async with await resolved(port) as one:
            one.connect()
            request = await listener.get_request()
            waiting = asyncio.ensure_future(listener.get_request())
            await asyncio.sleep(0)
            listener.close()
            with pytest.raises(Closed):
                await waiting
            request.close()
            with pytest.raises(Closed):
                request.accept()
        await listener.__aexit__()

    run(main)


def test_many_listeners_and_devices(run: Runner) -> None:
    async def main() -> None:
        contexts = [device_named(name).open() for name in ("rnic-v1", "minimal")]
        listeners = [await listening(context=context) for context in contexts]
        for (listener, port), context in zip(listeners, contexts, strict=True):
            async with listener, await resolved(port) as one:
                connecting = one.connect()
                if context.device.revision == 1:
                    with pytest.raises(ConnectionLost):  # revision 2 is not spoken there
                        await connecting
                    continue
                async with await listener.get_request() as other:
                    assert other.context is context
                    other.create_qp(cap=QpCap(8, 8, 1, 0))
                    with pytest.raises(UsageError, match="offers 1"):
                        other.accept(ConnParam(responder_resources=2))
                    other.accept()
                    await connecting
                    assert (other.agreement.ird, one.agreement.ord) == (1, 1)
                    assert one.agreement.send_markers, "the device asks for them"

    run(main)


def test_events_move_with_their_id(run: Runner) -> None:
    async def main() -> None:
        old, new = rdmacm.EventChannel(), rdmacm.EventChannel()
        listener, port = await listening()
        async with listener, await resolved(port, old) as one:
            assert len(old._events) == 2
            one.migrate(new)
            assert not old._events
            assert "2 events" in repr(new)
            one.migrate(None)
            one.connect()
            async with await listener.get_request() as other:
                other.create_qp(cap=CAP)
                other.accept()
                await soon(lambda: one.state is CmState.CONNECTED)
                assert not new._events, "without a channel nobody is told"

    run(main)


STEPS = {step for _, step in NEXT}


def test_every_state_refuses_what_is_not_in_the_table() -> None:
    for state in CmState:
        for step in STEPS:
            cm_id = blockingcm.CmId()
            cm_id.state = state
            if (state, step) in NEXT:
                cm_id._check(step)
            else:
                with pytest.raises(WrongState, match="in state"):
                    cm_id._check(step)
            cm_id.state = CmState.IDLE
            cm_id.close()


# --- for scripts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def events() -> Iterator[blockingcm.EventChannel]:
    with nothing_left():
        yield blockingcm.EventChannel()


def test_a_script_of_events(events: blockingcm.EventChannel) -> None:
    """Both ends in one thread: with a channel no step blocks."""
    with blockingcm.CmId(events) as listener, blockingcm.CmId(events) as one:
        listener.bind_addr(HOST)
        listener.listen()
        assert listener.local_addr is not None
        one.resolve_addr(HOST, listener.local_addr[1])
        assert events.get_event(timeout=0).type is CmEventType.ADDR_RESOLVED
        one.resolve_route()
        assert events.get_event(timeout=0).type is CmEventType.ROUTE_RESOLVED
        qp = one.create_qp(cap=CAP)
        assert one.connect() is None
        asked = events.get_event(timeout=PATIENCE)
        assert asked.type is CmEventType.CONNECT_REQUEST
        with asked.id as other:
            theirs = other.create_qp(cap=CAP)
            other.accept()
            assert {events.get_event(timeout=PATIENCE).type for _ in range(2)} == {CmEventType.ESTABLISHED}
            region = cast("ProtectionDomain", theirs.pd).register(bytearray(8))
            theirs.post_recv(Recv((region[:],), "r"))
            qp.post_send(Send((), "s", b"script"))
            (got,) = blocking.wait(theirs.recv_cq, 1, PATIENCE)
            assert (got.nbytes, bytes(region.view[:6])) == (6, b"script")
            theirs.post_recv(Recv((region[:],), "late"))
            one.disconnect()
            assert {events.get_event(timeout=PATIENCE).type for _ in range(2)} == {CmEventType.DISCONNECTED}
            (flushed,) = blocking.wait(theirs.recv_cq, 1, PATIENCE)
            assert (flushed.wr_id, flushed.status) == ("late", Status.WR_FLUSH_ERR)
        with pytest.raises(TimeoutError):
            events.get_event(timeout=0)


def test_synchronous_ids() -> None:
    """The shorthands; the peer is in another thread, because each step blocks."""
    from tests.integration.polled import Peer
    from tests.integration.polled import soon as true_soon

    ports: list[int] = []

    def serve() -> None:
        with create_ep(getaddrinfo(HOST, 0, passive=True)) as listener:
            listener.listen()
            assert listener.local_addr is not None
            ports.append(listener.local_addr[1])
            with listener.get_request(timeout=PATIENCE) as first:
                first.reject(b"full")
                assert first._request is not None
                driver = first._request.driver
                assert blocking.wait_until(lambda: driver.closed, PATIENCE), "the peer has read it and left"  # type: ignore[attr-defined]
            with listener.get_request(timeout=PATIENCE) as other:
                other.create_qp(cap=CAP)
                event = other.accept(ConnParam(private_data=b"ok"))
                assert event is not None
                assert event.type is CmEventType.ESTABLISHED
                event = other.disconnect()
                assert event is not None
                assert event.type is CmEventType.DISCONNECTED
            with pytest.raises(TimeoutError):
                listener.get_request(timeout=0)
        with pytest.raises(Closed):
            listener.get_request(timeout=0)

    with nothing_left(), Peer(serve):
        true_soon(lambda: ports)
        info = getaddrinfo(HOST, ports[0])
        with create_ep(info, cap=CAP) as one, pytest.raises(Rejected):
            one.connect()
        with create_ep(info, cap=CAP) as one:
            event = one.connect(timeout=PATIENCE)
            assert event is not None
            assert event.param is not None
            assert event.param.private_data == b"ok"
            assert f"to ('{HOST}', {ports[0]})" in repr(one)
            true_soon(lambda: one.state is CmState.ENDED)


def test_scripts_fail_with_the_cause(events: blockingcm.EventChannel) -> None:
    with blockingcm.CmId() as one, pytest.raises(socket.gaierror):
        one.resolve_addr("nobody.invalid", 1)
    with pytest.raises(socket.gaierror):
        create_ep(blockingcm.AddrInfo("nobody.invalid", 1))
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with create_ep(getaddrinfo(HOST, port)) as one, pytest.raises(StartupTimeout):
            one.connect(timeout=0.05)
    with socket.create_server((HOST, 0)) as server, create_ep(getaddrinfo(HOST, server.getsockname()[1])) as one:
        one.migrate(events)
        one.connect()
        server.settimeout(PATIENCE)
        peer, _ = server.accept()
        peer.sendall(b"no iWARP at all, sorry")
        failed = events.get_event(timeout=PATIENCE)
        peer.close()
        assert failed.type is CmEventType.CONNECT_ERROR
        assert isinstance(failed.error, MalformedStartup | ConnectionLost)
    with blockingcm.CmId(events) as one, pytest.raises(WrongState, match="no queue pair"):
        one.qp  # noqa: B018
    with blockingcm.CmId() as one:
        one.create_qp(cap=CAP)
        with pytest.raises(WrongState, match="already"):
            one.create_qp()
        with pytest.raises(WrongState, match="no connection"):
            one.disconnect()
    with blockingcm.CmId(events) as one, pytest.raises(WrongState, match="channel gives"):
        one.get_request()
