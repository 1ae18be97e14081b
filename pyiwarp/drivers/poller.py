"""Progress without an event loop: the sockets of one thread, which move when they are asked to.

There is no loop, no task and no timer. A thread that polls a completion queue moves the octets of its sockets. A thread
that waits polls for a moment, and then sleeps until a socket is ready.

Interrupts find their way by the frames of this module (see `interrupts`), so it stays Python in every build; the
drivers that it calls, and that call `shielded`, may be compiled.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Final, Protocol

from pyiwarp.drivers.descriptors import GATHERS, Gathered, Timer
from pyiwarp.drivers.interrupts import give_back, interruptible, pending, raise_pending, take_over, waiting
from pyiwarp.drivers.readiness import READABLE, readiness
from pyiwarp.drivers.turns import Behind, Share
from pyiwarp.errors import UsageError, WrongProcess, WrongThread
from pyiwarp.forks import left_behind_in_children

__all__ = ["NEVER", "NO_THREAD", "SPIN", "Pollable", "Poller", "milliseconds", "own", "poller"]

SPIN: Final = 0.0005
"""For how long `Poller.wait` looks again and again before it sleeps, in seconds."""

NEVER: Final = math.inf
AT_ONCE: Final = 0.0  # a deadline that has passed
NO_THREAD: Final = -1  # no thread has this number
_LONGEST: Final = 0x7FFF_FFFF  # milliseconds


def milliseconds(seconds: float) -> int | None:
    """How long to sleep, as `poll` wants to know it: None for ever, 31 bits at most. Who wakes early looks again."""
    return None if seconds == NEVER else math.ceil(min(max(0.0, seconds) * 1000, _LONGEST))


class Pollable(Protocol):
    """A socket that a poller watches."""

    deadline: float

    def fileno(self) -> int:
        """The file descriptor."""

    def ready(self, happened: int) -> None:
        """The system says `happened`, bits of `readiness`."""

    def expired(self) -> None:
        """`deadline` has passed."""


class Poller:
    """The sockets of one thread that have no event loop; it belongs to the thread that makes it.

    `spin` is for how long `wait` keeps looking before it lets the system wake it, in seconds: looking costs a core and
    saves the time of waking up.
    """

    def __init__(self, spin: float = SPIN) -> None:
        self.spin: float = spin
        """For how long `wait` looks again and again before it sleeps, in seconds."""
        self.ident = get_ident()
        self.left_behind = False  # whether this process is a forked child, and the sockets are its parent's
        self._poll = readiness()
        self._look = self._poll.poll
        self._pollables: dict[int, Pollable] = {}
        self._masks: dict[Pollable, int] = {}
        self._next_deadline = NEVER
        self._behind: deque[Behind] = deque()  # who waits for a turn, in the order of coming
        self._share = Share()
        self.busy = False
        self._guarded = False
        self._gathered: Gathered | None = None  # what `fileno` gives
        self._timer: Timer | None = None  # in it
        left_behind_in_children(self)

    def __repr__(self) -> str:
        return f"<Poller {len(self._masks)} sockets>"

    def check_thread(self) -> None:
        """Raise `WrongThread` unless the poller belongs to the calling thread, in a child of its own `WrongProcess`."""
        if self.left_behind:
            raise WrongProcess(self)
        if get_ident() != self.ident:
            here = threading.current_thread().name
            raise WrongThread(f"{self!r} belongs to thread {self.ident}, not to {here!r} ({get_ident()})")

    # --- when the process forks --------------------------------------------------------------------------------------

    def descriptors(self) -> list[int]:
        """Those of its sockets, and those that tell of them."""
        own = [each.fd for each in (self._gathered, self._timer) if each is not None]
        return [*own, *(pollable.fileno() for pollable in self._masks)]

    def leave_behind(self) -> None:
        """This process is a forked child: its threads make pollers of their own."""
        self.left_behind = True
        self.ident = NO_THREAD

    # --- for pollables -----------------------------------------------------------------------------------------------

    def watch(self, pollable: Pollable, mask: int) -> None:
        """Tell `pollable` when one of the bits of `mask` happens; 0 leaves it alone, even when its peer is gone."""
        before = self._masks.get(pollable)
        if mask == before:
            return
        if not self._masks:
            self._guarded = take_over()
        fd = pollable.fileno()
        if mask:
            self._pollables[fd] = pollable
            self._poll.register(fd, mask)
        elif before:
            self._poll.unregister(fd)
        if self._gathered is not None:
            self._gathered.watch(fd, mask, before or 0)
        self._masks[pollable] = mask

    def forget(self, pollable: Pollable) -> None:
        """Watch `pollable` no more; its socket is still open."""
        before = self._masks.pop(pollable, 0)
        if before:
            self._poll.unregister(pollable.fileno())
            if self._gathered is not None:
                self._gathered.watch(pollable.fileno(), 0, before)
        if self._guarded and not self._masks:
            self._guarded = False
            give_back()
        self._pollables.pop(pollable.fileno(), None)
        self.look_at_time(NEVER, pollable.deadline)

    def look_at_time(self, deadline: float, before: float = NEVER) -> None:
        """A pollable's deadline has become `deadline`, and was `before`."""
        if deadline <= self._next_deadline:
            self._set_next_deadline(deadline)
        elif before <= self._next_deadline:
            self._find_next_deadline()

    def wait_for_turn(self, driver: Behind) -> None:
        """Call `driver.next_turn` once, when those who came before have had their turns; it may have ended then.

        One has its turn each time that the sockets are looked at, so that news of others are seen in between
        (RFC 5042 §6.4.4).
        """
        self._behind.append(driver)
        self._set_timer()

    def shielded(self, run: Callable[[], None]) -> None:
        """Call `run` for a program that has posted something: it makes no progress beneath, and is not interrupted."""
        was_busy = self.busy
        self.busy = True
        try:
            run()
        finally:
            self.busy = was_busy

    # --- for programs ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A file descriptor that is readable while `progress` has something to do, for a loop of the program's own.

        It tells of news from the network and of time limits. It is only for waiting: call `progress` then, or whatever
        makes progress. It stays the same. Raises `UsageError` where the system has no epoll: call `progress` every few
        milliseconds there. Raises `WrongThread`.
        """
        self.check_thread()
        if self._gathered is None:
            if not GATHERS:
                raise UsageError("this system has no epoll: call progress() every few milliseconds instead")
            self._gathered, self._timer = Gathered(), Timer()
            self._gathered.watch(self._timer.fd, READABLE)
            self._set_timer()
            for pollable, mask in self._masks.items():
                if mask:
                    self._gathered.watch(pollable.fileno(), mask)
        return self._gathered.fd

    @property
    def here(self) -> bool:
        """Whether the calling thread is the poller's."""
        return get_ident() == self.ident

    def progress(self) -> int:
        """Let every socket with news take them, and every wait that was too long end; never waits itself.

        Returns how many sockets had news. Raises `WrongThread` in another thread than that of the poller. Within a
        callback of the stack it does nothing.
        """
        if get_ident() != self.ident:
            self.check_thread()
        if self.busy:
            return 0
        ready = self._look(0)
        if len(ready) == 1 and not self._behind and self._next_deadline > monotonic():  # the least that `_serve` does
            ((fd, happened),) = ready
            pollable = self._pollables.get(fd)
            if pollable is not None:
                self.busy = True
                try:
                    pollable.ready(happened)
                finally:
                    self.busy = False
        elif ready or self._behind or self._next_deadline <= monotonic():
            self._serve(ready)
        if pending:
            raise_pending()
        return len(ready)

    def wait(self, done: Callable[[], object], timeout: float | None = None) -> bool:
        """Make progress until `done()` is true or `timeout` seconds have passed; returns whether it is true.

        Looks without pause for `spin` seconds from the last news on, then sleeps until the system has some.
        """
        self.check_thread()
        if self.busy:
            raise UsageError("a callback of the stack must not wait: what it waits for could not happen")
        self.progress()
        now = monotonic()
        deadline = NEVER if timeout is None else now + timeout
        spinning = now + self.spin
        while not done():
            if now >= deadline:
                return False
            if now >= spinning:
                self._serve(self._sleep(min(deadline, self._due) - now))
                spinning = monotonic() + self.spin
            elif self.progress():
                spinning = monotonic() + self.spin
            now = monotonic()
        return True

    # --- inside ------------------------------------------------------------------------------------------------------

    def _sleep(self, seconds: float) -> list[tuple[int, int]]:
        raise_pending()
        return self._look(milliseconds(seconds))

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        self.busy = True
        try:
            for fd, happened in ready:
                pollable = self._pollables.get(fd)  # one may have closed another
                if pollable is not None:
                    pollable.ready(happened)
            if self._behind:
                driver = self._behind.popleft()
                driver.next_turn(self._share.next(others=bool(ready or self._behind)))
                self._set_timer()
            if self._next_deadline != NEVER and self._next_deadline <= monotonic():
                self._expire()
        finally:
            self.busy = False

    def _expire(self) -> None:
        now = monotonic()
        for pollable in list(self._masks):
            if pollable.deadline <= now and pollable in self._masks:
                pollable.expired()
        self._find_next_deadline()

    def _find_next_deadline(self) -> None:
        self._set_next_deadline(min((pollable.deadline for pollable in self._masks), default=NEVER))

    def _set_next_deadline(self, deadline: float) -> None:
        self._next_deadline = deadline
        self._set_timer()

    @property
    def _due(self) -> float:
        """When there is something to do without news from a socket."""
        return AT_ONCE if self._behind else self._next_deadline

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.set(self._due)


interruptible(Poller.progress)
interruptible(Poller._sleep)
waiting(Poller.wait)


class _Own(threading.local):
    """What each thread has for itself."""

    poller: Poller | None = None


own: Final = _Own()


def poller() -> Poller:
    """The poller of the calling thread, made at the first call; its `spin` says how long to look before sleeping.

    While the thread holds a `SharedPoller`, that one.
    """
    if own.poller is None or own.poller.left_behind:
        own.poller = Poller()
    return own.poller
