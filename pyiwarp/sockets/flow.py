"""What a program has written and the engine has not taken yet, and when to ask the program to pause."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

__all__ = ["HIGH_WATER", "WriteBuffer"]

HIGH_WATER: Final = 256 * 1024
"""Octets that wait before a program is asked to pause: what waits goes as one message, and few large ones cost less."""


class WriteBuffer:
    """Octets that wait for room at the peer. `pause` and `resume` are called when their number passes the limits.

    Small writes that have to wait go on together, so that many of them take few of the peer's messages.
    """

    def __init__(self, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._pause = pause
        self._resume = resume
        self.octets = bytearray()
        """What waits."""
        self._paused = False
        self.low = self.high = 0
        self.set_limits(None, None)

    def __len__(self) -> int:
        return len(self.octets)

    def set_limits(self, high: int | None, low: int | None) -> None:
        """Set the limits in octets, as `asyncio.WriteTransport.set_write_buffer_limits` has them."""
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self.high, self.low = high, low
        self._check_high()

    def add(self, octets: bytes | bytearray | memoryview) -> None:
        """The engine had no room for these."""
        self.octets += octets
        self._check_high()

    def send(self, take: Callable[[memoryview], int]) -> None:
        """Let `take` have the oldest octets; it returns how many it took."""
        if not self.octets:
            return
        with memoryview(self.octets) as waiting:
            taken = take(waiting)
        del self.octets[:taken]
        if self._paused and len(self.octets) <= self.low:
            self._paused = False
            self._resume()

    def clear(self) -> None:
        """What waits will not be sent."""
        self.octets.clear()

    def _check_high(self) -> None:
        if not self._paused and len(self.octets) > self.high:
            self._paused = True
            self._pause()
