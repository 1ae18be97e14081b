"""What memory is called and what it allows: rights, STags and their keys, advertisements, the buffers behind them.

Everything here is a value or a question about one; `mr` gives memory its STags.
"""

from __future__ import annotations

import ctypes
from enum import Enum, IntFlag
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from pyiwarp.errors import BadWorkRequest

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on

__all__ = [
    "ADVERTISEMENT_SIZE",
    "PAGE",
    "REMOTE",
    "REMOTE_ATOMIC",
    "REMOTE_READ",
    "REMOTE_WRITE",
    "TO_LIMIT",
    "Access",
    "AccessKind",
    "AccessNotes",
    "RemoteRegion",
    "check_writable",
    "octets_of",
    "page_offset",
    "with_key",
]

TO_LIMIT: Final = 1 << 64
ADVERTISEMENT_SIZE: Final = 16
PAGE: Final = 4096
_KEY_MASK: Final = 0xFF


class Access(IntFlag):
    """What may be done to a region; the values are those of libibverbs. Local read is always allowed.

    LOCAL_WRITE lets receives, Reads and Atomics of this side put octets there; the REMOTE rights are the peer's.
    Unlike libibverbs, remote write and atomic do not ask for LOCAL_WRITE as well: memory that the peer may write and
    this side's work requests may not is a sound thing to ask for. WINDOW_BIND lets windows be bound to the region,
    ZERO_BASED lets its TOs begin at 0.
    """

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


class AccessKind(Enum):
    """What a peer did to memory."""

    WRITE = "write"
    READ = "read"
    ATOMIC = "atomic"
    INVALIDATE = "invalidate"


class AccessNotes(Protocol):
    """Where a region's accesses by peers are noted; `pyiwarp.verbs.AccessLog` is one."""

    def note(self, kind: AccessKind, stream: object, stag: int, to: int, offset: int, nbytes: int) -> None:
        """Note an access that was granted; `stream` is the queue pair it came by, if it is known."""


def with_key(stag: int, key: int | None = None) -> int:
    """The STag with another key in its low 8 bits: the one after its own by default.

    Raises `BadWorkRequest` for a key that does not fit.
    """
    if key is None:
        key = stag + 1 & _KEY_MASK
    if not 0 <= key <= _KEY_MASK:
        raise BadWorkRequest(f"the key of an STag has 8 bits: {key:#x}")
    return stag & ~_KEY_MASK | key


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


def octets_of(buffer: Buffer) -> memoryview:
    """A flat view of the octets of any buffer."""
    try:
        view = memoryview(buffer)
        return view.cast("B") if view.nbytes else memoryview(bytearray() if not view.readonly else b"")
    except (TypeError, BufferError) as error:
        raise BadWorkRequest(f"only a C-contiguous buffer can be registered: {error}") from error


def check_writable(view: memoryview, access: Access) -> None:
    """Raises `BadWorkRequest` if memory is read-only that `access` would have written."""
    if view.readonly and access & (Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC):
        raise BadWorkRequest(
            f"the buffer is read-only, {access!r} would have it written (RFC 5042 §7.3)"
        )  # SEC-5042-7.3-01


def page_offset(view: memoryview) -> int:
    """How far into its page a writable buffer begins; read-only ones are never aligned for anything."""
    if view.readonly or not view.nbytes:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % PAGE
