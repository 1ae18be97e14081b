"""The receive queue: receives wait for the peer's Sends, are taken in order, and complete once (RFC 5040 §5.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from pyiwarp.engine.events import Delivered
from pyiwarp.errors import BadWorkRequest, LocalCatastrophe, QueueFull
from pyiwarp.memory.handles import Domain
from pyiwarp.mr import RegionSlice
from pyiwarp.queues.checks import QpCap, check_count_of_sges, pinned_sinks
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.srq import SharedReceiveQueue
from pyiwarp.queues.work import Completion, Recv, Status, WorkOpcode, new

__all__ = ["ReceiveQueue"]

_SUCCESS: Final = Status.SUCCESS
_RECV: Final = WorkOpcode.RECV
_NO_RECEIVE: Final = Recv()  # stands among those that were taken for Immediate Data that takes none


class ReceiveQueue:
    """The receives of a queue pair, from their posting to their completion in `cq`; the rest as in `SendQueue`.

    With `srq` nothing is posted here (`cap.max_recv_wr` is 0): receives are taken from there when a Send arrives, and
    `on_posted` is called when there is one for a Send that found none. `flush_status` is the status of
    the oldest receive that a message has taken, when the receives are flushed; all others have WR_FLUSH_ERR.
    `judged_late` says that receives are judged, and their memory is pinned, when a message takes them. One that is bad
    then is taken without memory, and `fault` says what was wrong. Immediate Data takes no receive if, as a number, it
    has a bit of `apart`. With `silent` receives that are flushed have no completions.
    """

    __slots__ = (
        "apart",
        "cap",
        "cq",
        "fault",
        "flush_status",
        "flushes",
        "judged_late",
        "late",
        "limit",
        "on_posted",
        "pd",
        "posted",
        "qp_num",
        "silent",
        "small_taker",
        "srq",
        "taken",
    )

    def __init__(
        self,
        pd: Domain,
        cap: QpCap,
        cq: CompletionQueue,
        qp_num: int,
        srq: SharedReceiveQueue | None,
        on_posted: Callable[[], None],
        *,
        judged_late: bool = False,
        apart: int = 0,
    ) -> None:
        self.pd = pd
        self.cap = cap
        self.limit = cap.max_recv_wr
        self.cq = cq
        self.qp_num = qp_num
        self.srq = srq
        self.on_posted = on_posted
        self.judged_late = judged_late if srq is None else srq.judged_late
        self.apart = apart
        self.fault: LocalCatastrophe | None = None
        self.flush_status = Status.WR_FLUSH_ERR
        self.flushes = 0
        self.small_taker: Callable[[memoryview], bool] | None = None
        self.silent = False
        self.posted: deque[Recv] = deque()
        self.taken: deque[Recv] = deque()  # by messages; of the last some octets may be missing
        self.late: deque[Completion | Callable[[], None]] = deque()

    def __len__(self) -> int:
        return len(self.posted)

    def is_ready(self) -> bool:
        """Whether there is a receive for the next Send; if a shared queue has none, `on_posted` is called later."""
        return bool(self.posted) or (self.srq is not None and self.srq.offers(self.on_posted))

    @property
    def unfinished(self) -> int:
        """Receives posted or taken here, and not complete."""
        return len(self.posted) + len(self.taken)

    def check_room(self) -> None:
        """Raises `QueueFull` if nothing more can be posted."""
        if len(self.posted) + len(self.late) < self.cap.max_recv_wr:
            return
        if self.srq is not None:
            raise BadWorkRequest(f"queue pair {self.qp_num} takes its receives from {self.srq!r}: post them there")
        limit = self.cap.max_recv_wr
        if len(self.posted) + sum(isinstance(late, Completion) for late in self.late) >= limit:
            raise QueueFull(f"the receive queue of queue pair {self.qp_num} holds {limit} work requests already")

    def post(self, request: Recv) -> None:
        """Judge a receive, pin its memory, and let it wait for a Send.

        Raises `QueueFull`, `BadWorkRequest` for memory that may not be written, `Closed` for memory that is gone.
        """
        if self.late or len(self.posted) >= self.limit:
            self.check_room()
        sges = request.sges
        if self.judged_late:
            check_count_of_sges(sges, self.cap)
        else:
            pinned = False
            if len(sges) == 1 and type(sges[0]) is RegionSlice:
                region, offset, nbytes = sges[0]
                pinned = region.pin_sink(self.pd, offset, nbytes)
            if not pinned:
                request = Recv(pinned_sinks(sges, self.pd, self.cap), request.wr_id)
        self.posted.append(request)

    def post_fast(self, requests: Sequence[Recv]) -> int:
        """Post the first of the receives, as many as are one piece of a region and have room; returns how many.

        The fast twin of `post` for a list: whatever it leaves, `post` judges.
        """
        if self.judged_late:
            return 0
        done = pins = limit = 0
        known: Any = None  # the region of the last one
        room = self.limit - len(self.posted) - len(self.late)
        try:
            for request in requests:
                (sge,) = request.sges
                if done >= room or type(sge) is not RegionSlice:
                    break
                region, offset, nbytes = sge
                if region is not known:
                    if not region.pin_sink(self.pd, offset, nbytes):
                        break
                    if pins:
                        known.pin(pins)
                        pins = 0
                    known, limit = region, region.nbytes
                elif offset < 0 or nbytes < 0 or offset + nbytes > limit:
                    break
                else:
                    pins += 1
                done += 1
        except Exception:  # of any kind: `post` says what is wrong
            pass
        if pins:
            known.pin(pins)
        self.posted.extend(requests[:done])
        return done

    def post_late(self, request: Recv, error: Exception | None) -> None:
        """Take a receive that can only be flushed, when everything before it is complete."""
        self.check_room()
        self.late.append(self._flushed(request, error))
        self._complete_late()

    def take(self) -> Sequence[memoryview] | None:
        """The memory of the oldest receive, for a message that has begun to come.

        None if there is no receive, or if it is bad: `fault` says so.
        """
        receive: Recv | None
        if self.judged_late:
            receive = self._judged()
        elif self.posted:
            receive = self.posted.popleft()
        else:
            receive = None if self.srq is None else self.srq.take(self.on_posted)
        if receive is None:
            return None
        self.taken.append(receive)
        sges: Any = receive.sges
        if len(sges) == 1:
            region, offset, nbytes = sges[0]
            return (region.pinned_view(offset, nbytes),)
        return [region.pinned_view(offset, nbytes) for region, offset, nbytes in sges]

    def needs_none(self, immediate: bytes) -> bool:
        """Whether Immediate Data that comes next takes no receive; its completion has no `wr_id` then."""
        if not int.from_bytes(immediate, "big") & self.apart:
            return False
        self.taken.append(_NO_RECEIVE)
        return True

    def _judged(self) -> Recv | None:
        """The oldest receive, whose memory was judged now; None if there is none, or if it is bad."""
        if self.fault is not None or not self.is_ready():
            return None
        receive = self.posted.popleft() if self.srq is None else self.srq.take(self.on_posted)
        assert receive is not None, "is_ready has seen to it"
        try:
            sges = pinned_sinks(receive.sges, self.pd, self.cap if self.srq is None else self.srq.cap)
        except Exception as error:  # of any kind: what is no element at all is no fault of the peer's or the driver's
            self.fault = LocalCatastrophe(f"the receive of this message names memory that may not be written: {error}")
            self.taken.append(Recv((), receive.wr_id))
            return None
        return Recv(sges, receive.wr_id)

    def delivered(self, event: Delivered) -> None:
        """Complete the receive of the oldest message that took one (RDMAP-5040-5.3-05)."""
        receive = self.taken.popleft()
        sges: Any = receive.sges
        for region, _, _ in sges:
            region.unpin()
        _, _, nbytes, solicited, inval_stag, immediate = event
        fields = (receive.wr_id, _SUCCESS, _RECV, nbytes, self.qp_num, inval_stag, solicited, None, immediate, None)
        self.cq.push(new(Completion, fields))
        if self.late:
            self._complete_late()

    def deliver_alone(self, payload: memoryview, solicited: bool) -> None:
        """As `take` and `delivered`: place a whole Send in the oldest receive, which has one piece, and complete it."""
        sges: Any
        sges, wr_id = self.posted.popleft()
        ((region, offset, _),) = sges
        region.fill(offset, payload)
        fields = (wr_id, _SUCCESS, _RECV, len(payload), self.qp_num, None, solicited, None, None, None)
        self.cq.push(new(Completion, fields))
        if self.late:
            self._complete_late()

    def flush(self, error: Exception | None) -> None:
        """Complete every receive, in order, with a flush: no message will come for it."""
        if self.srq is not None:
            self.srq.forget(self.on_posted)
        if self.apart:
            self.taken = deque(receive for receive in self.taken if receive is not _NO_RECEIVE)
        held = len(self.taken) if self.judged_late else len(self.taken) + len(self.posted)
        receives = [*self.taken, *self.posted]
        self.fault = None
        status, self.flush_status = (self.flush_status if self.taken else Status.WR_FLUSH_ERR), Status.WR_FLUSH_ERR
        self.flushes += len(receives)
        self.taken.clear()
        self.posted.clear()
        if self.silent:
            _unpin(receives[:held])
            receives = []
        for number, receive in enumerate(receives):
            sges: Any = receive.sges
            if number < held:
                for region, _, _ in sges:
                    region.unpin()
            fields = (receive.wr_id, status, _RECV, 0, self.qp_num, None, False, error, None, None)
            self.cq.push(new(Completion, fields))
            status = Status.WR_FLUSH_ERR  # only the oldest one failed
        self._complete_late()

    def when_drained(self, call: Callable[[], None]) -> None:
        """Make a call when no receive is left; at once if there is none."""
        self.late.append(call)
        self._complete_late()

    def _complete_late(self) -> None:
        while self.late and not (self.posted or self.taken):
            late = self.late.popleft()
            if isinstance(late, Completion):
                self.flushes += 1
                self.cq.push(late)
            else:
                late()

    def _flushed(self, request: Recv, error: Exception | None) -> Completion:
        return Completion(request.wr_id, Status.WR_FLUSH_ERR, _RECV, 0, self.qp_num, error=error)


def _unpin(receives: Sequence[Recv]) -> None:
    """No message will come for these receives; those behind one another often have one region."""
    known: Any = None
    pins = 0
    for receive in receives:
        sges: Any = receive.sges
        for region, _, _ in sges:
            if region is not known and pins:
                known.unpin(pins)
                pins = 0
            known = region
            pins += 1
    if pins:
        known.unpin(pins)
