"""What a queue pair is and has done, as values that do not change (the verbs model's query calls)."""

from __future__ import annotations

from typing import NamedTuple

from pyiwarp.access import Access
from pyiwarp.codes import QueueNumber
from pyiwarp.ddp import MSN_MASK
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import ConnectionLost, FpduTimeout, LocalCatastrophe, TerminatedByPeer
from pyiwarp.negotiation import Agreement
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.qp_states import QpState

__all__ = ["ContextCounters", "QpAttributes", "QpCounters", "figures"]


class QpCounters(NamedTuple):
    """What has passed through a queue pair since it was made, over all of its connections.

    `octets_sent` counts whole FPDUs, `octets_received` everything that TCP gave. Messages are counted by the queues
    that DDP numbers: `sends_…` are Sends and Immediate Data, `reads_…` are Read and Atomic Requests. RDMA Writes have
    no numbers; their octets and FPDUs are counted. `violations` are rules that the peer broke, `losses`
    connections that were lost, `fpdu_timeouts` those of them whose peer left an FPDU unfinished, `flushed` work
    requests that were flushed.
    """

    octets_sent: int = 0
    octets_received: int = 0
    fpdus_sent: int = 0
    """FPDUs that TCP was given."""
    fpdus_received: int = 0
    """FPDUs that MPA passed on."""
    sends_sent: int = 0
    """Sends of this side."""
    sends_received: int = 0
    """Sends of the peer."""
    reads_sent: int = 0
    """Reads and Atomics of this side."""
    reads_received: int = 0
    """Reads and Atomics of the peer."""
    terminates_sent: int = 0
    """Terminates of this side, at most one for each connection."""
    terminates_received: int = 0
    """Terminates of the peer, likewise."""
    violations: int = 0
    losses: int = 0
    fpdu_timeouts: int = 0
    flushed: int = 0

    def plus(self, other: QpCounters) -> QpCounters:
        """Both together."""
        return QpCounters(*map(sum, zip(self, other, strict=True)))

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(self._fields, self, strict=True) if value)


class ContextCounters(NamedTuple):
    """What a context holds now, and what all of its queue pairs have done, those that are closed included."""

    queue_pairs: int
    """Queue pairs that are open."""
    regions: int
    """STags in use: regions and windows."""
    async_events: int
    """Asynchronous events that wait."""
    async_events_missed: int
    """Those that found the queue full."""
    total: QpCounters
    """What all queue pairs have done."""


class QpAttributes(NamedTuple):
    """A queue pair as it is now; `agreement` is what startup settled, None before there was a connection.

    `sends_posted` and `receives_posted` are work requests not yet complete, `send_room` says how many more go in.
    `reads_outstanding` is how much of ORD is in use, `mulpdu` is in octets, `linger` in seconds. `access` is what the
    peer may do by this queue pair at most.
    """

    state: QpState
    error: Exception | None
    qp_num: int
    cap: QpCap
    sq_sig_all: bool
    confirm: bool
    sends_posted: int
    receives_posted: int
    send_room: int
    linger: float
    access: Access
    agreement: Agreement | None
    reads_outstanding: int
    mulpdu: int


def figures(stream: Stream, octets_received: int, error: Exception | None) -> QpCounters:
    """What has passed through one stream, which ended with `error`, from the counters of the stream."""
    found = stream.violation is not None
    return QpCounters(
        octets_sent=stream.octets_sent,
        octets_received=octets_received,
        fpdus_sent=stream.fpdus_sent,
        fpdus_received=stream.fpdus_received,
        sends_sent=_before(stream.send_msn),
        sends_received=_before(stream.due_msn(QueueNumber.SEND)),
        reads_sent=_before(stream.read_msn),
        reads_received=_before(stream.due_msn(QueueNumber.READ_REQUEST)),
        terminates_sent=int(found and not stream.muted),
        terminates_received=int(isinstance(error, TerminatedByPeer)),
        violations=int(found and not isinstance(stream.violation, LocalCatastrophe)),
        losses=int(isinstance(error, ConnectionLost)),
        fpdu_timeouts=int(isinstance(error, FpduTimeout)),
    )


def _before(msn: int) -> int:
    """How many messages have had a number, if `msn` is the next one; they start at 1 (DDP-5041-4.3-08)."""
    return (msn - 1) & MSN_MASK
