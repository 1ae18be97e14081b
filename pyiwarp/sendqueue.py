"""The send queue: what is begun when, and that everything completes once and in order (RFC 5040 §5.5, §6.1)."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from pyiwarp.admission import QpCap
from pyiwarp.cq import CompletionQueue
from pyiwarp.errors import BadWorkRequest, QueueFull, WrongState
from pyiwarp.kinds import KINDS, Held, Kind, Posted
from pyiwarp.stream import Stream
from pyiwarp.work import Completion, SendRequest, Status

__all__ = ["SendQueue", "unpin"]


class QpOwner(Protocol):
    """The queue pair, as far as its send queue needs to know it."""

    def abort(self, error: Exception) -> None:
        """End the stream at once: a work request has failed."""


class SendQueue:
    """The requests that a queue pair was given to send, from their posting to their completion in `cq`.

    A request is begun at once, unless a fence or ORD holds it back, and everything behind it. `pd` is the protection
    domain whose memory may be used, `qp_num` what completions say of where they come from, `owner` the queue pair,
    which owns some of the memory itself.
    """

    __slots__ = ("_late", "_posted", "_waiting", "answers_due", "cap", "cq", "owner", "pd", "qp_num")

    def __init__(self, pd: object, cap: QpCap, cq: CompletionQueue, qp_num: int, owner: QpOwner) -> None:
        self.pd = pd
        self.owner = owner
        self.cap = cap
        self.cq = cq
        self.qp_num = qp_num
        self.answers_due = 0
        self._posted: deque[Posted] = deque()
        self._waiting: deque[Posted] = deque()
        self._late: deque[Completion] = deque()  # flushes of what was posted too late, behind what was in time

    def __len__(self) -> int:
        return len(self._posted)

    def check_room(self) -> None:
        """Raises `QueueFull` if nothing more can be posted."""
        if len(self._posted) + len(self._late) >= self.cap.max_send_wr:
            raise QueueFull(
                f"the send queue of queue pair {self.qp_num} holds {self.cap.max_send_wr} work requests already"
            )

    def post(self, stream: Stream, request: SendRequest) -> None:
        """Judge a request, pin its memory, and begin it when its turn has come.

        Raises `QueueFull`, `BadWorkRequest` for what may not be asked, `Closed` for memory that is gone, `WrongState`
        for what the peer can no longer answer; nothing was posted then.
        """
        self.check_room()
        kind = KINDS[type(request)]
        admitted = kind.admit(request, self)
        if kind.answered:
            self._check_answerable(stream)
        posted = Posted(request, kind, admitted)
        for sge in posted.sges:
            sge[0].pin()
        self._posted.append(posted)
        held = (self.answers_due or kind.answered) and not self._may_start(posted, stream)
        if held or self._waiting:
            self._waiting.append(posted)  # RDMAP-5040-5.5-10: nothing overtakes
            return
        if kind.answered:
            self.answers_due += 1
        kind.start(stream, posted)
        if posted.done:
            self.complete()

    def post_late(self, request: SendRequest, error: Exception | None) -> None:
        """Take a request that can only be flushed, when everything before it is complete."""
        self.check_room()
        self._late.append(self._flushed(request.wr_id, KINDS[type(request)], error))
        self._complete_late()

    def start_waiting(self, stream: Stream) -> None:
        """Begin what was held back and no longer is."""
        waiting = self._waiting
        while waiting and self._may_start(waiting[0], stream):
            posted = waiting.popleft()
            if posted.kind.answered:
                self.answers_due += 1
            posted.kind.start(stream, posted)
            if posted.error is not None:
                self.owner.abort(posted.error)  # as every work request that fails
            elif posted.done:
                self.complete()

    def answered(self, posted: object) -> None:
        """A request that waited for the peer's answer has it."""
        self.answers_due -= 1
        if isinstance(posted, Posted) and posted.kind.finish is not None:
            posted.kind.finish(posted)

    def complete(self) -> None:
        """Complete the requests at the head of the queue that are done (RDMAP-5040-5.5-12)."""
        queue = self._posted
        while queue and queue[0].done:
            posted = queue.popleft()
            unpin(posted.sges)
            request = posted.request
            if request.signaled:
                opcode, nbytes, value = posted.kind.opcode, posted.nbytes, posted.value
                self.cq.push(Completion(request.wr_id, Status.SUCCESS, opcode, nbytes, self.qp_num, value=value))
        if self._late:
            self._complete_late()

    def flush(self, error: Exception | None) -> None:
        """Complete everything that is posted, in order, as it will never be done (RDMAP-5040-5.4-08, -6.2.1-02)."""
        self._waiting.clear()
        self.answers_due = 0
        while self._posted:
            posted = self._posted.popleft()
            unpin(posted.sges)
            self.cq.push(self._flushed(posted.request.wr_id, posted.kind, error, posted.error))
        self._complete_late()

    def _may_start(self, posted: Posted, stream: Stream) -> bool:
        if self.answers_due and posted.request.fence:
            return False
        return not (posted.kind.answered and stream.reads.full)  # RDMAP-5040-6.1-05

    def _check_answerable(self, stream: Stream) -> None:
        if stream.peer_closed:
            raise WrongState(f"the peer has closed its half and can answer nothing: queue pair {self.qp_num}")
        if not stream.reads.limit:
            raise BadWorkRequest("ORD is 0: the peer answers no Reads and no Atomics (RFC 5040 §6.1)")

    def _complete_late(self) -> None:
        while self._late and not self._posted:
            self.cq.push(self._late.popleft())

    def _flushed(self, wr_id: object, kind: Kind, error: Exception | None, own: Exception | None = None) -> Completion:
        if own is not None:
            return Completion(wr_id, kind.refused, kind.opcode, 0, self.qp_num, error=own)
        return Completion(wr_id, Status.WR_FLUSH_ERR, kind.opcode, 0, self.qp_num, error=error)


def unpin(sges: Held) -> None:
    """Work is done with the memory of these elements, or with these operations."""
    for sge in sges:
        sge[0].unpin()
