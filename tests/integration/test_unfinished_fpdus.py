"""A peer that sends half an FPDU is ended by each driver, also in the middle of a stream that flows."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

import pytest

import pyiwarp
from pyiwarp import blocking
from pyiwarp.connections.options import Options
from pyiwarp.errors import FpduTimeout
from pyiwarp.pump import TimeLimit
from tests.harness import fpdu, write
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.polled import nothing_left
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST: Final = b"MPA ID Req Frame\x50\x01\0\0"
EMPTY: Final = fpdu(write(1, 0).octets(0))
OPTIONS: Final = Options(fpdu_timeout=0.05)


@pytest.fixture(autouse=True)
def frequent_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for driver in ("asyncio_driver", "polling_driver"):
        monkeypatch.setattr(f"pyiwarp.drivers.{driver}.STEADY_LOOK", TimeLimit("a look", 0.05))


def test_half_an_fpdu_on_a_loop(run: Runner) -> None:
    async def main() -> None:
        served: asyncio.Future[pyiwarp.Connection] = asyncio.get_running_loop().create_future()

        async def handler(conn: pyiwarp.Connection) -> None:
            served.set_result(conn)
            await conn.recv()

        async with await pyiwarp.serve(handler, HOST, options=OPTIONS) as server:
            with socket.create_connection((HOST, server.port), PATIENCE) as peer:
                peer.sendall(REQUEST)
                assert len(await asyncio.to_thread(peer.recv, 20)) == 20
                peer.sendall(EMPTY)
                conn = await served
                await asyncio.sleep(0.2)  # several limits long: between two FPDUs nothing is owed
                assert conn.qp.error is None
                assert conn.qp.steady
                peer.sendall(EMPTY[:9])
                with pytest.raises(ConnectionResetError):
                    await asyncio.to_thread(peer.recv, 1)
            assert isinstance(conn.qp.error, FpduTimeout)

    run(main)


def test_half_an_fpdu_on_a_polled_socket() -> None:
    with nothing_left(), blocking.listen(HOST, options=OPTIONS) as listener, socket.socket() as peer:
        peer.settimeout(PATIENCE)
        peer.connect((HOST, listener.port))
        peer.sendall(REQUEST)
        with listener.get_request(timeout=PATIENCE).accept() as conn:
            peer.sendall(EMPTY)
            assert conn.poller.wait(lambda: conn.qp.steady, PATIENCE)
            assert not conn.poller.wait(lambda: conn.qp.error, 0.2)
            peer.sendall(EMPTY[:9])
            with pytest.raises(FpduTimeout):
                conn.recv(timeout=PATIENCE)
