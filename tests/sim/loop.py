"""An event loop whose time is virtual: when nothing is ready, the clock jumps to the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["SimulatedLoop", "Stuck"]

LONGEST = 1000.0  # seconds of virtual time that a simulation may take


class Stuck(AssertionError):
    """Nothing is ready and nothing will ever be, or the simulation goes on without end."""


class _Selector:
    """What `BaseEventLoop` waits with: waiting moves the clock."""

    def __init__(self) -> None:
        self.now = 0.0

    def select(self, timeout: float | None) -> list[object]:
        """Let `timeout` seconds pass."""
        if timeout is None:
            raise Stuck("every task waits for something that no timer and no connection will bring")
        self.now += timeout
        if self.now > LONGEST:
            raise Stuck(f"the simulation goes on for more than {LONGEST:g} s of its time")
        return []

    def close(self) -> None:
        """Nothing is held."""


class SimulatedLoop(asyncio.BaseEventLoop):
    """asyncio without a network and a clock; `errors` has what callbacks raised."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector()
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._selector.now

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let everything happen until `condition` holds; raises `Stuck` if it never does."""
        while not condition():
            self._run_once()  # type: ignore[attr-defined]  # one turn

    def _process_events(self, event_list: list[object]) -> None:
        """There are no events of sockets."""

    def _write_to_self(self) -> None:
        """There is nothing to wake."""
