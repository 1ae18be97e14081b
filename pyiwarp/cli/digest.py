"""SHA-256 of a file that is still arriving, computed in a thread behind the transfer."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Final

from pyiwarp.cli.follower import Follower
from pyiwarp.cli.threads import in_thread

__all__ = ["FollowingDigest"]

STEP: Final = 16 << 20
"""What is hashed in one go: long enough to make the hand-over cheap, short enough to be cancelled at once."""


class FollowingDigest(Follower):
    """Hashes `memory` as far as it is filled; see `Follower`.

    A digest that is `known` is not computed again.
    """

    def __init__(self, memory: memoryview, available: int = 0, known: str | None = None) -> None:
        self._known = known
        self._hash = hashlib.sha256()
        super().__init__(memory, available)

    async def finish(self) -> str:
        """The digest of the whole memory, in hexadecimal; waits until all of it is there and hashed."""
        if self._known is not None:
            return self._known
        await asyncio.shield(self._task)
        return self._hash.hexdigest()

    async def _follow(self) -> None:
        hashed = 0
        while hashed < self._memory.nbytes and self._known is None:
            upto = min(self._filled, hashed + STEP)
            if upto > hashed:
                await in_thread(self._update, hashed, upto)
                hashed = upto
            else:
                await self._news()

    def _update(self, start: int, end: int) -> None:
        with self._memory[start:end] as piece:  # let go before the thread reports, so that nothing outlives the wait
            self._hash.update(piece)
