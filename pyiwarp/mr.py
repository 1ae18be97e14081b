"""Memory: what an STag stands for, who may reach it, and how (RFC 5040 §3.2, RFC 5041 §8, RFC 5042 §6).

A region exports the memory of any contiguous buffer without copying it, and keeps it alive and unresizable for as
long as the region is open. Work in flight pins the region; a pinned region cannot be closed, only retired.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from mypy_extensions import mypyc_attr

from pyiwarp.access import (
    ADVERTISEMENT_SIZE,
    PAGE,
    REMOTE,
    REMOTE_ATOMIC,
    REMOTE_READ,
    REMOTE_WRITE,
    TO_LIMIT,
    Access,
    AccessKind,
    AccessNotes,
    Grantor,
    RemoteRegion,
    check_aligned,
    check_base,
    check_writable,
    octets_of,
    page_offset,
    slice_of,
    with_key,
)
from pyiwarp.check_errors import DDP_ERRORS, RDMAP_ERRORS, CheckErrors
from pyiwarp.codes import ATOMIC_SIZE
from pyiwarp.errors import (
    BadWorkRequest,
    CannotInvalidate,
    Closed,
    RegionInUse,
    StreamCatastrophe,
    UsageError,
)
from pyiwarp.exports import public_names

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer

__all__ = [
    "ADVERTISEMENT_SIZE",
    "Access",
    "MemoryRegion",
    "RegionSlice",
    "RemoteRegion",
    "StagTable",
]

_LOCAL_WRITE: Final = int(Access.LOCAL_WRITE)
_ZERO_BASED: Final = int(Access.ZERO_BASED)
_NO_CALLS: Final[tuple[Callable[[], None], ...]] = ()
_KINDS: Final = {REMOTE_WRITE: AccessKind.WRITE, REMOTE_READ: AccessKind.READ, REMOTE_ATOMIC: AccessKind.ATOMIC}

_INTERNAL: Final = frozenset(
    {
        *("fill", "misalignment", "origin", "pieces", "pin", "pin_sink", "pin_source", "pinned_view", "publish"),
        *("revoked", "rights", "scope", "source_view", "table", "unpin", "why_not_invalidated"),
        *("window_bound", "window_gone", "withhold"),
    }
)
"""What work requests and windows need of a region; `dir()` of a region does not show it."""


class Domain(Protocol):
    """A protection domain, as far as a region that moves to it needs to know it."""

    stags: StagTable

    def check_open(self) -> None:
        """Raises `Closed` if it was closed."""

    def adopt(self, region: MemoryRegion) -> None:
        """The region belongs to this protection domain from now on."""


@mypyc_attr(allow_interpreted_subclasses=True)
class MemoryRegion:
    """Registered memory: a buffer, its STag, its base TO, and what may be done to it.

    Made by `ProtectionDomain.register`. `region[a:b]` names octets for work requests and advertisements.
    `access` is what was granted, `rights` what is granted without a look at `log`, where accesses of peers are noted.
    """

    __slots__ = (
        "_on_released",
        "_open",
        "_pins",
        "_published",
        "_released",
        "_retired",
        "_view",
        "_windows",
        "access",
        "log",
        "nbytes",
        "origin",
        "pd",
        "revoked",
        "rights",
        "scope",
        "stag",
        "table",
        "to",
    )

    def __init__(
        self,
        table: StagTable,
        pd: object,
        view: memoryview,
        access: Access,
        to: int,
        stag: int,
        log: AccessNotes | None = None,
    ) -> None:
        self.table = table
        self.pd = pd
        self.scope = pd  # whose streams may use the STag: the protection domain's, or one queue pair's
        self.revoked = False
        self._view = view
        self.access = access
        self.rights = int(access)
        self.log = log
        if log is not None:  # the peer's rights are then found the plain way, where the log is
            self.rights &= ~int(REMOTE)
        self.to = to
        self.stag = stag
        self.nbytes: int = view.nbytes
        self.origin = 0  # where the memory begins in the region whose log notes what is done to it
        self._open = True  # for this side's work requests
        self._published = False  # for the peer
        self._retired = self._released = False
        self._pins = 0
        self._windows: set[MemoryRegion] | None = None
        self._on_released = _NO_CALLS

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<MemoryRegion STag={self.stag:#010x} TO={self.to:#x} {self.nbytes} octets {self.access!r}{state}>"

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def __len__(self) -> int:
        return self.nbytes

    def __enter__(self) -> MemoryRegion:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def view(self) -> memoryview:
        """The memory, as a view of the caller's own; `Closed` once the region was closed or retired."""
        if not self._open:
            raise Closed(f"the region is closed: {self!r}")
        return self._view[:]

    def pinned_view(self, offset: int, nbytes: int) -> memoryview:
        """Octets for work that pins the memory: they are there until the last `unpin`, whatever becomes of the STag."""
        return self._view[offset : offset + nbytes]

    def fill(self, offset: int, octets: memoryview) -> None:
        """As `pinned_view` and `unpin`: place the octets that the work was waiting for, which is done then."""
        self._view[offset : offset + len(octets)] = octets
        self._pins -= 1
        if self._pins == 0 and self._retired:
            self._release()

    def source_view(self, pd: object, offset: int, nbytes: int) -> memoryview | None:
        """Octets that work of `pd` may send, to be used at once; None if they may not be.

        The fast way for requests of one element; `queues.checks` says which rule forbids it.
        """
        stop = offset + nbytes
        if self._open and self.pd is pd and 0 <= offset <= stop <= self.nbytes:
            return self._view[offset:stop]
        return None

    def pin_source(self, pd: object, offset: int, nbytes: int) -> memoryview | None:
        """Pin octets to be sent by work of `pd`, and give them; None, and nothing pinned, if they may not be."""
        view = self.source_view(pd, offset, nbytes)
        if view is not None:
            self._pins += 1
        return view

    def pin_sink(self, pd: object, offset: int, nbytes: int) -> bool:
        """Pin octets to be filled by work of `pd`; False, and nothing pinned, if they may not be."""
        stop = offset + nbytes
        if self._open and self.pd is pd and self.rights & _LOCAL_WRITE and 0 <= offset <= stop <= self.nbytes:
            self._pins += 1
            return True
        return False

    def misalignment(self, offset: int) -> int:
        """How far past a multiple of eight, in octets, the octet at `offset` lies in memory."""
        return (page_offset(self._view) + offset) % ATOMIC_SIZE

    def pieces(self, memory: memoryview) -> Sequence[memoryview]:
        """The contiguous views that make up what `pinned_view` gave."""
        return (memory,)

    @property
    def is_open(self) -> bool:
        """Whether the STag still stands for this memory locally: work requests may name it."""
        return self._open

    @property
    def is_retired(self) -> bool:
        """Whether the STag is void for good: the region was closed, retired or invalidated."""
        return self._retired

    @property
    def windows(self) -> int:
        """How many memory windows are bound to the region."""
        return len(self._windows or ())

    @property
    def pins(self) -> int:
        """How many pieces of work in flight hold the memory."""
        return self._pins

    def __getitem__(self, item: slice) -> RegionSlice:
        start, nbytes = slice_of(item, self.nbytes)
        return RegionSlice(self, start, nbytes)

    def advertise(self) -> bytes:
        """The 16 octets that tell a peer of the whole region."""
        return self[:].advertise()

    def pin(self, count: int = 1) -> None:
        """Work in flight, `count` pieces of it, begins to use the memory."""
        self._pins += count

    def unpin(self, count: int = 1) -> None:
        """That work is done; the last one lets a retired region go."""
        self._pins -= count
        if self._pins == 0 and self._retired:
            self._release()

    # --- for windows and fast registration ---------------------------------------------------------------------------

    def publish(self) -> None:
        """Let the peer reach the memory by the STag."""
        self._published = True
        self.table.publish(self)

    def withhold(self, withheld: bool = True) -> None:
        """Take the memory from the work requests that are posted from now on, or give it back."""
        self._open = not withheld and not self._retired

    def window_bound(self, window: MemoryRegion) -> None:
        """A window opens onto the memory: the region stays until it is shut."""
        if self._windows is None:
            self._windows = set()
        self._windows.add(window)

    def window_gone(self, window: MemoryRegion) -> None:
        """A window is shut."""
        if self._windows is not None:
            self._windows.discard(window)

    def why_not_invalidated(self) -> str:
        """What keeps the STag from being invalidated; empty if nothing does."""
        return f"{self.windows} windows are bound to it" if self._windows else ""

    # --- the end -----------------------------------------------------------------------------------------------------

    def reregister(
        self,
        buffer: Buffer | None = None,
        *,
        access: Access | None = None,
        pd: Domain | None = None,
        to: int | None = None,
        keep_stag: bool = False,
    ) -> None:
        """Give the region other memory, other rights, another protection domain; what is not named stays.

        The STag gets another key, so what peers knew before is void. With `keep_stag` it stays what it was: a peer
        that knows it reaches the new memory at once, by the new TOs and rights. The base TO becomes `to`, which is
        judged as by `register`; by default it is a new one if the memory is, or if ZERO_BASED changes.
        Raises `RegionInUse` while work in flight pins the memory or windows are bound to it, `Closed`, or
        `BadWorkRequest` for what `register` would refuse and for a protection domain of another context; nothing has
        changed then.
        """
        if not self._open:
            raise Closed(f"the region is closed: {self!r}")
        self._check_unused()
        if self.table.owner(self.stag) is not None:
            raise BadWorkRequest(f"the STag is given memory by work requests: {self!r}")
        if pd is not None:
            pd.check_open()
        if pd is not None and pd.stags is not self.table:
            raise BadWorkRequest(f"the protection domain belongs to another context: {pd!r}")
        if pd is not None and pd is not self.pd and self.scope is not self.pd:
            raise BadWorkRequest(f"the region belongs to a queue pair of its protection domain: {self!r}")
        access = self.access if access is None else access
        view = self._view if buffer is None else octets_of(buffer)
        check_writable(view, access)
        if buffer is not None or to is not None or (access ^ self.access) & Access.ZERO_BASED:
            self.to = self.table.base_for(view, access, to=to)
        elif not access & Access.ZERO_BASED:
            check_aligned(self.to, view, access)
        if buffer is not None:
            self._view.release()
            self._view, self.nbytes = view, view.nbytes
        if pd is not None and pd is not self.pd:
            self.pd = self.scope = pd
            pd.adopt(self)
        self.access = access
        self.rights = int(access) if self.log is None else int(access & ~REMOTE)
        if not keep_stag:
            self.table.forget(self.stag)
            self.stag = with_key(self.stag)
            self.table.publish(self)

    def _check_unused(self) -> None:
        if self._pins:
            raise RegionInUse(f"{self._pins} pieces of work in flight use the memory: {self!r}")
        if self._windows:
            raise RegionInUse(f"{self.windows} windows are bound to the region: {self!r}")

    def close(self) -> None:
        """Deregister: the STag is void and the stack uses the memory no more. Closing twice does nothing.

        Raises `RegionInUse` while work in flight pins the memory, even if the peer has invalidated the STag, or while
        windows are bound to it; nothing has changed then.
        """
        self._check_unused()
        self.retire()

    def retire(self, on_released: Callable[[], None] | None = None, *, by_peer: bool = False) -> None:
        """Invalidate the STag at once; release the memory, and call `on_released`, when nothing pins it.

        After a peer's access was revoked no octet of its changes the memory (SEC-5042-6.2.2-02), except those of
        work that this side itself has asked for; a Read that is being answered ends the peer's stream, unless it was
        the peer that gave the STag up. Windows onto the memory shut with it. Retiring again only adds the call.
        """
        if not self._retired:
            self._retired = True
            self._open = False
            if self._published:
                self._published = False
                self.revoked = not by_peer
                self.table.forget(self.stag)
            for window in tuple(self._windows or ()):
                window.retire(by_peer=by_peer)
        if on_released is not None:
            self._on_released += (on_released,)
        self._release_unless_pinned()

    def when_released(self, on_released: Callable[[], None]) -> None:
        """Call `on_released` when the memory is the caller's alone; at once if it is. Closes nothing by itself."""
        self._on_released += (on_released,)
        self._release_unless_pinned()

    def forget_caller(self, on_released: Callable[[], None]) -> None:
        """Do not make the call that `when_released` was asked for."""
        self._on_released = tuple(call for call in self._on_released if call is not on_released)

    def _let_go(self) -> None:
        """Release the memory: nothing pins it."""
        self._view.release()

    def _release_unless_pinned(self) -> None:
        if self._retired and self._pins == 0:
            self._release()

    def _release(self) -> None:
        calls, self._on_released = self._on_released, _NO_CALLS
        if not self._released:
            self._released = True
            self._let_go()
        for on_released in calls:
            on_released()


class RegionSlice(NamedTuple):
    """`nbytes` octets of `region` from `offset` on, as one scatter/gather element names them."""

    region: MemoryRegion
    offset: int
    nbytes: int

    def __getitem__(self, octets: Any) -> Any:
        """Some of these octets, as a slice of any sequence is; a number gives the field, as that of any tuple does.

        mypy takes it for a plain tuple, as it does each slice of a named tuple: typed programs slice the region.
        """
        if not isinstance(octets, slice):
            return tuple.__getitem__(self, octets)
        start, nbytes = slice_of(octets, self.nbytes)
        return RegionSlice(self.region, self.offset + start, nbytes)

    @property
    def view(self) -> memoryview:
        """The octets themselves, not a copy."""
        return self.region.view[self.offset : self.offset + self.nbytes]

    def advertise(self) -> bytes:
        """The 16 octets that tell a peer of this memory, as rping sends them: be64 TO, be32 STag, be32 length."""
        return bytes(self.remote())

    def remote(self) -> RemoteRegion:
        """This memory as the peer names it."""
        if self.nbytes >> 32:
            raise BadWorkRequest(f"an advertisement holds a length below 2^32, not {self.nbytes}; advertise a part")
        return RemoteRegion(self.region.to + self.offset, self.region.stag, self.nbytes)


Region = TypeVar("Region", bound=MemoryRegion)


@mypyc_attr(allow_interpreted_subclasses=True)
class StagTable:
    """The STags of one context, and the checks that stand between a peer and memory (RFC 5041 §7.1, §8).

    `random_index` gives the upper 24 bits of a new STag; hard to predict by default (SEC-5040-8.1.1-08).
    """

    def __init__(self, random_index: Callable[[], int] | None = None) -> None:
        self._regions: dict[int, MemoryRegion] = {}
        self._indices: set[int] = set()  # upper 24 bits of the STags in use, whatever their key
        self._owners: dict[int, object] = {}  # of those that stay in use while they stand for no memory
        self._random_index = random_index or (lambda: secrets.randbits(24))
        self._next_base = (secrets.randbits(20) << 24) + (1 << 46)

    def __len__(self) -> int:
        return len(self._indices)

    def register(
        self,
        pd: object,
        buffer: Buffer,
        access: Access,
        kind: type[Region],
        stream: object = None,
        log: AccessNotes | None = None,
        to: int | None = None,
    ) -> Region:
        """Make a region, of class `kind`, of any C-contiguous buffer, without copying it.

        With `stream` no other stream may use the STag, whatever its protection domain (DDP-5041-8.2-04). What peers
        do to the memory is noted in `log`. `to` is the TO of the first octet; by default one like an address.
        Raises `BadWorkRequest` for a buffer that is not contiguous, or that is read-only while `access` would
        have it written, and for a `to` that cannot be.
        """
        view = octets_of(buffer)
        check_writable(view, access)
        base = self.base_for(view, access, to=to)
        region = kind(self, pd, view, access, base, self._new_stag(), log)
        if stream is not None:
            region.scope = stream  # DDP-5041-8.3-03
        region.publish()
        return region

    def reserve(self, owner: object) -> int:
        """A new STag that stands for no memory until its owner gives it some; its index is taken until `unreserve`."""
        stag = self._new_stag()
        self._indices.add(stag >> 8)
        self._owners[stag >> 8] = owner
        return stag

    def unreserve(self, stag: int) -> None:
        """The owner gives the STag no memory any more, and has taken what it gave."""
        self._owners.pop(stag >> 8, None)
        self._indices.discard(stag >> 8)

    def owner(self, stag: int) -> object:
        """Who gives memory to the STags of this index, whatever their key; None for a plain region's."""
        return self._owners.get(stag >> 8)

    def publish(self, region: MemoryRegion) -> None:
        """Let the STag of a region stand for it."""
        self._regions[region.stag] = region
        self._indices.add(region.stag >> 8)

    def base_for(self, view: memoryview, access: Access, nbytes: int | None = None, *, to: int | None = None) -> int:
        """The TO of the first octet of memory that begins with `view` and has `nbytes`: by default those of `view`.

        It is `to`, if memory in one piece may begin there; raises `BadWorkRequest` if not.
        """
        if to is not None:
            check_base(to, view.nbytes, access)
            check_aligned(to, view, access)
            return to
        if int(access) & _ZERO_BASED:
            return 0
        return self._new_base(view, view.nbytes if nbytes is None else nbytes)

    def get(self, stag: int) -> MemoryRegion | None:
        """The region that `stag` names, if any."""
        return self._regions.get(stag)

    def forget(self, stag: int) -> None:
        """Void an STag; the peer's next use of it is an error."""
        self._regions.pop(stag, None)
        if stag >> 8 not in self._owners:
            self._indices.discard(stag >> 8)

    def sink(
        self, stag: int, to: int, nbytes: int, pd: object, right: int = REMOTE_WRITE, stream: Grantor | None = None
    ) -> memoryview:
        """Where `nbytes` octets that come on `stream` shall be placed (RFC 5041 §7.1, tagged checks)."""
        return self._reach(stag, to, nbytes, pd, right, DDP_ERRORS, stream)[0]

    def writable(self, stag: int, pd: object, stream: Grantor | None = None) -> MemoryRegion | None:
        """The region that a peer may write by `stag` on `stream`, if `sink` would find one."""
        region = self._regions.get(stag)
        if region is None or not (region.scope is pd or region.scope is stream) or not region.rights & REMOTE_WRITE:
            return None
        return region if stream is None or stream.granted & REMOTE_WRITE else None

    def source(
        self, stag: int, to: int, nbytes: int, pd: object, stream: Grantor | None = None
    ) -> tuple[memoryview, MemoryRegion]:
        """The octets that the peer asked to read, and their region (RFC 5040 §7.2)."""
        return self._reach(stag, to, nbytes, pd, REMOTE_READ, RDMAP_ERRORS, stream)

    def atomic(self, stag: int, to: int, pd: object, stream: Grantor | None = None) -> memoryview:
        """The eight octets that the peer wants changed (EXT-7306-8.2-06), judged as a Read's source is.

        Raises `StreamCatastrophe` if their address is not a multiple of eight: that of the buffer, not the TO.
        """
        memory, region = self._reach(stag, to, ATOMIC_SIZE, pd, REMOTE_ATOMIC, RDMAP_ERRORS, stream)
        if region.misalignment(to - region.to):  # EXT-7306-8.2-04, EXT-7306-8.2-05
            raise StreamCatastrophe(f"an Atomic at STag {stag:#010x} TO {to:#x}, whose address is not a multiple of 8")
        return memory

    def invalidate(self, stag: int, pd: object, stream: object = None, *, shared: bool = False) -> None:
        """Take remote access from an STag because a Send with Invalidate said so (RFC 5040 §5.3).

        The memory stays registered locally only as far as work in flight needs it. Raises `CannotInvalidate`, also
        if other streams use it: `shared` says that the protection domain has others.
        """
        region = self._regions.get(stag)
        if region is None:
            raise CannotInvalidate(stag, "it names no region here")  # RDMAP-5040-7.2-04
        if region.scope is not pd and region.scope is not stream:
            raise CannotInvalidate(stag, "it is not associated with this stream")  # RDMAP-5040-5.3-15
        if not region.access & REMOTE:  # memory of this side alone, such as its receives: the peer never had it
            raise CannotInvalidate(stag, "it grants the peer no access")
        if shared and region.scope is pd:
            raise CannotInvalidate(stag, "other streams share it")  # SEC-5040-8.1.1-07
        reason = region.why_not_invalidated()
        if reason:
            raise CannotInvalidate(stag, reason)
        if region.log is not None:
            region.log.note(AccessKind.INVALIDATE, stream, stag, region.to, region.origin, 0)
        region.retire(by_peer=True)  # RDMAP-5040-5.3-14

    def _reach(
        self, stag: int, to: int, nbytes: int, pd: object, right: int, errors: CheckErrors, stream: Grantor | None
    ) -> tuple[memoryview, MemoryRegion]:
        region = self._regions.get(stag)
        if region is None:  # DDP-5041-7.1-10, RDMAP-5040-7.2-09
            raise errors.invalid(stag)
        if region.scope is not pd and region.scope is not stream:  # DDP-5041-8.2-01, -02, RDMAP-5040-7.2-10
            raise errors.association(stag)
        offset = to - region.to
        if offset < 0 or offset + nbytes > region.nbytes:
            if to + nbytes > TO_LIMIT:  # DDP-5041-7.1-14: asked first among the bounds, it names the cause best
                raise errors.wrap(stag, to, nbytes)
            raise errors.bounds(stag, to, nbytes)  # DDP-5041-7.1-12, DDP-5041-7.1-13
        if stream is not None and not stream.granted & right:
            raise errors.rights(stag)
        if not region.rights & right:  # DDP-5041-7.1-11, RDMAP-5040-7.2-14
            if region.log is None or not region.access & right:
                raise errors.rights(stag)
            region.log.note(_KINDS[right], stream, stag, to, region.origin + offset, nbytes)
        return region.pinned_view(offset, nbytes), region

    def _new_stag(self) -> int:
        for _ in range(1000):
            # STag 0 stays free: some peers treat it as "none" (wire ambiguity 29)
            stag = ((self._random_index() & 0xFF_FFFF) << 8) | secrets.randbits(8)
            if stag >> 8 and stag >> 8 not in self._indices:
                return stag
        raise UsageError(f"no free STag was found; {len(self._indices)} are taken")

    def _new_base(self, view: memoryview, nbytes: int) -> int:
        """A base TO like a virtual address: unique, with the buffer's own alignment, not revealing its address."""
        base = self._next_base
        self._next_base = (base + nbytes + 2 * PAGE) // PAGE * PAGE
        return base + page_offset(view)
