"""What memory is called and what it allows: rights, STags and their keys, advertisements, the buffers behind them.

Everything here is a value or a question about one; `mr` gives memory its STags.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, IntFlag
from mmap import mmap
from typing import TYPE_CHECKING, Any, Final, Protocol, SupportsIndex, cast

from pyiwarp.codes import ATOMIC_SIZE, flag_names
from pyiwarp.errors import BadWorkRequest, UsageError

if TYPE_CHECKING:
    import typing_extensions

    from pyiwarp.buffers import Buffer

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
    "Grantor",
    "RemoteRegion",
    "check_aligned",
    "check_base",
    "check_granted",
    "check_writable",
    "octets_of",
    "page_offset",
    "slice_of",
    "with_key",
]

TO_LIMIT: Final = 1 << 64
ADVERTISEMENT_SIZE: Final = 16
PAGE: Final = 4096
_FIELD_NAME: Final = re.compile(":[^:]*:")
_POINTER: Final = re.compile(
    "[OPzX&]|Z(?![fdg])"
)  # as PEP 3118 and ctypes have them; Zf, Zd and Zg are complex numbers
_COMPOUND: Final = ctypes.Structure, ctypes.Union, ctypes.Array
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

    def __repr__(self) -> str:
        return flag_names(self)


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


class Grantor(Protocol):
    """A queue pair, whose peer has no more rights by it than it grants, whatever regions allow."""

    @property
    def granted(self) -> int:
        """The REMOTE rights that it grants, as a number."""


def with_key(stag: int, key: int | None = None) -> int:
    """The STag with another key in its low 8 bits: by default one of the 255 others, which no peer can predict.

    Raises `BadWorkRequest` for a key that does not fit.
    """
    if key is None:
        key = stag + 1 + secrets.randbelow(_KEY_MASK) & _KEY_MASK  # SEC-5040-8.1.1-08
    if not 0 <= key <= _KEY_MASK:
        raise BadWorkRequest(f"the key of an STag has 8 bits: {key:#x}")
    return stag & ~_KEY_MASK | key


@dataclass(frozen=True, slots=True, order=True)
class RemoteRegion:
    """Memory of the peer as it was advertised: where it begins, its STag, and its length in octets.

    `remote[a:b]` is a part of it, in octets, as a slice of any sequence is; `remote.at(n)` is the part from `n` on.
    """

    to: int
    stag: int
    nbytes: int
    """Its length in octets."""

    @classmethod
    def parse(cls, octets: bytes | bytearray | memoryview) -> RemoteRegion:
        """Read the 16 octets of `RegionSlice.advertise`; raises `BadWorkRequest` for all else."""
        if not isinstance(octets, bytes | bytearray | memoryview):
            raise BadWorkRequest(f"an advertisement is 16 octets, not of type {type(octets).__name__!r}")
        if len(octets) != ADVERTISEMENT_SIZE:
            raise BadWorkRequest(f"an advertisement has 16 octets, not {len(octets)}")
        return cls(
            int.from_bytes(octets[:8], "big"),
            int.from_bytes(octets[8:12], "big"),
            int.from_bytes(octets[12:], "big"),
        )

    def __bytes__(self) -> bytes:
        return self.to.to_bytes(8, "big") + self.stag.to_bytes(4, "big") + self.nbytes.to_bytes(4, "big")

    def __iter__(self) -> Iterator[int]:
        return iter((self.to, self.stag, self.nbytes))

    def __getitem__(self, octets: slice) -> RemoteRegion:
        start, nbytes = slice_of(octets, self.nbytes)
        return RemoteRegion(self.to + start, self.stag, nbytes)

    def at(self, offset: int) -> RemoteRegion:
        """The part from `offset` octets on; raises `BadWorkRequest` for one that begins outside."""
        known = type(offset) is int or isinstance(offset, SupportsIndex)  # the second question is a slow one
        if not known or not 0 <= offset.__index__() <= self.nbytes:
            raise BadWorkRequest(f"an offset is a number from 0 to {self.nbytes}, not {offset!r}: {self}")
        return RemoteRegion(self.to + offset, self.stag, self.nbytes - offset)

    def __str__(self) -> str:
        return f"STag={self.stag:#010x} TO={self.to:#x} [{self.nbytes} octets]"


def slice_of(octets: slice, nbytes: int) -> tuple[int, int]:
    """Where a slice of memory of `nbytes` octets begins, and how many octets it has; it is cut off at the end.

    Raises `BadWorkRequest` for what is no slice of contiguous octets.
    """
    if not isinstance(octets, slice):
        raise BadWorkRequest(f"octets of memory are named by a slice, [a:b], not by [{octets!r}]")
    start, stop, step = octets.indices(nbytes)
    if step != 1:
        raise BadWorkRequest(f"a work request names contiguous octets; a step of {step} does not")
    return start, max(0, stop - start)


def octets_of(buffer: Buffer) -> memoryview:
    """A flat view of the octets of any buffer; raises `BadWorkRequest` for all else."""
    try:
        view = memoryview(cast("typing_extensions.Buffer", buffer))
    except (TypeError, BufferError) as error:
        text = "; text becomes octets by `encode`" if isinstance(buffer, str) else ""
        raise BadWorkRequest(f"only a C-contiguous buffer can be sent or registered: {error}{text}") from error
    _check_plain(view)
    if not view.c_contiguous:
        layout = f"{view.format!r} in shape {view.shape}, strides {view.strides}"
        view.release()  # else the traceback would keep the memory unresizable
        raise BadWorkRequest(
            f"only a C-contiguous buffer can be sent or registered, not {layout}; "
            "send a contiguous copy, such as numpy.ascontiguousarray makes"
        )
    if not view.nbytes:
        return memoryview(b"" if view.readonly else bytearray())
    try:
        return view.cast("B")
    except (TypeError, ValueError) as error:
        raise BadWorkRequest(f"the items of the buffer, {view.format!r}, are no plain octets: {error}") from error


_OCTETS: Final = frozenset({bytes, bytearray, mmap})  # what is always plain


def _check_plain(view: memoryview) -> None:
    """Raises `BadWorkRequest` if the items are pointers, or have some in them: a peer's octets would become addresses.

    What a memoryview or an array shows as octets is judged by what it is a view of. A union of ctypes, and a packed
    structure, tells that it is octets; then its fields are looked at.
    """
    items = view.format
    if items == "B" and type(view.obj) in _OCTETS:
        return
    found = _is_pointer(items)
    if not found and not isinstance(view.obj, bytes | bytearray):
        owner = _owner(view.obj)
        with contextlib.suppress(TypeError, BufferError), memoryview(owner) as whole:
            items = whole.format
            found = _is_pointer(items)
        if not found and isinstance(owner, _COMPOUND):
            items = type(owner).__name__
            found = _has_pointers(type(owner))
    if found:
        view.release()  # else the traceback would keep the memory unresizable
        raise BadWorkRequest(
            f"memory that holds pointers, {items!r}, cannot be sent or registered: they mean nothing to the peer, "
            "and what it writes would be taken for addresses (RFC 5042 §6.2.1)"
        )


def _is_pointer(items: str) -> bool:
    """Whether a format of PEP 3118 has pointers in it."""
    return _POINTER.search(_FIELD_NAME.sub("", items)) is not None


def _owner(memory: Any) -> Any:
    """The object whose memory an array of NumPy, or a view, shows."""
    while True:
        if isinstance(memory, memoryview):
            memory = memory.obj
        elif hasattr(type(memory), "__array_interface__") and getattr(memory, "base", None) is not None:
            memory = memory.base
        else:
            return memory


def _has_pointers(kind: Any) -> bool:
    """Whether a type of ctypes is a pointer or has some in it, wherever."""
    declared = [vars(base) for base in kind.__mro__]
    if issubclass(kind, ctypes.Array):
        return _has_pointers(next(names["_type_"] for names in declared if "_type_" in names))
    if issubclass(kind, _COMPOUND):
        return any(_has_pointers(field[1]) for names in declared for field in names.get("_fields_", ()))
    with memoryview(kind()) as view:
        return _is_pointer(view.format)


def check_writable(view: memoryview, access: Access) -> None:
    """Raises `BadWorkRequest` if memory is read-only that `access` would have written."""
    if view.readonly and access & (Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC):
        raise BadWorkRequest(
            f"the buffer is read-only, {access!r} would have it written (RFC 5042 §7.3)"
        )  # SEC-5042-7.3-01


_NEVER_GRANTED: Final = ~int(REMOTE | Access.LOCAL_WRITE)


def check_granted(access: Access) -> None:
    """Raises `UsageError` for rights that a queue pair cannot grant: others than those of its peer."""
    if int(access) & _NEVER_GRANTED:
        given = f"{access!r} ({int(access):#x})"
        raise UsageError(f"a queue pair grants its peer {REMOTE!r} or some of them, not {given} (RFC 5040 §7.2)")


def check_base(to: int, nbytes: int, access: Access) -> None:
    """Raises `BadWorkRequest` if memory of `nbytes` octets cannot have `to` as the TO of its first octet."""
    if not isinstance(to, int):
        raise BadWorkRequest(f"a TO is a number below 2^64, not of type {type(to).__name__!r} (RFC 5041 §3)")
    if access & Access.ZERO_BASED and to:
        raise BadWorkRequest(f"a region that is zero based begins at TO 0, not {to:#x}")
    if to < 0 or to + nbytes > TO_LIMIT:  # DDP-5041-7.1-14: no octet of the region is beyond the last TO
        raise BadWorkRequest(f"{nbytes} octets do not fit behind TO {to:#x}: TOs end at 2^64 (RFC 5041 §3)")


def check_aligned(to: int, view: memoryview, access: Access) -> None:
    """Raises `BadWorkRequest` if Atomics are allowed, and TOs and memory are not aligned alike.

    A peer aligns its Atomics by their TO, the memory must be aligned by its address (EXT-7306-8.2-04).
    """
    misaligned = (to - page_offset(view)) % ATOMIC_SIZE
    if access & Access.REMOTE_ATOMIC and misaligned:
        raise BadWorkRequest(
            f"TO {to:#x} lies {misaligned} octets past where the memory's address would be for Atomics: both must be "
            f"the same past a multiple of {ATOMIC_SIZE} (RFC 7306 §8.2)"
        )


def page_offset(view: memoryview) -> int:
    """How far into its page a writable buffer begins; read-only ones are never aligned for anything."""
    if view.readonly or not view.nbytes:
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(view)) % PAGE
