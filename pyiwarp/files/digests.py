"""SHA-256 of files: computed in a thread while the file is transferred, and cached for files that are sent again."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from typing import Final

from pyiwarp.files.source import Identity
from pyiwarp.files.tasks import Follower, in_thread

__all__ = ["DigestCache", "FollowingDigest"]

STEP: Final = 16 << 20
"""Octets hashed by one call in a thread: enough that the hand-over is cheap, few enough that cancelling is prompt."""

CAPACITY: Final = 1024
SETTLED: Final = 2.0
"""Seconds since its last change after which a file's digest is cached.

A file that changed less long ago may change again within the resolution of its time stamps.
"""


class FollowingDigest(Follower):
    """Hashes `memory` while it is filled; see `Follower`. A digest that is `known` is not computed again."""

    def __init__(self, memory: memoryview, available: int = 0, known: str | None = None) -> None:
        self._known = known
        self._hash = hashlib.sha256()
        super().__init__(memory, available)

    async def finish(self) -> str:
        """Wait until the whole memory is filled and hashed; returns its SHA-256 in hexadecimal."""
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
                await self._wait_for_advance()

    def _update(self, start: int, end: int) -> None:
        with self._memory[start:end] as piece:  # released before the thread returns
            self._hash.update(piece)


class DigestCache:
    """SHA-256 by the identity of the file; the least recently used of more than `capacity` is dropped."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._digests: OrderedDict[Identity, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def get(self, identity: Identity) -> str | None:
        """The digest of this file in this state, or None if it is not known."""
        digest = self._digests.get(identity)
        if digest is not None:
            self._digests.move_to_end(identity)
        return digest

    def add(self, identity: Identity, digest: str) -> None:
        """Remember a digest, unless the file changed less than `SETTLED` seconds ago."""
        changed = max(identity.mtime_ns, identity.ctime_ns) / 1e9
        if time.time() - changed < SETTLED:
            return
        self._digests[identity] = digest
        self._digests.move_to_end(identity)
        if len(self._digests) > self._capacity:
            self._digests.popitem(last=False)

    def forget(self, identity: Identity) -> None:
        """Drop a digest that is wrong, or may be."""
        self._digests.pop(identity, None)
