"""Pages of a mapped file brought in before they are needed, in a thread and in large steps.

One page fault at a time, in the middle of placing octets, costs several times as much and holds up the event loop.
"""

from __future__ import annotations

import ctypes
from typing import Final

from pyiwarp.cli.follower import Follower
from pyiwarp.cli.threads import in_thread

__all__ = ["Prefault"]

STEP: Final = 32 << 20
AHEAD: Final = 64 << 20
PAGE: Final = 4096
MADV_POPULATE_WRITE: Final = 23
"""From Linux 5.14 on; an older kernel says EINVAL, and pages come one by one as ever."""


class Prefault(Follower):
    """Brings in the pages of writable `memory`, a little ahead of what is placed; see `Follower`."""

    async def _follow(self) -> None:
        done = 0
        while done < self._memory.nbytes:
            if done >= self._filled + AHEAD:  # memory is not spent long before it is needed
                await self._news()
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
    """The system call by way of ctypes, which, unlike `mmap.madvise`, lets other threads run meanwhile."""
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    result: int = madvise(address, nbytes, advice)
    return result
