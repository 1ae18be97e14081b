"""The record of one file's transfer, as the client or the server saw it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyiwarp.files.digests import Digest

if TYPE_CHECKING:
    from pyiwarp import Connection

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """One transfer: `direction` is get or put, seen from the client; `error` is empty when it succeeded.

    `operations` counts RDMA Writes or Reads, `stag` and `to` name the client's memory, `seconds` is the time it took.
    """

    direction: str
    name: str
    """The file's, as the server knows it."""
    peer: str = ""
    """The address of the other side."""
    nbytes: int = 0
    """The size of the file in octets."""
    seconds: float = 0.0
    fpdus_sent: int = 0
    """FPDUs that this side has sent meanwhile."""
    fpdus_received: int = 0
    """FPDUs that it has received."""
    operations: int = 0
    stag: int = 0
    to: int = 0
    sha256: str = ""
    """Of the file, in hexadecimal; empty if both sides have agreed on another digest."""
    blake3: str = ""
    """Of the file, in hexadecimal; empty if both sides have agreed on SHA-256."""
    error: str = ""

    @property
    def verified_by(self) -> str:
        """The name of the digest that both sides have computed, empty as long as none is known."""
        return next((kind.title for kind in Digest if self.digest(kind)), "")

    def digest(self, kind: Digest) -> str:
        """The file's digest of that kind in hexadecimal, or an empty text."""
        digest: str = getattr(self, kind.value)
        return digest

    def note(self, kind: Digest, digest: str) -> None:
        """Record the digest that was computed."""
        setattr(self, kind.value, digest)

    @contextmanager
    def counting(self, connection: Connection) -> Iterator[None]:
        """Measure time and FPDUs of the transfer in the block, however the block ends."""
        before = connection.qp.counters()
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds = time.monotonic() - began
            now = connection.qp.counters()
            self.fpdus_sent = now.fpdus_sent - before.fpdus_sent
            self.fpdus_received = now.fpdus_received - before.fpdus_received

    def data(self) -> dict[str, object]:
        """All fields, for JSON."""
        return asdict(self)
