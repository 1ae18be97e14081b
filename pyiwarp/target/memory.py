"""The target's memory: octets that can be advertised to a peer, between guard octets that no operation may change."""

from __future__ import annotations

from typing import Final

from crc32c import crc32c

from pyiwarp import Access, MemoryRegion, ProtectionDomain
from pyiwarp.target.words import bad

__all__ = ["FILL", "GuardedMemory", "pattern"]

FILL: Final = 0xA5
"""What guards, receive buffers and scratch memory hold until something is written there."""

_CYCLE: Final = 256
_STEP: Final = 7


def pattern(nbytes: int, seed: int) -> bytes:
    """Known octets: that at offset i is i * 7 + `seed`, modulo 256."""
    cycle = bytes((i * _STEP + seed) % _CYCLE for i in range(_CYCLE))
    return (cycle * (nbytes // _CYCLE + 1))[:nbytes]


class GuardedMemory:
    """`nbytes` octets of memory, registered in `pd`, with `guard` octets before and behind them that are not.

    The octets stay readable here when the STag was invalidated.
    """

    def __init__(self, pd: ProtectionDomain, access: Access, nbytes: int, guard: int) -> None:
        self._buffer = bytearray([FILL]) * (nbytes + 2 * guard)
        self._guard = guard
        self.octets = memoryview(self._buffer)[guard : guard + nbytes]
        self.region: MemoryRegion = pd.register(self.octets, access)

    @property
    def nbytes(self) -> int:
        """How many octets lie between the guards."""
        return self.octets.nbytes

    @property
    def advertisement(self) -> str:
        """STAG:TO:LEN."""
        return f"{self.region.stag:#010x}:{self.region.to:#x}:{self.nbytes}"

    @property
    def guarded(self) -> str:
        """Whether the guard octets are as they were: `ok` or `broken`."""
        guard = bytes([FILL]) * self._guard
        whole = memoryview(self._buffer)
        return "ok" if whole[: self._guard] == guard == whole[len(whole) - self._guard :] else "broken"

    @property
    def crc(self) -> int:
        """CRC32C of the octets."""
        return crc32c(self.octets)

    def part(self, offset: int, nbytes: int | None) -> memoryview:
        """`nbytes` octets from `offset` on, or all of them; raises `Refused` for what lies outside."""
        if offset > self.nbytes or (nbytes is not None and nbytes > self.nbytes - offset):
            raise bad(f"octets {offset}..{offset + (nbytes or 0)} lie outside the {self.nbytes} that are there")
        return self.octets[offset : self.nbytes if nbytes is None else offset + nbytes]
