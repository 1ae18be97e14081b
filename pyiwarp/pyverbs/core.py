"""The progress of a process: one poller that all threads share, a thread that serves peers, timers, forks.

Each call of the program makes progress itself. The thread sleeps on the descriptor of all sockets and acts only when
nobody has looked for a moment: one-sided operations of peers need an answer while the program does something else. A
forked child begins anew; what it inherits belongs to its parent.
"""

from __future__ import annotations

import atexit
import contextlib
import heapq
import itertools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Final

from pyiwarp.blocking import SharedPoller, waiting_module

__all__ = ["Core", "Timer", "core"]

log = logging.getLogger(__name__)
waiting_module(__name__)

_IDLE: Final = 0.001
"""Seconds for which the thread leaves the sockets to a program that has looked at them."""

_SPIN: Final = 0.0002
"""Seconds for which a program may poll in vain before a poll sleeps."""
_DENSE: Final = 0.0002
"""Seconds between two polls of a program that does nothing else."""
_MOMENT: Final = 1
"""Milliseconds that a poll sleeps at most."""
_LONGEST_IDLE: Final = 0.008
_LAST_QUIET: Final = 0.005
_LONGEST_SETTLING: Final = 0.1
_WAKE_UP: Final = 4096
_FEW_TIMERS: Final = 64
"""Timers among which those that were cancelled are not looked for."""
_LONGEST_END: Final = 1.0
"""Seconds that the end of the process waits for the thread, which a callback may hold up."""


class Timer:
    """A call that is made later, unless it is cancelled."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def cancel(self) -> None:
        """Do not make the call, and do not hold on to what it needs."""
        self.call = _nothing


def _nothing() -> None:
    """What a timer does that was cancelled."""


class Core:
    """What a process has once: `poller`, which threads hold in turns, and the thread that serves when nobody looks.

    Objects of the stack are used while the poller is held: `with core().poller`. `open_contexts` counts what the thread
    serves; it ends when there is none. `connections` counts the queue pairs that are connected.
    """

    def __init__(self) -> None:
        self.poller = SharedPoller()
        self.open_contexts = 0
        self.connections = 0
        self._thread: threading.Thread | None = None
        self._ends = False  # as the process does
        self._looked = 0.0  # when somebody made progress
        self._vain_since = self._last_vain = 0.0  # polls found nothing
        self._waiting = 0  # threads of the program that wait
        self._timers: list[tuple[float, int, Timer]] = []
        self._most_timers = _FEW_TIMERS
        self._count = itertools.count()
        self._hearer, self._caller = os.pipe()
        for end in (self._hearer, self._caller):
            os.set_blocking(end, False)

    @property
    def left_behind(self) -> bool:
        """Whether this process is a forked child of the one that it belongs to."""
        return self is not _current

    def progress(self) -> None:
        """Let all connections make progress; never waits for the network."""
        self._looked = time.monotonic()
        self.poller.progress()

    def rest(self) -> None:
        """A poll has found nothing: who polls in vain for a while sleeps until something comes, a moment at most.

        The peer may wait for the processor that is used up so.
        """
        now = time.monotonic()
        if now - self._last_vain > _DENSE:
            self._vain_since = now
        if now - self._vain_since > _SPIN:
            news = select.poll()  # one that another thread sleeps in could not be used
            news.register(self.poller.fileno(), select.POLLIN)
            news.poll(_MOMENT)
            now = time.monotonic()
        self._last_vain = now

    def wait(self, done: Callable[[], object], timeout: float | None = None) -> bool:
        """Make progress until `done()` is true or `timeout` seconds have passed; returns whether it is true."""
        self.start()
        self._waiting += 1
        try:
            return self.poller.wait(done, timeout)
        finally:
            self._waiting -= 1
            self._looked = time.monotonic()

    def later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Make a call in so many seconds, in the thread, which holds the poller then. Asked for by who holds it."""
        timer = Timer(call)
        if len(self._timers) >= self._most_timers:
            self._drop_cancelled()
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._count), timer))
        self.start()
        self.wake()
        return timer

    def _drop_cancelled(self) -> None:
        """Timers that were cancelled must not stay until they would have been due."""
        left = [each for each in self._timers if each[2].call is not _nothing]
        heapq.heapify(left)
        self._timers = left  # a new list: the thread may be looking at the old one
        self._most_timers = max(_FEW_TIMERS, 2 * len(left))

    def soon(self, call: Callable[[], object]) -> None:
        """Make a call when progress is made next; may be asked for at any time, by finalizers too."""
        self.poller.call_soon(call)

    def start(self) -> None:
        """See to it that the thread serves."""
        if self._thread is not None or self._ends or self.left_behind:
            return
        with self.poller:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="pyiwarp.pyverbs", daemon=True)
                self._thread.start()

    def settle(self, quiet: float) -> None:
        """Go on until nothing has come for `quiet` seconds, for a tenth of a second at most.

        A peer knows that its work is done when this side has answered its Read: an answer that is due goes out before
        a connection ends.
        """
        news = select.poll()
        news.register(self.poller.fileno(), select.POLLIN)
        end = time.monotonic() + _LONGEST_SETTLING
        while time.monotonic() < end and news.poll(quiet * 1000):
            self.progress()

    def stop(self) -> None:
        """The process ends: so does the thread, before the sockets do."""
        thread, self._ends = self._thread, True
        if self.connections:
            self.settle(_LAST_QUIET)
        self.wake()
        if thread is not None:
            thread.join(_LONGEST_END)

    def wake(self) -> None:
        """Let the thread look at its timers, and whether anything is open."""
        if self.left_behind:
            return  # its descriptors are closed, and may be those of other files by now
        with contextlib.suppress(BlockingIOError):
            os.write(self._caller, b"!")

    def leave_behind(self) -> None:
        """This process is a forked child."""
        os.close(self._hearer)
        os.close(self._caller)
        self._timers.clear()

    # --- the thread --------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        news = self.poller.fileno()
        asleep, looks = select.poll(), select.poll()
        for poll in (asleep, looks):
            poll.register(news, select.POLLIN)
        asleep.register(self._hearer, select.POLLIN)
        while True:
            woken = asleep.poll(self._until_timer())
            if any(fd == self._hearer for fd, _ in woken):
                os.read(self._hearer, _WAKE_UP)
            if self._ends:
                return
            if self._leave_it(looks):
                continue
            with self.poller:
                self._move()
                if not self.open_contexts:
                    self._thread = None
                    self._timers.clear()
                    return

    def _leave_it(self, looks: select.poll) -> bool:
        """Wait as long as the program makes progress itself; returns whether nothing is left to do then.

        Each time that this thread wakes, it takes the interpreter from the program: so it sleeps longer and longer.
        """
        pause = _IDLE
        while self._waiting or time.monotonic() - self._looked < pause:
            time.sleep(pause)
            if self._timers:
                self._make_due_calls()
            if not looks.poll(0):
                return True
            if self._waiting and pause == _LONGEST_IDLE:
                return False
            pause = min(2 * pause, _LONGEST_IDLE)
        return False

    def _move(self) -> None:
        try:
            self.poller.progress()
        except Exception:
            log.exception("a callback has failed")
        self._make_due_calls()

    def _until_timer(self) -> float | None:
        """Milliseconds until the next timer; None if there is none."""
        timers = self._timers
        return max(0.0, timers[0][0] - time.monotonic()) * 1000 + 1 if timers else None

    def _make_due_calls(self) -> None:
        timers = self._timers
        if not timers or timers[0][0] > time.monotonic():
            return
        with self.poller:
            while self._timers and self._timers[0][0] <= time.monotonic():
                _, _, timer = heapq.heappop(self._timers)
                try:
                    timer.call()
                except Exception:
                    log.exception("a timer has failed")


_current: Core | None = None
_making = threading.Lock()  # of it: threads may ask for the first time at once


def core() -> Core:
    """That of this process."""
    global _current
    if _current is None:
        with _making:
            if _current is None:
                made = Core()
                atexit.unregister(_at_exit)
                atexit.register(_at_exit)  # behind what the poller has registered, so that the thread ends first
                _current = made
    return _current


def _in_child() -> None:
    global _current, _making
    parents, _current, _making = _current, None, threading.Lock()
    if parents is not None:
        parents.leave_behind()


def _at_exit() -> None:
    if _current is not None:
        _current.stop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
