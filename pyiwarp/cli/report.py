"""What is told of a transfer when it is over: as a line for people, or as data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from pyiwarp.cli.onscreen import rate, shown

if TYPE_CHECKING:
    from pyiwarp.connections.awaitable import Connection

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """One file's way, seen from one side.

    `operations` counts the RDMA Writes or Reads, `stag` and `to` name the client's memory, and `error` is empty if
    all is well.
    """

    direction: str
    name: str
    peer: str = ""
    nbytes: int = 0
    seconds: float = 0.0
    fpdus_sent: int = 0
    fpdus_received: int = 0
    operations: int = 0
    stag: int = 0
    to: int = 0
    sha256: str = ""
    error: str = ""

    def __str__(self) -> str:
        name = shown(self.name)
        if self.error:
            return f"{self.direction} {name}: {shown(self.error)}"
        return (
            f"{self.direction} {name}: {self.nbytes:,} octets in {self.seconds:.2f} s, "
            f"{rate(self.nbytes, self.seconds)}, {self.fpdus_sent + self.fpdus_received:,} FPDUs, SHA-256 ok"
        )

    @contextmanager
    def counting(self, connection: Connection) -> Iterator[None]:
        """Around the transfer: take time and FPDUs, however it ends."""
        stream = connection.qp.stream
        began, sent, received = time.monotonic(), stream.fpdus_sent, stream.fpdus_received
        try:
            yield
        finally:
            self.seconds = time.monotonic() - began
            self.fpdus_sent = stream.fpdus_sent - sent
            self.fpdus_received = stream.fpdus_received - received

    def data(self) -> dict[str, object]:
        """The same as JSON takes it."""
        return asdict(self)
