"""Corners of the connection managers: events and addresses that are rarely looked at, in each form of waiting."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Options, blocking, blockingcm, rdmacm
from pyiwarp.blockingcm import CmEvent, CmEventType, CmState, getaddrinfo
from pyiwarp.capture import Capture
from pyiwarp.errors import Closed, WrongState
from pyiwarp.verbs import QpCap
from tests.hosts import HOST
from tests.integration.loops import Runner, connecting, run
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

CAP = QpCap(max_send_wr=8, max_recv_wr=8)
REPLY = b"MPA ID Rep Frame" + bytes((0x40, 2, 0, 4)) + bytes.fromhex("00100010")
NO_FPDU = b"\xff" * 64  # ULPDU_Length is beyond all bounds


def test_a_capture_is_taken_at_each_end(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        with Capture(tmp_path / "left") as left, Capture(tmp_path / "right") as right:
            async with (
                await pyiwarp.listen(HOST, options=Options(capture=right)) as listener,
                connecting(listener, Options(capture=left)) as (one, other),
            ):
                await one.send(b"taken down")
                await other.recv()
            assert left.packets > 5
            assert right.packets > 5

    run(main)


def test_an_identifier_s_events_name_its_listener() -> None:
    with nothing_left():
        events = blockingcm.EventChannel()
        with blockingcm.CmId(events) as listener, blockingcm.CmId(events) as one:
            listener.bind_addr(HOST)
            listener.listen()
            assert listener.local_addr is not None
            one.resolve_addr(HOST, listener.local_addr[1])
            one.resolve_route()
            one.create_qp(cap=CAP)
            one.connect()
            seen: list[CmEvent[blockingcm.CmId]] = []

            def take(count: int) -> CmEvent[blockingcm.CmId]:
                while len(seen) < count:
                    seen.append(events.get_event(timeout=PATIENCE))
                return seen[count - 1]

            asked = take(3)
            assert asked.type is CmEventType.CONNECT_REQUEST
            with asked.id as other:
                other.create_qp(cap=CAP)
                other.accept()
                take(5)  # each end is told that the connection is there
                one.disconnect()
                take(7)
            for event in seen:
                assert event.listen_id is (None if event.id is one else listener)
            assert [event.type.name for event in seen if event.id is not one] == [
                "CONNECT_REQUEST",
                "ESTABLISHED",
                "DISCONNECTED",
            ]


def test_a_program_that_looks_for_the_end_itself_is_told_too() -> None:
    with nothing_left():
        events = blockingcm.EventChannel()
        told: list[str] = []
        with blockingcm.CmId() as listener, blockingcm.CmId(events) as one:
            listener.bind_addr(HOST)
            listener.listen()
            assert listener.local_addr is not None
            one.resolve_addr(HOST, listener.local_addr[1])
            one.resolve_route()
            one.create_qp(cap=CAP).on_ended = lambda: told.append("ended")
            one.connect()
            with listener.get_request(timeout=PATIENCE) as other:
                other.create_qp(cap=CAP).on_ended = lambda: told.append("ended too")
                other.accept()
                while events.get_event(timeout=PATIENCE).type is not CmEventType.ESTABLISHED:
                    pass
                one.disconnect()
                while events.get_event(timeout=PATIENCE).type is not CmEventType.DISCONNECTED:
                    pass
                other.disconnect()
        assert sorted(told) == ["ended", "ended too"]


ADDRESSES: list[tuple[Any, ...]] = [
    (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 7, 0, 0)),  # no way there from an IPv4 address
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", (HOST, 7)),
    (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 7)),
]


def stand_for(addresses: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the name somewhere stand for them."""
    real = socket.getaddrinfo

    def getaddrinfo(host: str | bytes, *args: Any, **more: Any) -> list[Any]:
        return addresses if host in ("somewhere", b"somewhere") else real(host, *args, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_first_address_with_a_way_to_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for(ADDRESSES, monkeypatch)
    with blockingcm.CmId() as one:
        one.bind_addr(HOST)
        event = one.resolve_addr("somewhere", 7)
        assert event is not None
        assert event.type is CmEventType.ADDR_RESOLVED
        assert (one.local_addr, one.peer_addr) == ((HOST, 0), (HOST, 7))


def test_no_way_to_any_address_is_the_first_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_for(ADDRESSES[:1], monkeypatch)
    with blockingcm.CmId() as one:
        one.bind_addr(HOST)
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's
            one.resolve_addr("somewhere", 7)
        with pytest.raises(WrongState):
            one.resolve_route()


def test_a_stream_that_fails_with_the_reply_ends_all_the_same(run: Runner) -> None:
    """The Reply and what is no FPDU come in one piece: ESTABLISHED is told, and DISCONNECTED behind it."""

    async def main() -> None:
        channel = rdmacm.EventChannel()
        with socket.create_server((HOST, 0)) as server:
            server.setblocking(False)
            async with rdmacm.CmId(channel) as one:
                await one.resolve_addr(HOST, server.getsockname()[1])
                await one.resolve_route()
                one.create_qp(cap=CAP)
                step = one.connect()
                peer, _ = await asyncio.get_running_loop().sock_accept(server)
                with peer:
                    peer.sendall(REPLY + NO_FPDU)
                    async with asyncio.timeout(PATIENCE):
                        types = [(await channel.get_event()).type.name for _ in range(4)]
                        assert types == ["ADDR_RESOLVED", "ROUTE_RESOLVED", "ESTABLISHED", "DISCONNECTED"]
                        assert (await step).type is CmEventType.ESTABLISHED
                        assert (await one.disconnect()).type is CmEventType.DISCONNECTED
                assert one.state is CmState.ENDED

    run(main)


def test_a_decision_is_made_once(run: Runner) -> None:
    async def main() -> None:
        async with rdmacm.CmId() as listener:
            listener.bind_addr(HOST)
            await listener.listen()
            assert listener.local_addr is not None
            for decided in ("accepted", "rejected", "closed"):
                with socket.create_connection((HOST, listener.local_addr[1]), PATIENCE) as peer:
                    peer.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0)))
                    async with await listener.get_request() as other:
                        other.create_qp(cap=CAP)
                        if decided == "accepted":
                            await other.accept()
                        elif decided == "rejected":
                            other.reject()
                        else:
                            other.close()
                        for again in (other.reject, other.accept):
                            with pytest.raises(Closed if decided == "closed" else WrongState):
                                again()

    run(main)


def test_every_address_is_listened_at() -> None:
    """127.0.0.2 is this machine too; a listener of the loopback's first address alone would refuse it."""
    with (
        nothing_left(),
        blocking.listen(None) as listener,
        socket.create_connection(("127.0.0.2", listener.port), PATIENCE) as peer,
    ):
        peer.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0)))
        assert listener.get_request(timeout=PATIENCE) is not None


def test_where_to_listen_and_where_to_connect() -> None:
    """As `rdma_getaddrinfo`: without a host, every address to listen at, the loopback's to connect to."""
    assert getaddrinfo(None, 7, passive=True).host in ("0.0.0.0", "::")
    assert getaddrinfo(None, 7).host in (HOST, "::1")
    assert getaddrinfo(HOST, 7, passive=True) == (HOST, 7, True)
    assert getaddrinfo(HOST, 7) == (HOST, 7, False)
