"""What TCP delivered, out of its segments: in order, without what was sent twice, gaps named.

A capture may have lost packets that the receiver had. A gap is given up when so much has come behind it that TCP
cannot have waited for it, or at the end of the capture.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["Gap", "Half"]

_HELD: Final = 4 << 20
"""Octets behind a gap after which it is taken for octets that were not captured."""

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
        if len(payload) > len(self._held.get(at, b"")):
            self._held_octets += len(payload) - len(self._held.get(at, b""))
            self._held[at] = payload
        found: list[bytes | Gap] = list(self._deliver())
        while self._held_octets > _HELD:
            found += self._skip()
        return found

    def finish(self) -> list[bytes | Gap]:
        """The capture has ended: what is behind gaps."""
        found: list[bytes | Gap] = []
        while self._held:
            found += self._skip()
        return found

    def _skip(self) -> Iterator[bytes | Gap]:
        first = min(self._held)
        yield Gap(first - self._passed)
        self._advance(first - self._passed)
        yield from self._deliver()

    def _deliver(self) -> Iterator[bytes]:
        while self._held and (at := min(self._held)) <= self._passed:
            payload = self._held.pop(at)
            self._held_octets -= len(payload)
            if fresh := payload[self._passed - at :]:
                self._advance(len(fresh))
                yield fresh

    def _advance(self, nbytes: int) -> None:
        assert self._next is not None
        self._passed += nbytes
        self._next = (self._next + nbytes) & _MASK
