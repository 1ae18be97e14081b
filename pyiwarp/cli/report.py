"""What is told of a transfer when it is over: as a line for people, or as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from pyiwarp.cli.onscreen import rate, shown

__all__ = ["Report"]


@dataclass(slots=True, kw_only=True)
class Report:
    """One file's way, seen from one side.

    `operations` counts the RDMA Writes or Reads, `fpdus` both directions; `error` is empty if all is well.
    """

    direction: str
    name: str
    peer: str = ""
    nbytes: int = 0
    seconds: float = 0.0
    fpdus: int = 0
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
            f"{rate(self.nbytes, self.seconds)}, {self.fpdus:,} FPDUs, SHA-256 ok"
        )

    def data(self) -> dict[str, object]:
        """The same as JSON takes it."""
        return asdict(self)
