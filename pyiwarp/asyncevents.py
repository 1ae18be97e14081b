"""Asynchronous events: what befalls queue pairs and queues besides the completions of work requests.

As `ibv_get_async_event` gives them. `Context.async_events` is the queue of one context.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from pyiwarp.errors import ProtocolViolation, RemoteProtection, TaggedBufferError, TaggedVersion, Term
from pyiwarp.eventqueue import EventQueue

__all__ = ["AsyncEvent", "AsyncEventQueue", "AsyncEventType", "event_of_violation"]


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
