"""Direct writes: buffers that one side offers under an offset, and that the other writes without a word.

The side that offers a buffer writes an entry into the other's table. That table is memory of the side that will write.
"""

from __future__ import annotations

from typing import Final

from pyiwarp import RemoteRegion
from pyiwarp.errors import BadWorkRequest
from pyiwarp.sockets.errors import PeerViolation
from pyiwarp.sockets.wire import IOMAP_ENTRY_SIZE, Order

__all__ = ["OfferedByPeer"]

_SECTION: Final = "§9 Direct writes"


class OfferedByPeer:
    """The table in `memory`, which the peer writes: its buffers, each under an offset."""

    def __init__(self, memory: memoryview, order: Order) -> None:
        self._memory = memory
        self._order = order
        self._buffers: dict[int, tuple[int, RemoteRegion]] = {}

    def __len__(self) -> int:
        return len(self._buffers)

    def offered(self, index: int) -> None:
        """An IOMAP word names this entry; raises `PeerViolation` for one that is not there or cannot be."""
        entries = len(self._memory) // IOMAP_ENTRY_SIZE
        if index >= entries:
            raise PeerViolation(f"IOMAP {index}", f"the table has {entries} entries", _SECTION)
        octets = self._memory[index * IOMAP_ENTRY_SIZE : (index + 1) * IOMAP_ENTRY_SIZE]
        offset, memory = self._order.read_iomap(octets)
        if memory.to + memory.nbytes > 1 << 64:
            raise PeerViolation(f"iomap entry {index} is {memory}", "memory ends at the last TO or before", _SECTION)
        self._buffers[index] = offset, memory

    def find(self, offset: int, nbytes: int) -> RemoteRegion:
        """The memory for `nbytes` octets at `offset`; raises `BadWorkRequest` if no one buffer has them all."""
        for start, memory in self._buffers.values():
            if start <= offset and offset + nbytes <= start + memory.nbytes:
                return memory[offset - start : offset - start + nbytes]
        raise BadWorkRequest(
            f"no buffer of the peer has the octets {offset} to {offset + nbytes} (docs/sockets.md, {_SECTION})"
        )
