"""Shared receive queues: receives that several queue pairs take from (the verbs model's SRQ)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from pyiwarp.errors import Closed, QueueFull, RegionInUse, UsageError
from pyiwarp.memory.handles import Domain
from pyiwarp.queues.checks import QpCap, check_count_of_sges, pinned_sinks
from pyiwarp.queues.sq import unpin
from pyiwarp.queues.work import Recv

__all__ = ["SharedReceiveQueue", "SrqAttributes"]


class SrqAttributes(NamedTuple):
    """What a shared receive queue holds at most, when it tells that it runs low (0: it does not), and what is in it."""

    max_wr: int
    """Receives that it holds."""
    max_sge: int
    """Elements in the list of one receive."""
    limit: int
    """Below so many receives an event is due; 0 is never."""
    posted: int
    """Receives that wait for a Send."""


class SharedReceiveQueue:
    """Receives for the Sends that come to any of the queue pairs attached to it; made by `create_srq`.

    When a Send begins to arrive, its queue pair takes the oldest receive. From then on the receive is that queue
    pair's: it completes in that queue pair's receive completion queue, in order or flushed. What was not taken stays.
    `on_limit` is called when fewer receives than the limit are left. `max_wr` and `max_sge` bound what can be posted.
    `judged_late` says that receives are judged when they are taken: see `QpOptions`.
    """

    def __init__(
        self,
        pd: Domain,
        max_wr: int,
        max_sge: int,
        on_limit: Callable[[SharedReceiveQueue], None],
        on_closed: Callable[[SharedReceiveQueue], None],
        device_wr: int,
        *,
        judged_late: bool = False,
    ) -> None:
        self.pd = pd
        self.users = 0
        """How many queue pairs take receives from it."""
        self.limit = 0
        """Below so many receives an event is due, once; 0 is never."""
        self.cap: QpCap = QpCap(max_recv_wr=max_wr, max_sge=max_sge)
        """What it was made for; `max_wr` may have changed since."""
        self.judged_late: bool = judged_late
        """Whether receives are judged when they are taken."""
        self._device_wr = device_wr
        self._on_limit = on_limit
        self._on_closed = on_closed
        self._posted: deque[Recv] = deque()
        self._starved: dict[
            Callable[[], None], None
        ] = {}  # the callbacks of queue pairs that found no receive, in order
        self._open = True
        self.max_wr: int = self._judge(max_wr)

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<SharedReceiveQueue {len(self._posted)} of {self.max_wr}, {self.users} queue pairs{state}>"

    def __len__(self) -> int:
        return len(self._posted)

    def __enter__(self) -> SharedReceiveQueue:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the queue can be used."""
        return self._open

    def post_recv(self, request: Recv) -> None:
        """Add a receive for one Send to any of the queue pairs; its memory belongs to the stack until it completes.

        Raises `QueueFull`, `BadWorkRequest` for memory that may not be written, `Closed`.
        """
        self._check_open()
        if len(self._posted) >= self.max_wr:
            raise QueueFull(f"the shared receive queue holds {self.max_wr} work requests already")
        if self.judged_late:
            check_count_of_sges(request.sges, self.cap)
        else:
            request = Recv(pinned_sinks(request.sges, self.pd, self.cap), request.wr_id)
        self._posted.append(request)
        if self._starved:
            starved, self._starved = self._starved, {}
            for on_posted in starved:
                on_posted()

    def modify(self, *, max_wr: int | None = None, limit: int | None = None) -> None:
        """Hold `max_wr` receives from now on; tell once when fewer than `limit` are left, at once if so now.

        A limit of 0 tells nothing. Raises `RegionInUse` if more than `max_wr` receives are in the queue, `UsageError`
        for numbers that cannot be, and has changed nothing then.
        """
        self._check_open()
        if max_wr is not None and max_wr < len(self._posted):
            raise RegionInUse(f"{len(self._posted)} receives do not fit into {max_wr}: {self!r}")
        size = self.max_wr if max_wr is None else self._judge(max_wr)
        if limit is not None and not 0 <= limit <= size:
            raise UsageError(f"a limit of {limit} in a queue of {size} receives: {self!r}")
        self.max_wr = size
        self.limit = self.limit if limit is None else limit
        self._look_at_limit()

    def query(self) -> SrqAttributes:
        """Its figures now."""
        self._check_open()
        return SrqAttributes(self.max_wr, self.cap.max_sge, self.limit, len(self._posted))

    def offers(self, on_posted: Callable[[], None]) -> bool:
        """Whether there is a receive; if not, `on_posted` is called when one is posted."""
        if not self._posted:
            self._starved[on_posted] = None
        return bool(self._posted)

    def take(self, on_posted: Callable[[], None]) -> Recv | None:
        """The oldest receive, for a queue pair; if there is none, None and a call as with `offers`."""
        if not self.offers(on_posted):
            return None
        receive = self._posted.popleft()
        if self.limit:
            self._look_at_limit()
        return receive

    def forget(self, on_posted: Callable[[], None]) -> None:
        """That call is no longer wanted: its queue pair has ended."""
        self._starved.pop(on_posted, None)

    def close(self) -> None:
        """Give the queue up, and the receives in it: no queue pair has taken them, so they do not complete.

        Raises `RegionInUse` while queue pairs are attached. Twice does nothing.
        """
        if self.users:
            raise RegionInUse(f"{self.users} queue pairs take receives from it: {self!r}")
        if not self._open:
            return
        self._open = False
        while self._posted:
            sges: Any = self._posted.popleft().sges
            if not self.judged_late:
                unpin(sges)
        self._on_closed(self)

    def _look_at_limit(self) -> None:
        if len(self._posted) < self.limit:
            self.limit = 0  # told once; `modify` arms it again
            self._on_limit(self)

    def _judge(self, max_wr: int) -> int:
        if not 1 <= max_wr <= self._device_wr:
            raise UsageError(f"{max_wr} receives; the device offers 1 to {self._device_wr}")
        return max_wr

    def _check_open(self) -> None:
        if not self._open:
            raise Closed(f"the shared receive queue is closed: {self!r}")
