"""Room on the disk: what clients may take of it, and what is reserved for a file before it arrives."""

from __future__ import annotations

import ctypes
import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from pyiwarp.files.directories import Place, disk
from pyiwarp.files.errors import Refusal

__all__ = ["DiskLimits", "free_room", "reserve"]

RESERVE: Final = 1 << 30
RESERVE_SHARE: Final = 20
"""What is left free on the disk by default: `RESERVE` octets, or on small disks one part of `RESERVE_SHARE`."""

_NO_FALLOCATE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM)


class DiskLimits:
    """What clients may take of the disk, in octets; None is no limit, and for `reserve` the default.

    `max_file` limits a file, `max_client` the files that one client (a host) has under way at once. `reserve` is left
    free. `refusals` counts what was refused, by the name of the limit.
    """

    def __init__(
        self, refusals: Counter[str], *, max_file: int | None, max_client: int | None, reserve: int | None
    ) -> None:
        self._refusals = refusals
        self._max_file = max_file
        self._max_client = max_client
        self._reserve = reserve
        self._by_client = Counter[str]()
        self._promised = 0
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, client: str, nbytes: int) -> Iterator[None]:
        """A file of `nbytes` octets is under way in the block; raises `Refusal` if it may not be."""
        if self._max_file is not None and nbytes > self._max_file:
            raise self._refusal("max_file", f"a file of {nbytes} octets; the server takes {self._max_file}")
        before = self._by_client[client]
        if self._max_client is not None and before + nbytes > self._max_client:
            raise self._refusal(
                "max_client",
                f"{nbytes} octets and {before} that this client has under way; the server takes {self._max_client}",
            )
        self._by_client[client] += nbytes
        try:
            yield
        finally:
            self._by_client[client] -= nbytes
            if not self._by_client[client]:
                del self._by_client[client]

    @contextmanager
    def promised(self, nbytes: int) -> Iterator[None]:
        """Room that could not be reserved is spoken for in the block."""
        with self._lock:
            self._promised += nbytes
        try:
            yield
        finally:
            with self._lock:
                self._promised -= nbytes

    def prepare(self, place: Place, nbytes: int, prepare: Callable[[], bool]) -> bool:
        """Call `prepare`, which reserves room on the file system of `place`, if enough is left; raises `Refusal`.

        It may be called in any thread; one call at a time sees and takes the room.
        """
        with self._lock:
            reserve = default_reserve(place) if self._reserve is None else self._reserve
            if nbytes > free_room(place) - self._promised - reserve:
                raise self._refusal("reserve", f"no room for {nbytes} octets: {reserve} are kept free on the disk")
            return prepare()

    def _refusal(self, limit: str, reason: str) -> Refusal:
        self._refusals[limit] += 1
        return Refusal(reason)


def default_reserve(place: Place) -> int:
    """Octets that are left free on the file system of `place` if nobody says how many."""
    return min(RESERVE, disk(place).size // RESERVE_SHARE)


def free_room(place: Place) -> int:
    """The octets that this process may still write to the file system of `place`; raises `OSError`."""
    return disk(place).free


def reserve(fd: int, nbytes: int, place: Place | None = None) -> bool:
    """Give a new file in `place` its size and reserve its room; raises `OSError`, ENOSPC if there is too little.

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
    if nbytes > free_room(fd if place is None else place):
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
