"""Completion queues: where work requests end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice

from pyiwarp.errors import Closed, RegionInUse, UsageError
from pyiwarp.work import Completion

__all__ = ["CompletionQueue"]


class CompletionQueue:
    """A bounded queue of completions, and one call when something comes in, as `ibv_req_notify_cq` arms it.

    `on_overflow` is called once when a completion finds the queue full; the queue takes nothing after that, and its
    queue pairs go to ERROR. `progress` holds what `poll` calls first: the drivers that have no loop to run them.
    """

    def __init__(self, capacity: int, on_overflow: Callable[[CompletionQueue], None] | None = None) -> None:
        if capacity < 1:
            raise UsageError(f"a completion queue holds at least 1 completion, not {capacity}")
        self.capacity = capacity
        self.overflowed = False
        self.users = 0
        self.progress: list[Callable[[], object]] = []
        self._completions: deque[Completion] = deque()
        self._armed: Callable[[], None] | None = None
        self._solicited_only = False
        self._on_overflow = on_overflow
        self._open = True

    def __repr__(self) -> str:
        return f"<CompletionQueue {len(self._completions)} of {self.capacity}>"

    def __len__(self) -> int:
        return len(self._completions)

    def __enter__(self) -> CompletionQueue:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def poll(self, limit: int | None = None) -> list[Completion]:
        """Take up to `limit` completions, oldest first; all of them by default. Never waits.

        Where queue pairs are driven by polling, their connections make progress first.
        """
        if not self._open:
            raise Closed(f"the completion queue is closed: {self!r}")
        for make_progress in self.progress:
            make_progress()
        completions = self._completions
        if limit is None or limit >= len(completions):
            taken = list(completions)
            completions.clear()
            return taken
        taken = list(islice(completions, limit))
        for _ in taken:
            completions.popleft()
        return taken

    def arm(self, callback: Callable[[], None], *, solicited_only: bool = False) -> None:
        """Call `callback` once, at the next completion; with `solicited_only` at the next solicited or failed one.

        As with libibverbs, completions that are already there do not count: arm, then poll once more.
        """
        if not self._open:
            raise Closed(f"the completion queue is closed: {self!r}")
        self._armed = callback
        self._solicited_only = solicited_only

    def push(self, completion: Completion) -> None:
        """Add a completion; for queue pairs."""
        if self.overflowed:
            return
        if len(self._completions) >= self.capacity:
            self._overflow()
            return
        self._completions.append(completion)
        if self._armed is not None and (not self._solicited_only or completion.solicited or not completion.ok):
            armed, self._armed = self._armed, None
            armed()

    def close(self) -> None:
        """Give the queue up; `RegionInUse` while queue pairs use it."""
        if self.users:
            raise RegionInUse(f"{self.users} queue pairs use the completion queue: {self!r}")
        self._open = False

    def _overflow(self) -> None:
        self.overflowed = True
        if self._on_overflow is not None:
            self._on_overflow(self)
