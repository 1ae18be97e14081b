"""SHA-256 of files that were sent: cached, for those that are sent again."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Final

from pyiwarp.files.source import Identity

__all__ = ["DigestCache"]

CAPACITY: Final = 1024
SETTLED: Final = 2.0
"""Seconds since its last change after which a file's digest is cached.

A file that changed less long ago may change again within the resolution of its time stamps.
"""


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
