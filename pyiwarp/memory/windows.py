"""Memory windows: narrower views of a region, each with rights and an STag of its own, that are cheap to take back.

A window is allocated once, bound to octets of a region through a queue pair, and unbound or invalidated. What a peer
does through it is judged by the window's bounds and rights, and done to the region's memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, NamedTuple, Protocol

from pyiwarp.access import REMOTE, Access, RemoteRegion, with_key
from pyiwarp.errors import BadWorkRequest, Closed, WrongState
from pyiwarp.memory.handles import Assignment, StagHandle, check_open_to
from pyiwarp.mr import MemoryRegion, RegionSlice, StagTable

__all__ = ["BindMw", "MemoryWindow", "WindowType"]

_NO_MEMORY: Final = memoryview(b"")
_WRITING: Final = (Access.REMOTE_WRITE, Access.REMOTE_ATOMIC)


class WindowType(Enum):
    """Who may reach a window, and who may take it back.

    TYPE_1 serves every queue pair of its protection domain, is bound by `MemoryWindow.bind`, and unbound by being
    bound to nothing; it cannot be invalidated. Types 2A and 2B are bound by the work request `BindMw` with a key of the
    program's choice, serve only the queue pair that bound them, and are unbound by `LocalInvalidate` or by the peer's
    Send with Invalidate. TYPE_2A may be invalidated through any queue pair of its protection domain, TYPE_2B only
    through the one that bound it.
    """

    TYPE_1 = "type 1"
    TYPE_2A = "type 2A"
    TYPE_2B = "type 2B"


class Poster(Protocol):
    """A queue pair, as far as a window needs to know it."""

    def post_send(self, request: BindMw) -> None:
        """Post a work request."""


class Binding(MemoryRegion):
    """What a window stands for: octets of a region, pinned with it."""

    __slots__ = ("_fixed", "region")

    def __init__(self, window: MemoryWindow, sge: RegionSlice, access: Access, stag: int, scope: object) -> None:
        region = sge.region
        to = 0 if access & Access.ZERO_BASED else region.to + sge.offset
        super().__init__(region.table, region.pd, _NO_MEMORY, access, to, stag, region.log)
        self.scope = scope
        self.nbytes = sge.nbytes
        self.region = region
        self.origin = sge.offset
        self._fixed = window.type is WindowType.TYPE_1
        region.window_bound(self)

    def __repr__(self) -> str:
        return f"<Binding of a window STag={self.stag:#010x} TO={self.to:#x} {self.nbytes} octets {self.access!r}>"

    @property
    def view(self) -> memoryview:
        """The octets that the window shows, as a view of the region's memory."""
        return self.region.view[self.origin : self.origin + self.nbytes]

    def pinned_view(self, offset: int, nbytes: int) -> memoryview:
        """Octets of the region's memory."""
        return self.region.pinned_view(self.origin + offset, nbytes)

    def pieces(self, memory: memoryview) -> Sequence[memoryview]:
        """As for the region."""
        return self.region.pieces(memory)

    def misalignment(self, offset: int) -> int:
        """As for the region."""
        return self.region.misalignment(self.origin + offset)

    def pin(self, count: int = 1) -> None:
        """Work in flight uses the memory: the region's too."""
        self.region.pin(count)
        super().pin(count)

    def unpin(self, count: int = 1) -> None:
        """That work is done."""
        super().unpin(count)
        self.region.unpin(count)

    def why_not_invalidated(self) -> str:
        """Windows of type 1 are rebound instead."""
        return "a memory window of type 1 cannot be invalidated" if self._fixed else ""

    def _let_go(self) -> None:
        self.region.window_gone(self)


class MemoryWindow(StagHandle):
    """A window, made by `ProtectionDomain.alloc_window`. It is unbound at first.

    `stag`, `to` and `nbytes` are those that it has when everything that was posted is done: they can be advertised by
    the Send posted behind the bind.
    """

    __slots__ = ("type",)

    def __init__(self, table: StagTable, pd: object, kind: WindowType) -> None:
        super().__init__(table, pd)
        self.type = kind
        """Its type: 1, 2A or 2B."""

    def __repr__(self) -> str:
        bound = self.current
        if bound is None:
            state = "unbound" if self._open else "closed"
        else:
            state = f"TO={bound.to:#x} {bound.nbytes} octets {bound.access!r}"
        return f"<MemoryWindow {self.type.value} STag={self.stag:#010x} {state}>"

    def __enter__(self) -> MemoryWindow:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def is_bound(self) -> bool:
        """Whether the window will stand for memory when every posted request is done."""
        return self._open and self.current is not None

    @property
    def binding(self) -> MemoryRegion:
        """The octets and rights that the window stands for; raises `Closed` while it is unbound."""
        current = self.current
        if current is None:
            raise Closed(f"the window is not bound: {self!r}")
        return current

    @property
    def to(self) -> int:
        """The TO of the first octet."""
        return self.binding.to

    @property
    def nbytes(self) -> int:
        """How many octets the window shows; 0 while it is unbound."""
        return 0 if self.current is None else self.current.nbytes

    def remote(self) -> RemoteRegion:
        """What the window shows, as the peer names it."""
        return self.binding[:].remote()

    def advertise(self) -> bytes:
        """The 16 octets that tell a peer of the window."""
        return bytes(self.remote())

    def bind(
        self,
        qp: Poster,
        sge: RegionSlice | None,
        access: Access = Access.REMOTE_READ,
        *,
        wr_id: object = None,
        signaled: bool = True,
        fence: bool = False,
    ) -> None:
        """Bind a window of type 1 through the send queue of `qp`; without octets in `sge` unbind it.

        The STag has the next key then, and the one before is void when the bind is done. Raises what `post_send`
        raises, `BadWorkRequest` for a window of type 2 and for what `BindMw` may not ask.
        """
        if self.type is not WindowType.TYPE_1:
            raise BadWorkRequest(f"bind() is for windows of type 1; post a BindMw for this one: {self!r}")
        qp.post_send(BindMw(self, sge, access, None, wr_id, signaled, fence))

    def check_invalidate(self, memory: MemoryRegion, poster: object) -> None:
        """Whether `poster` may unbind the window; raises `BadWorkRequest` if not."""
        if self.type is WindowType.TYPE_1:
            raise BadWorkRequest(f"a window of type 1 is unbound by binding it to nothing: {self!r}")
        if self.type is WindowType.TYPE_2B and memory.scope is not poster:
            raise BadWorkRequest(f"only the queue pair that bound the window may invalidate it: {self!r}")

    def _end(self, memory: MemoryRegion) -> None:
        memory.retire()  # as ibv_dealloc_mw, which unbinds


class BindMw(NamedTuple):
    """Bind a window to the octets of `sge`, for the peer alone; `access` names REMOTE rights, and ZERO_BASED.

    The region must grant WINDOW_BIND. It need not grant what the window does, except that a window that lets the peer
    write, or do Atomics, needs a region that grants LOCAL_WRITE or the same. TOs are those of the region, or begin at
    0 with ZERO_BASED, which type 1 does not have. `key` becomes the low 8 bits of the STag; by default the next one.
    A window of type 2 must be unbound; one of type 1 is bound anew, or to nothing.
    """

    window: MemoryWindow
    """What is bound."""
    sge: RegionSlice | None
    access: Access = Access.REMOTE_READ
    key: int | None = None
    wr_id: object = None
    signaled: bool = True
    fence: bool = False

    def operation(self, pd: object, poster: object) -> Assignment:
        """Judge the request for a queue pair of `pd`.

        Raises `BadWorkRequest` for what the rules above forbid, `WrongState` for a window of type 2 that is bound,
        `Closed` for a region that is gone.
        """
        window, sge = self.window, self.sge
        window.check_post(pd, poster)
        first = window.type is WindowType.TYPE_1
        if not first and window.current is not None:
            raise WrongState(f"the window is bound, invalidate it first: {window!r}")
        if self.access & ~(REMOTE | Access.ZERO_BASED) or (first and self.access & Access.ZERO_BASED):
            raise BadWorkRequest(f"a window of {window.type.value} cannot grant {self.access!r}: {window!r}")
        if first and self.key is not None:
            raise BadWorkRequest(f"a window of type 1 chooses its keys itself, not {self.key:#x}: {window!r}")
        if sge is None or not sge.nbytes:
            if not first:
                raise BadWorkRequest(f"a window of type 2 is unbound by LocalInvalidate: {window!r}")
            return Assignment(window, None, poster)
        self._check_region(sge, pd, poster)
        # a window must not open memory of one queue pair to others
        scope = poster if not first else sge.region.scope
        binding = Binding(window, sge, self.access, with_key(window.stag, self.key), scope)
        return Assignment(window, binding, poster)

    def _check_region(self, sge: RegionSlice, pd: object, poster: object) -> None:
        region, offset, nbytes = sge
        if isinstance(region, Binding):
            raise BadWorkRequest(f"a window is bound to a region, not to another window: {region!r}")
        check_open_to(region, pd, poster)
        if not region.access & Access.WINDOW_BIND:
            raise BadWorkRequest(f"the region does not grant {Access.WINDOW_BIND!r}: {region!r}")
        for right in _WRITING:
            if self.access & right and not region.access & (Access.LOCAL_WRITE | right):
                raise BadWorkRequest(f"{right!r} needs a region that grants LOCAL_WRITE or the same: {region!r}")
        if offset < 0 or offset + nbytes > region.nbytes:
            raise BadWorkRequest(f"octets {offset}..{offset + nbytes} lie outside {region!r}")
