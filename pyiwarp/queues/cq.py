"""Completion queues: bounded queues of completions, which programs poll or wait for."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Final, Protocol

from mypy_extensions import mypyc_attr

from pyiwarp.drivers.descriptors import Source
from pyiwarp.errors import Closed, QueueFull, RegionInUse, UsageError
from pyiwarp.exports import public_names
from pyiwarp.queues.waiting import Waiters
from pyiwarp.queues.work import Completion

__all__ = ["CompletionQueue"]

log = logging.getLogger(__name__)

_INTERNAL: Final = frozenset({"armed", "progress", "push", "users"})


class Channel(Protocol):
    """Where a completion queue reports that it has a completion; see `event_queues.CompletionChannel`."""

    def put(self, event: CompletionQueue) -> None:
        """The queue has a completion."""

    def driven_by(self, source: Source) -> None:
        """Completions come when `source` makes progress."""


@mypyc_attr(allow_interpreted_subclasses=True)
class CompletionQueue:
    """A bounded queue of completions; made by `Context.create_cq`.

    A program polls it, is called once at the next completion (`arm`), is told by a completion channel
    (`request_notify`), or takes completions with `async for`. `on_overflow` is called once when a completion finds the
    queue full; the queue takes nothing after that, and its queue pairs go to ERROR. `progress` holds what `poll` calls
    first: the drivers that have no loop to run them. `max_cqe` bounds `resize`. `empty_polls` counts the polls that
    found nothing.
    """

    def __init__(
        self,
        capacity: int,
        on_overflow: Callable[[CompletionQueue], None] | None = None,
        *,
        context: object = None,
        channel: Channel | None = None,
        max_cqe: int | None = None,
    ) -> None:
        self.context = context
        self.channel = channel
        """The completion channel that it tells, if any."""
        self.max_cqe = max_cqe
        self.overflowed = False
        """Whether a completion found it full; it takes none any more."""
        self.users = 0
        self.progress: list[Callable[[], object]] = []
        self.unacked = 0
        """Events that were taken from the channel and not acknowledged."""
        self.empty_polls = 0
        self.taker: Callable[[Completion], None] | None = None
        """It is called with each completion as it comes: from within the driver, or a call that posts. From then on
        nothing is queued; what was queued before is left to `poll`. It may post, and may not raise."""
        self._completions: deque[Completion] = deque()
        self._armed: dict[Callable[[], None], bool] = {}  # whether for solicited completions only
        self._any_solicited_only = False  # whether one of them is for solicited completions only
        self._waiters = Waiters()
        self._on_overflow = on_overflow
        self._open = True
        self.capacity: int = self._judge(capacity)
        """How many completions it holds."""

    def __repr__(self) -> str:
        state = " overflowed" if self.overflowed else "" if self._open else " closed"
        return f"<CompletionQueue {len(self._completions)} of {self.capacity}{state}>"

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def __len__(self) -> int:
        return len(self._completions)

    def __enter__(self) -> CompletionQueue:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def armed(self) -> bool:
        """Whether a callback waits for a completion."""
        return bool(self._armed)

    @property
    def is_open(self) -> bool:
        """Whether the queue can be used."""
        return self._open

    # --- taking ------------------------------------------------------------------------------------------------------

    def poll(self, limit: int | None = None) -> list[Completion]:
        """Take up to `limit` completions, oldest first; all of them by default. Never waits.

        Where queue pairs are driven by polling, their connections make progress first.
        """
        if not self._open:
            raise Closed(f"the completion queue is closed: {self!r}")
        for make_progress in self.progress:
            make_progress()
        completions = self._completions
        if not completions:
            self.empty_polls += 1
            return []
        if limit is None or limit >= len(completions):
            taken = list(completions)
            completions.clear()
            return taken
        taken = list(islice(completions, limit))
        for _ in taken:
            completions.popleft()
        return taken

    def __aiter__(self) -> CompletionQueue:
        return self

    async def __anext__(self) -> Completion:
        """The next completion, when there is one; the end when the queue is closed. Cancelling loses none.

        Each completion goes to one of the tasks that iterate. Raises `QueueFull` when a queue that overflowed is empty.
        """
        while not self._completions:
            if not self._open:
                raise StopAsyncIteration
            if self.overflowed:
                raise QueueFull(f"the completion queue overflowed, nothing more will come: {self!r}")
            self.arm(self._waiters.wake)
            await self._waiters.wait()
        return self._completions.popleft()

    # --- notification -----------------------------------------------------------------------------------------

    def arm(self, callback: Callable[[], None], *, solicited_only: bool = False) -> None:
        """Call `callback` once, at the next completion; with `solicited_only` at the next solicited or failed one.

        As with libibverbs, completions that are already there do not count: arm, then poll once more. Several callbacks
        may be armed; a callback that is armed twice is called for any completion if one of the calls asked for that.
        """
        if not self._open:
            raise Closed(f"the completion queue is closed: {self!r}")
        self._armed[callback] = solicited_only and self._armed.get(callback, True)
        self._any_solicited_only = self._any_solicited_only or solicited_only

    def request_notify(self, *, solicited_only: bool = False) -> None:
        """Let the completion channel tell of the next completion, as `ibv_req_notify_cq`; otherwise as `arm`.

        Raises `UsageError` if the queue has no channel.
        """
        if self.channel is None:
            raise UsageError(f"the completion queue was made without a completion channel: {self!r}")
        self.arm(self._notify, solicited_only=solicited_only)

    def ack_events(self, count: int = 1) -> None:
        """The program is done with `count` events of the channel; the queue cannot be closed before all are."""
        if not 0 <= count <= self.unacked:
            raise UsageError(f"{count} events acknowledged, {self.unacked} were taken: {self!r}")
        self.unacked -= count

    def _notify(self) -> None:
        assert self.channel is not None, "request_notify has seen to it"
        self.channel.put(self)

    # --- life --------------------------------------------------------------------------------------------------------

    def push(self, completion: Completion) -> None:
        """Add a completion; for queue pairs."""
        if self.taker is not None:
            self.taker(completion)
            return
        if self.overflowed:
            return
        if len(self._completions) >= self.capacity:
            self._overflow()
            return
        self._completions.append(completion)
        if self._armed:
            self._tell(completion)

    def resize(self, capacity: int) -> None:
        """Hold `capacity` completions from now on.

        Raises `RegionInUse` if more than that are in the queue, `UsageError` if the device offers less, `Closed`.
        """
        if not self._open:
            raise Closed(f"the completion queue is closed: {self!r}")
        if capacity < len(self._completions):
            raise RegionInUse(f"{len(self._completions)} completions do not fit into {capacity}: {self!r}")
        self.capacity = self._judge(capacity)

    def close(self) -> None:
        """Give the queue up, and completions in it; who iterates comes to the end when none is left.

        Raises `RegionInUse` while queue pairs use it or events of its channel are not acknowledged.
        """
        if self.users:
            raise RegionInUse(f"{self.users} queue pairs use the completion queue: {self!r}")
        if self.unacked:
            raise RegionInUse(f"{self.unacked} events are not acknowledged: {self!r}")
        self._open = False
        self._armed.clear()
        self._waiters.wake()

    def _judge(self, capacity: int) -> int:
        if capacity < 1:
            raise UsageError(f"a completion queue holds at least 1 completion, not {capacity}")
        if self.max_cqe is not None and capacity > self.max_cqe:
            raise UsageError(f"{capacity} completions; the device offers {self.max_cqe}")
        return capacity

    def _tell(self, completion: Completion) -> None:
        """Call the armed callbacks that wait for such a completion, each once; they may arm again."""
        due, self._armed = self._armed, {}
        if self._any_solicited_only:
            special = completion.solicited or not completion.ok
            self._armed = {} if special else {callback: True for callback, solicited in due.items() if solicited}
            self._any_solicited_only = bool(self._armed)
            due = {callback: False for callback in due if callback not in self._armed}
        for callback in due:
            callback()

    def _overflow(self) -> None:
        self.overflowed = True
        if log.isEnabledFor(logging.WARNING):
            log.warning("%r", self)
        self._waiters.wake()
        if self._on_overflow is not None:
            self._on_overflow(self)
