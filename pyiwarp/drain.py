"""Waiting for the end of all work in a queue: awaited, or told by a callback."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from pyiwarp.awaiting import Waiters

__all__ = ["Drain"]

WhenDrained = Callable[[Callable[[], None]], None]


class Drain:
    """One wait; over when each of the `queues` has made the call that it was asked for."""

    __slots__ = ("_left", "_on_drained", "_waiters")

    def __init__(self, on_drained: Callable[[], None] | None, *queues: WhenDrained) -> None:
        self._on_drained = on_drained
        self._waiters = Waiters()
        self._left = len(queues)
        for when_drained in queues:
            when_drained(self._one_less)

    def __await__(self) -> Generator[Any, None, None]:
        while self._left:
            yield from self._waiters.wait().__await__()

    def _one_less(self) -> None:
        self._left -= 1
        if not self._left:
            self._waiters.wake()
            if self._on_drained is not None:
                self._on_drained()
