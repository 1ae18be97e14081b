"""One connection that sends at full speed leaves the others their turns, on both loops and polled (RFC 5042 §6.4.4)."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Final

import pyiwarp
from pyiwarp import blocking
from pyiwarp.codes import Opcode
from pyiwarp.connections.endpoint import Endpoint
from pyiwarp.connections.options import Options
from pyiwarp.mpa import Framer
from pyiwarp.pump import TURN_FPDUS
from pyiwarp.queues.qp import QpState, QueuePair
from tests.harness import write
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.polled import nothing_left, soon
from tests.patience import PATIENCE

__all__ = ["run"]

FPDUS: Final = 2000
REQUEST: Final = b"MPA ID Req Frame\x50\x01\0\0"
SHARE: Final = 2 * (TURN_FPDUS // 16 + 1)  # a turn of the loop may see the end of one of its own and the next one's


def flood() -> bytes:
    """RDMA Writes without payload, as FPDUs."""
    out: list[bytes | bytearray | memoryview] = []
    ulpdu = write(1, 0).octets(0)
    assert ulpdu[1] & 0x0F == Opcode.WRITE
    Framer(crc=True).frame(ulpdu, (), 0, out)
    return b"".join(out) * FPDUS


def received(qp: QueuePair) -> int:
    return qp.counters().fpdus_received


def test_a_flood_leaves_others_their_turns(run: Runner) -> None:
    async def main() -> None:
        served: asyncio.Future[pyiwarp.Connection] = asyncio.get_running_loop().create_future()

        async def handler(conn: pyiwarp.Connection) -> None:
            served.set_result(conn)
            await conn.recv()

        async with await pyiwarp.serve(handler, HOST) as server:
            with socket.create_connection((HOST, server.port), PATIENCE) as peer:
                peer.sendall(REQUEST)
                assert len(await asyncio.to_thread(peer.recv, 20)) == 20
                sending = asyncio.ensure_future(asyncio.to_thread(peer.sendall, flood()))
                qp = (await served).qp
                most, before = 0, received(qp)
                while received(qp) < FPDUS:
                    await asyncio.sleep(0)
                    now = received(qp)
                    most, before = max(most, now - before), now
                await sending
        assert 0 < most <= SHARE

    run(main)


def test_a_flood_leaves_other_polled_connections_their_turns() -> None:
    with nothing_left(), blocking.listen(HOST, options=Options()) as listener, socket.socket() as peer:
        peer.connect((HOST, listener.port))
        peer.sendall(REQUEST)
        with listener.get_request(timeout=PATIENCE).accept() as conn:
            assert isinstance(conn, Endpoint)
            soon(lambda: conn.qp.state is QpState.RTS)
            assert len(peer.recv(20)) == 20
            peer.settimeout(PATIENCE)
            peer.sendall(flood())
            most, before, turns = 0, 0, 0
            while (now := received(conn.qp)) < FPDUS:
                most, before, turns = max(most, now - before), now, turns + 1
                conn.poller.progress()
            assert 0 < most <= SHARE
            conn.abort()


def test_many_floods_leave_other_polled_connections_their_turns() -> None:
    """One of those that are behind has its turn between two looks at the sockets, not all of them."""
    number = 4
    with nothing_left(), blocking.listen(HOST) as listener, ExitStack() as stack:
        conns = []
        for _ in range(number):
            peer = stack.enter_context(socket.create_connection((HOST, listener.port), PATIENCE))
            peer.sendall(REQUEST)
            conns.append(stack.enter_context(listener.get_request(timeout=PATIENCE).accept()))
            assert len(peer.recv(20, socket.MSG_WAITALL)) == 20
            peer.sendall(flood())
        poller = blocking.poller()
        before = [received(conn.qp) for conn in conns]
        most = 0
        while sum(before) < number * FPDUS:
            poller.progress()
            now = [received(conn.qp) for conn in conns]
            most = max(most, sum(now) - sum(before))
            before = now
        assert 0 < most <= SHARE
        for conn in conns:
            conn.abort()
