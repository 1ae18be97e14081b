"""Fast registration: memory for an STag by a work request, in the order of the send queue (the verbs' RegMr)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

from pyiwarp.access import Access, RemoteRegion, check_base, check_writable, octets_of, with_key
from pyiwarp.errors import BadWorkRequest, Closed, WrongState
from pyiwarp.memory.handles import Assignment, StagHandle
from pyiwarp.memory.paged import PagedRegion
from pyiwarp.mr import MemoryRegion, RegionSlice, StagTable

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer

__all__ = ["FastRegion", "RegMr"]


class FastRegion(StagHandle):
    """A region that work requests register and invalidate; made by `ProtectionDomain.alloc_stag`, without memory.

    `RegMr` gives it memory of at most `max_octets` octets in at most `max_pieces` buffers, `LocalInvalidate`, a Read
    with `invalidate_sink` and the peer's Send with Invalidate take it away. `region[a:b]` names octets of the
    present memory: a slice made before an invalidation stays void after the next `RegMr`.
    """

    __slots__ = ("_key", "max_octets", "max_pieces", "scope")

    def __init__(
        self, table: StagTable, pd: object, max_pieces: int, max_octets: int | None, scope: object = None
    ) -> None:
        super().__init__(table, pd)
        self.max_pieces = max_pieces
        self.max_octets = max_octets
        self._key: int | None = None
        self.scope = pd if scope is None else scope

    def __repr__(self) -> str:
        what = "closed" if not self._open else "invalid" if self.current is None else repr(self.current)
        return f"<FastRegion STag={self.stag:#010x} {what}>"

    def __len__(self) -> int:
        return self.memory.nbytes

    def __getitem__(self, item: slice) -> RegionSlice:
        return self.memory[item]

    def __enter__(self) -> FastRegion:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_valid(self) -> bool:
        """Whether the STag stands for memory, once everything that was posted is done."""
        return self._open and self.current is not None

    @property
    def memory(self) -> MemoryRegion:
        """The present memory, as a region; raises `Closed` while there is none."""
        current = self.current
        if current is None:
            raise Closed(f"the region has no memory, post a RegMr: {self!r}")
        return current

    @property
    def to(self) -> int:
        """The TO of the first octet."""
        return self.memory.to

    @property
    def view(self) -> memoryview:
        """The memory, if it is in one piece; see `MemoryRegion.view`."""
        return self.memory.view

    def advertise(self) -> bytes:
        """The 16 octets that tell a peer of the whole region."""
        return self.memory.advertise()

    def remote(self) -> RemoteRegion:
        """The whole region as the peer names it."""
        return self.memory[:].remote()

    def update_key(self, key: int) -> None:
        """Let the STag have this key in its low 8 bits, for the next `RegMr` that names none.

        Raises `BadWorkRequest` for more than 8 bits, `WrongState` while the STag stands for memory.
        """
        if self.current is not None or self.incomplete_changes:
            raise WrongState(f"the key belongs to an STag in use, invalidate it first: {self!r}")
        self.stag = self._performed_stag = with_key(self.stag, key)
        self._key = key

    def next_stag(self, key: int | None) -> int:
        """The STag of the next memory: with `key`, or the one that was chosen, or the next."""
        stag = with_key(self.stag, self._key if key is None else key)
        self._key = None
        return stag


class RegMr(NamedTuple):
    """Give a `FastRegion` memory: one buffer, or a list of them that follow one another in the region.

    `access` as for `ProtectionDomain.register`. `key` becomes the low 8 bits of the STag; by default the next one, so
    that what a peer was told before is void. `to` is the TO of the first octet; by default 0 if `access` has
    ZERO_BASED, else one like a virtual address. The memory is the region's from the posting on: requests posted
    behind it may name `region[a:b]`, also while a fence holds it back. Peers may use it when it is done. One that is
    flushed may have been done: `FastRegion.is_valid` tells.
    """

    region: FastRegion
    """What is given memory."""
    buffers: Buffer | Sequence[Buffer]
    """One buffer, or several one behind the other."""
    access: Access = Access.LOCAL_WRITE
    key: int | None = None
    to: int | None = None
    wr_id: object = None
    signaled: bool = True
    fence: bool = False

    def operation(self, pd: object, poster: object) -> Assignment:
        """Judge the request for a queue pair of `pd`.

        Raises `BadWorkRequest` for memory that cannot be registered so, `WrongState` if the region has memory.
        """
        region = self.region
        region.check_post(pd, poster)
        if region.current is not None:
            raise WrongState(f"the region has memory, invalidate it first: {region!r}")
        if region.scope is not pd and region.scope is not poster:
            raise BadWorkRequest(f"the region belongs to another queue pair: {region!r}")
        pieces = self._pieces()
        nbytes = sum(map(len, pieces))
        if region.max_octets is not None and nbytes > region.max_octets:
            raise BadWorkRequest(f"{nbytes} octets; {region!r} takes {region.max_octets}")
        to = self._base(pieces[0], nbytes)
        stag = region.next_stag(self.key)
        if len(pieces) == 1:
            memory = MemoryRegion(region.table, pd, pieces[0], self.access, to, stag)
        else:
            memory = PagedRegion(region.table, pd, pieces, self.access, to, stag)
        memory.scope = region.scope
        return Assignment(region, memory, poster)

    def _pieces(self) -> list[memoryview]:
        given = self.buffers
        buffers: Sequence[Buffer] = given if isinstance(given, list | tuple) else [cast("Buffer", given)]
        if len(buffers) > self.region.max_pieces:
            raise BadWorkRequest(f"{len(buffers)} buffers; {self.region!r} takes {self.region.max_pieces}")
        views = [octets_of(buffer) for buffer in buffers]
        for view in views:
            check_writable(view, self.access)
        return [view for view in views if view.nbytes] or [memoryview(bytearray())]

    def _base(self, first: memoryview, nbytes: int) -> int:
        if self.to is None:
            return self.region.table.base_for(first, self.access, nbytes)
        check_base(self.to, nbytes, self.access)
        return self.to
