"""Direct writes: buffers that one side offers under an offset, and that the other writes without a word.

The side that offers a buffer writes an entry into the other's table. That table is memory of the side that will write.
"""

from __future__ import annotations

from typing import Final

from pyiwarp import Access, MemoryRegion, ProtectionDomain, RemoteRegion
from pyiwarp.errors import BadWorkRequest, WrongState
from pyiwarp.sockets.credits import Granted
from pyiwarp.sockets.errors import PeerViolation
from pyiwarp.sockets.posting import MAX_ASIDES, Posting
from pyiwarp.sockets.wire import ENTRY_SIZE, IOMAP_ENTRY_SIZE, Hello, Op, Order, can_be
from pyiwarp.verbs import Write

__all__ = ["DirectWrites"]

_SECTION: Final = "§9 Direct writes"


class DirectWrites:
    """The table in `memory`, which the peer writes with its buffers, and the buffers that are offered to the peer."""

    def __init__(self, pd: ProtectionDomain, posting: Posting, memory: memoryview, order: Order) -> None:
        self._pd = pd
        self._posting = posting
        self._memory = memory
        self._order = order
        self._buffers: dict[int, tuple[int, RemoteRegion]] = {}  # of the peer, by their entry; each under an offset
        self._peer: Hello | None = None
        self._granted = Granted(0)
        self._offered: dict[int, tuple[int, MemoryRegion]] = {}  # by their offset: the entry of the peer's table

    def begin(self, peer: Hello, granted: Granted) -> None:
        """The stream has begun; offers cost what is `granted`."""
        self._peer = peer
        self._granted = granted

    @property
    def room(self) -> int:
        """How many more buffers the peer's table takes."""
        return 0 if self._peer is None else self._peer.iomaps - len(self._offered)

    @property
    def ready(self) -> bool:
        """Whether a write can be posted now; an offer takes a credit too, of which `offers_ready` knows."""
        return self._posting.asides < MAX_ASIDES

    @property
    def offers_ready(self) -> bool:
        """Whether an offer can be posted now, if there is room for it."""
        return self.ready and bool(self._granted.left)

    def offer(self, region: MemoryRegion, offset: int) -> None:
        """Let the peer write `region` under `offset`, without a word; it costs one credit.

        Raises `WrongState` if the peer's table or its credits are used up, or if `offset` is taken; `QueueFull` as
        `write`. Entries are used again when their buffers are withdrawn.
        """
        if self._peer is None or not self.room or not self._granted.left:
            raise WrongState(
                f"the peer can be offered no buffer: its table has room for {self.room}, its credits are "
                f"{self._granted.left} (docs/sockets.md, {_SECTION})"
            )
        if offset in self._offered:
            raise WrongState(f"a buffer is offered under {offset} already (docs/sockets.md, {_SECTION})")
        self._posting.check_asides()
        to, stag, entries = self._peer.target_sgl
        used = {index for index, _ in self._offered.values()}
        index = next(index for index in range(self._peer.iomaps) if index not in used)
        self._offered[offset] = index, region
        entry = RemoteRegion(to + entries * ENTRY_SIZE + index * IOMAP_ENTRY_SIZE, stag, IOMAP_ENTRY_SIZE)
        self._granted.spend()
        self._posting.post(
            Write(remote=entry, inline=self._peer.order.iomap(offset, region[:].remote()), signaled=False),
            self._posting.word(Op.IOMAP, index, asides=1),
        )

    def withdraw(self, offset: int) -> None:
        """The peer may not write the buffer any more that was offered under `offset`: its region is retired.

        The peer is not told, and its next Write there ends the stream. Raises `WrongState` if there is no such buffer.
        """
        if offset not in self._offered:
            raise WrongState(f"no buffer is offered under {offset} (docs/sockets.md, {_SECTION})")
        _, region = self._offered.pop(offset)
        region.retire()

    def on_offer(self, index: int) -> None:
        """The peer has offered a buffer; raises `PeerViolation` for an entry that is not there or cannot be."""
        entries = len(self._memory) // IOMAP_ENTRY_SIZE
        if index >= entries:
            raise PeerViolation(f"IOMAP {index}", f"the table has {entries} entries", _SECTION)
        octets = self._memory[index * IOMAP_ENTRY_SIZE : (index + 1) * IOMAP_ENTRY_SIZE]
        offset, memory = self._order.read_iomap(octets)
        if not can_be(memory):
            raise PeerViolation(f"iomap entry {index} is {memory}", "memory ends at the last TO or before", _SECTION)
        self._buffers[index] = offset, memory

    def write(self, octets: bytes, offset: int) -> None:
        """Write octets into the buffer that the peer has offered under `offset`; the peer is not told.

        They are there before what is sent next. Raises `BadWorkRequest` if no one buffer has all of them, `QueueFull`
        if too many direct writes are on their way.
        """
        place = self._find(offset, len(octets))
        self._posting.check_asides()
        region = self._pd.register(octets, Access(0))
        self._posting.post(self._posting.aside((region,), place))
        region.retire()  # when the Write is complete

    def _find(self, offset: int, nbytes: int) -> RemoteRegion:
        for start, memory in self._buffers.values():
            if start <= offset and offset + nbytes <= start + memory.nbytes:
                return memory[offset - start : offset - start + nbytes]
        raise BadWorkRequest(
            f"no buffer of the peer has the octets {offset} to {offset + nbytes} (docs/sockets.md, {_SECTION})"
        )
