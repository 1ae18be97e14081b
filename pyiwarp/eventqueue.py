"""Queues of events that are told in four ways: by asking, by a callback, by a file descriptor, by `async for`."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from pyiwarp.awaiting import Waiters
from pyiwarp.errors import Closed, UsageError

__all__ = ["EventQueue"]

Item = TypeVar("Item")


class _Bell:
    """A file descriptor that is readable while the bell is rung; the two ends of a pipe."""

    def __init__(self) -> None:
        self.fd, self._sounder = os.pipe()
        self.rung = False
        for end in (self.fd, self._sounder):
            os.set_blocking(end, False)
        self.close = weakref.finalize(self, _close_both, self.fd, self._sounder)

    def ring(self) -> None:
        if not self.rung:
            self.rung = True
            os.write(self._sounder, b"!")

    def silence(self) -> None:
        self.rung = False
        os.read(self.fd, 1)


def _close_both(*ends: int) -> None:
    for end in ends:
        os.close(end)


class EventQueue(Generic[Item]):
    """A bounded queue of events, oldest first.

    `on_event` is called after each that comes in. If `capacity` are waiting, a new one is not taken: `missed` counts
    those. With `async for` each event goes to one of the tasks that iterate; cancelling one loses no event.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise UsageError(f"a queue of events holds at least 1 event, not {capacity}")
        self.capacity = capacity
        self.missed = 0
        self.on_event: Callable[[], None] = _nothing
        self._events: deque[Item] = deque()
        self._waiters = Waiters()
        self._bell: _Bell | None = None
        self._open = True

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<{type(self).__name__} {len(self._events)} of {self.capacity}, {self.missed} missed{state}>"

    def __len__(self) -> int:
        return len(self._events)

    def fileno(self) -> int:
        """A file descriptor that is readable while events wait, for `select`, `epoll` or `loop.add_reader`.

        It is only for waiting: read no octets from it, take events with `get`. `close` closes it.
        """
        self._check_open()
        if self._bell is None:
            self._bell = _Bell()
            if self._events:
                self._bell.ring()
        return self._bell.fd

    def put(self, event: Item) -> None:
        """Add an event; for the objects that have something to tell. A closed queue forgets it."""
        if not self._open:
            return
        if len(self._events) >= self.capacity:
            self.missed += 1
            return
        self._events.append(event)
        if self._bell is not None:
            self._bell.ring()
        self._waiters.wake()
        self.on_event()

    def get(self) -> Item | None:
        """Take the oldest event; None if there is none. Never waits. Raises `Closed`."""
        self._check_open()
        return self._take() if self._events else None

    def __aiter__(self) -> EventQueue[Item]:
        return self

    async def __anext__(self) -> Item:
        while not self._events:
            if not self._open:
                raise StopAsyncIteration
            await self._waiters.wait()
        return self._take()

    def close(self) -> None:
        """Forget all events and close the file descriptor; who iterates comes to the end. Twice does nothing."""
        self._open = False
        self._events.clear()
        if self._bell is not None:
            self._bell.close()
            self._bell = None
        self._waiters.wake()

    def _take(self) -> Item:
        event = self._events.popleft()
        if self._bell is not None and not self._events:
            self._bell.silence()
        return event

    def _check_open(self) -> None:
        if not self._open:
            raise Closed(f"the queue of events is closed: {self!r}")


def _nothing() -> None:
    """What a queue calls that nobody listens to."""
