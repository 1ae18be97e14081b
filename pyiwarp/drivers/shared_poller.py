"""One poller for many threads: they have it in turns, and whoever holds it may use everything that it drives.

There is one lock. A thread takes it with `with poller:` and lets go of it soon; what waits lets go while it sleeps. Of
several threads that wait, one sleeps at the descriptor of all the sockets, the others until that one has news for them.

Interrupts find their way by the frames of this module, as they do by those of `poller`, so it stays Python in every
build.
"""

from __future__ import annotations

import select
import socket
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from time import monotonic
from typing import Final, NamedTuple

from pyiwarp.drivers.descriptors import GATHERS, Bell
from pyiwarp.drivers.interrupts import interruptible, raise_pending, take_over, waiting
from pyiwarp.drivers.poller import NEVER, NO_THREAD, SPIN, Pollable, Poller, milliseconds, own
from pyiwarp.drivers.readiness import READABLE
from pyiwarp.errors import UsageError, WrongProcess, WrongThread
from pyiwarp.exports import public_names

__all__ = ["SharedPoller"]

_CALLS: Final = 4096  # octets that say that there are calls, at one look
_NAP: Final = 0.005
"""Seconds that a thread sleeps between two looks where no descriptor stands for all the sockets."""


_INTERNAL: Final = frozenset(
    {
        *("busy", "check_thread", "descriptors", "forget", "here", "ident", "leave_behind", "left_behind"),
        *("look_at_time", "shielded", "wait_for_turn", "watch"),
    }
)
"""What drivers and the stack above call."""


class SharedPoller(Poller):
    """The sockets of a process without an event loop, for any number of threads; `with` holds it for one of them.

    While a thread holds it, it is the poller of that thread: `blocking.connect`, `blocking.listen` and the connection
    managers use it, and every object that it drives may be used. Without holding it a thread may call `progress`,
    `wait` and `fileno`, which hold it themselves, and nothing else: the objects of a connection raise `WrongThread`
    where they check the thread. Holding it twice is allowed. `wait` lets go of it while it sleeps, however often it
    is held; a callback of the stack is called by the thread that makes progress, which holds it.

    Each thread that waits is woken when another one has made progress, or has held the poller.
    """

    def __init__(self, spin: float = SPIN) -> None:
        super().__init__(spin)
        self.ident = NO_THREAD  # or that of the thread that holds it
        self._depth = 0  # how often that thread does
        self._outer: Poller | None = None  # what that thread's poller was before
        self._changed = False  # since the threads that sleep were told
        self._followers: list[threading.Lock] = []  # threads that sleep until they are told: until these are free
        self._leading = False  # whether one sleeps at the descriptor
        self._bell: Bell | None = None  # which wakes that one
        self._summons = _Summons()
        self._poll.register(self._summons.fileno(), READABLE)
        self._pollables[self._summons.fileno()] = self._summons
        self._make_lock()

    def __repr__(self) -> str:
        return f"<SharedPoller {len(self._masks)} sockets>"

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def __enter__(self) -> SharedPoller:
        self._hold()
        return self

    def __exit__(self, *exc: object) -> None:
        self._changed = True  # the program may have posted, or ended, what others wait for
        self._let_go()

    @property
    def here(self) -> bool:
        """Whether the calling thread may let it make progress: any thread of this process."""
        return not self.left_behind

    def check_thread(self) -> None:
        """Raise `WrongThread` unless the calling thread holds it, in a child of its process `WrongProcess`."""
        self._check_process()
        if get_ident() != self.ident:
            name = threading.current_thread().name
            raise WrongThread(f"thread {name!r} does not hold it, as `with poller:` does: {self!r}")

    def descriptors(self) -> list[int]:
        """Those of its sockets, and those that tell of them and of calls."""
        return [*super().descriptors(), *self._summons.descriptors()]

    def leave_behind(self) -> None:
        """This process is a forked child: no thread of the parent's lets go of the lock here."""
        super().leave_behind()
        self._depth = 0
        self._followers.clear()
        self._leading = False
        self._make_lock()

    # --- for programs ------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """A descriptor that is readable while `progress` has something to do; as that of every poller.

        A thread may sleep on it without holding the poller.
        """
        self._check_process()
        self._hold()
        try:
            return self._descriptor()
        finally:
            self._let_go()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Let `call` be made, once, by the thread that makes progress next; who waits or sleeps on `fileno` is woken.

        Any thread may ask for it at any time, whoever holds the poller: finalizers may. So an object of the program's
        that is dropped ends its connection by `weakref.finalize(it, poller.call_soon, driver.abort)`. The call is a
        callback of the stack: it must not wait, and what it raises is raised by whoever made progress.
        """
        self._summons.add(call)

    def progress(self) -> int:
        """Let every socket with news take them; as that of every poller, in any thread. Waits for who holds it."""
        self._check_process()
        self._hold()
        try:
            return self._move()
        finally:
            self._let_go()

    def wait(self, done: Callable[[], object], timeout: float | None = None) -> bool:
        """Make progress until `done()` is true or `timeout` seconds have passed; returns whether it is true.

        `done` is called while the poller is held. Holds it otherwise only while it looks.
        """
        self._check_process()
        self._hold()
        try:
            if self.busy:
                raise UsageError("a callback of the stack must not wait: what it waits for could not happen")
            return self._wait(done, NEVER if timeout is None else monotonic() + timeout)
        finally:
            self._let_go()

    # --- for pollables -----------------------------------------------------------------------------------------------

    def watch(self, pollable: Pollable, mask: int) -> None:
        """As that of every poller; Ctrl-C waits for the stack once the main thread has watched something."""
        super().watch(pollable, mask)
        if not self._guarded:
            self._guarded = take_over()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _descriptor(self) -> int:
        new = self._gathered is None
        fd = super().fileno()
        if new and self._gathered is not None:
            self._gathered.watch(self._summons.fileno(), READABLE)
        return fd

    def _make_lock(self) -> None:
        self._lock = threading.RLock()

    def _check_process(self) -> None:
        if self.left_behind:
            raise WrongProcess(self)

    def _hold(self) -> None:
        self._lock.acquire()
        self._depth += 1
        if self._depth == 1:
            self.ident = get_ident()
            self._outer, own.poller = own.poller, self

    def _let_go(self) -> None:
        if not self._depth:  # this is a forked child of the thread that holds it
            return
        if self._depth == 1:
            own.poller, self._outer = self._outer, None
            self._tell()
        self._depth -= 1
        if not self._depth:
            self.ident = NO_THREAD
        self._lock.release()

    def _tell(self) -> None:
        """Wake the threads that sleep, if what they wait for may have happened."""
        if self._changed:
            self._changed = False
            self._wake_followers()
            if self._leading and self._bell is not None:
                self._bell.ring()

    def _move(self) -> int:
        """Make progress; whatever comes of it other threads may wait for."""
        moved = 1
        try:
            moved = super().progress()
        finally:
            if moved:
                self._changed = True
        return moved

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        if self._due <= monotonic():
            self._changed = True
        super()._serve(ready)

    def _wait(self, done: Callable[[], object], deadline: float) -> bool:
        self._move()
        now = monotonic()
        spinning = now + self.spin
        while not done():
            if now >= deadline:
                return False
            slept = now >= spinning
            if slept:
                raise_pending()
                self._nap(deadline - now)
            else:
                self._apart(_no_sleep)
            if self._move() or slept:
                spinning = monotonic() + self.spin
            now = monotonic()
        return True

    def _nap(self, seconds: float) -> None:
        """Let go of the poller until there may be news, for `seconds` at most."""
        if self._leading or not GATHERS:
            self._follow(seconds if GATHERS else min(seconds, _NAP))
            return
        if self._bell is None:
            self._bell = Bell()
        fds = self._descriptor(), self._bell.fd
        self._tell()  # before this thread is one of those that are told
        self._leading = True
        try:
            self._apart(_Sleep(fds, seconds))
        finally:
            self._leading = False
            self._bell.silence()
            self._wake_followers()  # one of them sleeps at the descriptor next, if this thread does not

    def _follow(self, seconds: float) -> None:
        waiter = threading.Lock()
        waiter.acquire()
        self._followers.append(waiter)
        try:
            self._apart(_UntilFree(waiter, seconds))
        finally:
            self._followers.remove(waiter)

    def _wake_followers(self) -> None:
        for waiter in self._followers:
            if waiter.locked():
                waiter.release()

    def _apart(self, sleep: Callable[[], None]) -> None:
        """Sleep while other threads may hold the poller."""
        held = self._step_out()
        for _ in range(held.depth):
            self._lock.release()
        try:
            sleep()
        finally:
            for _ in range(held.depth):
                self._lock.acquire()
            self._step_in(held)

    def _step_out(self) -> _Held:
        self._tell()
        held = _Held(self._depth, self._outer)
        self._depth, self._outer, self.ident = 0, None, NO_THREAD
        return held

    def _step_in(self, held: _Held) -> None:
        self._depth, self._outer = held
        self.ident = get_ident()


class _Summons:
    """Calls that threads ask for, as a socket that is ready while there are any."""

    deadline = NEVER

    def __init__(self) -> None:
        self._hearer, self._caller = socket.socketpair()
        for end in (self._hearer, self._caller):
            end.setblocking(False)
        self._calls: deque[Callable[[], object]] = deque()
        weakref.finalize(self, _close, self._hearer, self._caller)

    def fileno(self) -> int:
        """The file descriptor."""
        return self._hearer.fileno()

    def descriptors(self) -> tuple[int, int]:
        """Both ends, which are not a child's."""
        return self._hearer.fileno(), self._caller.fileno()

    def add(self, call: Callable[[], object]) -> None:
        """Ask for a call; takes no lock, as a finalizer may come at any step of any thread."""
        self._calls.append(call)
        with suppress(OSError):  # there are octets enough already, or this is a child
            self._caller.send(b"!")

    def ready(self, happened: int) -> None:
        """Make the calls; one that raises leaves the others for the next look."""
        with suppress(BlockingIOError):
            self._hearer.recv(_CALLS)
        try:
            while self._calls:
                self._calls.popleft()()
        finally:
            if self._calls:
                self._caller.send(b"!")

    def expired(self) -> None:
        """It has no deadline."""


def _close(*ends: socket.socket) -> None:
    for end in ends:
        end.close()


class _Held(NamedTuple):
    """How a thread held the poller before it slept."""

    depth: int
    outer: Poller | None


class _Sleep:
    """Sleeping until one of some descriptors is readable."""

    def __init__(self, fds: tuple[int, ...], seconds: float) -> None:
        self._poll = select.poll()
        for fd in fds:
            self._poll.register(fd, READABLE)
        self._limit = milliseconds(seconds)

    def __call__(self) -> None:
        self._poll.poll(self._limit)


class _UntilFree:
    """Sleeping until a lock is free."""

    def __init__(self, waiter: threading.Lock, seconds: float) -> None:
        self._waiter = waiter
        self._limit = -1 if seconds == NEVER else min(max(0.0, seconds), threading.TIMEOUT_MAX)

    def __call__(self) -> None:
        self._waiter.acquire(timeout=self._limit)


def _no_sleep() -> None:
    """Another thread has its turn meanwhile."""


interruptible(_UntilFree.__call__)
interruptible(_Sleep.__call__)
waiting(SharedPoller.progress)
waiting(SharedPoller.wait)
waiting(SharedPoller._move)
waiting(SharedPoller._wait)
waiting(SharedPoller._nap)
waiting(SharedPoller._follow)
waiting(SharedPoller._apart)
