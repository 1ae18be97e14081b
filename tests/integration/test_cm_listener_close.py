"""An identifier that listens is closed or moved while its channel holds events: none is lost, no peer waits."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest

from pyiwarp import ConnectionLost, blocking, blockingcm, rdmacm
from pyiwarp.cm.addresses import Address
from pyiwarp.cm.cm_events import CmEventType
from pyiwarp.cm.identifiers import CmState, _local_address
from pyiwarp.devices import DEVICES
from pyiwarp.pump import address_word, socket_name
from pyiwarp.verbs import Context, QpCap
from tests.hosts import HOST
from tests.integration.loops import soon
from tests.integration.polled import nothing_left
from tests.integration.polled import soon as polled_soon
from tests.patience import PATIENCE

CAP = QpCap(max_send_wr=4, max_recv_wr=4)
ESTABLISHED, DISCONNECTED = CmEventType.ESTABLISHED, CmEventType.DISCONNECTED
CONNECT_REQUEST = CmEventType.CONNECT_REQUEST


async def listening(channel: rdmacm.EventChannel | None) -> tuple[rdmacm.CmId, int]:
    listener = rdmacm.CmId(channel)
    listener.bind_addr(HOST)
    await listener.listen()
    assert listener.local_addr is not None
    return listener, listener.local_addr[1]


async def asking(port: int) -> tuple[rdmacm.CmId, rdmacm.Step]:
    one = rdmacm.CmId()
    await one.resolve_addr(HOST, port)
    await one.resolve_route()
    one.create_qp(cap=CAP)
    return one, one.connect(timeout=100 * PATIENCE)


async def test_a_request_that_nobody_took_is_refused_at_once() -> None:
    channel = rdmacm.EventChannel()
    listener, port = await listening(channel)
    one, connecting = await asking(port)
    await soon(lambda: channel._events)
    listener.close()
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(connecting, PATIENCE)
    assert not channel._events
    one.close()


async def test_events_of_accepted_connections_stay() -> None:
    channel = rdmacm.EventChannel()
    listener, port = await listening(channel)
    one, connecting = await asking(port)
    child = (await channel.get_event()).id
    child.create_qp(cap=CAP)
    child.accept()
    await connecting
    await one.disconnect()
    await soon(lambda: len(channel._events) == 2)
    listener.close()
    events = [await asyncio.wait_for(channel.get_event(), PATIENCE) for _ in range(2)]
    assert [(event.type, event.id is child, event.listen_id is listener) for event in events] == [
        (ESTABLISHED, True, True),
        (DISCONNECTED, True, True),
    ]
    child.close()
    one.close()


async def test_an_accepted_connection_outlives_its_listener() -> None:
    channel = rdmacm.EventChannel()
    listener, port = await listening(channel)
    one, connecting = await asking(port)
    child = (await channel.get_event()).id
    child.create_qp(cap=CAP)
    listener.close()
    child.accept()
    await connecting
    assert (await asyncio.wait_for(channel.get_event(), PATIENCE)).type is ESTABLISHED
    await one.disconnect()
    assert (await asyncio.wait_for(channel.get_event(), PATIENCE)).type is DISCONNECTED
    child.close()
    one.close()


async def test_requests_go_along_when_the_listener_moves() -> None:
    first, second = rdmacm.EventChannel(), rdmacm.EventChannel()
    listener, port = await listening(first)
    one, connecting = await asking(port)
    await soon(lambda: first._events)
    listener.migrate(None)
    assert len(listener._requests) == 1
    assert not first._events
    listener.migrate(second)
    event = await asyncio.wait_for(second.get_event(), PATIENCE)
    assert (event.type, event.listen_id) == (CONNECT_REQUEST, listener)
    child = event.id
    assert child.channel is second
    child.create_qp(cap=CAP)
    child.accept()
    await connecting
    assert (await asyncio.wait_for(second.get_event(), PATIENCE)).type is ESTABLISHED
    assert not first._events
    for each in (listener, child, one):
        each.close()


async def test_a_request_waits_for_who_takes_it_without_a_channel() -> None:
    channel = rdmacm.EventChannel()
    listener, port = await listening(channel)
    one, connecting = await asking(port)
    await soon(lambda: channel._events)
    listener.migrate(None)
    child = await asyncio.wait_for(listener.get_request(), PATIENCE)
    assert child.channel is None
    child.reject(b"no")
    with pytest.raises(Exception, match="reject"):
        await connecting
    for each in (listener, child, one):
        each.close()


async def test_events_of_accepted_connections_do_not_move_with_the_listener() -> None:
    first, second = rdmacm.EventChannel(), rdmacm.EventChannel()
    listener, port = await listening(first)
    one, connecting = await asking(port)
    child = (await first.get_event()).id
    child.create_qp(cap=CAP)
    child.accept()
    await connecting
    listener.migrate(second)
    assert (await asyncio.wait_for(first.get_event(), PATIENCE)).type is ESTABLISHED
    assert not second._events
    for each in (listener, child, one):
        each.close()


async def test_a_peer_that_asks_when_the_channel_is_closed_is_refused() -> None:
    channel = rdmacm.EventChannel()
    listener, port = await listening(channel)
    channel.close()
    one, connecting = await asking(port)
    with pytest.raises(ConnectionLost):
        await asyncio.wait_for(connecting, PATIENCE)
    listener.close()
    one.close()


# --- scripts ---------------------------------------------------------------------------------------------------------


def script(ask: Callable[[blockingcm.CmId, blockingcm.EventChannel, socket.socket], None]) -> None:
    with nothing_left():
        channel = blockingcm.EventChannel()
        listener = blockingcm.CmId(channel)
        listener.bind_addr(HOST)
        listener.listen()
        assert listener.local_addr is not None
        with socket.create_connection((HOST, listener.local_addr[1]), PATIENCE) as peer:
            peer.sendall(b"MPA ID Req Frame\x40\x01\x00\x00")
            polled_soon(lambda: channel._events)
            ask(listener, channel, peer)


def test_a_script_refuses_what_it_did_not_take() -> None:
    def ask(listener: blockingcm.CmId, channel: blockingcm.EventChannel, peer: socket.socket) -> None:
        listener.close()
        assert not channel._events
        with pytest.raises(ConnectionResetError):
            peer.recv(1)

    script(ask)


def test_a_script_keeps_the_events_of_accepted_connections() -> None:
    def ask(listener: blockingcm.CmId, channel: blockingcm.EventChannel, peer: socket.socket) -> None:
        child = channel.get_event(timeout=PATIENCE).id
        child.create_qp(cap=CAP)
        child.accept()
        listener.close()
        event = channel.get_event(timeout=PATIENCE)
        assert (event.type, event.id, child.state) == (ESTABLISHED, child, CmState.CONNECTED)
        assert peer.recv(16) == b"MPA ID Rep Frame"
        child.close()

    script(ask)


def test_a_script_moves_its_requests() -> None:
    def ask(listener: blockingcm.CmId, channel: blockingcm.EventChannel, peer: socket.socket) -> None:
        listener.migrate(None)
        child = listener.get_request(timeout=PATIENCE)
        child.reject()
        blocking.wait_until(lambda: False, 0.01)
        assert peer.recv(16) == b"MPA ID Rep Frame"
        child.close()
        listener.close()

    script(ask)


# --- devices and addresses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DEVICES)
def test_a_queue_pair_without_caps_fits_the_device(name: str) -> None:
    device = DEVICES[name]
    context = Context(device)
    with blockingcm.CmId(context=context) as cm_id:
        cap = cm_id.create_qp().cap
        assert cap == device.default_cap
        assert (cap.max_sge, cap.max_inline) == (min(16, device.max_sge), min(1024, device.max_inline))
        assert cap.max_send_wr == cap.max_recv_wr == min(256, device.max_qp_wr)
    pd = context.alloc_pd()
    cq = context.create_cq(8)
    assert pd.create_qp(cq, cq).cap == device.default_cap
    assert pd.create_srq().max_wr == device.default_cap.max_recv_wr
    pd.close(force=True)


async def test_an_identifier_s_queue_pair_without_caps_fits_the_device() -> None:
    async with rdmacm.CmId(context=Context(DEVICES["minimal"])) as cm_id:
        assert cm_id.create_qp().cap.max_sge == 1


def test_link_local_addresses_keep_their_scope() -> None:  # RFC 4007
    assert socket_name(("fe80::1", 7, 0, 3)) == ("fe80::1%3", 7)
    assert socket_name(("fe80::1%eth0", 7, 0, 3)) == ("fe80::1%eth0", 7)
    assert socket_name(("2001:db8::1", 7, 0, 0)) == ("2001:db8::1", 7)
    assert address_word(("fe80::1", 7, 0, 3)) == "[fe80::1%3]:7"
    at = Address(socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1", 7, 0, 3))
    assert at.at_port(9) == ("fe80::1", 9, 0, 3)


def test_the_scope_of_a_peer_reaches_the_probe_for_its_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """No machine is sure to have a link-local address: what the system is asked is looked at."""
    asked: list[object] = []

    class Probe:
        def __init__(self, *arguments: object) -> None:
            pass

        def __enter__(self) -> Probe:
            return self

        def __exit__(self, *exc: object) -> None:
            pass

        def bind(self, name: object) -> None:
            asked.append(name)

        def connect(self, name: object) -> None:
            asked.append(name)

        def getsockname(self) -> tuple[str, int, int, int]:
            return ("fe80::2", 50_000, 0, 1)

    monkeypatch.setattr(socket, "socket", Probe)
    peer = Address(socket.AF_INET6, socket.SOCK_STREAM, 0, "", ("fe80::1", 7, 0, 1))
    assert _local_address(peer, ("fe80::2%1", 0)) == ("fe80::2%1", 0)
    assert asked == [("fe80::2", 0, 0, 1), ("fe80::1", 7, 0, 1)]
