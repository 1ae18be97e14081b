"""STags that outlive the memory they name, and the work requests that change what that is (RFC 5040 §3.2).

A `StagHandle` owns the upper 24 bits of an STag. Work requests give it memory and take it away again, in the order of
their send queue. Posting changes at once what later work requests see. Peers see the change when the request is
performed, which a fence may delay. A request that is flushed changes nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from pyiwarp.errors import BadWorkRequest, Closed, RegionInUse, WorkRequestRefused, WrongState
from pyiwarp.exports import public_names
from pyiwarp.mr import MemoryRegion, StagTable

__all__ = [
    "Assignment",
    "Invalidation",
    "LocalInvalidate",
    "Operation",
    "StagHandle",
    "check_invalidate",
    "check_open_to",
]

_INTERNAL: Final = frozenset(
    {
        *("check_invalidate", "check_post", "current", "incomplete_changes", "next_stag", "on_flushed", "on_performed"),
        *("on_posted", "performed_memory", "scope", "table"),
    }
)
"""What work requests need of a handle; `dir()` of one does not show it."""


class Domain(Protocol):
    """A protection domain, as far as it is asked what an STag stands for."""

    stags: StagTable


class LocalInvalidate(NamedTuple):
    """Invalidate an STag of this side, for peers and for the work requests posted behind it.

    `target` is a region, a window of type 2, or an STag. Done in its turn: with `fence` after all earlier Reads and
    Atomics. When it completes, no earlier work of this queue pair uses the memory. A Read of the peer's that is being
    answered ends the stream, as does every later use of the STag. A region of `alloc_stag` and a window can be given
    memory again; any other region is closed by it.
    """

    target: MemoryRegion | StagHandle | int
    wr_id: object = None
    signaled: bool = True
    fence: bool = False

    def operation(self, pd: Domain, poster: object) -> Invalidation:
        """Judge the request for a queue pair of `pd`.

        Raises `Closed` for what stands for no memory, `BadWorkRequest` for an STag that is another's or cannot be
        invalidated, `RegionInUse` while windows are bound to the region.
        """
        target = self.target
        if isinstance(target, int):
            named = pd.stags.owner(target) or pd.stags.get(target)
            if not isinstance(named, MemoryRegion | StagHandle) or named.stag != target:
                raise BadWorkRequest(f"STag {target:#x} names no memory here")
            target = named
        owner = target if isinstance(target, StagHandle) else target.table.owner(target.stag)
        if isinstance(owner, StagHandle):
            owner.check_post(pd, poster)
            memory = owner.current
            if memory is None or target not in (owner, memory):
                raise Closed(f"it stands for no memory: {target!r}")
            owner.check_invalidate(memory, poster)
            return Invalidation(owner, memory, poster)
        assert isinstance(target, MemoryRegion)
        check_invalidate(target, pd, poster)
        return Invalidation(None, target, poster)


class StagHandle:
    """The owner of an STag: what it stands for may change, with a new key in its low 8 bits, or be nothing."""

    __slots__ = (
        "_open",
        "_performed_memory",
        "_performed_stag",
        "_posted_memory",
        "_poster",
        "_unperformed_changes",
        "incomplete_changes",
        "pd",
        "stag",
        "table",
    )

    def __init__(self, table: StagTable, pd: object) -> None:
        self.table = table
        self.pd = pd
        self.stag: int = table.reserve(self)
        self._performed_stag = self.stag
        self.incomplete_changes = 0  # work requests that change the handle and are not complete
        self._unperformed_changes = 0
        self._poster: object = None
        self._posted_memory: MemoryRegion | None = None  # when everything that was posted is done
        self._performed_memory: MemoryRegion | None = None
        self._open = True

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    @property
    def is_open(self) -> bool:
        """Whether the handle was not closed yet."""
        return self._open

    @property
    def current(self) -> MemoryRegion | None:
        """What the STag stands for, as far as work requests that are posted now are concerned."""
        posted = self._posted_memory
        return posted if posted is not None and posted.is_open else None

    @property
    def performed_memory(self) -> MemoryRegion | None:
        """What the STag stands for, as far as peers are concerned."""
        return self._performed_memory

    def check_post(self, pd: object, poster: object) -> None:
        """Whether a work request of `poster`, a queue pair of `pd`, may change the handle.

        Raises `Closed`, `BadWorkRequest` for another protection domain, `WrongState` while a change by another queue
        pair is to come.
        """
        if not self._open:
            raise Closed(f"it is closed: {self!r}")
        if self.pd is not pd:
            raise BadWorkRequest(f"it belongs to another protection domain: {self!r}")
        if self._unperformed_changes and self._poster is not poster:
            raise WrongState(
                f"another queue pair has posted {self._unperformed_changes} changes to {self!r}, not yet done"
            )

    def check_invalidate(self, memory: MemoryRegion, poster: object) -> None:
        """Whether `poster` may take away what the STag stands for; raises as `LocalInvalidate.operation`."""
        check_invalidate(memory, self.pd, poster)

    def close(self) -> None:
        """Void the STag for good. Closing twice does nothing.

        Raises `RegionInUse` while work requests that change it are not complete, or while its memory is in use.
        """
        if not self._open:
            return
        if self.incomplete_changes:
            raise RegionInUse(f"{self.incomplete_changes} work requests that change it are not complete: {self!r}")
        if self._performed_memory is not None:
            self._end(self._performed_memory)
        self._open = False
        self.table.unreserve(self.stag)

    def _end(self, memory: MemoryRegion) -> None:
        memory.close()

    # --- for operations ----------------------------------------------------------------------------------------------

    def on_posted(self, memory: MemoryRegion | None, poster: object) -> None:
        """A work request was posted that makes the STag stand for `memory`."""
        self._posted_memory = memory
        if memory is not None:
            self.stag = memory.stag
        self._poster = poster
        self.incomplete_changes += 1
        self._unperformed_changes += 1

    def on_performed(self, memory: MemoryRegion | None) -> None:
        """That work request was performed: peers reach `memory` by the STag now."""
        self._unperformed_changes -= 1
        self._performed_memory = memory
        if memory is not None:
            self._performed_stag = memory.stag

    def on_flushed(self) -> None:
        """That work request is flushed, and so is any posted behind it: the STag stands for what it did before."""
        self._unperformed_changes -= 1
        self._posted_memory = self._performed_memory
        self.stag = self._performed_stag


def check_open_to(memory: MemoryRegion, pd: object, poster: object) -> None:
    """Whether `memory` is there for `poster`, a queue pair of `pd`; raises `Closed` or `BadWorkRequest`."""
    if not memory.is_open:
        raise Closed(f"the region was closed or invalidated: {memory!r}")
    if memory.pd is not pd:
        raise BadWorkRequest(f"the region belongs to another protection domain: {memory!r}")
    if memory.scope is not pd and memory.scope is not poster:
        raise BadWorkRequest(f"the region belongs to another queue pair: {memory!r}")


def check_invalidate(memory: MemoryRegion, pd: object, poster: object) -> None:
    """Whether `poster`, a queue pair of `pd`, may void the STag of `memory`; raises as `LocalInvalidate.operation`."""
    check_open_to(memory, pd, poster)
    if memory.windows:
        raise RegionInUse(f"{memory.windows} windows are bound to the region: {memory!r}")


class Operation(Protocol):
    """A change in a send queue, pinned like memory as long as it is posted."""

    def pin(self) -> None:
        """It was posted."""

    def unpin(self) -> None:
        """It is complete; if it was not performed, it never will be."""

    def perform(self) -> None:
        """Do it; raises `WorkRequestRefused` if what was lawful when it was posted no longer is."""


class Assignment:
    """Let the STag of a handle stand for `memory`, instead of what it stood for."""

    __slots__ = ("_handle", "_memory", "_performed", "_poster")

    def __init__(self, handle: StagHandle, memory: MemoryRegion | None, poster: object) -> None:
        self._handle = handle
        self._memory = memory
        self._poster = poster
        self._performed = False

    def pin(self) -> None:
        """It was posted."""
        self._handle.on_posted(self._memory, self._poster)

    def unpin(self) -> None:
        """It is complete, or flushed."""
        self._handle.incomplete_changes -= 1
        if not self._performed:
            self._handle.on_flushed()
            if self._memory is not None:
                self._memory.retire()

    def perform(self) -> None:
        """Void what the STag stood for, and let peers reach what it stands for now."""
        if self._memory is not None and self._memory.is_retired:
            raise WorkRequestRefused(f"the memory was withdrawn before the work request's turn came: {self._memory!r}")
        self._performed = True
        before = self._handle.performed_memory
        if before is not None:
            before.retire()
        if self._memory is not None:
            self._memory.publish()
        self._handle.on_performed(self._memory)


class Invalidation:
    """Void what the STag of a handle stands for."""

    __slots__ = ("_handle", "_memory", "_performed", "_poster")

    def __init__(self, handle: StagHandle | None, memory: MemoryRegion, poster: object) -> None:
        self._handle = handle
        self._memory = memory
        self._poster = poster
        self._performed = False

    def pin(self) -> None:
        """It was posted: no work request that is posted now may name the memory."""
        self._memory.pin()
        self._memory.withhold()
        if self._handle is not None:
            self._handle.on_posted(None, self._poster)

    def unpin(self) -> None:
        """It is complete, or flushed."""
        if not self._performed:
            self._memory.withhold(False)
        if self._handle is not None:
            self._handle.incomplete_changes -= 1
            if not self._performed:
                self._handle.on_flushed()
        self._memory.unpin()

    def perform(self) -> None:
        """Nobody reaches the memory by the STag any more, if the peer has not seen to that already."""
        self._performed = True
        self._memory.retire()
        if self._handle is not None:
            self._handle.on_performed(None)
