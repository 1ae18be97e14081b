"""Which sockets of a thread are ready: `poll(2)`, and what stands for it where the system has none (Windows)."""

from __future__ import annotations

import select
import selectors
import time
from typing import Final, Protocol

__all__ = ["READABLE", "WRITABLE", "Readiness", "readiness"]

READABLE: Final = getattr(select, "POLLIN", 1)
WRITABLE: Final = getattr(select, "POLLOUT", 4)
"""The bits; the system may add others, which tell of an end or an error."""


class Readiness(Protocol):
    """The part of `select.poll` that a poller needs."""

    def register(self, fd: int, mask: int, /) -> object:
        """Look for the bits of `mask`, and for no others that were registered before."""

    def unregister(self, fd: int, /) -> object:
        """Look at `fd` no more."""

    def poll(self, milliseconds: float | None, /) -> list[tuple[int, int]]:
        """Wait for so long at most, None for ever; returns the descriptors that are ready, each with its bits."""


def readiness() -> Readiness:
    """A new one, of no descriptor."""
    return select.poll() if hasattr(select, "poll") else _Selected()


class _Selected:
    """`select.poll` by whatever the system has; an end or an error counts as the bits that were asked for."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def register(self, fd: int, mask: int, /) -> None:
        events = (selectors.EVENT_READ if mask & READABLE else 0) | (selectors.EVENT_WRITE if mask & WRITABLE else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def unregister(self, fd: int, /) -> None:
        self._selector.unregister(fd)

    def poll(self, milliseconds: float | None, /) -> list[tuple[int, int]]:
        seconds = None if milliseconds is None else milliseconds / 1000
        if seconds is not None and not self._selector.get_map():  # Windows waits for no empty set
            time.sleep(seconds)
            return []
        return [
            (
                key.fd,
                (READABLE if events & selectors.EVENT_READ else 0)
                | (WRITABLE if events & selectors.EVENT_WRITE else 0),
            )
            for key, events in self._selector.select(seconds)
        ]
