"""Ctrl-C: where it strikes decides when it raises."""

from __future__ import annotations

import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, ModuleType
from typing import Any

import pytest

from pyiwarp.cm.polling_cm import Listener
from pyiwarp.drivers import interrupts
from pyiwarp.drivers.poller import Poller
from tests.interrupted import Retries, guarded, pythons_interrupts
from tests.patience import PATIENCE


@pytest.fixture(autouse=True)
def _taken_over() -> Iterator[None]:
    marked = (interrupts._interruptible, interrupts._waiting)
    kept = [set(each) for each in marked]
    owed = list(interrupts._holders)  # by sockets of other tests, which may end later
    interrupts._holders.clear()
    with pythons_interrupts(), guarded():
        yield
    interrupts._holders[:] = owed
    for each, whole in zip(marked, kept, strict=True):
        each &= whole  # the functions made up here have equal code, so that a mark on one holds for all


@pytest.fixture
def retries(monkeypatch: pytest.MonkeyPatch) -> Retries:
    """An interrupt that waits does not strike again by itself."""
    return Retries(monkeypatch)


def inside(source: str, **names: object) -> Any:
    """A function of a module of the package, as far as its frames can tell."""
    module = ModuleType("pyiwarp.made_up")
    vars(module).update(names)
    exec(source, vars(module))
    return module


STRIKE = """
def work(then=lambda: None):
    signal.raise_signal(signal.SIGINT)
    done.append("whole")
    then()
"""


def test_outside_the_stack_it_raises_at_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not interrupts.pending


def test_inside_it_waits_until_the_work_is_done(retries: Retries) -> None:
    done: list[str] = []
    module = inside(STRIKE, signal=signal, done=done)
    module.work()
    assert done == ["whole"]
    assert interrupts.pending
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_pending()
    interrupts.raise_pending()  # once is enough


def test_where_an_object_ends_it_waits_since_python_would_lose_it(retries: Retries) -> None:
    class Ends:
        pass

    done: list[str] = []
    module = inside(STRIKE, signal=signal, done=done)
    vars(module)["__name__"] = "_weakrefset"
    one = Ends()
    kept = weakref.ref(one, lambda gone: module.work())
    del one
    assert kept() is None
    assert done == ["whole"], "else this test fails too, since the exception is lost"
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_pending()


def test_it_comes_back_when_nobody_looks() -> None:
    done: list[str] = []
    module = inside(STRIKE, signal=signal, done=done)

    def work_and_sleep() -> None:
        module.work()
        time.sleep(PATIENCE)

    before = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work_and_sleep()
    assert time.monotonic() - before < PATIENCE, "it ends a sleep"
    assert done == ["whole"]
    assert not interrupts.pending


def test_it_does_not_come_back_twice(retries: Retries) -> None:
    module = inside(STRIKE, signal=signal, done=[])
    module.work()
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_pending()
    (strike_again,) = retries.due
    strike_again()
    with pytest.raises(KeyboardInterrupt):  # the next is one of its own
        signal.raise_signal(signal.SIGINT)


def test_it_is_not_raised_through_what_is_half_way(retries: Retries) -> None:
    """The stack calls the program, which polls: it is raised when neither is at work any more."""
    done: list[str] = []
    module = inside(STRIKE, signal=signal, done=done)
    module.work(interrupts.raise_pending)
    assert done == ["whole"]
    interrupts.waiting(module.work)
    with pytest.raises(KeyboardInterrupt):
        module.work(interrupts.raise_pending)


def test_a_callback_is_inside_too(retries: Retries) -> None:
    """The stack is beneath it, half way through something."""
    done: list[str] = []
    module = inside("def call(back):\n    back()\n    done.append('whole')\n", done=done)
    module.call(lambda: signal.raise_signal(signal.SIGINT))
    assert done == ["whole"]
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_pending()


def test_where_the_stack_waits_it_raises_at_once() -> None:
    done: list[str] = []
    module = inside(STRIKE, signal=signal, done=done)
    interrupts.interruptible(module.work)
    with pytest.raises(KeyboardInterrupt):
        module.work()
    assert done == []


def test_a_handler_of_the_programs_own_stays() -> None:
    def own(signum: int, frame: FrameType | None) -> None:
        raise AssertionError("nobody sends it")

    signal.signal(signal.SIGINT, own)
    assert interrupts.take_over()
    interrupts.give_back()
    assert signal.getsignal(signal.SIGINT) is own


def test_the_handler_is_given_back_with_the_last_socket() -> None:
    """So that whoever looks for Python's own handler, as asyncio's runner does, finds it."""
    interrupts.give_back()  # the fixture's
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    poller = Poller()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    listeners = [Listener(poller, "127.0.0.1", 0) for _ in range(2)]
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    listeners[0].close()
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    listeners[1].close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupts.take_over()


def in_another_thread(call: Callable[[], object]) -> list[object]:
    """What a call returns in a thread of its own, or raises there."""
    results: list[object] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(PATIENCE)
    return results


def test_another_thread_gives_back_what_the_main_thread_took() -> None:
    interrupts.give_back()  # the fixture's
    try:
        poller = Poller()
        listener = Listener(poller, "127.0.0.1", 0)
        poller.ident = -1
        sockets = list(poller._masks)
        assert [in_another_thread(partial(poller.forget, each)) for each in sockets] == [[None]] * len(sockets)
        assert not interrupts._holders
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler, "it gave way"
        for each in listener._sockets:
            each.sock.close()
    finally:
        assert interrupts.take_over()


def test_a_handler_that_stayed_gives_way_to_the_next_owner() -> None:
    assert in_another_thread(interrupts.give_back) == [None]  # the fixture's
    assert interrupts.take_over()
    interrupts.give_back()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert interrupts.take_over()


def test_an_interrupt_is_not_raised_in_another_thread(retries: Retries) -> None:
    inside(STRIKE, signal=signal, done=[]).work()
    assert in_another_thread(interrupts.raise_pending) == [None]
    assert in_another_thread(lambda: Poller().progress()) == [0]
    assert interrupts.pending, "it still is the main thread's"
    with pytest.raises(KeyboardInterrupt):
        interrupts.raise_pending()


def test_other_threads_leave_signals_alone() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(interrupts.take_over()))
    thread.start()
    thread.join(PATIENCE)
    assert answers == [False]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
