"""Completion channels and asynchronous events, as `ibv_get_cq_event` and `ibv_get_async_event` give them.

An event is taken in four ways: by asking, by a callback, by a file descriptor, by `async for`.
`Context.async_events` is the queue of one context; a completion channel serves many completion queues.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Generic, NamedTuple, TypeVar

from pyiwarp.drivers.descriptors import Bell, Source
from pyiwarp.errors import (
    Closed,
    ProtocolViolation,
    RemoteProtection,
    TaggedBufferError,
    TaggedVersion,
    Term,
    UsageError,
)
from pyiwarp.pump import no_callback
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.waiting import Waiters

__all__ = [
    "AsyncEvent",
    "AsyncEventQueue",
    "AsyncEventType",
    "CompletionChannel",
    "EventQueue",
    "event_of_violation",
]

Item = TypeVar("Item")


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
        self.on_event: Callable[[], None] = no_callback
        self._events: deque[Item] = deque()
        self._waiters = Waiters()
        self._bell: Bell | None = None
        self._sources: list[Source] = []
        self._open = True

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<{type(self).__name__} {len(self._events)} of {self.capacity}, {self.missed} missed{state}>"

    def __len__(self) -> int:
        return len(self._events)

    def fileno(self) -> int:
        """A file descriptor that is readable while events wait, for `select`, `epoll` or `loop.add_reader`.

        It is only for waiting: read no octets from it, take events with `get`. `close` closes it. Where connections
        make progress by polling it is readable too when their sockets have news, or a time limit is over: `get` makes
        progress, and may find no event yet. Where the system has no epoll it cannot tell of that: wait for some
        milliseconds at a time, and call `get`. Windows waits for no pipe: use `on_event` or `async for` there.
        """
        self._check_open()
        if self._bell is None:
            self._bell = Bell()
            for source in self._sources:
                self._bell.follow(source)
            if self._events:
                self._bell.ring()
        return self._bell.fd

    def driven_by(self, source: Source) -> None:
        """Events come when `source` makes progress: taking one does so first; for connection managers."""
        if source not in self._sources:
            self._sources.append(source)
            if self._bell is not None:
                self._bell.follow(source)

    def put(self, event: Item) -> None:
        """Add an event; for the objects that report events. A closed queue discards it."""
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
        """Take the oldest event; None if there is none. Never waits. Raises `Closed`.

        Connections of this thread that have no event loop make progress first.
        """
        self._check_open()
        for source in self._sources:
            if source.here:
                source.progress()
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
        """Forget all events and close the file descriptor; iterating tasks end. Closing twice does nothing."""
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


class CompletionChannel(EventQueue[CompletionQueue]):
    """Made by `Context.create_comp_channel`; give it to `create_cq`, then `request_notify` on the queue.

    Each request gives one event, the queue itself. Take it with `get_cq_event` or `async for`. Then request again, poll
    the queue until it is empty, and `ack_events` sooner or later. `fileno` is readable while events wait.
    """

    def get_cq_event(self) -> CompletionQueue | None:
        """Take the oldest event: the completion queue that has a completion; None if there is none. Never waits.

        Connections of this thread that have no event loop make progress first.
        """
        return self.get()

    def _take(self) -> CompletionQueue:
        cq = super()._take()
        cq.unacked += 1
        return cq


class AsyncEventType(Enum):
    """What happened; the names are those of libibverbs' `ibv_event_type`."""

    CQ_ERR = "completion queue overflowed"
    QP_FATAL = "queue pair ended by an error"
    QP_REQ_ERR = "peer sent an invalid request"
    QP_ACCESS_ERR = "peer violated access rights"
    SQ_DRAINED = "send queue drained"
    QP_LAST_WQE_REACHED = "last shared receive of a queue pair completed"
    SRQ_LIMIT_REACHED = "shared receive queue fell below its limit"


class AsyncEvent(NamedTuple):
    """One event: `source` is the queue pair, completion queue or shared receive queue; `error` the cause, if any."""

    type: AsyncEventType
    """Which event it is."""
    source: object
    error: Exception | None = None


class AsyncEventQueue(EventQueue[AsyncEvent]):
    """The asynchronous events of a context."""


def event_of_violation(violation: ProtocolViolation) -> AsyncEventType:
    """Which event tells of a rule that the peer broke (RDMAP-5040-7.1-01)."""
    if isinstance(violation, RemoteProtection | TaggedBufferError) and not isinstance(violation, TaggedVersion):
        return AsyncEventType.QP_ACCESS_ERR
    return AsyncEventType.QP_REQ_ERR if _is_request_error(violation.term) else AsyncEventType.QP_FATAL


def _is_request_error(term: Term) -> bool:
    """Whether the fault lies in a DDP segment or RDMAP message, rather than in the stream or in this side."""
    return term.layer <= 1 and term.etype != 0
