"""`pyiwarp.blocking` as programs use it: peers in threads and on asyncio, time limits, Ctrl-C, foreign threads."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import pyiwarp
from pyiwarp import Access, ConnectionLost, Disconnected, Options, Rejected, RemoteRegion, UsageError, blocking
from pyiwarp.capture import Capture
from pyiwarp.connections.blocking import _Outcome
from pyiwarp.devices import DEVICES, device_named
from pyiwarp.errors import BadWorkRequest, Closed, WrongThread
from pyiwarp.verbs import Completion, Context, Send
from tests.children import first_line, started
from tests.hosts import HOST
from tests.integration.loops import BOTH_WAYS
from tests.integration.polled import Peer, exchange_advertisement, nothing_left, pair, soon
from tests.interrupted import guarded, pythons_interrupts
from tests.patience import PATIENCE


def shout(listener_made: Callable[[int], None]) -> None:
    """A server of one peer, as a script would write it."""
    with blocking.listen(HOST) as listener:
        listener_made(listener.port)
        with listener.get_request(timeout=PATIENCE).accept(b"welcome") as conn:
            for message in conn:
                conn.send(message.upper())


@contextmanager
def served(program: Callable[[Callable[[int], None]], None]) -> Iterator[int]:
    """Runs a blocking server in a thread; gives its port."""
    ports: list[int] = []
    with nothing_left(), Peer(program, ports.append):
        soon(lambda: ports)
        yield ports[0]


def test_two_programs_in_two_threads() -> None:
    with served(shout) as port, blocking.connect(HOST, port, private_data=b"v1") as conn:
        assert conn.private_data == b"welcome"
        assert repr(conn) == f"<Connection with {HOST}:{port} ready to send>"
        for _ in range(50):
            conn.send(b"hello")
            assert conn.recv(timeout=PATIENCE) == b"HELLO"


@contextmanager
def on_asyncio(handler: Callable[[pyiwarp.Connection], object]) -> Iterator[int]:
    """An awaitable server on a loop of its own thread."""
    ports: list[int] = []
    stop: list[Callable[[], object]] = []

    async def main() -> None:
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with await pyiwarp.serve(handler, HOST) as server:  # type: ignore[arg-type]
            stop.append(lambda: loop.call_soon_threadsafe(ended.set))
            ports.append(server.port)
            await ended.wait()

    with nothing_left(), Peer(asyncio.run, main()):
        soon(lambda: ports)
        try:
            yield ports[0]
        finally:
            stop[0]()


def test_a_peer_on_asyncio() -> None:
    async def lend(conn: pyiwarp.Connection) -> None:
        async with conn.register(bytearray(100_000), BOTH_WAYS) as region:
            await conn.send(region.advertise())
            assert await conn.recv() == b"done"

    with on_asyncio(lend) as port, blocking.connect(HOST, port) as conn:
        remote = RemoteRegion.parse(conn.recv(timeout=PATIENCE))
        data = bytes(range(250)) * 400
        conn.write(data, remote, timeout=PATIENCE)
        with conn.register(bytearray(100_000)) as sink:
            conn.read(sink[:], remote, timeout=PATIENCE)
            assert bytes(sink.view) == data
        conn.send(b"done")


def test_a_rejection() -> None:
    def reject(listener_made: Callable[[int], None]) -> None:
        with blocking.listen(HOST) as listener:
            listener_made(listener.port)
            request = listener.get_request(timeout=PATIENCE)
            assert request.private_data == b"please"
            assert request.peername.startswith(HOST)
            request.reject(b"no")
            soon(lambda: request._request.driver.closed)  # the peer has read it and left

    with served(reject) as port, pytest.raises(Rejected) as caught:
        blocking.connect(HOST, port, private_data=b"please")
    assert caught.value.private_data == b"no"


def test_the_listener_gives_requests_one_after_the_other() -> None:
    def two(listener_made: Callable[[int], None]) -> None:
        with blocking.listen(HOST) as listener:
            listener_made(listener.port)
            seen = []
            for request in listener:
                with request.accept() as conn:
                    seen.append(conn.recv(timeout=PATIENCE))
                    conn.send(b"seen")
                if len(seen) == 2:
                    listener.close()
            assert seen == [b"0", b"1"]

    with served(two) as port:
        for number in range(2):
            with blocking.connect(HOST, port) as conn:
                conn.send(b"%d" % number)
                assert conn.recv(timeout=PATIENCE) == b"seen"


def test_an_old_peer_is_tried_with_revision_1() -> None:  # MPA2-6581-10-07
    def old(listener_made: Callable[[int], None]) -> None:
        with blocking.listen(HOST, options=Options(revision=1)) as listener:
            listener_made(listener.port)
            with listener.get_request(timeout=PATIENCE).accept() as conn:
                assert conn.recv(timeout=PATIENCE) == b"hello"

    with served(old) as port:
        with pytest.raises(ConnectionLost):
            blocking.connect(HOST, port)
        with blocking.connect(HOST, port, options=Options(fall_back=True)) as conn:
            assert conn.agreement.revision == 1
            conn.send(b"hello")


def test_a_capture_is_taken(tmp_path: Path) -> None:
    with Capture(tmp_path / "polled.pcapng") as capture, pair(Options(capture=capture)) as (one, other):
        one.send(b"x")
        assert other.recv(timeout=PATIENCE) == b"x"
    with Capture(tmp_path / "tapped.pcapng") as capture, served(shout) as port:
        with blocking.connect(HOST, port, options=Options(capture=capture)) as conn:
            conn.send(b"x")
            conn.recv(timeout=PATIENCE)
        assert capture.packets >= 8


# --- time limits -----------------------------------------------------------------------------------------------------


def test_a_time_limit_loses_no_message() -> None:
    with pair() as (one, other):
        with pytest.raises(TimeoutError, match="no message came"):
            other.recv(timeout=0.02)
        one.send(b"late")
        assert other.recv(timeout=PATIENCE) == b"late"


def test_a_time_limit_ends_the_wait_and_not_the_work() -> None:
    with pair() as (one, other):
        memory = bytearray(32 << 20)
        with other.register(memory, BOTH_WAYS) as target:
            remote = exchange_advertisement(target, other, one)
            data = bytearray(b"\1") * len(memory)
            with pytest.raises(TimeoutError, match="still under way"):
                one.write(data, remote, timeout=0)
            with pytest.raises(BufferError):
                data.append(1)  # the work still reads it
            one.send(b"written", timeout=PATIENCE)
            assert other.recv(timeout=PATIENCE) == b"written"
            assert memory == data
            data.append(1)


def test_a_region_waits_for_the_work_that_uses_it() -> None:
    with pair() as (one, other), other.register(bytearray(32 << 20), BOTH_WAYS) as target:
        remote = exchange_advertisement(target, other, one)
        region = one.register(bytes(32 << 20), Access(0))
        with pytest.raises(TimeoutError):
            one.write(region[:], remote, timeout=0)
        with pytest.raises(TimeoutError, match="work in flight"):
            region.drain(timeout=0)
        region.drain(timeout=PATIENCE)
        assert region.pins == 0
        one.send(b"written")
        assert other.recv(timeout=PATIENCE) == b"written"


def test_calls_that_cannot_be() -> None:
    with pair() as (one, other):
        with other.register(bytearray(8), BOTH_WAYS) as target:
            remote = exchange_advertisement(target, other, one)
            with pytest.raises(BadWorkRequest, match="9 octets do not fit"):
                one.write(b"123456789", remote)
            with pytest.raises(BadWorkRequest, match="8 octets, not 3"):
                one.write_with_immediate(b"", remote, b"123")
        with pytest.raises(UsageError, match="the queue holds"):
            blocking.wait(one._send_cq, 10_000)
    with blocking.listen(HOST) as listener:
        assert "Listener port" in repr(listener)
        with pytest.raises(TimeoutError, match="no peer asked"):
            listener.get_request(timeout=0)
    with pytest.raises(Closed):
        listener.get_request(timeout=0)
    listener.close()


def test_a_callback_must_not_wait() -> None:
    with pair() as (one, other):
        complaints: list[Exception] = []

        def wait_there(completion: Completion) -> None:
            other._on_received(completion)
            try:
                blocking.wait_until(lambda: False, 1.0)
            except UsageError as error:
                complaints.append(error)
            assert blocking.progress() == 0

        other._recv_cq.taker = wait_there
        one.send(b"x")
        soon(lambda: complaints)
        assert "callback" in str(complaints[0])
        assert other.recv() == b"x"


def test_an_interrupted_sleep_takes_little_of_a_core() -> None:
    before, clock = time.process_time(), time.monotonic()
    blocking.wait_until(lambda: False, 0.3)
    assert time.monotonic() - clock >= 0.3
    assert time.process_time() - before < 0.2


# --- threads ---------------------------------------------------------------------------------------------------------


def test_another_thread_is_told(recwarn: pytest.WarningsRecorder) -> None:
    """Whatever is called there raises `WrongThread`, and nothing has happened."""
    with pair() as (one, other), blocking.listen(HOST) as listener:
        calls: dict[str, Callable[[], object]] = {
            "send": lambda: one.send(b"x"),
            "recv": lambda: one.recv(timeout=0),
            "recv with a message": lambda: other.recv(timeout=0),
            "close": one.close,
            "abort": one.abort,
            "poll": one._send_cq.poll,
            "listen": listener.close,
            "get_request": lambda: listener.get_request(timeout=0),
            "post_send": lambda: one.qp.post_send(Send((), _Outcome(), b"x")),
        }
        one.send(b"here")
        soon(lambda: other._inbox)
        raised: dict[str, BaseException | None] = {}

        def call_all() -> None:
            for name, call in calls.items():
                try:
                    call()
                    raised[name] = None
                except BaseException as error:
                    raised[name] = error

        thread = threading.Thread(target=call_all, name="stranger")
        thread.start()
        thread.join(PATIENCE)
        assert raised.keys() == calls.keys()
        for name, error in raised.items():
            assert isinstance(error, WrongThread), (name, error)
            assert "stranger" in str(error)
        assert other.recv(timeout=PATIENCE) == b"here"


def test_each_thread_has_its_own_poller() -> None:
    pollers = {blocking.poller()}
    thread = threading.Thread(target=lambda: pollers.add(blocking.poller()))
    thread.start()
    thread.join(PATIENCE)
    assert len(pollers) == 2
    assert blocking.poller() in pollers


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


@contextmanager
def struck(after: float) -> Iterator[None]:
    """Ctrl-C comes `after` seconds from now."""
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(after, signal.pthread_kill, (main, signal.SIGINT))
    with pythons_interrupts(), guarded():
        try:
            timer.start()
            yield
        finally:
            timer.join(PATIENCE)


def test_ctrl_c_wakes_whoever_waits() -> None:
    with pair() as (one, other):
        with pytest.raises(KeyboardInterrupt), struck(0.05):
            other.recv(timeout=PATIENCE)
        one.send(b"still there")
        assert other.recv(timeout=PATIENCE) == b"still there"


@pytest.mark.parametrize("after", [0.002 * step for step in range(1, 12)])
def test_ctrl_c_at_any_moment_leaves_the_stream_whole(after: float) -> None:
    """Wherever it strikes, each message arrives once and in order, and the connection lives."""
    with pair() as (one, other):
        got: list[bytes] = []
        number = 0
        until = time.monotonic() + PATIENCE
        with suppress(KeyboardInterrupt), struck(after):
            while time.monotonic() < until:
                one.qp.post_send(Send((), _Outcome(), b"%d" % number))
                number += 1
                blocking.progress()
                while other._inbox:
                    got += [other._take_message().data]
        assert time.monotonic() < until, "it never struck"
        one.send(b"last", timeout=PATIENCE)
        while b"last" not in got:
            got.append(other.recv(timeout=PATIENCE))
        counted = [int(octets) for octets in got[:-1]]
        assert counted == sorted(set(counted))
        assert len(counted) >= number - 1, "the last was posted or not, and at most one was lost on its way to `got`"
        assert one.qp.alive


def test_ctrl_c_ends_a_program_in_time() -> None:
    program = """
import pyiwarp.blocking as blocking
with blocking.listen("127.0.0.1") as listener:
    print("waiting", flush=True)
    listener.get_request()
"""
    with started([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert first_line(process) == "waiting\n"
        time.sleep(0.05)  # most often it waits then; wherever it is, it ends
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0
    assert complaint.rstrip().endswith("KeyboardInterrupt")


def test_a_block_left_by_ctrl_c_does_not_wait() -> None:
    long = Options(linger=2 * PATIENCE)
    with pair(long, long) as (one, other):
        before = time.monotonic()
        with pytest.raises(KeyboardInterrupt), one, one.register(bytearray(10)):
            raise KeyboardInterrupt
        assert time.monotonic() - before < PATIENCE
        with pytest.raises((ConnectionLost, Disconnected)):
            other.recv(timeout=PATIENCE)


# --- devices ---------------------------------------------------------------------------------------------------------


def test_a_device_that_refuses_markers() -> None:
    def reject(listener_made: Callable[[int], None]) -> None:
        with blocking.listen(HOST, pd=device_named("siw").open().alloc_pd()) as listener:
            listener_made(listener.port)
            with listener.get_request(timeout=PATIENCE).accept() as conn:
                assert list(conn) == []

    with served(reject) as port:
        with pytest.raises(Rejected):
            blocking.connect(HOST, port, options=Options(markers=True))
        blocking.connect(HOST, port).close()


@pytest.mark.parametrize("name", DEVICES)
def test_devices_talk_to_each_other(name: str) -> None:
    """A connection of each device with an unconstrained peer, with all its defaults."""
    device = device_named(name)
    options = Options.of(device)
    pd = device.open().alloc_pd()
    assert (Options.of(DEVICES["pyiwarp0"])) == Options()

    def echo(listener_made: Callable[[int], None]) -> None:
        with blocking.listen(HOST) as listener:
            listener_made(listener.port)
            with listener.get_request(timeout=PATIENCE).accept() as conn:
                for message in conn:
                    conn.send(message)
                assert conn.agreement.send_markers is device.markers

    with served(echo) as port, blocking.connect(HOST, port, pd=pd) as conn:
        conn.send(b"x" * 100)
        assert conn.recv(timeout=PATIENCE) == b"x" * 100
        assert conn.options == options
        assert conn.agreement.revision == device.revision
        assert conn.agreement.ird <= device.max_ird
        assert conn.agreement.ord <= device.max_ord
        assert conn.qp.cap.max_inline <= device.max_inline
        assert conn.qp.cap.max_sge <= device.max_sge
    pd.close(force=True)


def test_a_device_that_nobody_knows() -> None:
    with pytest.raises(UsageError, match="pyiwarp0, siw, rnic-v1, minimal"):
        device_named("mlx5_0")


def test_connections_share_a_protection_domain() -> None:
    pd = Context().alloc_pd()
    with served(shout) as port, blocking.connect(HOST, port, pd=pd) as conn:
        assert conn.pd is pd
        conn.send(b"x")
        assert conn.recv(timeout=PATIENCE) == b"X"
    assert not pd.queue_pairs
    pd.close()
