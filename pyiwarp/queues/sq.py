"""The send queue: when each request begins; each completes once, in order (RFC 5040 §5.5, §6.1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Any, Final, Protocol

from pyiwarp.buffers import Octets
from pyiwarp.engine.stream import Stream
from pyiwarp.errors import BadMemory, BadWorkRequest, Closed, QueueFull, WrongState
from pyiwarp.mr import RemoteRegion
from pyiwarp.pump import HELD, NOT_NOW
from pyiwarp.queues.checks import QpCap
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.fast_post import FAST_POST, payload_size
from pyiwarp.queues.request_kinds import KINDS, Held, Kind, Posted
from pyiwarp.queues.work import Completion, Send, SendRequest, Status, WorkOpcode, Write, is_named, new

__all__ = ["LARGEST_ALONE", "SendQueue", "unpin"]

_NOTHING_HELD: Final[Held] = ()
_SUCCESS: Final = Status.SUCCESS
_SEND: Final = WorkOpcode.SEND
LARGEST_ALONE: Final = 1024
"""Payloads of so many octets may go to the kernel past the batches: more of them are cheaper together."""


class QpOwner(Protocol):
    """The queue pair, as far as its send queue needs to know it."""

    def fail_request(self, error: Exception) -> None:
        """End the stream at once, unless it has ended: a work request has failed."""


class SendQueue:
    """The requests that a queue pair was given to send, from their posting to their completion in `cq`.

    A request is begun at once, unless a fence or ORD holds it back, and everything behind it. `pd` is the protection
    domain whose memory may be used, `qp_num` what completions say of where they come from, `owner` the queue pair,
    which owns some of the memory itself. With `all_signaled` every request has a completion. `failed_request` is the
    request that an error belongs to, and the status that it completes with when the others are flushed. With
    `complete_bad` a request whose memory may not be used fails in its turn, instead of raising.
    """

    __slots__ = (
        "_framed",
        "_late",
        "_posted",
        "_recorded",
        "_sent",
        "_telling",
        "_waiting",
        "all_signaled",
        "answers_due",
        "cap",
        "complete_bad",
        "cq",
        "failed_request",
        "flushes",
        "limit",
        "may_post_fast",
        "owner",
        "pd",
        "qp_num",
    )

    failed_request: tuple[Posted, Status] | None

    def __init__(
        self,
        pd: object,
        cap: QpCap,
        cq: CompletionQueue,
        qp_num: int,
        owner: QpOwner,
        *,
        all_signaled: bool = False,
        complete_bad: bool = False,
    ) -> None:
        self.pd = pd
        self.owner = owner
        self.cap = cap
        self.limit = cap.max_send_wr
        self.cq = cq
        self.qp_num = qp_num
        self.all_signaled = all_signaled
        self.complete_bad = complete_bad
        self.may_post_fast = True  # whether requests may be framed where they are posted
        self.flushes = 0
        self._framed: list[Any] = []  # framed when they were posted, before all of `_posted`, and not sent yet
        self._recorded: list[Posted] = []  # those of them that stand in `_posted` after all
        self._sent: deque[Any] = deque()  # framed when they were posted, sent since, and about to complete
        self._posted: deque[Posted] = deque()
        self._waiting: deque[Posted] = deque()
        self._telling = False  # a program is told of what went alone; what it posts then goes the plain way
        # behind what was in time: flushes of what was posted too late, and calls to those who wait for the end of all
        self._late: deque[Completion | Callable[[], None]] = deque()
        self.begin()

    def __len__(self) -> int:
        return len(self._posted) + len(self._framed) + len(self._sent)

    def begin(self) -> None:
        """A new connection begins."""
        self.answers_due = 0
        self.failed_request = None
        self._recorded.clear()

    def check_room(self) -> None:
        """Raises `QueueFull` if nothing more can be posted."""
        if len(self) + len(self._late) < self.limit:
            return
        if len(self) + sum(isinstance(late, Completion) for late in self._late) >= self.limit:
            raise QueueFull(f"the send queue of queue pair {self.qp_num} holds {self.limit} work requests already")

    def post_fast(self, stream: Stream, requests: Sequence[SendRequest]) -> int:
        """Post the first of the requests the fast way, as many as it takes and as fit; returns how many."""
        if not stream.can_frame_now or self._posted or self._late or not self.may_post_fast:
            return 0
        room = self.limit - len(self._framed) - len(self._sent)
        if len(requests) > room:
            requests = list(islice(requests, room))
        done = 0
        while done < len(requests):
            try:
                frame = FAST_POST.get(type(requests[done]))
                framed = 0 if frame is None else frame(requests, done, self, stream)
            except Exception:  # of any kind: the plain way says what is wrong, once the requests before it are posted
                break
            if not framed:
                break
            done += framed
        self._framed += requests if done == len(requests) else islice(requests, done)
        return done

    def send_alone(self, stream: Stream, request: Send, write: Callable[[bytes], int]) -> bool:
        """Post a small Send and give it to the kernel by `write`, if it is alone; False and nothing done if it is not.

        What the kernel takes whole is complete. A program that is called at once by its completion goes the plain way,
        in which the driver sees to it that nothing makes progress beneath.
        """
        if self._posted or self._framed or self._sent or self._late or self._telling or not self.may_post_fast:
            return False
        sges, wr_id, inline, inval_stag, solicited, signaled, _ = request
        told = signaled or self.all_signaled
        if inval_stag is not None or (told and self.cq.armed):
            return False
        octets: Any = inline
        try:
            if inline is None:
                ((region, start, nbytes),) = sges
                if nbytes > LARGEST_ALONE:
                    return False
                octets = region.source_view(self.pd, start, nbytes)
                if octets is None:
                    return False
            else:
                nbytes = len(inline)
                if sges or type(inline) is not bytes or nbytes > LARGEST_ALONE or nbytes > self.cap.max_inline:
                    return False
        except Exception:  # of any kind: the plain way says what is wrong
            return False
        handed = stream.send_alone(octets, nbytes, write, solicited)
        if handed == NOT_NOW:
            return False
        if handed == HELD:
            self._framed.append(request)
        elif told:
            fields = (wr_id, _SUCCESS, _SEND, nbytes, self.qp_num, None, False, None, None, None)
            self._telling = True
            try:
                self.cq.push(new(Completion, fields))
            finally:
                self._telling = False
        return True

    def send_octets_alone(self, stream: Stream, octets: bytes, solicited: bool, write: Callable[[bytes], int]) -> bool:
        """As `send_alone`, for a Send of inline octets that needs no completion."""
        if self._posted or self._framed or self._sent or self._late or self._telling or not self.may_post_fast:
            return False
        nbytes = len(octets)
        if nbytes > LARGEST_ALONE or nbytes > self.cap.max_inline or self.all_signaled:
            return False
        handed = stream.send_alone(octets, nbytes, write, solicited)
        if handed == HELD:
            self._framed.append(Send((), None, octets, None, solicited, False))
        return handed != NOT_NOW

    def pair_alone(self, stream: Stream, requests: Sequence[SendRequest], write: Callable[[bytes], int]) -> bool:
        """As `send_alone`, for a small Write and the Send behind it that tells of it: they are one piece to write."""
        if self._posted or self._framed or self._sent or self._late or self._telling or not self.may_post_fast:
            return False
        if self.limit < 2:
            return False
        first, second = requests
        if type(first) is not Write or type(second) is not Send or second.inval_stag is not None or second.solicited:
            return False
        told = first.signaled or second.signaled or self.all_signaled
        if told and self.cq.armed:
            return False
        remote = first.remote
        octets, message = self._octets_alone(first), self._octets_alone(second)
        if octets is None or message is None or not is_named(remote, len(octets)):
            return False
        handed = stream.send_alone(message, len(message), write, ahead=(remote.stag, remote.to, octets))
        if handed == NOT_NOW:
            return False
        if handed == HELD:
            self._framed += requests
        elif told:
            self._sent += requests
            self._telling = True
            try:
                self._complete()
            finally:
                self._telling = False
        return True

    def pair_small(
        self, stream: Stream, ahead: tuple[int, int, bytes], word: bytes, write: Callable[[bytes], int]
    ) -> bool:
        """As `pair_alone`, for a Write, as STag, TO and octets, and a Send of `word`, both unsignaled.

        The stack makes them itself: both are small, and the place can be.
        """
        if self._posted or self._framed or self._sent or self._late or self._telling or not self.may_post_fast:
            return False
        if self.all_signaled or self.limit < 2:
            return False
        handed = stream.send_alone(word, len(word), write, ahead=ahead)
        if handed == HELD:
            stag, to, octets = ahead
            remote = RemoteRegion(to, stag, len(octets))
            self._framed += Write((), remote, None, octets, False), Send((), None, word, None, False, False)
        return handed != NOT_NOW

    def pair_large(
        self,
        stream: Stream,
        ahead: tuple[int, int, memoryview],
        word: bytes,
        wr_id: object,
        write: Callable[[list[Octets]], int],
    ) -> int:
        """As `pair_small`, for a Write of any length; returns what was done. What is HELD has a completion later."""
        if self._posted or self._framed or self._sent or self._late or self._telling or not self.may_post_fast:
            return NOT_NOW
        if self.all_signaled or self.limit < 2:
            return NOT_NOW
        handed = stream.pair_large(ahead, word, write)
        if handed == HELD:  # the octets are the driver's: an error needs no more than their place
            stag, to, octets = ahead
            remote = RemoteRegion(to, stag, len(octets))
            self._framed += Write((), remote, None, b"", False), Send((), wr_id, word)
        return handed

    def _octets_alone(self, request: Send | Write) -> Octets | None:
        """The octets of a small request; None if the plain way has to look at it."""
        sges, inline = request.sges, request.inline
        try:
            if inline is None:
                ((region, start, nbytes),) = sges
                return region.source_view(self.pd, start, nbytes) if nbytes <= LARGEST_ALONE else None
            if sges or type(inline) is not bytes or len(inline) > min(LARGEST_ALONE, self.cap.max_inline):
                return None
        except Exception:  # of any kind: the plain way says what is wrong
            return None
        return inline

    def post(self, stream: Stream, request: SendRequest) -> None:
        """Judge a request, pin its memory, and begin it when its turn has come.

        Raises `QueueFull`, `BadWorkRequest` for what may not be asked, `Closed` for memory that is gone, `WrongState`
        for what the peer can no longer answer; nothing was posted then.
        """
        queue = self._posted
        if len(self) + len(self._late) >= self.limit:
            self.check_room()
        kind = KINDS[type(request)]
        if kind.answered:
            self._check_answerable(stream)
        try:
            nbytes, sges, payload = kind.admit(request, self)
        except (BadMemory, Closed) as error:
            if not self.complete_bad:
                raise
            self._post_bad(Posted(request, kind, 0, _NOTHING_HELD, ()), error)
            return
        posted = Posted(request, kind, nbytes, sges, payload)
        queue.append(posted)
        if ((self.answers_due or kind.answered) and not self._may_start(posted, stream)) or self._waiting:
            self._waiting.append(posted)
            return
        self.answers_due += kind.answered
        kind.start(stream, posted)
        if posted.done:  # what is for this side alone
            self._complete()

    def _post_bad(self, posted: Posted, error: Exception) -> None:
        posted.error = error.with_traceback(None)  # its frames would keep users' memory unresizable
        self._posted.append(posted)
        self._waiting.append(posted)  # and what is posted behind it: none of that begins
        self._fail_bad()

    def _fail_bad(self) -> None:
        """End the queue pair if a bad request is next, as all before it are complete."""
        if self._waiting and self._waiting[0].error is not None and len(self) == len(self._waiting):
            self.owner.fail_request(self._waiting[0].error)

    def post_late(self, request: SendRequest, error: Exception | None) -> None:
        """Take a request that can only be flushed, when everything before it is complete."""
        self.check_room()
        self._late.append(self._flushed(request.wr_id, KINDS[type(request)], error))
        self._complete_late()

    def start_waiting(self, stream: Stream) -> None:
        """Begin the requests that a fence or ORD holds back no longer."""
        waiting = self._waiting
        # a violation or Terminate may have come right behind an answer: then all that waits will be flushed
        while waiting and not stream.input_discarded and self._may_start(waiting[0], stream):
            posted = waiting.popleft()
            self.answers_due += posted.kind.answered
            posted.kind.start(stream, posted)
            if posted.error is not None:
                self.owner.fail_request(posted.error)
            elif posted.done:
                self._complete()

    def answered(self, token: object) -> None:
        """The peer's answer to one of the requests that wait for it has come (RDMAP-5040-5.5-19)."""
        self.answers_due -= 1
        if isinstance(token, Posted) and token.kind.finish is not None:
            token.kind.finish(token)
        self._settle((token,))

    def sent(self, tokens: Iterable[object]) -> None:
        """TCP has the messages that these tokens stand for (RDMAP-5040-5.5-11), and all that were framed early."""
        if self._framed:
            self._sent += self._framed
            self._framed.clear()
        if self._sent:
            self._complete_sent()
        if self._recorded:
            recorded, self._recorded = self._recorded, []
            self._settle(recorded)
        if tokens or self._posted or self._late:
            self._settle(tokens)

    def _complete_sent(self) -> None:
        sent, all_signaled = self._sent, self.all_signaled
        while sent:  # a callback of a completion may post, flush, or call this method
            request = sent.popleft()
            if request.signaled or all_signaled:
                opcode, nbytes = KINDS[type(request)].opcode, payload_size(request)
                self.cq.push(Completion(request.wr_id, Status.SUCCESS, opcode, nbytes, self.qp_num))

    def _settle(self, tokens: Iterable[object]) -> None:
        for posted in tokens:
            assert isinstance(posted, Posted)
            posted.done = True
        self._complete()

    def _complete(self) -> None:
        """Complete the requests at the head of the queue that are done (RDMAP-5040-5.5-12)."""
        if self._sent:
            self._complete_sent()  # they come first
        if self._framed:
            return  # they complete first; `sent` calls this method again
        queue = self._posted
        while queue and queue[0].done:
            posted = queue.popleft()
            for region, _, _ in posted.sges:
                region.unpin()
            request = posted.request
            if request.signaled or self.all_signaled:
                opcode, nbytes, value = posted.kind.opcode, posted.nbytes, posted.value
                self.cq.push(Completion(request.wr_id, Status.SUCCESS, opcode, nbytes, self.qp_num, value=value))
        if queue:
            self._fail_bad()
        if self._late:
            self._complete_late()

    def flush(self, error: Exception | None) -> None:
        """Complete everything that is posted, in order, with a flush (RDMAP-5040-5.4-08, -6.2.1-02)."""
        self._waiting.clear()
        self._record_framed()
        failed, status = self.failed_request or (None, Status.WR_FLUSH_ERR)
        self.begin()
        self.flushes += len(self._posted)
        while self._posted:
            posted = self._posted.popleft()
            unpin(posted.sges)
            flushed = self._flushed(posted.request.wr_id, posted.kind, error, posted.error)
            self.cq.push(flushed._replace(status=status) if posted is failed else flushed)
        self._complete_late()

    def begun(self) -> Sequence[Posted]:
        """The requests that were given to the stream and are not complete, in order."""
        self._record_framed()
        return list(self._posted)[: len(self._posted) - len(self._waiting)]

    def requests(self) -> Sequence[Posted | None]:
        """Those of them that the peer answers; None stands for one that no work request asked for."""
        return [posted for posted in self.begun() if posted.kind.answered]

    def when_drained(self, call: Callable[[], None]) -> None:
        """Make a call when no request is left; at once if there is none."""
        self._late.append(call)
        self._complete_late()

    def _record_framed(self) -> None:
        """Make a `Posted` for each request that was framed when it was posted."""
        while self._framed:
            self._recorded.append(self._record(self._framed.pop()))
        while self._sent:
            self._record(self._sent.pop()).done = True

    def _record(self, request: Any) -> Posted:
        posted = Posted(request, KINDS[type(request)], payload_size(request), _NOTHING_HELD, ())
        self._posted.appendleft(posted)
        return posted

    def _may_start(self, posted: Posted, stream: Stream) -> bool:
        if posted.error is not None:
            return False
        if self.answers_due and posted.request.fence:
            return False
        return not (posted.kind.answered and stream.reads.full)  # RDMAP-5040-6.1-05

    def _check_answerable(self, stream: Stream) -> None:
        if stream.peer_closed:
            raise WrongState(f"the peer has closed its half and can answer nothing: queue pair {self.qp_num}")
        if not stream.reads.limit:
            raise BadWorkRequest("ORD is 0: the peer answers no Reads and no Atomics (RFC 5040 §6.1)")

    def _complete_late(self) -> None:
        while self._late and not len(self):
            late = self._late.popleft()
            if isinstance(late, Completion):
                self.flushes += 1
                self.cq.push(late)
            else:
                late()

    def _flushed(self, wr_id: object, kind: Kind, error: Exception | None, own: Exception | None = None) -> Completion:
        if own is not None and own is error:  # it ended the stream; of several only one did
            return Completion(wr_id, kind.refused, kind.opcode, 0, self.qp_num, error=own)
        return Completion(wr_id, Status.WR_FLUSH_ERR, kind.opcode, 0, self.qp_num, error=error)


def unpin(sges: Held) -> None:
    """Work is done with the memory of these elements, or with these operations."""
    for region, _, _ in sges:
        region.unpin()
