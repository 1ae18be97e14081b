"""What a driver sees of a queue pair: a pump that turns octets into completions (RFC 5040 §5.5, §6.2).

Octets go through the `Stream`; the events that come back complete work requests and move the states. Two tables say
which moves there are: that of the queue pair, and that of TCP below it. `qp` adds what a program sees.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from mypy_extensions import mypyc_attr

from pyiwarp.buffers import Buffer, Octets
from pyiwarp.drivers.descriptors import Source
from pyiwarp.engine.events import AtomicDone, Delivered, Event, PeerClosed, PeerTerminated, ReadDone, Violated
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import ConnectionLost, FpduTimeout, StartupTimeout, WrongState
from pyiwarp.memory.atomics import stored
from pyiwarp.mr import Access, MemoryRegion, StagTable
from pyiwarp.negotiation import Agreement, Role
from pyiwarp.profile import PeerProfile
from pyiwarp.pump import TURN_FPDUS, TimeLimit, no_callback, no_writer, reason_of
from pyiwarp.queues.attribution import is_too_long, refused_request, status_of, wrong_answer
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.confirming_sq import ConfirmingSendQueue
from pyiwarp.queues.counters import QpCounters, figures
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.event_queues import AsyncEventType, event_of_violation
from pyiwarp.queues.qp_options import QpOptions
from pyiwarp.queues.qp_states import NEXT, NEXT_TCP, TCP_OVER, QpInput, QpState, TcpInput, TcpState
from pyiwarp.queues.request_kinds import Posted
from pyiwarp.queues.rq import ReceiveQueue
from pyiwarp.queues.sq import LARGEST_ALONE, SendQueue
from pyiwarp.queues.work import Status

__all__ = ["PumpOwner", "QpPump"]

log = logging.getLogger(__name__)

_qp_numbers = itertools.count(1)
_PART_SHIFT: Final = 16  # 64 KiB of a work request are progress
_PARTS_BITS: Final = 32
_REST_OF_FPDU: Final = "the rest of an FPDU"
_RTS: Final = QpState.RTS
_OPEN: Final = TcpState.OPEN
_SETTLING: Final = TcpState.SETTLING


class PumpOwner(Protocol):
    """The protection domain that a queue pair belongs to, as far as its pump needs to know it."""

    stags: StagTable

    def register(self, buffer: Buffer, access: Access = Access.LOCAL_WRITE) -> MemoryRegion:
        """Register memory for its queue pairs; see `ProtectionDomain.register`."""

    @property
    def queue_pairs(self) -> Sequence[QpPump]:
        """Those that are open."""

    def report(self, event: AsyncEventType, source: object, error: Exception | None = None) -> None:
        """An asynchronous event of the queue pair."""

    def driven_by(self, source: Source) -> None:
        """Queue pairs make progress when `source` does."""


@mypyc_attr(allow_interpreted_subclasses=True)
class QpPump:
    """A queue pair as a driver sees it: `pump.Pump` says what each method means to the driver.

    `on_output` is set by the driver and called when there may be something to write. `write_small` writes a small
    message past the batches if it is alone, `write_pieces` a large one (see `pump.Driver`). `on_ended` is called once,
    when the queue pair has left RTS for good and everything posted has completed. `on_half_closed` is called when the
    peer has closed its half and this side goes on.
    """

    def __init__(
        self, pd: PumpOwner, send_cq: CompletionQueue, recv_cq: CompletionQueue, cap: QpCap, options: QpOptions
    ) -> None:
        srq = options.srq
        self.pd = pd
        self.cap: QpCap = cap if srq is None else replace(cap, max_recv_wr=0)
        """What its queues hold."""
        self.options = options
        """What it was made with."""
        self.linger: float = options.linger
        """How long the end of the connection may take, in seconds."""
        self.profile: PeerProfile = options.profile
        """How to get on with the peer."""
        self.granted: int = int(options.access)
        self.qp_num: int = next(_qp_numbers)
        self.state: QpState = QpState.IDLE
        """Its state, as RDMAP's are in RFC 5040 §6.2."""
        self._tcp = TcpState.NONE
        self.error: Exception | None = None
        """Why the stream ended; None while it lasts and after a graceful end."""
        self.peer: str = ""
        """The peer's address; empty if it is not known."""
        self.on_output: Callable[[], None] = no_callback
        self.write_small: Callable[[bytes], int] = no_writer
        self.write_pieces: Callable[[list[Octets]], int] = no_writer
        self.on_ended: Callable[[], None] = no_callback
        self.on_half_closed: Callable[[], None] = no_callback
        self._stream: Stream | None = None
        kind = ConfirmingSendQueue if options.confirm else SendQueue
        self._sq = kind(
            *(pd, self.cap, send_cq, self.qp_num, self),
            all_signaled=options.sq_sig_all,
            complete_bad=options.complete_bad_sends,
        )
        self._confirming = self._sq if isinstance(self._sq, ConfirmingSendQueue) else None
        self._rq = ReceiveQueue(
            *(pd, self.cap, recv_cq, self.qp_num, srq, lambda: self.on_output()),
            judged_late=options.judge_receives_late,
            apart=options.immediate_apart,
        )
        self._past = QpCounters()  # of the connections before this one
        self._octets_received = 0
        self._end_told = False  # whether `on_ended` was called
        self._flowing: Stream | None = None  # the stream while both sides may send: in RTS, with TCP open

    def __repr__(self) -> str:
        return f"<QueuePair {self._who} {self.state.value} SQ {len(self._sq)} RQ {len(self._rq)}>"

    @property
    def _who(self) -> str:
        """Its number and, once it was connected, the peer: also when the connection has ended."""
        return f"{self.qp_num} with {self.peer}" if self.peer else str(self.qp_num)

    @property
    def stream(self) -> Stream:
        """The stream, once the queue pair was connected."""
        if self._stream is None:
            raise WrongState(f"the queue pair was never connected: {self!r}")
        return self._stream

    @property
    def shares_memory(self) -> bool:
        """Whether other streams reach the regions of the protection domain too."""
        return any(other is not self and other.state is not QpState.IDLE for other in self.pd.queue_pairs)

    def counters(self) -> QpCounters:
        """What has passed through the queue pair since it was made."""
        now = self._past
        if self._stream is not None:
            now = now.plus(figures(self._stream, self._octets_received, self.error))
        return now._replace(flushed=self._sq.flushes + self._rq.flushes)

    # --- states -------------------------------------------------------------------------------

    def _begin(self, agreement: Agreement, prologue: bytes) -> None:
        """Begin Full Operation; raises `WrongState` unless the queue pair is IDLE."""
        self._move(QpInput.CONNECTED)
        self._move_tcp(TcpInput.ESTABLISHED)
        if self._stream is not None:
            self._past = self.counters()
        self._octets_received = 0
        self._sq.begin()
        self._end_told = False
        self._stream = Stream(
            agreement,
            self.pd.stags,
            self.pd,
            self._rq.take,
            mulpdu=self.options.mulpdu,
            pause_when_starved=self.options.pause_when_starved,
            prologue=prologue,
            profile=self.profile,
            extensions=self.options.extensions,
            scope=self,
            receive_fault=lambda: self._rq.fault,
            needs_no_receive=self._rq.needs_none if self._rq.apart else None,
        )
        if agreement.role is not Role.INITIATOR or not self.profile.settle:
            self._move_tcp(TcpInput.SETTLED)
        if agreement.fault is not None:
            self._take(self._stream.fail(agreement.fault))

    def _move(self, fed: QpInput) -> QpState:
        """Follow the table; returns the state that was left."""
        key = (self.state, fed)
        if key not in NEXT:
            raise WrongState(f"{fed.value}, but {self!r}")
        before, self.state = self.state, NEXT[key]
        self._flowing = self._stream if self.state is _RTS and self._tcp is _OPEN else None
        if before is not self.state and log.isEnabledFor(logging.DEBUG):
            log.debug("queue pair %s: %s; %s, was %s", self._who, fed.value, self.state.value, before.value)
        return before

    def _move_tcp(self, fed: TcpInput) -> None:
        """Follow the table of TCP's states."""
        key = (self._tcp, fed)
        if key not in NEXT_TCP:
            raise WrongState(f"{fed.value}, but {self._tcp.value}: {self!r}")
        self._tcp = NEXT_TCP[key]
        self._flowing = self._stream if self.state is _RTS and self._tcp is _OPEN else None

    @property
    def _over(self) -> bool:
        """Whether this side has given up TCP, or TCP has ended."""
        return self._tcp is not _OPEN and self._tcp in TCP_OVER

    # --- for the driver ---------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty."""
        return (self._stream or self.stream).deframer.receive_view()

    def received(self, nbytes: int) -> bool:
        """`nbytes` octets now lie in the view that `receive_view` gave."""
        self._octets_received += nbytes
        stream = self._flowing
        if nbytes <= LARGEST_ALONE and stream is not None and stream.receive_alone(nbytes, self._rq):
            return self._confirming is None and self._flowing is not None  # a callback may have ended the stream
        stream = self._stream or self.stream
        events = stream.received(nbytes)
        if events:
            self._take(events)
        if stream.starved:
            self.resume()
        return False

    def received_eof(self) -> None:
        """The peer closed its half."""
        self._catch_up()
        try:
            self._take(self.stream.received_eof())
        except ConnectionLost as error:
            self._lose(error)

    def resume(self) -> None:
        """Process the Send that waited for a receive, if one was posted; again as long as completions make that so."""
        stream = self._stream or self.stream
        while stream.waiting_ulpdu is not None and self._rq.is_ready():
            self._take(stream.resume())

    def proceed(self, fpdus: int = TURN_FPDUS) -> None:
        """Process the input that the last turn has left; see `Stream.proceed`."""
        self._take(self.stream.proceed(fpdus))
        self.resume()

    def _catch_up(self) -> None:
        """Process all input that is here: no more will come."""
        while self.behind:
            self.proceed()

    def next_iov(self) -> list[Octets]:
        """The octets to write now; [] when there are none."""
        if self._confirming is not None and self.state in (_RTS, QpState.CLOSING):
            self._confirming.confirm(self.stream)
        return [] if self._tcp is _SETTLING else (self._stream or self.stream).next_iov()

    def flushed(self) -> None:
        """The kernel holds everything that `next_iov` gave."""
        stream = self._stream or self.stream
        events, sent = stream.flushed()
        if (
            self._sq.failed_request is None
        ):  # else the peer refused one of the messages, and it is unknown which others it processed
            if events:
                self._take(events)
            self._sq.sent(sent)
        if self.state is not _RTS and self.state is not QpState.CLOSING:
            self._flush()
        elif stream.starved:
            self.resume()  # a callback of a completion may have posted a receive

    def set_emss(self, emss: int) -> None:
        """TCP's segment size is `emss` octets now."""
        self.stream.set_emss(emss)

    def time_limit(self) -> TimeLimit | None:
        """The limit on what the stream waits for now."""
        if self._tcp is _SETTLING:
            return TimeLimit("the peer to settle", self.profile.settle)
        if self.state is _RTS:
            stream = self._stream or self.stream
            if stream.muted and stream.agreement.first_fpdu_timeout is not None:
                return TimeLimit("the first FPDU", stream.agreement.first_fpdu_timeout)
            if self.options.fpdu_timeout is not None and stream.unfinished:
                return TimeLimit(_REST_OF_FPDU, self.options.fpdu_timeout, stream.fpdus_received)
            return None
        if self._ending and not self._over:
            # each work request that completes begins the wait anew, and each part of a large one: a slow peer is waited
            # for, a stuck one is not, and one that only sends is not either
            progress = (len(self._sq) << _PARTS_BITS) + (self.stream.progress >> _PART_SHIFT)
            return TimeLimit("the end of the connection", self.linger, progress)
        return None

    def timed_out(self, limit: TimeLimit) -> None:
        """The wait took too long."""
        if limit != self.time_limit():
            return
        if self._tcp is _SETTLING:
            self._move_tcp(TcpInput.SETTLED)
            return
        if limit.waiting_for == _REST_OF_FPDU:
            message = f"the peer began an FPDU, and its rest did not come within {limit.seconds:g} s (RFC 5042 §6.4)"
            self._lose(FpduTimeout(message))
        elif self.state is QpState.RTS:
            message = f"{limit.waiting_for} did not come within {limit.seconds:g} s (RFC 5044 §7.1.2)"
            self._lose(StartupTimeout(message))
        else:
            self._finish(self._closed_by_both, None)

    def lost(self, cause: Exception | None) -> None:
        """TCP ended: with a `cause` it was lost, without one it was closed after both halves had ended."""
        self._catch_up()
        over, in_order = self._over, cause is None and self._closed_by_both
        self._move_tcp(TcpInput.LET_GO)
        if not over:
            self._finish(in_order, cause)

    @property
    def steady(self) -> bool:
        """Whether only octets matter to the driver now: input is wanted, nothing is timed, no end is near."""
        stream = self._stream
        return self.state is _RTS and stream is not None and stream.flowing and self._tcp is _OPEN

    @property
    def wants_input(self) -> bool:
        """Whether the driver should read: not while a Send waits for a receive, or input for the next turn."""
        return not self.stream.starved and not self.behind

    @property
    def behind(self) -> bool:
        """Whether input waits for the next turn."""
        return self._stream is not None and self._stream.behind

    @property
    def output_ended(self) -> bool:
        """Whether nothing will be sent any more: the driver closes its half.

        A graceful end waits for the send queue, whose Reads need answers first (DDP-5041-6.2.1-01).
        """
        if self.state is _RTS:
            return self._over
        waits = self.state is QpState.CLOSING and self._sq
        return self._over or (self._ending and not waits and self.stream.output_ended)

    @property
    def over(self) -> bool:
        """Whether the driver shall close the connection."""
        if self.state is _RTS:
            return self._over
        return self._over or (self.output_ended and self.stream.peer_closed)

    @property
    def broken(self) -> bool:
        """Whether TCP shall be reset: neither side has sent a Terminate."""
        return self._tcp is TcpState.RESETTING

    @property
    def _ending(self) -> bool:
        return self.state in (QpState.CLOSING, QpState.TERMINATE, QpState.ERROR)

    @property
    def _closed_by_both(self) -> bool:
        """Whether the stream has ended gracefully in both directions (DDP-5041-6.2.1-01)."""
        return self.state is QpState.CLOSING and self.output_ended and self.stream.peer_closed

    # --- events ------------------------------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        for event in events:
            tcp = self._tcp
            if tcp is not _OPEN and tcp is not _SETTLING:
                return  # the event, or a callback of it, ended the stream: the rest was flushed
            if type(event) is Delivered:
                self._rq.delivered(event)
            else:
                _HANDLERS[type(event)](self, event)

    def _on_read_done(self, event: ReadDone) -> None:
        if event.token is not None:  # else the RTR Read, which no work request asked for, but which counts in ORD
            self._sq.answered(event.token)
        self._sq.start_waiting(self.stream)

    def _on_atomic_done(self, event: AtomicDone) -> None:
        posted = event.token
        assert isinstance(posted, Posted)
        posted.value = event.value
        for memory in posted.payload:
            memoryview(memory)[:] = stored(event.value)
        self._sq.answered(posted)
        self._sq.start_waiting(self.stream)

    def _on_peer_closed(self, event: PeerClosed) -> None:
        if self._confirming is not None and len(self._sq):
            self._lose(ConnectionLost("the peer closed its half before it had confirmed what was sent"))
            return
        if self.options.half_close and self.state is QpState.RTS:
            self._rq.flush(self.error)  # DDP-5041-6.2.1-04: the flushes tell the program
            self.on_half_closed()
            return
        self._move(QpInput.PEER_FIN)
        self.stream.finish()

    def _on_peer_terminated(self, event: PeerTerminated) -> None:
        self._move(QpInput.PEER_TERMINATE)
        self.error = self.error or event.error
        sq, stream = self._sq, self.stream
        found = refused_request(event.error, sq.begun(), sq.requests(), stream.send_msn, stream.read_msn)
        if found is None and not event.error.header and self._confirming is not None:
            found = next(iter(sq.begun()), None)  # the peer has processed all before it (RDMAP-5040-5.5-07)
        if found is not None:
            sq.failed_request = found, status_of(event.error.term)
        stream.drop_output()
        stream.finish()
        self._tell(AsyncEventType.QP_FATAL, event.error)
        self._flush_when_let_go()

    def _on_violated(self, event: Violated) -> None:
        if self._move(QpInput.LOCAL_FAULT) is QpState.TERMINATE:
            return
        self.error = error = event.error
        found = wrong_answer(error, self._sq.begun())
        if found is not None:
            self._sq.failed_request = found, Status.BAD_RESP_ERR
        elif is_too_long(error):
            self._rq.flush_status = Status.LOC_LEN_ERR
        elif error is self._rq.fault:
            self._rq.flush_status = Status.LOC_PROT_ERR
        self._tell(event_of_violation(error), error)
        self._flush_when_let_go()

    def _tell(self, event: AsyncEventType, error: Exception) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("queue pair %s: %s: %s", self._who, event.value, error)
        self.pd.report(event, self, error)

    # --- the end -----------------------------------------------------------------------------------------------------

    def abort(self, error: Exception) -> None:
        """End the stream at once, without a Terminate; `error` becomes the cause of every flush."""
        if self.state is not QpState.IDLE and not self._over:
            self._lose(error, told=False)
            self.on_output()

    def fail_request(self, error: Exception) -> None:
        """As `abort`, for a work request that has failed; one that fails when the stream has ended is flushed."""
        if not self._ending or self.state is QpState.CLOSING:
            self.abort(error)

    def _finish(self, in_order: bool, cause: Exception | None) -> None:
        """End the stream: TCP has ended, or the wait for its end took too long."""
        if in_order:
            self._move(QpInput.LLP_CLOSED)
            self._move_tcp(TcpInput.FINISHED)
            self._flush()
        else:
            told = "TCP ended without a graceful close" if cause is None else reason_of(cause)
            self._lose(ConnectionLost(f"the connection was lost: {told}"))

    def _lose(self, error: Exception, *, told: bool = True) -> None:
        """End the stream without a Terminate: TCP is lost, or is to be reset."""
        # in TERMINATE and ERROR the program and the peer know the cause already
        unknown_to_peer = self._move(QpInput.LLP_LOST) in (QpState.RTS, QpState.CLOSING)
        if told and unknown_to_peer:
            self._tell(AsyncEventType.QP_FATAL, error)
        self.error = self.error or error
        self._move_tcp(TcpInput.CUT_OFF if unknown_to_peer else TcpInput.FINISHED)
        self.stream.abandon()
        self._flush()

    def _flush_when_let_go(self) -> None:
        if not self.stream.in_transit:
            self._flush()  # else when the transport has let go of the users' memory

    def _flush(self) -> None:
        """Complete everything that is posted, in order, with a flush."""
        self._sq.flush(self.error)
        self._rq.flush(self.error)
        if not self._end_told:
            self._end_told = True
            if self._rq.srq is not None and self._stream is not None:
                self.pd.report(AsyncEventType.QP_LAST_WQE_REACHED, self)
            self.on_ended()


_HANDLERS: Final[Mapping[type[Event], Callable[[QpPump, Any], None]]] = {
    ReadDone: QpPump._on_read_done,
    AtomicDone: QpPump._on_atomic_done,
    PeerClosed: QpPump._on_peer_closed,
    PeerTerminated: QpPump._on_peer_terminated,
    Violated: QpPump._on_violated,
}
