"""The digests that verify files: which there are, and those of files that were sent, for when they are sent again.

Both sides compute the digest on which they agree when they connect (`hello`). SHA-256 is in every Python. BLAKE3 takes
a third of the time; it comes with the package `blake3`, where that has a wheel.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from pyiwarp.files.source import Identity

__all__ = ["Digest", "DigestCache", "Hash"]

CAPACITY: Final = 1024
SETTLED: Final = 2.0
"""Seconds since its last change after which a file's digest is cached.

A file that changed less long ago may change again within the resolution of its time stamps.
"""


class Hash(Protocol):
    """What computes a digest: an object as those of `hashlib`."""

    def update(self, data: memoryview, /) -> object:
        """Take the next octets."""

    def hexdigest(self) -> str:
        """The digest of all of them, in hexadecimal."""


def _blake3() -> Callable[[], Hash] | None:
    try:
        from blake3 import blake3
    except ImportError:
        return None
    return blake3


BLAKE3: Final = _blake3()
"""Makes what computes a BLAKE3; None where the package is not installed."""


class Digest(enum.Enum):
    """A digest of 256 bits; its value is its name on the wire."""

    SHA256 = "sha256"
    BLAKE3 = "blake3"

    @property
    def title(self) -> str:
        """Its name for people."""
        return "SHA-256" if self is Digest.SHA256 else "BLAKE3"

    @property
    def is_here(self) -> bool:
        """Whether this machine can compute it."""
        return self is Digest.SHA256 or BLAKE3 is not None

    def begin(self) -> Hash:
        """A new computation, of no octets so far."""
        if self is Digest.SHA256:
            return hashlib.sha256()
        assert BLAKE3 is not None, "a digest that is not here is not agreed on"
        return BLAKE3()


class DigestCache:
    """Digests by kind and identity of the file; the least recently used of more than `capacity` is dropped."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._digests: OrderedDict[tuple[Identity, Digest], str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._digests)

    def get(self, identity: Identity, kind: Digest) -> str | None:
        """The digest of this file in this state, or None if it is not known."""
        digest = self._digests.get((identity, kind))
        if digest is not None:
            self._digests.move_to_end((identity, kind))
        return digest

    def add(self, identity: Identity, kind: Digest, digest: str) -> None:
        """Remember a digest, unless the file changed less than `SETTLED` seconds ago."""
        changed = max(identity.mtime_ns, identity.ctime_ns) / 1e9
        if time.time() - changed < SETTLED:
            return
        self._digests[identity, kind] = digest
        self._digests.move_to_end((identity, kind))
        if len(self._digests) > self._capacity:
            self._digests.popitem(last=False)

    def forget(self, identity: Identity, kind: Digest) -> None:
        """Drop a digest that is wrong, or may be."""
        self._digests.pop((identity, kind), None)
