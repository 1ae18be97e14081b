"""Queue pairs as programs see them: work requests in, completions out (RFC 5040 §5.5, the verbs' state model).

`qp_pump` is what a driver sees of one. Every posted work request completes exactly once, in the order of its queue.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from pyiwarp.access import Access, check_granted
from pyiwarp.errors import Closed, LocalCatastrophe, UsageError, WrongState
from pyiwarp.exports import public_names
from pyiwarp.negotiation import Agreement
from pyiwarp.pump import HELD, NOT_NOW, Pump
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.counters import QpAttributes
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.event_queues import AsyncEventType
from pyiwarp.queues.qp_options import QpOptions
from pyiwarp.queues.qp_pump import PumpOwner, QpPump
from pyiwarp.queues.qp_states import QpInput, QpState, TcpInput, TcpState
from pyiwarp.queues.waiting import Drain
from pyiwarp.queues.work import Recv, Send, SendRequest

__all__ = ["QpCap", "QpInput", "QpOptions", "QpState", "QueuePair"]

_RTS: Final = QpState.RTS
_INTERNAL: Final = frozenset(vars(Pump)) | {
    *("fail_request", "granted", "on_output", "pair_large", "pair_small", "send_small", "shares_memory", "take_small"),
    *("check_open", "flush_silently", "write_pieces", "write_small"),
}
"""What drivers and the stack below call; `dir()` of a queue pair does not show it."""


class Owner(PumpOwner, Protocol):
    """The protection domain that a queue pair belongs to, as far as it needs to know it."""

    def qp_closed(self, qp: QueuePair) -> None:
        """The queue pair was closed."""


@mypyc_attr(allow_interpreted_subclasses=True)
class QueuePair(QpPump):
    """One end of an RDMA connection; made by `ProtectionDomain.create_qp`, whose `QpOptions` it has.

    `on_ended` is called once, when the queue pair has left RTS for good and everything posted has completed;
    `on_half_closed` when the peer has closed its half and this side goes on.
    """

    def __init__(
        self, pd: Owner, send_cq: CompletionQueue, recv_cq: CompletionQueue, cap: QpCap, options: QpOptions
    ) -> None:
        super().__init__(pd, send_cq, recv_cq, cap, options)
        self.send_cq = send_cq
        """Where work requests of the send queue complete."""
        self.recv_cq = recv_cq
        """Where receives complete."""
        self._on_closed = pd.qp_closed
        self._closed = False
        for used in (send_cq, recv_cq, options.srq):
            if used is not None:
                used.users += 1

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def __enter__(self) -> QueuePair:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the stream still carries messages: work posted now is not flushed at once."""
        return self.state in (QpState.RTS, QpState.IDLE) and not self._over and not self._closed

    @property
    def send_room(self) -> int:
        """How many more work requests the send queue takes."""
        return self.cap.max_send_wr - len(self._sq)

    # --- life --------------------------------------------------------------------------------------------------------

    def connect(self, agreement: Agreement, prologue: bytes = b"") -> None:
        """Begin Full Operation under `agreement`; `prologue` is the Reply that a Responder still owes.

        Raises `WrongState` unless the queue pair is IDLE, which it also is after a graceful end.
        """
        self.check_open()
        self._begin(agreement, prologue)

    def disconnect(self) -> None:
        """End the stream gracefully: what was posted is sent, then TCP is closed (DDP-5041-6.2.1-01).

        Does nothing if the stream has ended or never began.
        """
        if self.state is QpState.RTS:
            self._move(QpInput.CLOSE)
            self.stream.finish()
            self._sq.when_drained(self._on_sq_drained)
            self.on_output()

    def _on_sq_drained(self) -> None:
        if self.state is QpState.CLOSING:  # else it was flushed, which is told otherwise
            self.pd.report(AsyncEventType.SQ_DRAINED, self)

    def speak_first(self) -> None:
        """Let this Responder send though the Initiator has not: its program knows that the Initiator is ready.

        MPA-5044-7.1.2-16 forbids it, because an Initiator that still awaits the Reply could take FPDUs for it. A
        program may know from another connection that the Initiator is ready, as perftest's server does from its other
        connection, and its clients of `ib_write_lat` never send first.
        """
        self.stream.speak_first()
        self.on_output()

    def close(self) -> None:
        """Give the queue pair up; whatever is posted is flushed and the connection aborted. Twice does nothing."""
        if self._closed:
            return
        if self._rq or not (self.state is QpState.IDLE or self._over):
            error = Closed(f"the queue pair was closed: {self!r}")
            self.abort(error)
            self.error = self.error or (error if self._rq else None)
        self._flush()
        self._closed = True
        for used in (self.send_cq, self.recv_cq, self._rq.srq):
            if used is not None:
                used.users -= 1
        self._on_closed(self)

    def modify(
        self, state: QpState | None = None, *, linger: float | None = None, access: Access | None = None
    ) -> None:
        """Move the queue pair to `state`, as far as a program may; change `linger`, in seconds, and `access`.

        CLOSING is `disconnect`. TERMINATE ends the stream with a Terminate (local catastrophic error), ERROR at once
        and without a Terminate; either flushes what is posted. IDLE makes a queue pair in ERROR ready for the next
        `connect`, once its driver has closed TCP. RTS is reached by `connect` alone. `access` judges what comes from
        then on; a Read that is being answered goes on. Raises `WrongState` for all else, `UsageError` for a `linger`
        or an `access` that cannot be.
        """
        self.check_open()
        if linger is not None and linger < 0:
            raise UsageError(f"a wait of {linger:g} seconds")
        if access is not None:
            check_granted(access)
            self.granted = int(access)
        if linger is not None:
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
        if self.state is QpState.ERROR and self._tcp is not TcpState.ENDED:
            raise WrongState(f"its TCP connection has not ended yet: {self!r}")
        self._move(QpInput.RESET)
        self._move_tcp(TcpInput.RESET)
        self._past = self.counters()
        self._stream = self.error = None
        self._end_told = False

    def query(self) -> QpAttributes:
        """The queue pair as it is now."""
        stream = self._stream
        return QpAttributes(
            state=self.state,
            error=self.error,
            qp_num=self.qp_num,
            cap=self.cap,
            sq_sig_all=self._sq.all_signaled,
            confirm=self._confirming is not None,
            sends_posted=len(self._sq),
            receives_posted=self._rq.unfinished,
            send_room=self.send_room,
            linger=self.linger,
            access=Access(self.granted),
            agreement=None if stream is None else stream.agreement,
            reads_outstanding=0 if stream is None else len(stream.reads),
            mulpdu=0 if stream is None else stream.mulpdu,
        )

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

    def check_open(self) -> None:
        """Raise `Closed` if it was closed."""
        if self._closed:
            raise Closed(f"the queue pair is closed: {self!r}")

    # --- posting -----------------------------------------------------------------------------------------------------

    def post_send(self, request: SendRequest) -> None:
        """Add a work request to the send queue; exactly one completion tells its end (none if unsignaled and ok).

        The memory of its SGEs belongs to the stack until then. Raises `WrongState` before the queue pair is
        connected, `QueueFull`, or `BadWorkRequest` for memory that may not be used so; nothing was posted then.
        """
        stream = self._flowing
        if stream is not None and type(request) is Send and self._sq.send_alone(stream, request, self.write_small):
            return
        stream = self._stream
        if stream is None or self.state is not _RTS or self._closed or not self._sq.post_fast(stream, (request,)):
            self._post_send(request)
        self.on_output()

    def send_small(self, octets: bytes, *, solicited: bool) -> bool:
        """Send octets if nothing else waits to be sent, and the kernel has room; False, and nothing done, otherwise.

        There is a completion only if the connection ends before the kernel has all of them: a flush without `wr_id`.
        """
        stream = self._flowing
        return stream is not None and self._sq.send_octets_alone(stream, octets, solicited, self.write_small)

    def pair_small(self, ahead: tuple[int, int, bytes], word: bytes) -> bool:
        """As `send_small`, for an RDMA Write, as STag, TO and octets, and the Send of `word` that tells of it."""
        stream = self._flowing
        return stream is not None and self._sq.pair_small(stream, ahead, word, self.write_small)

    def pair_large(self, ahead: tuple[int, int, memoryview], word: bytes, wr_id: object) -> bool | None:
        """As `pair_small`, for octets of any length, which are the caller's again when this returns.

        Returns False if the kernel has all of them; True if the driver has copied the rest, and then there will be one
        completion, with `wr_id`; None if nothing was done.
        """
        stream = self._flowing
        if stream is None:
            return None
        handed = self._sq.pair_large(stream, ahead, word, wr_id, self.write_pieces)
        return None if handed == NOT_NOW else handed == HELD

    def take_small(self, taker: Callable[[memoryview], bool]) -> None:
        """Ask `taker` first for each small Send that comes by itself and is not solicited, with its octets.

        They are good for this call.

        If it says True, there is no completion, and the receive stays: as if it had completed and was posted again. It
        may post, and may not raise.
        """
        self._rq.small_taker = taker

    def flush_silently(self) -> None:
        """Receives that no message comes for have no completions: nobody looks at them."""
        self._rq.silent = True

    def post_send_many(self, requests: Sequence[SendRequest]) -> None:
        """Post work requests in their order, as `post_send` would one by one, and tell the driver once.

        What raises for one of them raises here: those before it are posted, it and those behind it are not. The
        error's note says how many were.
        """
        done = 0
        stream = self._stream
        try:
            if stream is not None and self.state is _RTS and not self._closed:
                pair = len(requests) == 2 and self._flowing is not None
                if pair and self._sq.pair_alone(stream, requests, self.write_small):
                    return
                done = self._sq.post_fast(stream, requests)
            for request in itertools.islice(requests, done, None) if done else requests:
                self._post_send(request)
                done += 1
        except Exception as error:
            _note(error, done, len(requests))
            raise
        finally:
            if done:
                self.on_output()

    def _post_send(self, request: SendRequest) -> None:
        if self.state is QpState.RTS and not self._closed:
            self._sq.post(self.stream, request)
            return
        self.check_open()
        if self.state is QpState.IDLE:
            raise WrongState(f"a send is posted, but {self!r}")
        self._sq.post_late(request, self.error)

    def post_recv(self, request: Recv) -> None:
        """Add a receive for a Send of the peer; raises `QueueFull`, or `BadWorkRequest` for memory it may not write."""
        stream = self._flowing
        if (stream is None or stream.peer_closed) and self._flushes_receives():
            self._rq.post_late(request, self.error)
            return
        self._rq.post(request)
        if stream is None:
            stream = self._stream
        if stream is not None and stream.waiting_ulpdu is not None:
            self.on_output()

    def post_recv_many(self, requests: Sequence[Recv]) -> None:
        """Post receives in their order, as `post_recv` would one by one, and tell the driver once.

        What raises for one of them raises here, as in `post_send_many`.
        """
        late = self._flushes_receives()
        done = 0 if late else self._rq.post_fast(requests)
        try:
            for request in itertools.islice(requests, done, None):
                if late:
                    self._rq.post_late(request, self.error)
                else:
                    self._rq.post(request)
                done += 1
        except Exception as error:
            _note(error, done, len(requests))
            raise
        finally:
            stream = self._stream
            if done and stream is not None and stream.starved:
                self.on_output()

    def _flushes_receives(self) -> bool:
        """Whether no Send can come any more for a receive that is posted now; raises `Closed`."""
        if self._closed:
            self.check_open()
        if self.state is QpState.IDLE:
            return False
        stream = self._stream
        return stream is None or stream.peer_closed or self.state is not _RTS


def _note(error: Exception, done: int, count: int) -> None:
    error.add_note(f"{done} of {count} work requests were posted before it")
