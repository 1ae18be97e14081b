"""SHA-256 of files that were sent before, so that a file which many clients get is hashed once."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from pyiwarp.cli.source import Identity

__all__ = ["DigestCache"]

CAPACITY: Final = 1024
SETTLED: Final = 2.0
"""A file that changed within so many seconds may change again within the resolution of its time stamps."""


class DigestCache:
    """Digests by the identity of the file: device, inode, size, and both times of its last change."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._digests: OrderedDict[Identity, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def get(self, identity: Identity) -> str | None:
        """The digest of exactly this file in exactly this state, if it is known."""
        digest = self._digests.get(identity)
        if digest is not None:
            self._digests.move_to_end(identity)
        return digest

    def add(self, identity: Identity, digest: str) -> None:
        """Remember a digest; the one that was not asked for longest goes when there are too many."""
        changed = max(identity.mtime_ns, identity.ctime_ns) / 1e9
        if time.time() - changed < SETTLED:
            return
        self._digests[identity] = digest
        self._digests.move_to_end(identity)
        if len(self._digests) > self._capacity:
            self._digests.popitem(last=False)

    def forget(self, identity: Identity) -> None:
        """The digest has turned out to be wrong, or may be."""
        self._digests.pop(identity, None)
