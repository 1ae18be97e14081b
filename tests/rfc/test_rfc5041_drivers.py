"""RFC 5041 §3 and §6 at the drivers: what a peer sees of TCP, and what the program hears of it."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

import pytest
import uvloop

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.drivers import asyncio_driver, polling_driver
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.drivers.poller import Poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.drivers.tcp import EMSS_REFRESH
from pyiwarp.errors import ConnectionLost
from pyiwarp.mpa import mulpdu_for
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import Send, Status
from tests.harness import Heard, Node, Segment, agreed, ended, fpdu, send, terminate, unframe, write

HOST = "127.0.0.1"
PATIENCE = 10.0
BIG = 600_000
BUFFER = 32_768
FLUSHED = Status.WR_FLUSH_ERR


class Driven:
    """A queue pair in Full Operation under a driver, and the bare socket of its peer, with small buffers between."""

    def __init__(self, kind: str, **node: Any) -> None:
        self.node = Node(**node)
        self.node.qp.connect(agreed())
        self.said = bytearray()  # by the queue pair, as far as it was read
        with socket.socket() as server:
            server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
            server.bind((HOST, 0))
            server.listen()
            near = socket.socket()
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            near.connect(server.getsockname())
            self.far, _ = server.accept()
        self.far.setblocking(False)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.driver: AsyncioDriver | PollingDriver
        if kind == "polling":
            self._poller = Poller(spin=0.0)
            self.driver = PollingDriver(self._poller, self.node.qp, near)
        else:
            near.setblocking(False)
            self._loop = uvloop.new_event_loop() if kind == "uvloop" else asyncio.new_event_loop()
            loop = self._loop
            making = loop.create_connection(lambda: AsyncioDriver(self.node.qp, loop), sock=near)
            _, self.driver = loop.run_until_complete(making)
        self.node.qp.on_output = self.driver.kick
        self.driver.kick()

    def turn(self) -> None:
        """Let the driver do what is to be done now."""
        if self._loop is None:
            self._poller.progress()
        else:
            self._loop.run_until_complete(asyncio.sleep(0))
        sleep(0.0005)

    def until(self, condition: Callable[[], object]) -> None:
        """Let the driver work until it holds."""
        deadline = monotonic() + PATIENCE
        while not condition():
            assert monotonic() < deadline, "it never came true"
            self.turn()

    @property
    def closed(self) -> bool:
        """Whether this side has let go of TCP."""
        return self.driver.closed if isinstance(self.driver, PollingDriver) else self.driver.closed.done()

    def sends(self, *segments: Segment, msn: int = 1) -> None:
        for segment in segments:
            self.far.sendall(fpdu(segment.octets(segment.msn or msn)))

    def hears_all(self) -> list[Heard]:
        """Every FPDU until the FIN; a reset raises."""
        while True:
            with suppress(BlockingIOError):
                octets = self.far.recv(1 << 20)
                if not octets:
                    return self._frames()
                self.said += octets
                continue
            self.until(self._readable)

    def _readable(self) -> bool:
        with suppress(BlockingIOError):
            self.far.recv(1, socket.MSG_PEEK)
            return True
        return False

    def _frames(self) -> list[Heard]:
        heard = []
        octets = memoryview(bytes(self.said))
        while octets:
            ulpdu, size = unframe(octets, 0, markers=False)
            heard.append(Heard(ulpdu))
            octets = octets[size:]
        return heard

    def resets(self) -> None:
        """End TCP from the far side without a FIN."""
        self.far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.far.close()

    def end(self) -> None:
        self.driver.abort()
        self.until(lambda: self.closed)
        self.far.close()
        self.node.context.close()
        if self._loop is not None:
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()


@pytest.fixture(params=["asyncio", "uvloop", "polling"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def driven(kind: str) -> Iterator[Driven]:
    rig = Driven(kind, linger=10 * PATIENCE)
    rig.node.receive(64, "recv")
    yield rig
    rig.end()


# --- what becomes of what was posted ---------------------------------------------------------------------------------


def test_a_send_is_complete_when_tcp_has_all_of_it(driven: Driven) -> None:  # MPA-5041-3-03, DDP-5041-6.2.2-01, -04
    big = driven.node.region(BIG)
    driven.node.post(Send((big[:],), "big"), Send((big[:],), "more"))
    for _ in range(20):
        driven.turn()
    assert driven.node.sent() == [], "nobody reads"
    driven.resets()
    driven.until(lambda: driven.closed)
    done = driven.node.sent() + driven.node.received()
    assert ended(done) == [("big", FLUSHED), ("more", FLUSHED), ("recv", FLUSHED)]
    assert {type(each.error) for each in done} == {ConnectionLost}


def test_everything_is_sent_before_a_graceful_end(driven: Driven) -> None:
    # MPA-5041-3-03, DDP-5041-6.2.1-01, MPA-5041-3-04: no octet is lost where the kernel takes only parts
    payload = bytes(n % 251 for n in range(BIG))
    big = driven.node.region(payload)
    driven.node.post(Send((big[:],), "big"))
    driven.node.send(b"last", "last")
    driven.node.qp.disconnect()
    heard = driven.hears_all()
    assert b"".join(each.payload for each in heard) == payload + b"last"
    assert [each.msn for each in heard if each.last] == [1, 2]
    assert ended(driven.node.sent()) == [("big", Status.SUCCESS), ("last", Status.SUCCESS)]
    assert not driven.closed, "the peer's half is still open"
    driven.far.close()
    driven.until(lambda: driven.closed)
    assert driven.node.qp.state is QpState.IDLE


def test_the_segment_size_is_looked_at_again(
    kind: str, driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:  # MPA-5041-3-01
    sizes = [9000]
    monkeypatch.setattr(polling_driver if kind == "polling" else asyncio_driver, "emss_of", lambda sock: sizes[0])
    for number in range(4 * EMSS_REFRESH):
        sizes[0] = 9000 if number < 2 * EMSS_REFRESH else 1448
        driven.node.send(b"x")
        driven.turn()
        if number == 2 * EMSS_REFRESH - 1:
            assert driven.node.qp.stream.mulpdu == mulpdu_for(9000, markers=False)
    assert driven.node.qp.stream.mulpdu == mulpdu_for(1448, markers=False)


# --- how it ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("sent", [True, False])
def test_tcp_ends_after_a_terminate(kind: str, sent: bool, silent: bool) -> None:  # MPA-5041-3-12, DDP-5041-6.2.2-06
    driven = Driven(kind, linger=0.2 if silent else 10 * PATIENCE)
    driven.sends(write(5, 0, b"x") if sent else terminate(errors.InvalidStag.term))
    assert [each.opcode for each in driven.hears_all()] == ([Opcode.TERMINATE] if sent else [])
    if not silent:
        driven.far.close()
    driven.until(lambda: driven.closed)
    assert driven.node.qp.state is QpState.ERROR
    driven.end()


def test_a_fin_is_told_and_answered_with_a_fin(driven: Driven) -> None:
    # MPA-5041-3-11, DDP-5041-6.2.1-05, DDP-5041-6.2.1-06: what was posted leaves first, and no reset follows
    told: list[QpState] = []
    driven.node.qp.on_ended = lambda: told.append(driven.node.qp.state)
    big = driven.node.region(BIG)
    driven.node.post(Send((big[:],), "big"))
    driven.sends(send(b"in"))
    driven.far.shutdown(socket.SHUT_WR)
    assert sum(len(each.payload) for each in driven.hears_all()) == BIG
    driven.until(lambda: driven.closed)
    assert told == [QpState.IDLE]
    assert driven.node.qp.error is None
    assert ended(driven.node.sent()) == [("big", Status.SUCCESS)]
    assert ended(driven.node.received()) == [("recv", Status.SUCCESS)]


def test_a_half_that_was_left_open_is_closed_in_order(kind: str) -> None:
    # DDP-5041-6.2.1-04, DDP-5041-6.2.1-05, DDP-5041-6.2.1-06: the program is told, goes on, and closes when it likes
    driven = Driven(kind, half_close=True, linger=10 * PATIENCE)
    told: list[str] = []
    driven.node.qp.on_half_closed = lambda: told.append("half closed")
    driven.node.receive(64, "recv")
    driven.far.shutdown(socket.SHUT_WR)
    driven.until(lambda: told)
    assert ended(driven.node.received()) == [("recv", FLUSHED)]
    driven.node.send(b"still", "still")
    driven.node.qp.disconnect()
    assert [each.payload for each in driven.hears_all()] == [b"still"]
    assert ended(driven.node.sent()) == [("still", Status.SUCCESS)]
    driven.until(lambda: driven.closed)
    assert driven.node.qp.state is QpState.IDLE
    driven.end()


def test_a_reset_is_a_loss(driven: Driven) -> None:  # DDP-5041-6.2.2-01, MPA-5041-3-11
    driven.turn()
    driven.resets()
    driven.until(lambda: driven.closed)
    assert driven.node.qp.state is QpState.ERROR
    assert type(driven.node.qp.error) is ConnectionLost
    assert ended(driven.node.received()) == [("recv", FLUSHED)]
