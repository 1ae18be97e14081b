"""The polling driver alone: a TCP connection to a bare socket, and a pump that the test plays."""

from __future__ import annotations

import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest

from pyiwarp.drivers.poller import NEVER, Poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.drivers.tcp import EMSS_REFRESH, TURN_BATCHES
from pyiwarp.errors import UsageError, WrongThread
from pyiwarp.pump import HELD, NOT_NOW, STEADY_LOOK, TAKEN, TimeLimit
from tests.hosts import HOST, keep_little
from tests.interrupted import Retries, pythons_interrupts
from tests.patience import PATIENCE


class FakePump:
    """A pump that gives what it was told to."""

    steady = False
    behind = False
    wants_input = True
    output_ended = False
    over = False
    broken = False

    def __init__(self, *batches: list[bytes]) -> None:
        self.batches = list(batches)
        self.calls: list[str] = []
        self.emss: list[int] = []
        self.limit: TimeLimit | None = None
        self.on_received: Callable[[], bool] = lambda: False
        self.buffer = bytearray(1 << 16)
        self.got = b""

    def receive_view(self) -> memoryview:
        return memoryview(self.buffer)

    def received(self, nbytes: int) -> bool:
        self.got += self.buffer[:nbytes]
        return self.on_received()

    def next_iov(self) -> list[bytes]:
        return self.batches.pop(0) if self.batches else []

    def time_limit(self) -> TimeLimit | None:
        return self.limit

    def set_emss(self, emss: int) -> None:
        self.emss.append(emss)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.calls.append(name)


class FakeTap:
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, bytes]] = []

    def opened(self, local: object, peer: object) -> None:
        self.seen.append(("opened", b""))

    def sent(self, octets: Any) -> None:
        self.seen.append(("sent", b"".join(octets)))

    def received(self, octets: Any) -> None:
        self.seen.append(("received", bytes(octets)))

    def closed(self) -> None:
        self.seen.append(("closed", b""))


def arrived(sock: socket.socket) -> None:
    """Wait until there is something to be read from `sock`."""
    assert select.select([sock], [], [], PATIENCE)[0], "it never came"


@contextmanager
def driven(pump: FakePump, tap: FakeTap | None = None) -> Iterator[tuple[Poller, PollingDriver, socket.socket]]:
    """A driver of `pump`, and the bare socket at the other end."""
    with socket.create_server((HOST, 0)) as server:
        near = socket.create_connection(server.getsockname(), PATIENCE)
        far, _ = server.accept()
    poller = Poller(spin=0.0)
    driver = PollingDriver(poller, cast("Any", pump), near, cast("Any", tap))
    far.settimeout(PATIENCE)
    keep_little(near, far)
    try:
        yield poller, driver, far
    finally:
        driver.abort()
        far.close()


def test_a_batch_is_written_within_the_kick() -> None:
    pump = FakePump([b"one"], [b"two", memoryview(b"three")])  # type: ignore[list-item]
    with driven(pump) as (_, driver, far):
        driver.kick()
        assert far.recv(100) == b"onetwothree"
        assert pump.calls.count("flushed") == 2
        assert "127.0.0.1" in repr(driver)


@pytest.mark.parametrize(("posts", "said"), [(False, b""), (True, b"one")])
def test_octets_that_leave_a_steady_pump_as_it_was_need_no_look(posts: bool, said: bytes) -> None:
    pump = FakePump()
    pump.steady = True
    with driven(pump) as (poller, driver, far):
        driver.kick()

        def on_received() -> bool:
            pump.batches = [[b"one"]]
            if posts:  # a callback of a completion does
                driver.kick()
            return True

        pump.on_received = on_received
        far.send(b"octets")
        arrived(driver._socket)
        assert poller.progress() == 1
        assert pump.got == b"octets"
        assert pump.batches == ([] if posts else [[b"one"]])
        pump.batches.clear()
        far.setblocking(False)
        assert (far.recv(10) if posts else b"") == said
        pump.steady = False  # a pump that is not steady is looked at whatever it says
        driver.kick()
        far.setblocking(True)
        far.send(b"octets")
        arrived(driver._socket)
        poller.progress()
        assert pump.batches == []


def test_what_the_kernel_does_not_take_is_kept_as_views() -> None:
    big = bytes(range(256)) * 40_000
    pump = FakePump([b"head", big, b"tail"], [b"next"])
    with driven(pump) as (poller, driver, far):
        driver.kick()
        assert "flushed" not in pump.calls, "the kernel cannot hold ten million octets"
        driver.kick()
        assert pump.batches == [[b"next"]], "nothing more is asked for meanwhile"
        assert pump.calls.count("resume") == 2, "what waits inside the pump goes on all the same"
        got = b""
        whole = b"head" + big + b"tailnext"
        while len(got) < len(whole):
            poller.progress()
            got += far.recv(1 << 20)
        assert got == whole
        assert pump.calls.count("flushed") == 2


def test_more_pieces_than_one_gather_write_takes() -> None:
    pieces = [b"%04d" % number for number in range(3000)]
    pump = FakePump(pieces)
    with driven(pump) as (poller, driver, far):
        driver.kick()
        got = b""
        while len(got) < 12_000:
            poller.progress()
            got += far.recv(1 << 16)
        assert got == b"".join(pieces)
        assert pump.calls.count("flushed") == 1


def test_other_connections_have_their_turn() -> None:
    pump = FakePump(*[[bytes([number])] for number in range(TURN_BATCHES + 2)])
    with driven(pump) as (poller, driver, _):
        driver.kick()
        assert len(pump.batches) == 2
        assert poller.progress() == 1, "the rest goes out with the next look"
        assert pump.batches == []
        assert poller.progress() == 0


def test_the_segment_size_is_read_again_and_again() -> None:  # MPA-5044-4.5-06
    pump = FakePump()
    with driven(pump) as (_, driver, _):
        for _ in range(EMSS_REFRESH + 1):
            pump.batches.append([b"x"])
            driver.kick()
        maxseg = driver._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        assert len(pump.emss) == 2
        assert pump.emss[-1] == maxseg
        read = len(pump.emss)
        driver.exchange(cast("Any", FakePump([b"y"])))
        assert len(pump.emss) == read
        assert cast("Any", driver.pump).emss == [maxseg], "Full Operation begins with the present size"


def test_reading_pauses_and_goes_on() -> None:
    pump = FakePump()
    with driven(pump) as (poller, driver, far):
        pump.wants_input = False
        driver.kick()
        far.send(b"wait")
        arrived(driver._socket)
        assert poller.progress() == 0
        pump.wants_input = True
        driver.kick()
        assert poller.progress() == 1
        assert pump.got == b"wait"


def test_the_half_is_closed_once_and_the_connection_once() -> None:  # MPA-5044-7.2-01
    pump = FakePump([b"last"])
    with driven(pump) as (poller, driver, far):
        pump.output_ended = True
        driver.kick()
        assert far.recv(10) == b"last"
        assert far.recv(10) == b""
        far.send(b"answer")
        poller.wait(lambda: pump.got, PATIENCE)
        assert pump.got == b"answer", "this half is still read"
        far.shutdown(socket.SHUT_WR)
        poller.wait(lambda: "received_eof" in pump.calls, PATIENCE)
        assert poller.progress() == 0, "what has ended is not looked at again"
        pump.over = True
        ended: list[bool] = []
        driver.on_closed = lambda: ended.append(True)
        driver.kick()
        driver.kick()
        assert (driver.closed, ended, pump.calls.count("lost")) == (True, [True], 1)


def test_output_after_the_fin_ends_all() -> None:
    pump = FakePump()
    with driven(pump) as (_, driver, far):
        pump.output_ended = True
        driver.kick()
        pump.batches.append([b"too late"])
        driver.kick()
        assert driver.closed
        assert far.recv(10) == b""


def test_no_fin_cuts_what_is_still_to_be_written() -> None:  # MPA-5044-7.2-01
    big = bytes(8 << 20)
    pump = FakePump([big])
    with driven(pump) as (poller, driver, far):
        pump.output_ended = True
        driver.kick()
        assert not driver._sent_fin
        got = 0
        while piece := far.recv(1 << 20):
            got += len(piece)
            poller.progress()
        assert got == len(big)


def test_whoever_is_done_does_not_wait_for_a_stuck_peer() -> None:
    pump = FakePump([bytes(8 << 20)])
    with driven(pump) as (_, driver, _):
        driver.kick()
        pump.over = True
        driver.kick()
        assert driver.closed


def test_an_abort_is_a_reset() -> None:
    pump = FakePump()
    with driven(pump) as (_, driver, far):
        driver.kick()
        driver.abort()
        driver.abort()
        driver.kick()
        assert pump.calls.count("lost") == 1
        with pytest.raises(ConnectionResetError):
            far.recv(1)


def test_an_abort_in_a_forked_child_does_nothing() -> None:
    pump, tap = FakePump(), FakeTap()
    with driven(pump, tap) as (poller, driver, far):
        poller.left_behind = True
        driver.abort()
        assert not driver.closed
        assert "lost" not in pump.calls
        assert ("closed", b"") not in tap.seen
        poller.left_behind = False
        far.sendall(b"x")
        arrived(driver._socket)


def test_a_reset_is_a_loss() -> None:
    pump = FakePump()
    with driven(pump) as (poller, driver, far):
        driver.kick()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        poller.wait(lambda: driver.closed, PATIENCE)
        assert pump.calls[-1] == "lost"


def test_what_came_before_a_reset_is_read_when_writing_fails() -> None:
    pump = FakePump()
    with driven(pump) as (_, driver, far):
        driver.kick()
        far.send(b"why")
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        far.close()
        pump.batches.append([b"x"])
        driver.kick()
        assert pump.got == b"why"
        assert driver.closed


def test_time_limits() -> None:
    pump = FakePump()
    pump.limit = TimeLimit("a reply", 2 * PATIENCE)
    with driven(pump) as (poller, driver, _):
        driver.kick()
        first = driver.deadline
        driver.kick()
        assert driver.deadline == first, "the same wait goes on"
        pump.limit = TimeLimit("a reply", 2 * PATIENCE, progress=1)
        time.sleep(0.001)
        driver.kick()
        assert driver.deadline > first, "progress begins another"
        poller.progress()
        assert "timed_out" not in pump.calls
        pump.limit = TimeLimit("a reply", 0.02, progress=2)
        driver.kick()
        assert poller.wait(lambda: "timed_out" in pump.calls, PATIENCE)
        pump.limit = None
        driver.kick()
        assert poller._next_deadline <= time.monotonic() + STEADY_LOOK.seconds, "it looks again now and then"
        pump.limit = TimeLimit("another", 0.0)
        driver.kick()
        driver.abort()
        before_calls = pump.calls.count("timed_out")
        poller.progress()
        assert pump.calls.count("timed_out") == before_calls


def test_a_steady_pump_is_asked_nothing_else() -> None:
    pump = FakePump()
    with driven(pump) as (poller, driver, far):
        pump.limit = TimeLimit("a reply", PATIENCE)
        driver.kick()
        assert driver.deadline != NEVER
        pump.steady = True
        driver.kick()
        assert driver.deadline > time.monotonic() + STEADY_LOOK.seconds
        pump.calls.clear()
        far.send(b"x")
        poller.wait(lambda: pump.got, PATIENCE)
        assert pump.calls == []
        pump.steady = False
        driver.kick()
        assert driver.deadline != NEVER


def test_a_tap_sees_all() -> None:
    tap = FakeTap()
    pump = FakePump([b"a", b"b"])
    with driven(pump, tap) as (poller, driver, far):
        driver.kick()
        far.send(b"c")
        poller.wait(lambda: pump.got, PATIENCE)
    assert tap.seen == [("opened", b""), ("sent", b"ab"), ("received", b"c"), ("closed", b"")]


def test_a_callback_that_kicks_and_polls() -> None:
    """What a pump's owner does in a callback is done before the driver is."""
    pump = FakePump([b"first"])
    with driven(pump) as (poller, driver, far):
        order: list[str] = []

        def flushed() -> None:
            if not order:
                order.append("flushed")
                pump.batches.append([b"second"])
                driver.kick()
                assert poller.progress() == 0
                with pytest.raises(UsageError, match="must not wait"):
                    poller.wait(lambda: False, 1)
                order.append("kicked")

        pump.flushed = flushed  # type: ignore[attr-defined]
        driver.kick()
        assert far.recv(100) == b"firstsecond"
        assert order == ["flushed", "kicked"]


def test_a_peer_that_is_gone_before_it_begins() -> None:
    with socket.create_server((HOST, 0)) as server:
        far = socket.create_connection(server.getsockname(), PATIENCE)
        near, _ = server.accept()
    far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    far.close()
    arrived(near)
    pump, tap = FakePump(), FakeTap()
    poller = Poller()
    driver = PollingDriver(poller, cast("Any", pump), near, cast("Any", tap))
    assert driver.peername == "?"
    driver.kick()
    poller.wait(lambda: driver.closed, PATIENCE)
    assert pump.calls[-1] == "lost"
    assert [what for what, _ in tap.seen] == ["closed"]


def test_the_poller_belongs_to_its_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    pump = FakePump([b"x"])
    with driven(pump) as (poller, driver, _):
        monkeypatch.setattr(poller, "ident", 0)
        for call in (poller.progress, driver.kick, lambda: poller.wait(lambda: True)):
            with pytest.raises(WrongThread, match="belongs to thread 0"):
                call()
        assert pump.batches
        assert "1 sockets" in repr(poller)
        monkeypatch.undo()


def test_an_interrupt_within_a_post_waits_until_the_pump_knows_what_the_kernel_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where the driver is compiled, and has no frames of its own to be found by."""
    pump = FakePump()
    Retries(monkeypatch)
    with pythons_interrupts(), driven(pump) as (poller, driver, far):
        send = driver._send

        def struck(octets: bytes) -> int:
            signal.raise_signal(signal.SIGINT)
            return send(octets)

        cast("Any", driver)._send = cast("Any", struck)
        pump.batches = [[b"one"]]
        driver.kick()
        assert pump.calls.count("flushed") == 1
        assert far.recv(9) == b"one"
        with pytest.raises(KeyboardInterrupt):
            poller.progress()


# --- small messages past the batches ---------------------------------------------------------------------------------


@contextmanager
def steady(pump: FakePump, tap: FakeTap | None = None) -> Iterator[tuple[Poller, PollingDriver, socket.socket]]:
    """A driver that only moves octets."""
    pump.steady = True
    with driven(pump, tap) as (poller, driver, far):
        driver.kick()
        pump.calls.clear()
        yield poller, driver, far


def test_a_small_message_is_the_kernels_at_once() -> None:
    pump = FakePump()
    with steady(pump) as (_, driver, far):
        assert driver.write_small(b"small") == TAKEN
        assert far.recv(10) == b"small"
        assert "flushed" not in pump.calls, "the pump knows it by what was returned"


def test_small_messages_let_the_segment_size_be_read_as_batches_do() -> None:  # MPA-5044-4.5-06
    pump = FakePump()
    with steady(pump) as (_, driver, _):
        taken = [driver.write_small(b"x") for _ in range(EMSS_REFRESH + 2)]
        assert set(taken[:EMSS_REFRESH]) == {TAKEN}
        assert set(taken[EMSS_REFRESH:]) == {NOT_NOW}
        pump.batches.append([b"y"])
        driver.kick()
        assert len(pump.emss) == 2
        assert driver.write_small(b"x") == TAKEN


def test_a_small_message_does_not_overtake_what_the_kernel_has_not_taken() -> None:
    pump = FakePump([bytes(1 << 24)])
    with steady(pump) as (_, driver, _):
        assert driver.write_small(b"small") == NOT_NOW


def test_of_a_small_message_that_the_kernel_takes_in_part_the_rest_is_held() -> None:
    pump = FakePump()
    with steady(pump) as (poller, driver, far):
        send = driver._send
        cast("Any", driver)._send = lambda octets: send(octets[:3])
        assert driver.write_small(b"small") == HELD
        cast("Any", driver)._send = send
        assert driver.write_small(b"next") == NOT_NOW
        assert "flushed" not in pump.calls
        poller.progress()
        assert pump.calls.count("flushed") == 1
        assert far.recv(10) == b"small"


def test_a_full_kernel_takes_no_small_message() -> None:
    with steady(FakePump()) as (_, driver, _):
        cast("Any", driver)._send = _raising(BlockingIOError())
        assert driver.write_small(b"small") == NOT_NOW
        assert not driver.closed


def test_a_small_message_that_fails_is_written_again_and_ends_the_connection_with_the_first_error() -> None:
    pump = FakePump()
    lost: list[Exception | None] = []
    cast("Any", pump).lost = lost.append
    with steady(pump) as (_, driver, _):
        first = ConnectionResetError("the first")
        cast("Any", driver)._send = _raising(first)
        assert driver.write_small(b"small") == NOT_NOW
        assert not driver.closed, "nobody has been told yet"
        pump.batches.append([b"small"])
        driver.kick()
        assert driver.closed
        assert lost == [first]


def _raising(error: Exception) -> Callable[[object], int]:
    def send(octets: object) -> int:
        raise error

    return send


def test_who_looks_at_the_octets_sees_small_messages_as_batches() -> None:
    tap = FakeTap()
    with steady(FakePump(), tap) as (_, driver, _):
        assert driver.write_small(b"small") == NOT_NOW


def test_another_thread_writes_nothing_small() -> None:
    with steady(FakePump()) as (_, driver, _):
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(driver.write_small(b"small")))
        thread.start()
        thread.join(PATIENCE)
        assert seen == [NOT_NOW]


def test_startup_and_the_end_write_nothing_small() -> None:
    with driven(FakePump()) as (_, driver, _):
        driver.kick()
        assert driver.write_small(b"small") == NOT_NOW, "the pump is not steady"
    assert driver.write_small(b"small") == NOT_NOW, "TCP has ended"
