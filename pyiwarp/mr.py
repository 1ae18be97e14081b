"""Memory: what an STag stands for, who may reach it, and how (RFC 5040 §3.2, RFC 5041 §8, RFC 5042 §6).

A region exports the memory of any contiguous buffer without copying it, and keeps it alive and unresizable for as
long as the region is open. Work in flight pins the region; a pinned region cannot be closed, only retired.
"""

from __future__ import annotations

import ctypes
import secrets
from collections.abc import Callable
from enum import IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from pyiwarp.errors import (
    BadWorkRequest,
    BaseOrBounds,
    CannotInvalidate,
    Closed,
    InvalidStag,
    NoWriteRight,
    ProtocolViolation,
    ReadAccessRights,
    ReadBounds,
    ReadInvalidStag,
    ReadStagNotAssociated,
    ReadWrap,
    RegionInUse,
    StagNotAssociated,
    StreamCatastrophe,
    TaggedOffsetWrap,
    UsageError,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on

__all__ = ["ADVERTISEMENT_SIZE", "Access", "MemoryRegion", "RegionSlice", "RemoteRegion", "StagTable"]

TO_LIMIT: Final = 1 << 64
ADVERTISEMENT_SIZE: Final = 16
_PAGE: Final = 4096
_KEY_MASK: Final = 0xFF
_ATOMIC_SIZE: Final = 8
_NO_CALLS: Final[tuple[Callable[[], None], ...]] = ()


class Access(IntFlag):
    """What may be done to a region; the values are those of libibverbs. Local read is always allowed."""

    LOCAL_WRITE = 1
    REMOTE_WRITE = 2
    REMOTE_READ = 4
    REMOTE_ATOMIC = 8
    WINDOW_BIND = 16
    ZERO_BASED = 32


# Plain integers: an operation on flags costs as much as the rest of a check.
REMOTE_WRITE: Final = int(Access.REMOTE_WRITE)
REMOTE_READ: Final = int(Access.REMOTE_READ)
REMOTE_ATOMIC: Final = int(Access.REMOTE_ATOMIC)
REMOTE: Final = Access.REMOTE_WRITE | Access.REMOTE_READ | Access.REMOTE_ATOMIC


class _Blame(NamedTuple):
    """Which error each failed check is, by the layer that makes the check."""

    invalid: type[ProtocolViolation]
    association: type[ProtocolViolation]
    wrap: type[ProtocolViolation]
    bounds: type[ProtocolViolation]
    rights: type[ProtocolViolation]


DDP_BLAME: Final = _Blame(InvalidStag, StagNotAssociated, TaggedOffsetWrap, BaseOrBounds, NoWriteRight)
RDMAP_BLAME: Final = _Blame(ReadInvalidStag, ReadStagNotAssociated, ReadWrap, ReadBounds, ReadAccessRights)


def _nothing() -> None:
    """What follows when nobody waits for memory to be let go."""


class RemoteRegion(NamedTuple):
    """Memory of the peer as it was advertised: where it begins, its STag, and its length in octets."""

    to: int
    stag: int
    nbytes: int

    @classmethod
    def parse(cls, octets: bytes | bytearray | memoryview) -> RemoteRegion:
        """Read the 16 octets of `RegionSlice.advertise`; raises `BadWorkRequest` for any other length."""
        if len(octets) != ADVERTISEMENT_SIZE:
            raise BadWorkRequest(f"an advertisement has 16 octets, not {len(octets)}")
        return cls(
            int.from_bytes(octets[:8], "big"),
            int.from_bytes(octets[8:12], "big"),
            int.from_bytes(octets[12:], "big"),
        )

    def __bytes__(self) -> bytes:
        return self.to.to_bytes(8, "big") + self.stag.to_bytes(4, "big") + self.nbytes.to_bytes(4, "big")

    def at(self, offset: int) -> RemoteRegion:
        """The part from `offset` octets on."""
        if not 0 <= offset <= self.nbytes:
            raise BadWorkRequest(f"offset {offset} lies outside the {self.nbytes} octets of {self}")
        return RemoteRegion(self.to + offset, self.stag, self.nbytes - offset)

    def __str__(self) -> str:
        return f"STag={self.stag:#010x} TO={self.to:#x} [{self.nbytes} octets]"


class RegionSlice(NamedTuple):
    """Some octets of a region, as one scatter/gather element names them."""

    region: MemoryRegion
    offset: int
    nbytes: int

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


class MemoryRegion:
    """Registered memory: a buffer, its STag, its base TO, and what may be done to it.

    Made by `ProtectionDomain.register`. `region[a:b]` names octets for work requests and advertisements.
    """

    __slots__ = (
        "_on_released",
        "_open",
        "_pins",
        "_view",
        "access",
        "nbytes",
        "pd",
        "revoked",
        "rights",
        "scope",
        "stag",
        "table",
        "to",
    )

    def __init__(self, table: StagTable, pd: object, view: memoryview, access: Access, to: int, stag: int) -> None:
        self.table = table
        self.pd = pd
        self.scope = pd  # whose streams may use the STag: the protection domain's, or one queue pair's
        self.revoked = False
        self._view = view
        self.access = access
        self.rights = int(access)
        self.to = to
        self.stag = stag
        self.nbytes = view.nbytes
        self._open = True
        self._pins = 0
        self._on_released = _NO_CALLS

    def __repr__(self) -> str:
        state = "" if self._open else " closed"
        return f"<MemoryRegion STag={self.stag:#010x} TO={self.to:#x} {self.nbytes} octets {self.access!r}{state}>"

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

    def lend(self, pd: object, offset: int, nbytes: int) -> memoryview | None:
        """Pin octets to be sent by work of `pd`, and give them; None, and nothing pinned, if they may not be.

        The short way of the commonest request; which rule forbids it is `admission`'s to say.
        """
        stop = offset + nbytes
        if self._open and self.pd is pd and 0 <= offset <= stop <= self.nbytes:
            self._pins += 1
            return self._view[offset:stop]
        return None

    @property
    def misalignment(self) -> int:
        """How far past a multiple of eight the buffer begins, in octets."""
        return _page_offset(self._view) % _ATOMIC_SIZE

    @property
    def is_open(self) -> bool:
        """Whether the STag still stands for this memory locally."""
        return self._open

    @property
    def pins(self) -> int:
        """How many pieces of work in flight hold the memory."""
        return self._pins

    def __getitem__(self, item: slice) -> RegionSlice:
        start, stop, step = item.indices(self.nbytes)
        if step != 1:
            raise BadWorkRequest(f"a work request names contiguous octets; a step of {step} does not")
        return RegionSlice(self, start, max(0, stop - start))

    def advertise(self) -> bytes:
        """The 16 octets that tell a peer of the whole region."""
        return self[:].advertise()

    def pin(self) -> None:
        """Work in flight begins to use the memory."""
        self._pins += 1

    def unpin(self) -> None:
        """That work is done; the last one lets a retired region go."""
        self._pins -= 1
        if self._pins == 0 and not self._open:
            self._release()

    def close(self) -> None:
        """Deregister: the STag is void and the memory the caller's alone. Closing twice does nothing.

        Raises `RegionInUse` while work in flight pins the memory, even if the peer has invalidated the STag; nothing
        has changed then.
        """
        if self._pins:
            raise RegionInUse(f"{self._pins} pieces of work in flight use the memory: {self!r}")
        self.retire()

    def retire(self, on_released: Callable[[], None] = _nothing, *, by_peer: bool = False) -> None:
        """Void the STag at once, and let the memory go, with a call to `on_released`, when nothing pins it.

        After a peer's access was revoked no octet of its changes the memory (SEC-5042-6.2.2-02), except those of
        work that this side itself has asked for; a Read that is being answered ends the peer's stream, unless it was
        the peer that gave the STag up. Retiring twice is waiting twice.
        """
        if self._open:
            self._open = False
            self.revoked = not by_peer
            self.table.forget(self.stag)
        self._on_released += (on_released,)
        if self._pins == 0:
            self._release()

    def _release(self) -> None:
        calls, self._on_released = self._on_released, _NO_CALLS
        self._view.release()
        for on_released in calls:
            on_released()


Region = TypeVar("Region", bound=MemoryRegion)


class StagTable:
    """The STags of one context, and the checks that stand between a peer and memory (RFC 5041 §7.1, §8).

    `random_index` gives the upper 24 bits of a new STag; hard to predict by default (SEC-5040-8.1.1-08).
    """

    def __init__(self, random_index: Callable[[], int] | None = None) -> None:
        self._regions: dict[int, MemoryRegion] = {}
        self._random_index = random_index or (lambda: secrets.randbits(24))
        self._next_base = (secrets.randbits(20) << 24) + (1 << 46)

    def __len__(self) -> int:
        return len(self._regions)

    def register(self, pd: object, buffer: Buffer, access: Access, kind: type[Region], stream: object = None) -> Region:
        """Make a region, of class `kind`, of any C-contiguous buffer, without copying it.

        With `stream` no other stream may use the STag, whatever its protection domain (DDP-5041-8.2-04).
        Raises `BadWorkRequest` for a buffer that is not contiguous, or that is read-only while `access` would
        have it written.
        """
        view = _octets_of(buffer)
        writing = access & (Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC)
        if writing and view.readonly:
            raise BadWorkRequest(
                f"the buffer is read-only, {access!r} would have it written (RFC 5042 §7.3)"
            )  # SEC-5042-7.3-01
        to = 0 if access & Access.ZERO_BASED else self._new_base(view)
        region = kind(self, pd, view, access, to, self._new_stag())
        if stream is not None:
            region.scope = stream  # DDP-5041-8.3-03
        self._regions[region.stag] = region
        return region

    def get(self, stag: int) -> MemoryRegion | None:
        """The region that `stag` names, if any."""
        return self._regions.get(stag)

    def forget(self, stag: int) -> None:
        """Void an STag; the peer's next use of it is an error."""
        self._regions.pop(stag, None)

    def sink(
        self, stag: int, to: int, nbytes: int, pd: object, right: int = REMOTE_WRITE, stream: object = None
    ) -> memoryview:
        """Where `nbytes` octets that come on `stream` shall be placed (RFC 5041 §7.1, tagged checks)."""
        return self._reach(stag, to, nbytes, pd, right, DDP_BLAME, stream)[0]

    def writable(self, stag: int, pd: object, stream: object = None) -> MemoryRegion | None:
        """The region that a peer may write by `stag` on `stream`, if `sink` would find one."""
        region = self._regions.get(stag)
        if region is None or not (region.scope is pd or region.scope is stream) or not region.rights & REMOTE_WRITE:
            return None
        return region

    def source(
        self, stag: int, to: int, nbytes: int, pd: object, stream: object = None
    ) -> tuple[memoryview, MemoryRegion]:
        """The octets that the peer asked to read, and their region (RFC 5040 §7.2)."""
        return self._reach(stag, to, nbytes, pd, REMOTE_READ, RDMAP_BLAME, stream)

    def atomic(self, stag: int, to: int, pd: object, stream: object = None) -> memoryview:
        """The eight octets that the peer wants changed (EXT-7306-8.2-06), judged as a Read's source is.

        Raises `StreamCatastrophe` if their address is not a multiple of eight: that of the buffer, not the TO.
        """
        memory, region = self._reach(stag, to, _ATOMIC_SIZE, pd, REMOTE_ATOMIC, RDMAP_BLAME, stream)
        if (to - region.to + region.misalignment) % _ATOMIC_SIZE:  # EXT-7306-8.2-04, EXT-7306-8.2-05
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
        region.retire(by_peer=True)  # RDMAP-5040-5.3-14

    def _reach(
        self, stag: int, to: int, nbytes: int, pd: object, right: int, blame: _Blame, stream: object
    ) -> tuple[memoryview, MemoryRegion]:
        region = self._regions.get(stag)
        if region is None:  # DDP-5041-7.1-10, RDMAP-5040-7.2-09
            raise blame.invalid(stag)
        if region.scope is not pd and region.scope is not stream:  # DDP-5041-8.2-01, -02, RDMAP-5040-7.2-10
            raise blame.association(stag)
        offset = to - region.to
        if offset < 0 or offset + nbytes > region.nbytes:
            if to + nbytes > TO_LIMIT:  # DDP-5041-7.1-14: asked first among the bounds, it names the cause best
                raise blame.wrap(stag, to, nbytes)
            raise blame.bounds(stag, to, nbytes)  # DDP-5041-7.1-12, DDP-5041-7.1-13
        if not region.rights & right:  # DDP-5041-7.1-11, RDMAP-5040-7.2-14
            raise blame.rights(stag)
        return region.pinned_view(offset, nbytes), region

    def _new_stag(self) -> int:
        for _ in range(1000):
            # STag 0 stays free: some peers treat it as "none" (wire ambiguity 29)
            stag = ((self._random_index() & 0xFF_FFFF) << 8) | (secrets.randbits(8) & _KEY_MASK)
            if stag >> 8 and stag not in self._regions:
                return stag
        raise UsageError(f"no free STag was found; {len(self._regions)} regions are registered")

    def _new_base(self, view: memoryview) -> int:
        """A base TO like a virtual address: unique here, with the buffer's own alignment, telling nothing of it."""
        base = self._next_base
        self._next_base = (base + view.nbytes + 2 * _PAGE) // _PAGE * _PAGE
        return base + _page_offset(view)


def _octets_of(buffer: Buffer) -> memoryview:
    """A flat view of the octets of any buffer."""
    try:
        view = memoryview(buffer)
        return view.cast("B") if view.nbytes else memoryview(bytearray() if not view.readonly else b"")
    except (TypeError, BufferError) as error:
        raise BadWorkRequest(f"only a C-contiguous buffer can be registered: {error}") from error


def _page_offset(view: memoryview) -> int:
    """How far into its page a writable buffer begins; read-only ones are never aligned for anything."""
    if view.readonly or not view.nbytes:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % _PAGE
