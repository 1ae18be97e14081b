"""What identifiers tell: the events of rdma_cm, the parameters that go with them, and the channels that take them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, NamedTuple, TypeVar

from pyiwarp.cm.silence import check_silence
from pyiwarp.errors import Closed

__all__ = ["BaseChannel", "CmEvent", "CmEventType", "ConnParam", "Pending", "asks_at"]


class CmEventType(Enum):
    """What can happen; the names are those of `rdma_cm_event_type`."""

    ADDR_RESOLVED = "address resolved"
    ADDR_ERROR = "address not resolved"
    ROUTE_RESOLVED = "route resolved"
    CONNECT_REQUEST = "a peer asks to connect"
    CONNECT_ERROR = "the connection failed"
    UNREACHABLE = "the peer does not answer"
    REJECTED = "the peer rejected the connection"
    ESTABLISHED = "connected"
    DISCONNECTED = "disconnected"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnParam:
    """What a program says when it connects or accepts, as in `rdma_conn_param`.

    `responder_resources` is how many Reads and Atomics of the peer this side takes at once (IRD), `initiator_depth` how
    many of its own it will have outstanding (ORD); None stands for all that the device can, and for a Responder no
    more than the Initiator has asked for. `keepalive` and `user_timeout` are those of `Options`, in seconds; None
    leaves the system's. Raises `UsageError` for a time that TCP does not take.
    """

    private_data: bytes = b""
    """Octets that go along with the startup frame (RFC 5044 §7.1.1)."""
    responder_resources: int | None = None
    initiator_depth: int | None = None
    keepalive: float | None = None
    user_timeout: float | None = None

    def __post_init__(self) -> None:
        check_silence(self.keepalive, self.user_timeout)


Id = TypeVar("Id", covariant=True)


class CmEvent(NamedTuple, Generic[Id]):
    """One event: of what type, of which identifier; `CmEvent[CmId]` to a type checker.

    `param` has the peer's values from this side's view: the peer's ORD is `responder_resources` here.
    With CONNECT_REQUEST `id` is a new identifier and `listen_id` that which listens. `error` is the cause of a failure.
    """

    type: CmEventType
    """Which event it is."""
    id: Id
    param: ConnParam | None = None
    listen_id: Id | None = None
    error: Exception | None = None


class Pending:
    """A step under way; its event will be its result."""

    def __init__(self) -> None:
        self.event: CmEvent[Any] | None = None
        self._listeners: list[Callable[[], None]] = []

    def finish(self, event: CmEvent[Any]) -> None:
        """The step is over."""
        self.event = event
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener()

    def call_when_over(self, listener: Callable[[], None]) -> None:
        """Call `listener` once, when the step is over."""
        if self.event is None:
            self._listeners.append(listener)
        else:
            listener()

    def forget_caller(self, listener: Callable[[], None]) -> None:
        """Do not call `listener`: its program has stopped waiting."""
        self._listeners = [call for call in self._listeners if call is not listener]

    def result(self) -> CmEvent[Any]:
        """The event; raises the cause if the step failed."""
        assert self.event is not None, "asked for when the step is over"
        if self.event.error is not None:
            raise self.event.error
        return self.event


class BaseChannel:
    """Where the events of many identifiers go, in the order in which they happen."""

    def __init__(self) -> None:
        self._events: deque[CmEvent[Any]] = deque()
        self._open = True

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._events)} events>"

    def post(self, event: CmEvent[Any]) -> None:
        """Add an event; for identifiers. What happens after `close` is lost."""
        if self._open:
            self._events.append(event)

    def close(self) -> None:
        """Take no more events; those that are here can still be taken, then `get_event` raises `Closed`."""
        self._open = False

    def _check_more_to_come(self) -> None:
        if not self._open and not self._events:
            raise Closed(f"the channel is closed: {self!r}")

    @property
    def open(self) -> bool:
        """Whether it takes events."""
        return self._open

    @property
    def waiting(self) -> int:
        """How many events wait to be taken."""
        return len(self._events)

    def take_of(self, cm_id: object) -> list[CmEvent[Any]]:
        """Take out the events of one identifier, because it moves to another channel or is closed.

        With one that listens go the Requests that nobody has taken. Events of connections that were accepted are those
        of other identifiers and stay.
        """
        mine = [event for event in self._events if event.id is cm_id or asks_at(event, cm_id)]
        self._events = deque(event for event in self._events if not any(event is one for one in mine))
        return mine


def asks_at(event: CmEvent[Any], listen_id: object) -> bool:
    """Whether an event tells of a peer that asks to connect at `listen_id`."""
    return event.type is CmEventType.CONNECT_REQUEST and event.listen_id is listen_id
