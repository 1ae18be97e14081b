"""SHA-256 of a file that is still arriving, computed in a thread behind the transfer."""

from __future__ import annotations

import asyncio
import hashlib
from types import TracebackType
from typing import Final

from pyiwarp.cli.threads import in_thread

__all__ = ["FollowingDigest"]

STEP: Final = 16 << 20
"""What is hashed in one go: long enough to make the hand-over cheap, short enough to be cancelled at once."""


class FollowingDigest:
    """Hashes `memory` up to where `advance` says that it is filled; `async with` stops it and lets the memory go.

    `available` octets are there from the beginning. A digest that is `known` is not computed again.
    """

    def __init__(self, memory: memoryview, available: int = 0, known: str | None = None) -> None:
        self._known = known
        self._memory = memory[:]
        self._hash = hashlib.sha256()
        self._available = available
        self._more = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def __aenter__(self) -> FollowingDigest:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._memory.release()

    def advance(self, upto: int) -> None:
        """The first `upto` octets are there and will not change."""
        self._available = upto
        self._more.set()

    async def finish(self) -> str:
        """The digest of the whole memory, in hexadecimal; waits until all of it is there and hashed."""
        if self._known is not None:
            return self._known
        await asyncio.shield(self._task)
        return self._hash.hexdigest()

    async def _follow(self) -> None:
        hashed = 0
        while hashed < self._memory.nbytes and self._known is None:
            upto = min(self._available, hashed + STEP)
            if upto > hashed:
                await in_thread(self._update, hashed, upto)
                hashed = upto
            else:
                self._more.clear()
                await self._more.wait()

    def _update(self, start: int, end: int) -> None:
        with self._memory[start:end] as piece:  # let go before the thread reports, so that nothing outlives the wait
            self._hash.update(piece)
