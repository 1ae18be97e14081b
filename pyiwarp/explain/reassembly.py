"""What TCP delivered, out of its segments: in order, without what was sent twice, gaps named.

A capture may have lost packets that the receiver had. A gap is given up when so much has come behind it that TCP
cannot have waited for it, or at the end of the capture.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Gap", "Half"]

_HELD: Final = 4 << 20
"""Octets behind a gap after which it is taken for octets that were not captured."""

_HELD_SEGMENTS: Final = 1 << 16
"""Segments behind a gap of which the same is true: many small ones take more memory than their octets."""

_HALF: Final = 1 << 31
_MASK: Final = (1 << 32) - 1


class Gap(NamedTuple):
    """Octets of a direction that are not in the capture."""

    nbytes: int


class Half:
    """One direction of a TCP connection."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._held: dict[int, bytes] = {}  # by how far they are from the beginning
        self._places: list[int] = []  # the keys of `_held`, a heap
        self._passed = 0  # octets since the first one
        self._held_octets = 0

    def add(self, seq: int, payload: bytes, *, syn: bool) -> list[bytes | Gap]:
        """One segment: what can be delivered now."""
        if syn:
            seq += 1
        if self._next is None:
            self._next = seq & _MASK
        if not payload:
            return []
        distance = (seq - self._next) & _MASK
        at = self._passed + (distance if distance < _HALF else distance - (1 << 32))
        if at + len(payload) <= self._passed:
            return []  # sent again
        self._hold(at, payload)
        found: list[bytes | Gap] = list(self._deliver())
        while self._held_octets > _HELD or len(self._held) > _HELD_SEGMENTS:
            found += self._skip()
        return found

    def finish(self) -> list[bytes | Gap]:
        """The capture has ended: what is behind gaps."""
        found: list[bytes | Gap] = []
        while self._held:
            found += self._skip()
        return found

    def _hold(self, at: int, payload: bytes) -> None:
        had = self._held.get(at)
        if had is None:
            heapq.heappush(self._places, at)
        elif len(payload) <= len(had):
            return
        self._held[at] = payload
        self._held_octets += len(payload) - len(had or b"")

    def _skip(self) -> Iterator[bytes | Gap]:
        first = self._places[0]
        yield Gap(first - self._passed)
        self._advance(first - self._passed)
        yield from self._deliver()

    def _deliver(self) -> Iterator[bytes]:
        while self._places and self._places[0] <= self._passed:
            at = heapq.heappop(self._places)
            payload = self._held.pop(at)
            self._held_octets -= len(payload)
            if fresh := payload[self._passed - at :]:
                self._advance(len(fresh))
                yield fresh

    def _advance(self, nbytes: int) -> None:
        assert self._next is not None
        self._passed += nbytes
        self._next = (self._next + nbytes) & _MASK
