"""Room on the disk: reserved for a file before it arrives, and some of it left for others."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Final

__all__ = ["free_room", "reserve"]

_NO_FALLOCATE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM)


def free_room(fd: int) -> int:
    """The octets that this process may still write to the file system of `fd`; raises `OSError`."""
    room = os.fstatvfs(fd)
    return room.f_bavail * room.f_frsize


def reserve(fd: int, nbytes: int) -> bool:
    """Give a new file its size and reserve its room on the disk; raises `OSError`, ENOSPC if there is too little.

    Where the file system cannot reserve room, its free room is compared with `nbytes`, and False is returned.
    """
    if not nbytes:
        return True
    try:
        _fallocate(fd, nbytes)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
    else:
        return True
    if nbytes > free_room(fd):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, nbytes)
    return False


def _fallocate(fd: int, nbytes: int) -> None:
    """The system call: `os.posix_fallocate` of the GNU library writes to every block where the file system has none."""
    if _SYSTEM_CALL is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while _SYSTEM_CALL(fd, 0, 0, nbytes):
        error = ctypes.get_errno()
        if error != errno.EINTR:
            raise OSError(error, os.strerror(error))


def _system_call() -> Callable[[int, int, int, int], int] | None:
    """`fallocate` of the C library with offsets of 64 bits; None where it has none."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
    except (OSError, TypeError):  # TypeError: Windows
        return None
    call = getattr(library, "fallocate64", None)
    if call is None and ctypes.sizeof(ctypes.c_long) == 8:
        call = getattr(library, "fallocate", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    call.restype = ctypes.c_int
    return call  # type: ignore[no-any-return]


_SYSTEM_CALL: Final = _system_call()
