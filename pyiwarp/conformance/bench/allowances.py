"""What the bench does differently for a peer that could not be tested otherwise; a profile says what, and why.

A peer with one known deviation that shows everywhere, such as the layout of its Terminate messages, would fail every
case that receives one. One case reports the deviation; in all others the bench allows for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["PLAIN", "Allowances"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowances:
    """Allowances for a peer.

    `settle` is how long the bench waits, in seconds, behind a peer's Reply. With `little_endian_terminates` the peer
    lays the Terminate Control out as C bit-fields on a little-endian machine: EType before Layer, and M, D and R as the
    low bits of the third octet. `not_judged` are requirements that the
    peer is known to break everywhere: the cases that test them report it, and no other.
    """

    settle: float = 0.0
    little_endian_terminates: bool = False
    not_judged: frozenset[str] = frozenset()

    def read_terminate(self, payload: bytes) -> bytes:
        """A Terminate message of the peer's as RFC 5040 §4.8 would have it."""
        if not self.little_endian_terminates or len(payload) < 4:
            return payload
        first, code, flags, rest = payload[:4]
        mdr = (flags & 1) << 7 | (flags & 2) << 5 | (flags & 4) << 3
        return bytes((first << 4 & 0xF0 | first >> 4, code, mdr | flags >> 3, rest)) + payload[4:]


PLAIN: Final = Allowances()
"""No allowances: for a peer that keeps to the RFCs."""
