"""Queue pairs: work requests in, completions out, one stream between (RFC 5040 §5.5, the verbs' state model).

A queue pair is a pump for a driver: it passes octets to its `Stream` and turns the events that come back into
completions. Every posted work request completes exactly once, in the order of its queue.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from mypy_extensions import mypyc_attr

from pyiwarp.buffers import Octets
from pyiwarp.engine.events import AtomicDone, Delivered, Event, PeerClosed, PeerTerminated, ReadDone, Violated
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import Closed, ConnectionLost, LocalCatastrophe, StartupTimeout, UsageError, WrongState
from pyiwarp.memory.atomics import stored
from pyiwarp.mr import StagTable
from pyiwarp.negotiation import Agreement, Role
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.pump import TimeLimit
from pyiwarp.queues.attribution import culprit, is_too_long, status_of, wrong_answer
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.confirming_sq import ConfirmingSendQueue
from pyiwarp.queues.counters import QpAttributes, QpCounters, figures
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.event_queues import AsyncEventType, event_of_violation
from pyiwarp.queues.qp_states import NEXT, QpInput, QpState
from pyiwarp.queues.request_kinds import Posted
from pyiwarp.queues.rq import ReceiveQueue
from pyiwarp.queues.sq import SendQueue
from pyiwarp.queues.srq import SharedReceiveQueue
from pyiwarp.queues.waiting import Drain
from pyiwarp.queues.work import Recv, SendRequest, Status

__all__ = ["QpCap", "QpInput", "QpState", "QueuePair"]

log = logging.getLogger(__name__)

_qp_numbers = itertools.count(1)
_RTS: Final = QpState.RTS


class Owner(Protocol):
    """The protection domain that a queue pair belongs to, as far as it needs to know it."""

    stags: StagTable

    @property
    def queue_pairs(self) -> list[QueuePair]:
        """Those that are open."""

    def qp_closed(self, qp: QueuePair) -> None:
        """The queue pair is gone."""

    def report(self, event: AsyncEventType, source: object, error: Exception | None = None) -> None:
        """Something has befallen the queue pair: an asynchronous event."""


@mypyc_attr(allow_interpreted_subclasses=True)
class QueuePair:
    """One end of an RDMA connection; made by `ProtectionDomain.create_qp`.

    `on_output` is set by the driver and called when there may be something to write; `on_ended` is called once, when
    the queue pair has left RTS for good and everything posted has completed. `linger` bounds the wait for the peer
    when a stream ends, in seconds. With `half_close` the queue pair goes on sending when the peer has closed its half,
    until `disconnect`; its receives are flushed and `on_half_closed` is called. Without, it ends when what was posted
    has been sent, as hardware does.

    With `srq` receives are taken from there. With `sq_sig_all` every work request has a completion, unsignaled or not.
    With `confirm` a Write or Send completes only when the peer has processed it, so that an error of its is laid on
    the work request that caused it; that takes Reads, and ORD must be 1 at least.
    """

    def __init__(
        self,
        pd: Owner,
        send_cq: CompletionQueue,
        recv_cq: CompletionQueue,
        cap: QpCap,
        *,
        pause_when_starved: bool = False,
        mulpdu: int | None = None,
        linger: float = 5.0,
        profile: PeerProfile = PROFILES["rfc"],
        extensions: bool = True,
        half_close: bool = False,
        srq: SharedReceiveQueue | None = None,
        sq_sig_all: bool = False,
        confirm: bool = False,
    ) -> None:
        self.pd = pd
        self.send_cq = send_cq
        self.recv_cq = recv_cq
        self.cap = cap if srq is None else replace(cap, max_recv_wr=0)
        self.linger = linger
        self.profile = profile
        self._settling = False
        self._extensions = extensions
        self._half_close = half_close
        self.qp_num = next(_qp_numbers)
        self.state = QpState.IDLE
        self.error: Exception | None = None
        self.peer = ""  # its address, where a driver knows it: access logs name it
        self.on_output: Callable[[], None] = _nothing
        self.on_ended: Callable[[], None] = _nothing
        self.on_half_closed: Callable[[], None] = _nothing
        self._pause_when_starved = pause_when_starved
        self._mulpdu = mulpdu
        self._stream: Stream | None = None
        kind = ConfirmingSendQueue if confirm else SendQueue
        self._sq = kind(pd, self.cap, send_cq, self.qp_num, self, all_signaled=sq_sig_all)
        self._confirming = self._sq if isinstance(self._sq, ConfirmingSendQueue) else None
        self._rq = ReceiveQueue(pd, self.cap, recv_cq, self.qp_num, srq, lambda: self.on_output())
        self._attached = False  # to a driver, which has not said yet that TCP has ended
        self._past = QpCounters()  # of the connections before this one
        self._octets_received = 0
        self._over = self._broken = False
        self._ended = False
        self._closed = False
        for used in (send_cq, recv_cq, srq):
            if used is not None:
                used.users += 1

    def __repr__(self) -> str:
        return f"<QueuePair {self.qp_num} {self.state.value} SQ {len(self._sq)} RQ {len(self._rq)}>"

    def __enter__(self) -> QueuePair:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def stream(self) -> Stream:
        """The stream, once the queue pair was connected."""
        if self._stream is None:
            raise WrongState(f"the queue pair was never connected: {self!r}")
        return self._stream

    @property
    def alive(self) -> bool:
        """Whether the stream still carries messages: work posted now is not flushed at once."""
        return self.state in (QpState.RTS, QpState.IDLE) and not self._over and not self._closed

    @property
    def shares_memory(self) -> bool:
        """Whether other streams reach the regions of the protection domain too."""
        return any(other is not self and other.state is not QpState.IDLE for other in self.pd.queue_pairs)

    @property
    def send_room(self) -> int:
        """How many more work requests the send queue takes."""
        return self.cap.max_send_wr - len(self._sq)

    # --- life --------------------------------------------------------------------------------------------------------

    def connect(self, agreement: Agreement, prologue: bytes = b"") -> None:
        """Begin Full Operation under `agreement`; `prologue` is the Reply that a Responder still owes.

        Raises `WrongState` unless the queue pair is IDLE, which it also is after a graceful end.
        """
        self._check_open()
        self._move(QpInput.CONNECTED)
        self._past = self.counters()
        self._octets_received = 0
        self._sq.begin()
        self._over = self._ended = self._broken = False
        self._attached = True
        self._stream = Stream(
            agreement,
            self.pd.stags,
            self.pd,
            self._rq.take,
            mulpdu=self._mulpdu,
            pause_when_starved=self._pause_when_starved,
            prologue=prologue,
            profile=self.profile,
            extensions=self._extensions,
            scope=self,
        )
        self._settling = agreement.role is Role.INITIATOR and self.profile.settle > 0
        if agreement.fault is not None:
            self._take(self._stream.fail(agreement.fault))

    def disconnect(self) -> None:
        """End the stream gracefully: what was posted is sent, then TCP is closed (DDP-5041-6.2.1-01).

        Does nothing if the stream has ended or never began.
        """
        if self.state is QpState.RTS:
            self._move(QpInput.CLOSE)
            self.stream.finish()
            self._sq.when_drained(self._on_sq_drained)
            self.on_output()

    def speak_first(self) -> None:
        """Let this Responder send though the Initiator has not: its program knows that the Initiator is ready.

        MPA-5044-7.1.2-16 forbids it, because an Initiator that still awaits the Reply could take FPDUs for it. A
        program may know better from elsewhere, as perftest's server does from its other connection, and its clients
        of `ib_write_lat` never send first.
        """
        self.stream.speak_first()
        self.on_output()

    def abort(self, error: Exception) -> None:
        """End the stream at once, without a word to the peer; `error` becomes the cause of every flush."""
        if self.state is not QpState.IDLE and not self._over:
            self._lose(error, told=False)
            self.on_output()

    def close(self) -> None:
        """Give the queue pair up; whatever is posted is flushed and the connection aborted. Twice does nothing."""
        if self._closed:
            return
        error = Closed(f"the queue pair was closed: {self!r}")
        self.abort(error)
        self.error = self.error or (error if self._rq else None)
        self._flush()
        self._closed = True
        for used in (self.send_cq, self.recv_cq, self._rq.srq):
            if used is not None:
                used.users -= 1
        self.pd.qp_closed(self)

    def modify(self, state: QpState | None = None, *, linger: float | None = None) -> None:
        """Move the queue pair to `state`, as far as a program may; change `linger`, in seconds.

        CLOSING is `disconnect`. TERMINATE ends the stream with a Terminate (local catastrophic error), ERROR at once
        and without a word; either flushes what is posted. IDLE makes a queue pair in ERROR ready for the next
        `connect`, once its driver has let go of TCP. RTS is reached by `connect` alone. Raises `WrongState` for all
        else.
        """
        self._check_open()
        if linger is not None:
            if linger < 0:
                raise UsageError(f"a wait of {linger:g} seconds")
            self.linger = linger
        if state is None:
            return
        if state is QpState.IDLE:
            self._reset()
        elif self.state in (QpState.IDLE, QpState.ERROR) or state is QpState.RTS:
            raise WrongState(f"a program cannot make it {state.name}: {self!r}")
        elif state is QpState.CLOSING:
            self.disconnect()
        elif state is QpState.TERMINATE:
            self._take(self.stream.fail(LocalCatastrophe("the program ended the stream")))  # RDMAP-5040-7.1-02
            self.on_output()
        else:
            self.abort(Closed(f"the program moved it to ERROR: {self!r}"))

    def _reset(self) -> None:
        if self._attached and self.state is QpState.ERROR:
            raise WrongState(f"its TCP connection has not ended yet: {self!r}")
        self._move(QpInput.RESET)
        self._past = self.counters()
        self._stream = self.error = None
        self._over = self._ended = self._broken = False

    def query(self) -> QpAttributes:
        """The queue pair as it is now."""
        stream = self._stream
        return QpAttributes(
            self.state,
            self.error,
            self.qp_num,
            self.cap,
            self._sq.all_signaled,
            self._confirming is not None,
            len(self._sq),
            self._rq.unfinished,
            self.send_room,
            self.linger,
            None if stream is None else stream.agreement,
            0 if stream is None else len(stream.reads),
            0 if stream is None else stream.mulpdu,
        )

    def counters(self) -> QpCounters:
        """What has passed through the queue pair since it was made."""
        now = self._past
        if self._stream is not None:
            now = now.plus(figures(self._stream, self._octets_received, self.error))
        return now._replace(flushed=self._sq.flushes + self._rq.flushes)

    def drain_sq(self, on_drained: Callable[[], None] | None = None) -> Awaitable[None]:
        """Wait until no work request is left in the send queue: `await` it, or be called.

        It ends nothing by itself. Cancelling the wait changes nothing, a callback is called all the same.
        """
        return Drain(on_drained, self._sq.when_drained)

    def drain_rq(self, on_drained: Callable[[], None] | None = None) -> Awaitable[None]:
        """Wait until no receive is left in the receive queue; otherwise as `drain_sq`.

        Receives that no Send comes for are left until the stream ends. Those of a shared queue count when taken.
        """
        return Drain(on_drained, self._rq.when_drained)

    def drain(self, on_drained: Callable[[], None] | None = None) -> Awaitable[None]:
        """Wait until nothing is left in either queue; otherwise as `drain_sq`."""
        return Drain(on_drained, self._sq.when_drained, self._rq.when_drained)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed(f"the queue pair is closed: {self!r}")

    def _move(self, fed: QpInput) -> QpState:
        """Follow the table; returns the state that was left."""
        key = (self.state, fed)
        if key not in NEXT:
            raise WrongState(f"{fed.value}, but {self!r}")
        before, self.state = self.state, NEXT[key]
        if before is not self.state and log.isEnabledFor(logging.DEBUG):
            log.debug("queue pair %d: %s; %s, was %s", self.qp_num, fed.value, self.state.value, before.value)
        return before

    # --- posting -----------------------------------------------------------------------------------------------------

    def post_send(self, request: SendRequest) -> None:
        """Add a work request to the send queue; its end is told by exactly one completion (none if unsignaled and ok).

        The memory of its SGEs belongs to the stack until then. Raises `WrongState` before the queue pair is
        connected, `QueueFull`, or `BadWorkRequest` for memory that may not be used so; nothing was posted then.
        """
        stream = self._stream
        if stream is None or self.state is not _RTS or self._closed or not self._sq.post_promptly(stream, (request,)):
            self._post_send(request)
        self.on_output()

    def post_send_many(self, requests: Sequence[SendRequest]) -> None:
        """Post work requests in their order, as `post_send` would one by one, and tell the driver once.

        What raises for one of them raises here: those before it are posted, it and those behind it are not. The
        error's note says how many were.
        """
        done = 0
        try:
            if self.state is _RTS and not self._closed:
                done = self._sq.post_promptly(self.stream, requests)
            for request in itertools.islice(requests, done, None) if done else requests:
                self._post_send(request)
                done += 1
        except Exception as error:
            error.add_note(f"{done} of {len(requests)} work requests were posted before it")
            raise
        finally:
            if done:
                self.on_output()

    def _post_send(self, request: SendRequest) -> None:
        if self.state is QpState.RTS and not self._closed:
            self._sq.post(self.stream, request)
            return
        self._check_open()
        if self.state is QpState.IDLE:
            raise WrongState(f"a send is posted, but {self!r}")
        self._sq.post_late(request, self.error)

    def post_recv(self, request: Recv) -> None:
        """Add a receive for a Send of the peer; raises `QueueFull`, or `BadWorkRequest` for memory it may not write."""
        self._check_open()
        stream = self._stream
        if self.state is not QpState.IDLE and (stream is None or stream.peer_closed or self.state is not _RTS):
            self._rq.post_late(request, self.error)
            return
        self._rq.post(request)
        if stream is not None and stream.starved:
            self.on_output()

    # --- the pump's side ---------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Where the next octets shall land; never empty."""
        return (self._stream or self.stream).receive_view()

    def received(self, nbytes: int) -> None:
        """`nbytes` octets now lie in the view that `receive_view` gave."""
        self._octets_received += nbytes
        events = (self._stream or self.stream).received(nbytes)
        if events:
            self._take(events)

    def received_eof(self) -> None:
        """The peer closed its half."""
        try:
            self._take(self.stream.received_eof())
        except ConnectionLost as error:
            self._lose(error)

    def resume(self) -> None:
        """Digest what waited for a receive, if one was posted."""
        if self.stream.starved and self._rq.is_ready():
            self._take(self.stream.resume())

    def next_iov(self) -> list[Octets]:
        """The octets to write now; [] when there are none."""
        if self._confirming is not None and self.state in (_RTS, QpState.CLOSING):
            self._confirming.confirm(self.stream)
        return [] if self._settling else (self._stream or self.stream).next_iov()

    def flushed(self) -> None:
        """The kernel holds everything that `next_iov` gave."""
        events, sent = (self._stream or self.stream).flushed()
        if self._sq.blame is None:  # else the peer has refused some of it, and of none it is known what became
            if events:
                self._take(events)
            self._sq.sent(sent)
        if self.state is not _RTS and self.state is not QpState.CLOSING:
            self._flush()

    def set_emss(self, emss: int) -> None:
        """TCP's segment size is `emss` octets now."""
        self.stream.set_emss(emss)

    def time_limit(self) -> TimeLimit | None:
        """The limit on what the stream waits for now."""
        if self._settling:
            return TimeLimit("the peer to settle", self.profile.settle)
        if self.state is QpState.RTS and self.stream.muted and self.stream.agreement.first_fpdu_timeout is not None:
            return TimeLimit("the first FPDU", self.stream.agreement.first_fpdu_timeout)
        if self._ending and not self._over:
            # each FPDU that moves begins the wait anew: a slow peer is waited for, a stuck one is not
            return TimeLimit("the end of the connection", self.linger, self.stream.progress)
        return None

    def timed_out(self, limit: TimeLimit) -> None:
        """The wait took too long."""
        if limit != self.time_limit():
            return
        if self._settling:
            self._settling = False
            return
        if self.state is QpState.RTS:
            message = f"{limit.waiting_for} did not come within {limit.seconds:g} s (RFC 5044 §7.1.2)"
            self._lose(StartupTimeout(message))
        else:
            self.lost(None)

    def lost(self, cause: Exception | None) -> None:
        """TCP ended: with a `cause` it was lost, without one it was closed after both halves had ended."""
        self._attached = False
        if self._over:
            return
        if cause is None and self.state is QpState.CLOSING and self.output_ended and self.stream.peer_closed:
            self._move(QpInput.LLP_CLOSED)
            self._over = True
            self._flush()
            return
        self._lose(ConnectionLost(f"the connection was lost: {cause or 'it ended without a word'}"))

    @property
    def steady(self) -> bool:
        """Whether only octets matter to the driver now: input is wanted, nothing is timed, no end is near."""
        stream = self._stream
        return self.state is _RTS and stream is not None and stream.flowing and not self._settling

    @property
    def wants_input(self) -> bool:
        """Whether the driver should read: not while a Send waits for a receive."""
        return not self.stream.starved

    @property
    def output_ended(self) -> bool:
        """Whether nothing will be sent any more: the driver closes its half.

        A graceful end waits for the send queue, whose Reads need answers first (DDP-5041-6.2.1-01).
        """
        waits = self.state is QpState.CLOSING and self._sq
        return self._over or (self._ending and not waits and self.stream.output_ended)

    @property
    def over(self) -> bool:
        """Whether the connection is of no more use: the driver closes it."""
        return self._over or (self.output_ended and self.stream.peer_closed)

    @property
    def broken(self) -> bool:
        """Whether the stream was cut off: no Terminate told the peer, nor did it send one."""
        return self._broken

    @property
    def _ending(self) -> bool:
        return self.state in (QpState.CLOSING, QpState.TERMINATE, QpState.ERROR)

    # --- events ------------------------------------------------------------------------------------------------------

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if self._over:  # an event, or whom it called, ended everything: the rest was flushed
                return
            if type(event) is Delivered:
                self._rq.delivered(event)
            else:
                _HANDLERS[type(event)](self, event)

    def _on_read_done(self, event: ReadDone) -> None:
        if event.token is not None:  # else the Read that opened the stream: nobody's work request, but in ORD
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

    def _on_sq_drained(self) -> None:
        if self.state is QpState.CLOSING:  # else it was flushed, which is told otherwise
            self.pd.report(AsyncEventType.SQ_DRAINED, self)

    def _on_peer_closed(self, event: PeerClosed) -> None:
        if self._confirming is not None and len(self._sq):
            self._lose(ConnectionLost("the peer closed its half before it had confirmed what was sent"))
            return
        if self._half_close and self.state is QpState.RTS:
            self._rq.flush(self.error)  # DDP-5041-6.2.1-04: this is how the program hears of it
            self.on_half_closed()
            return
        self._move(QpInput.PEER_FIN)
        self.stream.finish()

    def _on_peer_terminated(self, event: PeerTerminated) -> None:
        self._move(QpInput.PEER_TERMINATE)
        self.error = self.error or event.error
        sq, stream = self._sq, self.stream
        found = culprit(event.error, sq.begun(), sq.requests(), stream.send_msn, stream.read_msn)
        if found is not None:
            sq.blame = found, status_of(event.error.term)
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
            self._sq.blame = found, Status.BAD_RESP_ERR
        elif is_too_long(error):
            self._rq.blame = Status.LOC_LEN_ERR
        self._tell(event_of_violation(error), error)
        self._flush_when_let_go()

    def _tell(self, event: AsyncEventType, error: Exception) -> None:
        if log.isEnabledFor(logging.INFO):
            log.info("queue pair %d: %s: %s", self.qp_num, event.value, error)
        self.pd.report(event, self, error)

    def _lose(self, error: Exception, *, told: bool = True) -> None:
        """TCP is gone or shall be: nothing more can be said."""
        # in TERMINATE and ERROR the cause was told, to the program and to the peer
        self._broken = self._move(QpInput.LLP_LOST) in (QpState.RTS, QpState.CLOSING)
        if told and self._broken:
            self._tell(AsyncEventType.QP_FATAL, error)
        self.error = self.error or error
        self._over = True
        self.stream.abandon()
        self._flush()

    # --- flushing ----------------------------------------------------------------------------------------------------

    def _flush_when_let_go(self) -> None:
        if not self.stream.in_transit:
            self._flush()  # else when the transport has let go of the users' memory

    def _flush(self) -> None:
        """Complete everything that is posted, in order, as it will never be done."""
        self._sq.flush(self.error)
        self._rq.flush(self.error)
        if not self._ended:
            self._ended = True
            if self._rq.srq is not None and self._stream is not None:
                self.pd.report(AsyncEventType.QP_LAST_WQE_REACHED, self)
            self.on_ended()


_HANDLERS: Final[Mapping[type[Event], Callable[[QueuePair, Any], None]]] = {
    ReadDone: QueuePair._on_read_done,
    AtomicDone: QueuePair._on_atomic_done,
    PeerClosed: QueuePair._on_peer_closed,
    PeerTerminated: QueuePair._on_peer_terminated,
    Violated: QueuePair._on_violated,
}


def _nothing() -> None:
    """What a queue pair tells that nobody listens to."""
