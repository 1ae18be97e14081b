"""Memory by its address, from the C library."""

from __future__ import annotations

import ctypes
from typing import Final

from pyiwarp.pyverbs.base import PyverbsRDMAErrno

__all__ = [
    "free",
    "madvise",
    "malloc",
    "mmap",
    "munmap",
    "posix_memalign",
    "read",
    "read32",
    "read64",
    "write",
    "writebe32",
    "writebe64",
]

PROT_NONE_, PROT_READ_, PROT_WRITE_, PROT_EXEC_ = 0, 1, 2, 4
MAP_SHARED_, MAP_PRIVATE_, MAP_FIXED_, MAP_ANONYMOUS_ = 0x1, 0x2, 0x10, 0x20
MAP_GROWSDOWN_, MAP_LOCKED_, MAP_NORESERVE_, MAP_POPULATE_ = 0x100, 0x2000, 0x4000, 0x8000
MAP_STACK_, MAP_HUGETLB_ = 0x20000, 0x40000
MADV_DONTNEED_: Final = 4

_c: Final = ctypes.CDLL(None, use_errno=True)
_POINTER, _SIZE, _INT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_c.mmap.restype = _c.malloc.restype = _POINTER
_c.mmap.argtypes = [_POINTER, _SIZE, _INT, _INT, _INT, ctypes.c_long]
_c.munmap.argtypes = [_POINTER, _SIZE]
_c.madvise.argtypes = [_POINTER, _SIZE, _INT]
_c.malloc.argtypes = [_SIZE]
_c.free.argtypes = [_POINTER]
_c.posix_memalign.argtypes = [ctypes.POINTER(_POINTER), _SIZE, _SIZE]
_FAILED: Final = _POINTER(-1).value


def mmap(
    addr: int = 0,
    length: int = 100,
    prot: int = PROT_READ_ | PROT_WRITE_,
    flags: int = MAP_PRIVATE_ | MAP_ANONYMOUS_,
    fd: int = 0,
    offset: int = 0,
) -> int:
    """Map memory; returns its address."""
    address: int | None = _c.mmap(addr, length, prot, flags, fd, offset)
    if address is None or address == _FAILED:
        raise MemoryError("Failed to mmap memory")
    return address


def madvise(addr: int, length: int, flags: int = MADV_DONTNEED_) -> None:
    """Tell the kernel how memory is used."""
    if _c.madvise(addr, length, flags):
        raise PyverbsRDMAErrno("Failed to madvise memory")


def munmap(addr: int, length: int) -> None:
    """Unmap memory; regions of it must be closed before."""
    if _c.munmap(addr, length):
        raise MemoryError("Failed to munmap requested memory")


def malloc(size: int) -> int:
    """Allocate memory; returns its address."""
    address: int | None = _c.malloc(size)
    if not address:
        raise MemoryError("Failed to allocate memory")
    return address


def posix_memalign(size: int, alignment: int = 8) -> int:
    """Allocate memory that is aligned, and zero; returns its address."""
    pointer = _POINTER()
    if _c.posix_memalign(ctypes.byref(pointer), alignment, size):
        raise MemoryError("Failed to allocate memory")
    address = pointer.value
    if address is None:
        raise MemoryError("Failed to allocate memory")
    ctypes.memset(address, 0, size)
    return address


def free(ptr: int) -> None:
    """Free memory; regions of it must be closed before."""
    _c.free(ptr)


def write(addr: int, data: bytes | str, length: int, offset: int = 0) -> None:
    """Put octets into memory."""
    octets = data.encode() if isinstance(data, str) else bytes(data)
    ctypes.memmove(addr + offset, octets, min(length, len(octets)))


def read(addr: int, length: int, offset: int = 0) -> bytes:
    """Octets of memory."""
    return ctypes.string_at(addr + offset, length)


def writebe32(addr: int, val: int, offset: int = 0) -> None:
    """Put a number of four octets, in the order of the network; `offset` counts such numbers."""
    write(addr, val.to_bytes(4, "big"), 4, offset * 4)


def writebe64(addr: int, val: int, offset: int = 0) -> None:
    """Put a number of eight octets, in the order of the network; `offset` counts such numbers."""
    write(addr, val.to_bytes(8, "big"), 8, offset * 8)


def read32(addr: int, offset: int = 0) -> int:
    """A number of four octets; `offset` counts such numbers."""
    return int.from_bytes(read(addr, 4, offset * 4), "little")


def read64(addr: int, offset: int = 0) -> int:
    """A number of eight octets; `offset` counts such numbers."""
    return int.from_bytes(read(addr, 8, offset * 8), "little")
