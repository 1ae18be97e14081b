"""Interrupts in tests: SIGINT as a program of Python's has it, whatever the tests were started with."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from pyiwarp.drivers import interrupts
from tests.patience import PATIENCE

__all__ = ["Retries", "guarded", "pythons_interrupts"]


@contextmanager
def pythons_interrupts() -> Iterator[None]:
    """Python's own handler of SIGINT, and nothing that blocks the signal; then what was before.

    A shell ignores SIGINT for the jobs in its background, and so does `nohup` with others.
    """
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextmanager
def guarded() -> Iterator[None]:
    """The stack handles SIGINT, as it does while it has sockets; no interrupt of its own is to come any more after."""
    assert interrupts.take_over()
    try:
        yield
    finally:
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(PATIENCE)
        interrupts.pending.clear()
        interrupts.give_back()


class Retries:
    """Stands for `threading.Timer` where an interrupt strikes again: it does so when the test says, never before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.due: list[Callable[[], None]] = []
        monkeypatch.setattr(interrupts, "threading", self)

    def Timer(self, seconds: float, function: Callable[[], None]) -> threading.Thread:
        """What `_on_interrupt` starts: a thread that does nothing, the function is kept."""
        assert seconds == interrupts.RETRY
        self.due.append(function)
        return threading.Thread()

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)
