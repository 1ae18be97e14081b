"""Pages of a mapped file brought into memory ahead of the transfer, in a thread and in large steps.

A page fault for each page, while octets are placed, costs several times as much and blocks the event loop.
"""

from __future__ import annotations

import ctypes
from typing import Final

from pyiwarp.files.tasks import Follower, in_thread

__all__ = ["Prefault"]

STEP: Final = 32 << 20
AHEAD: Final = 64 << 20
"""Octets beyond what is placed that are brought in: memory is not used long before it is needed."""

PAGE: Final = 4096
MADV_POPULATE_WRITE: Final = 23
"""Linux 5.14 and later. An older kernel answers EINVAL; pages are then brought in one at a time, by their faults."""


class Prefault(Follower):
    """Brings in the pages of writable `memory` ahead of what is placed; see `Follower`."""

    async def _follow(self) -> None:
        done = 0
        while done < self._memory.nbytes:
            if done >= self._filled + AHEAD:
                await self._wait_for_advance()
                continue
            start = max(done, self._filled // PAGE * PAGE)
            done = min(start + STEP, self._memory.nbytes)
            if not await in_thread(self._populate, start, done):
                return

    def _populate(self, start: int, end: int) -> bool:
        with self._memory[start:end] as piece:
            first = (ctypes.c_char * piece.nbytes).from_buffer(piece)
            done = _madvise(ctypes.addressof(first), piece.nbytes, MADV_POPULATE_WRITE) == 0
            del first
        return done


def _madvise(address: int, nbytes: int, advice: int) -> int:
    """The system call, by ctypes: `mmap.madvise` would hold the interpreter's lock and block other threads."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    result: int = madvise(address, nbytes, advice)
    return result
