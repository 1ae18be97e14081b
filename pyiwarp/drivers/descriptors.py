"""File descriptors that become readable: one that stands for several, one for a point of time, and a bell.

A program that waits with `select`, or with a loop of its own, watches one descriptor. `Gathered` makes one of many:
it is an epoll descriptor, and where the system has no epoll there is none.
"""

from __future__ import annotations

import math
import os
import select
import weakref
from typing import Any, Final, Protocol

from pyiwarp.drivers.readiness import READABLE
from pyiwarp.forks import left_behind_in_children

__all__ = ["GATHERS", "Bell", "Gathered", "Source", "Timer"]

GATHERS: Final = hasattr(select, "epoll")
"""Whether the system can make one descriptor of many."""

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_NANOSECONDS: Final = 1_000_000_000


class Source(Protocol):
    """What makes progress when it is asked to, as a poller does."""

    def fileno(self) -> int:
        """A descriptor that is readable when `progress` has something to do; only where the system `GATHERS`."""

    def progress(self) -> int:
        """Do it. Only where it is `here`."""

    @property
    def here(self) -> bool:
        """Whether it belongs to the calling thread, which alone may use it."""


class Gathered:
    """A descriptor that is readable while one of those in it is ready."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.fd = self._epoll.fileno()

    def watch(self, fd: int, mask: int, before: int = 0) -> None:
        """Watch `fd` for the bits of `mask`, those of `readiness`, instead of those of `before`."""
        if before:
            if mask:
                self._epoll.modify(fd, mask)
            else:
                self._epoll.unregister(fd)
        elif mask:
            self._epoll.register(fd, mask)

    def begin_again(self) -> None:
        """Watch nothing any more, under the same number; in a forked child, whose parent's goes on."""
        fresh = select.epoll()
        os.dup2(fresh.fileno(), self.fd, inheritable=False)
        fresh.close()

    def close(self) -> None:
        """Close the descriptor."""
        self._epoll.close()


class Timer:
    """A descriptor that is readable from a point of time on: Linux's timerfd, which Python has from 3.13 on."""

    def __init__(self) -> None:
        import ctypes  # by those alone who wait with a loop of their own

        libc: Any = ctypes.CDLL(None, use_errno=True)
        self._settime = libc.timerfd_settime
        self._reference, self._four_longs = ctypes.byref, ctypes.c_long * 4  # struct itimerspec
        self.fd: int = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, f"timerfd_create: {os.strerror(code)}")
        weakref.finalize(self, os.close, self.fd)

    def set(self, deadline: float) -> None:
        """Be readable from `deadline` on, in seconds of `time.monotonic`; never, if it is infinite."""
        nanoseconds = 0 if deadline == math.inf else max(1, round(deadline * _NANOSECONDS))
        when = self._four_longs(0, 0, *divmod(nanoseconds, _NANOSECONDS))
        self._settime(self.fd, _ABSOLUTE, self._reference(when), None)


class Bell:
    """A file descriptor that is readable while the bell is rung, or while a source that it follows has news."""

    def __init__(self) -> None:
        self._hearer, self._sounder = os.pipe()
        for end in (self._hearer, self._sounder):
            _never_wait(end)
        self.rung = False
        self._gathered = Gathered() if GATHERS else None
        self.fd = self._hearer
        if self._gathered is not None:
            self.fd = self._gathered.fd
            self._gathered.watch(self._hearer, READABLE)
        left_behind_in_children(self)
        self.close = weakref.finalize(self, _close, self._gathered, self._hearer, self._sounder)

    def descriptors(self) -> tuple[()]:
        """None: a child has a pipe of its own in their place."""
        return ()

    def leave_behind(self) -> None:
        """This process is a forked child: its parent's pipe is not to be rung or silenced from here."""
        for ours, copied in zip(os.pipe(), (self._hearer, self._sounder), strict=True):
            os.dup2(ours, copied, inheritable=False)
            _never_wait(copied)
            os.close(ours)
        if self._gathered is not None:
            self._gathered.begin_again()
            self._gathered.watch(self._hearer, READABLE)
        if self.rung:
            os.write(self._sounder, b"!")

    def follow(self, source: Source) -> None:
        """Be readable when `source` has news too, where the system can; one of another thread has its own waits."""
        if self._gathered is not None and source.here:
            self._gathered.watch(source.fileno(), READABLE)

    def ring(self) -> None:
        """Make the descriptor readable."""
        if not self.rung:
            self.rung = True
            os.write(self._sounder, b"!")

    def silence(self) -> None:
        """Undo `ring`."""
        if self.rung:
            self.rung = False
            os.read(self._hearer, 1)


def _never_wait(end: int) -> None:
    """Windows has this since Python 3.12; nothing waits as long as a program only waits for the descriptor."""
    if hasattr(os, "set_blocking"):
        os.set_blocking(end, False)


def _close(gathered: Gathered | None, *ends: int) -> None:
    if gathered is not None:
        gathered.close()
    for end in ends:
        os.close(end)
