"""The asyncio driver alone: a transport and a pump that the test plays, with the loop's time in its hands."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, cast

import pytest

from pyiwarp.drivers.asyncio_driver import _WRITELINES_NEVER_PAUSES as WRITELINES_NEVER_PAUSES
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.drivers.tcp import EMSS_REFRESH, TURN_BATCHES
from pyiwarp.errors import WrongProcess
from pyiwarp.pump import HELD, NOT_NOW, TAKEN, TimeLimit
from tests.integration.loops import soon
from tests.patience import PATIENCE


class FakeSocket:
    """A socket whose segment size is asked for."""

    def __init__(self) -> None:
        self.asked = 0

    def fileno(self) -> int:
        return 7

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        self.asked += 1
        return 1000 + self.asked


class FakeTransport:
    """What a loop's transport does for its protocol; `takes` is how much the kernel still takes."""

    def __init__(self, takes: int = 1 << 30) -> None:
        self.takes = takes
        self.held = 0
        self.calls: list[str] = []
        self.written: list[bytes] = []
        self.socket: FakeSocket | None = None

    def get_extra_info(self, name: str) -> Any:
        return self.socket if name == "socket" else ("::1", 4420, 0, 0)

    def set_write_buffer_limits(self, high: int) -> None:
        assert high == 0

    def get_write_buffer_size(self) -> int:
        return self.held

    def write(self, octets: bytes) -> None:
        self.writelines([octets])

    def writelines(self, iov: list[bytes]) -> None:
        self.written += iov
        self.held += sum(map(len, iov))
        taken = min(self.held, self.takes)
        self.held, self.takes = self.held - taken, self.takes - taken

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def __getattr__(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)


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
        self.limit: TimeLimit | None = None

    def received(self, nbytes: int) -> bool:
        self.calls.append("received")
        return False

    def next_iov(self) -> list[bytes]:
        return self.batches.pop(0) if self.batches else []

    def time_limit(self) -> TimeLimit | None:
        return self.limit

    def set_emss(self, emss: int) -> None:
        raise AssertionError("there is no socket to ask")

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.calls.append(name)


def driven(pump: FakePump, takes: int = 1 << 30) -> tuple[AsyncioDriver, FakeTransport]:
    driver = AsyncioDriver(cast("Any", pump), asyncio.get_running_loop())
    transport = FakeTransport(takes)
    driver.connection_made(cast("Any", transport))
    return driver, transport


@pytest.mark.parametrize(("steady", "posts"), [(True, False), (True, True), (False, False)])
async def test_octets_that_leave_a_steady_pump_as_it_was_need_no_look(
    monkeypatch: pytest.MonkeyPatch, steady: bool, posts: bool
) -> None:
    pump = FakePump()
    pump.steady = steady
    driver, transport = driven(pump)

    def received(nbytes: int) -> bool:
        pump.batches = [[b"one"]]
        if posts:  # a callback of a completion does
            driver.kick()
        return True

    monkeypatch.setattr(pump, "received", received)
    driver.buffer_updated(6)
    assert transport.written == ([] if steady and not posts else [b"one"])


async def test_the_segment_size_is_read_again_and_again() -> None:  # MPA-5044-4.5-06
    pump = FakePump()
    driver, transport = driven(pump)
    transport.socket = FakeSocket()
    driver._socket = cast("Any", transport.socket)
    told: list[int] = []
    cast("Any", pump).set_emss = told.append
    for _ in range(2 * EMSS_REFRESH + 1):
        pump.batches.append([b"x"])
        driver._on_kick()
    assert told == list(range(1001, 1001 + len(told)))
    assert len(told) in (2, 3), "once for so many writes"


async def turn() -> None:
    await asyncio.sleep(0)


async def test_a_batch_is_flushed_when_the_kernel_has_it() -> None:
    pump = FakePump([b"one"], [b"two", b"three"])
    _, transport = driven(pump)
    assert transport.written == [b"one", *([b"twothree"] if WRITELINES_NEVER_PAUSES else [b"two", b"three"])]
    assert pump.calls.count("flushed") == 2


def test_it_is_known_whose_writelines_never_pauses() -> None:
    """The stock loop of this Python is asked itself, with more than the kernel takes."""

    class Paused(asyncio.Protocol):
        paused = False

        def pause_writing(self) -> None:
            self.paused = True

    async def asked() -> bool:
        here, there = socket.socketpair()
        with there:
            transport, protocol = await asyncio.get_running_loop().create_connection(Paused, sock=here)
            transport.writelines([bytes(1 << 20)] * 64)
            assert transport.get_write_buffer_size(), "the kernel has not taken all"
            transport.abort()
            await turn()
            return not protocol.paused

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        assert runner.run(asked()) is WRITELINES_NEVER_PAUSES


async def test_nothing_more_is_asked_of_the_pump_while_octets_stay_behind() -> None:
    pump = FakePump([b"12345"], [b"next"])
    driver, transport = driven(pump, takes=3)
    driver.pause_writing()
    driver.kick()
    await turn()
    assert transport.written == [b"12345"]
    assert "flushed" not in pump.calls
    assert pump.calls.count("resume") == 2, "what waits inside the pump goes on all the same"
    transport.held, transport.takes = 0, 100
    driver.resume_writing()
    assert transport.written == [b"12345", b"next"]
    assert pump.calls.count("flushed") == 2


async def test_other_connections_have_their_turn() -> None:
    pump = FakePump(*[[bytes([n])] for n in range(TURN_BATCHES + 2)])
    _, transport = driven(pump)
    assert len(transport.written) == TURN_BATCHES
    await turn()
    assert len(transport.written) == TURN_BATCHES + 2


async def test_reading_pauses_and_goes_on() -> None:
    pump = FakePump()
    driver, transport = driven(pump)
    pump.wants_input = False
    driver.kick()
    driver.kick()
    await turn()
    assert transport.calls == ["pause_reading"]
    pump.wants_input = True
    driver.buffer_updated(1)
    assert transport.calls == ["pause_reading", "resume_reading"]


async def test_the_half_is_closed_once_and_the_connection_once() -> None:
    pump = FakePump()
    driver, transport = driven(pump)
    pump.output_ended = True
    for _ in range(2):
        driver.kick()
        await turn()
    assert transport.calls == ["write_eof"]
    pump.over = True
    assert driver.eof_received() is True
    driver.kick()
    await turn()
    assert transport.calls == ["write_eof", "close"]


async def test_nothing_ends_inside_resume_writing() -> None:
    """The stock loop looks at its transport after that call, and would tell of the end twice."""
    for ending in ("output_ended", "over"):
        pump = FakePump([b"12345"])
        driver, transport = driven(pump, takes=3)
        setattr(pump, ending, True)
        transport.held = 0
        driver.resume_writing()
        assert transport.calls == []
        await turn()
        assert transport.calls == ["write_eof" if ending == "output_ended" else "close"]
        pump = FakePump([b"12345"])
        driver, transport = driven(pump, takes=3)
        transport.held = 0
        pump.flushed = driver.abort  # type: ignore[attr-defined]
        driver.resume_writing()
        assert transport.calls == []
        await turn()
        assert transport.calls == ["abort"]


async def test_whoever_is_done_does_not_wait_for_a_stuck_transport() -> None:
    pump = FakePump([b"12345"])
    driver, transport = driven(pump, takes=3)
    pump.over = True
    driver.kick()
    await turn()
    assert transport.calls == ["abort"]


async def test_an_abort_before_tcp_is_there() -> None:
    driver = AsyncioDriver(cast("Any", FakePump([b"never"])), asyncio.get_running_loop())
    driver.abort()
    driver.kick()
    transport = FakeTransport()
    driver.connection_made(cast("Any", transport))
    assert (transport.calls, transport.written) == (["abort"], [])


async def test_time_limits() -> None:
    pump = FakePump()
    pump.limit = TimeLimit("a reply", PATIENCE)
    driver, _ = driven(pump)
    first = driver._timer
    driver.kick()
    await turn()
    assert driver._timer is first, "the same wait goes on"
    pump.limit = TimeLimit("a reply", PATIENCE, progress=1)
    driver.kick()
    await turn()
    assert driver._timer is not first, "progress begins another"
    pump.limit = TimeLimit("a reply", 0.01, progress=2)
    driver.kick()
    await soon(lambda: "timed_out" in pump.calls)
    driver.connection_lost(None)
    assert pump.calls[-1] == "lost"
    assert driver.closed.done()
    before = pump.calls.count("timed_out")
    await asyncio.sleep(0.02)
    assert pump.calls.count("timed_out") == before


async def test_addresses() -> None:
    driver, _ = driven(FakePump())
    assert (driver.peername, driver.sockname) == ("[::1]:4420", "[::1]:4420")
    driver.connection_lost(None)
    assert (driver.peername, driver.sockname) == ("[::1]:4420", "[::1]:4420")  # messages of its end name it


@pytest.mark.parametrize("never_pauses", [False, True])
async def test_loops_whose_writelines_never_pauses(monkeypatch: pytest.MonkeyPatch, never_pauses: bool) -> None:  # D4
    monkeypatch.setattr("pyiwarp.drivers.asyncio_driver._WRITELINES_NEVER_PAUSES", never_pauses)
    _, transport = driven(FakePump([b"a", b"b"]))
    assert transport.written == ([b"ab"] if never_pauses else [b"a", b"b"])


async def test_a_kick_writes_at_once_and_tells_the_pump() -> None:
    """Whoever posts work waits for no turn of the loop; what comes behind it is written together."""
    pump = FakePump()
    driver, transport = driven(pump)
    pump.batches = [[b"one"]]
    driver.kick()
    assert (transport.written, pump.calls.count("flushed")) == ([b"one"], 1)
    pump.batches = [[b"two"]] * (TURN_BATCHES + 1)
    driver.kick()
    assert transport.written == [b"one"], "a burst goes together, in the next turn"
    await turn()
    assert pump.calls.count("flushed") == 1 + TURN_BATCHES
    await turn()
    assert pump.calls.count("flushed") == 2 + TURN_BATCHES


async def test_what_is_posted_by_whom_the_pump_calls_waits_for_its_return() -> None:
    pump = FakePump()
    driver, transport = driven(pump)
    written: list[int] = []

    def flushed() -> None:
        if not written:
            pump.batches = [[b"two"]]
            driver.kick()
        written.append(len(transport.written))

    pump.flushed = flushed  # type: ignore[attr-defined]
    pump.batches = [[b"one"]]
    driver.kick()
    assert written == [1, 2]


async def test_a_steady_pump_is_asked_for_octets_alone() -> None:
    pump = FakePump()
    driver, transport = driven(pump)
    pump.steady = True
    driver.kick()
    pump.wants_input = False  # it would have to say so by being steady no more
    pump.calls.clear()
    driver.kick()
    driver.buffer_updated(1)
    assert (pump.calls, transport.calls) == (["received"], [])
    pump.steady = False
    driver.kick()
    assert transport.calls == ["pause_reading"]


async def test_a_kick_while_the_kernel_takes_nothing_more() -> None:
    pump = FakePump()
    driver, transport = driven(pump, takes=2)
    pump.batches = [[b"one"]]
    driver.kick()
    driver.pause_writing()
    await turn()
    assert pump.calls.count("flushed") == 0
    transport.held = 0
    driver.resume_writing()
    assert pump.calls.count("flushed") == 1


async def test_work_posted_while_octets_are_digested_is_written_behind_them(monkeypatch: pytest.MonkeyPatch) -> None:
    pump = FakePump()
    driver, transport = driven(pump)

    def received(nbytes: int) -> bool:
        pump.batches = [[b"one"]]
        driver.kick()
        assert transport.written == []
        return False

    monkeypatch.setattr(pump, "received", received)
    driver.buffer_updated(1)
    assert transport.written == [b"one"]


# --- small messages past the batches ---------------------------------------------------------------------------------


def steady(takes: int = 1 << 30) -> tuple[FakePump, AsyncioDriver, FakeTransport]:
    """A driver that only moves octets, and whose loop has had news since it last wrote."""
    pump = FakePump()
    pump.steady = True
    driver, transport = driven(pump, takes)
    driver._socket = None
    driver.kick()
    pump.calls.clear()
    return pump, driver, transport


async def test_a_small_message_is_written_at_once() -> None:
    pump, driver, transport = steady()
    assert driver.write_small(b"small") == TAKEN
    assert transport.written == [b"small"]
    assert pump.calls == []


async def test_a_burst_of_small_messages_goes_together_in_the_next_turn() -> None:
    pump, driver, transport = steady()
    assert driver.write_small(b"small") == TAKEN
    assert driver.write_small(b"next") == NOT_NOW
    pump.batches.append([b"next"])
    driver.kick()
    assert transport.written == [b"small"]
    await turn()
    assert transport.written == [b"small", b"next"]
    assert driver.write_small(b"third") == NOT_NOW
    driver.buffer_updated(0)
    assert driver.write_small(b"third") == TAKEN, "the loop has had news"


async def test_of_a_small_message_that_the_kernel_takes_in_part_the_rest_is_held() -> None:
    pump, driver, _ = steady(takes=3)
    assert driver.write_small(b"small") == HELD
    driver.buffer_updated(0)
    assert driver.write_small(b"next") == NOT_NOW
    driver.resume_writing()
    assert pump.calls.count("flushed") == 1


async def test_nothing_small_is_written_before_the_beginning_and_at_the_end() -> None:
    pump = FakePump()
    driver, transport = driven(pump)
    assert driver.write_small(b"small") == NOT_NOW, "the pump is not steady"
    pump, driver, transport = steady()
    transport.calls.append("close")
    assert driver.write_small(b"small") == NOT_NOW
    driver.connection_lost(None)
    assert driver.write_small(b"small") == NOT_NOW


class Witness:
    """Who looks at the octets of a connection."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []

    def opened(self, local: object, peer: object) -> None:
        """TCP is there."""

    def sent(self, iov: list[bytes]) -> None:
        self.seen.append(b"".join(iov))

    def closed(self) -> None:
        self.seen.append(b"the end")


async def test_who_looks_at_the_octets_sees_small_messages_as_batches_and_the_end() -> None:
    pump, driver, transport = steady()
    driver._tap = witness = cast("Any", Witness())
    assert driver.write_small(b"small") == NOT_NOW
    reading, driver._fd = os.pipe()
    assert driver.write_pieces([b"large", b"r"]) == NOT_NOW
    os.close(driver._fd)
    assert os.read(reading, 1) == b""
    os.close(reading)
    pump.batches.append([b"small"])
    driver.kick()
    assert transport.written == witness.seen == [b"small"]
    driver.connection_lost(None)
    assert witness.seen[1:] == [b"the end"]


async def test_in_a_forked_child_nothing_is_written_and_the_program_is_told() -> None:
    pump, driver, transport = steady()
    driver.leave_behind()
    with pytest.raises(WrongProcess):
        driver.kick()
    assert driver.write_small(b"small") == NOT_NOW
    pump.output_ended = True
    driver.kick()  # the queue pair is being given up
    driver.abort()
    assert (transport.written, transport.calls) == ([], [])
