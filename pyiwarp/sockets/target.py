"""The target SGL: where in the peer's ring this side may write, as the peer tells it by writing here.

The array has two entries, which take turns. An entry is used up before the next one begins, and cleared then, so that
a new one is seen even if it says the same.
"""

from __future__ import annotations

from typing import Final

from pyiwarp import RemoteRegion
from pyiwarp.sockets.errors import PeerViolation
from pyiwarp.sockets.wire import ENTRY_SIZE, Order, can_be

__all__ = ["ENTRIES", "TargetSgl"]

ENTRIES: Final = 2
_NOTHING: Final = RemoteRegion(0, 0, 0)
_CLEAR: Final = bytes(ENTRY_SIZE)
_SECTION: Final = "§7 The target SGL"


class TargetSgl:
    """The array in `memory`, which the peer writes in this side's byte `order`; `first` is its data buffer."""

    def __init__(self, memory: memoryview, order: Order, first: RemoteRegion) -> None:
        self._memory = memory
        self._order = order
        self._written = [order.entry(first), _CLEAR]  # what the peer last wrote, as far as it was taken
        self._entries = [first, _NOTHING]  # what they say; nothing of those that are used up
        self._now = 0  # the entry in use
        self._overwritten: int | None = None
        self.to, self.stag, self.room = first.to, first.stag, first.nbytes
        """Where the next octet goes, and how many octets one Write may have now."""
        memory[:ENTRY_SIZE] = self._written[0]

    def advance(self, nbytes: int) -> RemoteRegion:
        """Where the next `nbytes` octets go; they are used."""
        place = RemoteRegion(self.to, self.stag, nbytes)
        self.spend(nbytes)
        return place

    def spend(self, nbytes: int) -> None:
        """The next `nbytes` octets are used, from `to` on."""
        self.to += nbytes
        self.room -= nbytes
        if not self.room:
            self._use_up(self._now)

    def _use_up(self, now: int) -> None:
        if self._in_memory(now) != self._written[now]:
            self._overwritten = now
        self._written[now] = self._memory[self._slice(now)] = _CLEAR
        self._entries[now] = _NOTHING
        self._use((now + 1) % ENTRIES)

    def _use(self, index: int) -> None:
        self._now = index
        entry = self._entries[index]
        self.to, self.stag, self.room = entry.to, entry.stag, entry.nbytes

    def look(self) -> None:
        """The peer may have written entries; raises `PeerViolation` for one that cannot be."""
        for index in range(ENTRIES):
            written = self._in_memory(index)
            if index == self._overwritten or (self._entries[index].nbytes and written != self._written[index]):
                raise PeerViolation(
                    f"entry {index} of the target SGL became {self._order.read_entry(written)}",
                    "an entry is not written while its old content is in use",
                    _SECTION,
                )
            if not self._entries[index].nbytes:
                self._take(index, written)
        if not self.room:
            self._use(self._now)
        if not self.room and self._entries[(self._now + 1) % ENTRIES].nbytes:
            raise PeerViolation(
                f"entry {(self._now + 1) % ENTRIES} of the target SGL was written, and entry {self._now} is empty",
                "the entries take turns",
                _SECTION,
            )

    def _take(self, index: int, written: bytes) -> None:
        memory = self._order.read_entry(written)
        if not can_be(memory):
            raise PeerViolation(
                f"entry {index} of the target SGL is {memory}", "memory ends at the last TO or before", _SECTION
            )
        self._written[index] = written
        self._entries[index] = memory

    def _in_memory(self, index: int) -> bytes:
        return bytes(self._memory[self._slice(index)])

    @staticmethod
    def _slice(index: int) -> slice:
        return slice(index * ENTRY_SIZE, (index + 1) * ENTRY_SIZE)
