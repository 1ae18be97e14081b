"""One poller for many threads: they hold it in turns, and sleep without holding it."""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from pyiwarp import Access, blocking
from pyiwarp.blocking import SharedPoller
from pyiwarp.drivers import interrupts, shared_poller
from pyiwarp.drivers.descriptors import GATHERS
from pyiwarp.drivers.poller import NEVER, milliseconds
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.errors import UsageError, WrongProcess, WrongThread
from pyiwarp.verbs import Context, Device, ProtectionDomain, QpState, QueuePair, Recv, Send
from tests.children import status_of
from tests.hosts import HOST
from tests.integration.loops import open_sockets
from tests.interrupted import guarded, pythons_interrupts
from tests.patience import PATIENCE


@pytest.fixture
def shared() -> Iterator[SharedPoller]:
    poller = SharedPoller()
    before = open_sockets()
    yield poller
    assert not poller._masks
    assert not open_sockets() - before


@pytest.fixture(params=[True, False], ids=["descriptor", "no descriptor"])
def anywhere(request: pytest.FixtureRequest, shared: SharedPoller, monkeypatch: pytest.MonkeyPatch) -> SharedPoller:
    """A shared poller where one descriptor stands for all sockets, and one where none does."""
    if request.param and not GATHERS:
        pytest.skip("this system has no epoll")
    monkeypatch.setattr(shared_poller, "GATHERS", request.param)
    return shared


def until(condition: Callable[[], object]) -> None:
    """Wait until another thread has made it true, without the poller."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.001)


class Threads:
    """Threads that run beside each other; the error of each is the test's."""

    def __init__(self) -> None:
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []

    def run(self, program: Callable[..., object], *arguments: object) -> threading.Thread:
        def body() -> None:
            try:
                program(*arguments)
            except BaseException as error:
                self._errors.append(error)

        thread = threading.Thread(target=body, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def join(self) -> None:
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        for error in self._errors:
            raise error


@contextmanager
def connected(poller: SharedPoller) -> Iterator[tuple[blocking.Connection, blocking.Connection]]:
    """Two connections that the poller drives, made by two threads."""
    ends: dict[str, blocking.Connection] = {}

    def connect(port: int) -> None:
        with poller:
            ends["one"] = blocking.connect(HOST, port)

    threads = Threads()
    with poller, blocking.listen(HOST) as listener:
        threads.run(connect, listener.port)
        ends["other"] = listener.get_request(timeout=PATIENCE).accept()
        assert poller.wait(lambda: "one" in ends, PATIENCE)
    threads.join()
    try:
        yield ends["one"], ends["other"]
    finally:
        with poller:
            for conn in ends.values():
                conn.qp.disconnect()
            for conn in ends.values():
                conn.close()


def test_threads_talk_to_each_other_over_one_poller(anywhere: SharedPoller) -> None:
    poller, count = anywhere, 30

    def ask(conn: blocking.Connection) -> None:
        for number in range(count):
            with poller:
                conn.send(b"%d" % number, timeout=PATIENCE)
                assert conn.recv(timeout=PATIENCE) == b"re %d" % number

    def answer(conn: blocking.Connection) -> None:
        for _ in range(count):
            with poller:
                conn.send(b"re " + conn.recv(timeout=PATIENCE), timeout=PATIENCE)

    with connected(poller) as (one, other), connected(poller) as (two, another):
        threads = Threads()
        for asker, answerer in ((one, other), (two, another)):
            threads.run(ask, asker)
            threads.run(answer, answerer)
        threads.join()


def test_who_does_not_hold_it_is_told_so(shared: SharedPoller) -> None:
    with connected(shared) as (one, other):
        for call in (
            lambda: one.send(b"x"),
            lambda: other.recv(timeout=0),
            one.close,
        ):
            with pytest.raises(WrongThread, match=r"does not hold it, as .* does: <SharedPoller 2 sockets>"):
                call()
        with shared, shared:
            assert blocking.poller() is shared
            one.send(b"held twice", timeout=PATIENCE)
            assert other.recv(timeout=PATIENCE) == b"held twice"
        assert blocking.poller() is not shared
        with pytest.raises(WrongThread):
            one.send(b"x")


def queue_pairs(poller: SharedPoller, pd: ProtectionDomain) -> tuple[QueuePair, QueuePair]:
    """Two queue pairs that are connected; they were made while the poller was held."""
    with poller, blocking.listen(HOST) as listener:
        here, there = (pd.create_qp(pd.context.create_cq(16), pd.context.create_cq(16)) for _ in range(2))
        there.post_recv(Recv((pd.register(bytearray(8))[:],), 1))
        threads = Threads()

        def connect() -> None:
            with poller:
                blocking.connect_qp(here, HOST, listener.port)

        threads.run(connect)
        listener.get_request(timeout=PATIENCE).accept_qp(there)
        assert poller.wait(lambda: here.alive and here.query().agreement is not None, PATIENCE)
    threads.join()
    return here, there


def test_debug_mode_lets_whoever_holds_it(shared: SharedPoller) -> None:
    context = Device(debug=True).open()
    here, there = queue_pairs(shared, context.alloc_pd())
    threads, held = Threads(), threading.Event()

    def post() -> None:
        with pytest.raises(WrongThread, match="does not hold it"):
            here.query()
        with shared:
            here.post_send(Send(inline=b"x"))
        held.set()

    threads.run(post)
    assert held.wait(PATIENCE)
    threads.join()
    with pytest.raises(WrongThread, match="does not hold it"):
        there.recv_cq.poll()
    with shared:
        (done,) = blocking.wait(there.recv_cq, timeout=PATIENCE)
        assert done.wr_id == 1
        context.close()
        assert shared.wait(lambda: not shared._masks, PATIENCE)
    alone = Device(debug=True).open().create_cq()
    with shared, pytest.raises(WrongThread, match="uses what belongs to thread"):
        raise_of(alone.poll)


def raise_of(call: Callable[[], object]) -> None:
    """Call it in a thread of its own, and raise what it raises."""
    threads = Threads()
    threads.run(call)
    threads.join()


def test_who_sleeps_is_woken_by_what_another_thread_does(anywhere: SharedPoller) -> None:
    poller, said = anywhere, list[int]()
    threads, asleep = Threads(), threading.Barrier(4)

    def sleep(number: int) -> None:
        asleep.wait(PATIENCE)
        assert poller.wait(lambda: len(said) > number, PATIENCE)

    for number in range(3):
        threads.run(sleep, number)
    asleep.wait(PATIENCE)
    began = time.monotonic()
    for number in range(3):
        time.sleep(0.01)
        with poller:
            said.append(number)
    threads.join()
    assert time.monotonic() - began < PATIENCE / 2
    assert (poller._followers, poller._leading, poller._depth) == ([], False, 0)


@pytest.mark.skipif(not GATHERS, reason="this system has no epoll")
def test_who_sleeps_is_woken_when_another_thread_has_taken_the_news(
    shared: SharedPoller, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep, made, threads = shared_poller._Sleep, list[int](), Threads()
    # the system lets it run only when the news are taken, and its descriptor is silent again
    monkeypatch.setattr(shared_poller, "_Sleep", lambda fds, seconds: sleep(fds[1:], seconds))

    def wait() -> None:
        assert shared.wait(lambda: made, PATIENCE / 2)

    threads.run(wait)
    until(lambda: shared._leading)
    began = time.monotonic()
    shared.call_soon(lambda: made.append(1))
    assert shared.progress() == 1
    threads.join()
    assert time.monotonic() - began < PATIENCE / 4, "it does not sleep until its time is over"


@pytest.mark.skipif(not GATHERS, reason="this system has no epoll")
def test_what_a_thread_has_done_itself_does_not_wake_it(shared: SharedPoller, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[list[tuple[int, int]]] = []
    shared.spin = 0.0

    class Looking(shared_poller._Sleep):
        """Says what would wake it at once, and does not sleep."""

        def __call__(self) -> None:
            woken.append(self._poll.poll(0))

    monkeypatch.setattr(shared_poller, "_Sleep", Looking)
    shared.call_soon(lambda: None)
    assert shared.wait(lambda: woken, PATIENCE)
    assert woken == [[]]


def test_waiting_ends_in_time_and_lets_go_of_it(anywhere: SharedPoller) -> None:
    poller, counted = anywhere, list[int]()
    threads, over = Threads(), threading.Event()

    def count() -> None:
        while not over.is_set():
            with poller:
                counted.append(1)
            time.sleep(0.001)

    threads.run(count)
    with poller, poller:
        before = len(counted)
        assert poller.wait(lambda: len(counted) > before, PATIENCE), "another thread had its turn"
        assert not poller.wait(lambda: False, 0.05)
        assert poller.ident == threading.get_ident()
        still = len(counted)
        time.sleep(0.01)
        assert len(counted) == still, "it is held again"
    over.set()
    threads.join()


def test_a_callback_does_not_wait(shared: SharedPoller) -> None:
    raised: list[UsageError] = []

    def wait() -> None:
        try:
            shared.wait(lambda: True)
        except UsageError as error:
            raised.append(error)

    with shared:
        shared.shielded(wait)
    assert "a callback of the stack must not wait" in str(raised[0])


def test_a_wait_may_be_longer_than_the_system_sleeps(anywhere: SharedPoller) -> None:
    made: list[int] = []

    def wait() -> None:
        assert anywhere.wait(lambda: made, 100 * 24 * 3600.0)

    threads = Threads()
    threads.run(wait)
    time.sleep(0.05)  # it most likely sleeps by now; if not, it is told all the same
    anywhere.call_soon(lambda: made.append(1))
    threads.join()


def test_the_poller_of_one_thread_sleeps_as_long_as_the_system_can() -> None:
    assert milliseconds(100 * 24 * 3600.0) == 0x7FFF_FFFF
    assert [milliseconds(seconds) for seconds in (NEVER, -1.0, 0.0, 0.0011)] == [None, 0, 0, 2]


@pytest.mark.skipif(not GATHERS, reason="this system has no epoll")
def test_a_thread_sleeps_on_the_descriptor_without_holding_it(shared: SharedPoller) -> None:
    threads, over = Threads(), threading.Event()
    fd = shared.fileno()

    def move() -> None:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not over.is_set():
            if poll.poll(20):
                shared.progress()

    with connected(shared) as (one, other):
        region = other.register(bytearray(b"passive"), Access.REMOTE_READ)
        threads.run(move)
        with shared:
            sink = one.register(bytearray(7))
            one.read(sink[:], region[:].remote(), timeout=PATIENCE)
            assert bytes(sink.view) == b"passive"
            sink.close()
            region.close()
        assert shared.fileno() == fd
        over.set()
        threads.join()


class Owner:
    """An object of the program's, which connections belong to."""


def test_what_is_dropped_ends_its_connection_in_any_thread(anywhere: SharedPoller) -> None:
    poller = anywhere
    pd = Context().alloc_pd()
    here, there = queue_pairs(poller, pd)
    owner = Owner()
    (driver,) = (each for each in poller._masks if isinstance(each, PollingDriver) and each.pump is here)
    weakref.finalize(owner, poller.call_soon, driver.abort)
    threads = Threads()
    threads.run(poller.wait, lambda: there.state is QpState.ERROR, PATIENCE)
    until(lambda: poller._leading or poller._followers)
    with poller:
        del owner, driver
        gc.collect()
        assert here.alive, "not beneath a thread that holds it"
    threads.join()
    assert poller.wait(lambda: not poller._masks, PATIENCE)


def test_calls_are_made_once_in_order_and_with_the_poller_held(anywhere: SharedPoller) -> None:
    poller, made = anywhere, list[object]()

    def fail() -> None:
        raise ZeroDivisionError

    for call in (lambda: made.append(poller.ident == threading.get_ident()), fail, lambda: made.append("behind")):
        poller.call_soon(call)
    assert made == []
    with pytest.raises(ZeroDivisionError):
        poller.progress()
    assert made == [True]
    assert poller.progress() == 1
    assert made == [True, "behind"]
    assert poller.progress() == 0


@pytest.mark.skipif(not GATHERS, reason="this system has no epoll")
def test_a_call_wakes_who_sleeps_on_the_descriptor(shared: SharedPoller) -> None:
    made: list[int] = []
    poll = select.poll()
    poll.register(shared.fileno(), select.POLLIN)
    assert not poll.poll(0)
    for number in range(5000):
        shared.call_soon(partial(made.append, number))
    assert poll.poll(int(PATIENCE * 1000))
    shared.progress()
    while poll.poll(0):
        shared.progress()
    assert made == list(range(5000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_keeps_no_port_open(shared: SharedPoller) -> None:
    with shared, blocking.listen(HOST) as listener:
        port = listener.port
        reading, writing = os.pipe()
        hearing, saying = os.pipe()
        child = os.fork()
        if not child:
            os.close(writing)
            os.write(saying, b"!")  # it has closed what is the parent's
            select.select([reading], [], [], PATIENCE)  # until the parent has looked
            os._exit(0)
    assert select.select([hearing], [], [], PATIENCE)[0]
    assert os.read(hearing, 1)
    with pytest.raises(OSError, match="refused"), shared:
        blocking.connect(HOST, port)
    os.close(writing)
    assert status_of(child) == 0
    for end in (reading, hearing, saying):
        os.close(end)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_of_who_holds_it_lets_go_of_nothing(shared: SharedPoller) -> None:
    sys.stdout.flush()
    child, status = 0, 1
    try:
        with shared, shared:
            child = os.fork()
            assert blocking.poller() is not shared or child
        assert child or blocking.poller() is not shared
        status = 0
    finally:
        if not child:
            os._exit(status)
    assert status_of(child) == 0
    assert shared.ident != threading.get_ident()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_is_not_stopped_by_who_held_it(shared: SharedPoller) -> None:
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with shared:
            held.set()
            over.wait(PATIENCE)

    threads = Threads()
    threads.run(hold)
    assert held.wait(PATIENCE)
    sys.stdout.flush()
    child = os.fork()
    if not child:
        status = 1
        try:
            for call in (shared.progress, shared.fileno, shared.check_thread, lambda: shared.wait(lambda: True)):
                with pytest.raises(WrongProcess):
                    call()
            with shared:
                assert blocking.poller() is not shared
            status = 0
        finally:
            os._exit(status)
    assert status_of(child) == 0
    over.set()
    threads.join()


@pytest.mark.parametrize("led", [False, True], ids=["at the descriptor", "behind another thread"])
def test_ctrl_c_wakes_the_main_thread(anywhere: SharedPoller, led: bool) -> None:
    threads, over = Threads(), list[bool]()

    def asleep() -> int:
        return anywhere._leading + len(anywhere._followers)

    if led:
        threads.run(anywhere.wait, lambda: bool(over), PATIENCE)
        until(asleep)
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        until(lambda: asleep() > led)  # the main thread too: earlier, the interrupt would be the test's
        time.sleep(0.05)
        signal.pthread_kill(main, signal.SIGINT)

    interrupter = Threads()
    with pythons_interrupts(), guarded():
        interrupter.run(interrupt)
        with pytest.raises(KeyboardInterrupt):
            anywhere.wait(lambda: False, PATIENCE)
        interrupter.join()
        assert not interrupts.pending
    with anywhere:
        over.append(True)
    threads.join()
    assert (anywhere._followers, anywhere._leading, anywhere._depth) == ([], False, 0)
