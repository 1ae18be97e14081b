"""The octets that rstream sends to have them verified: they count, over everything that one side sends."""

from __future__ import annotations

from typing import Final

from pyiwarp.errors import IwarpError

__all__ = ["OtherOctets", "Rolling"]

_ALL: Final = bytes(range(256))


class OtherOctets(IwarpError):
    """What came is not what rstream sends."""


class Rolling:
    """One direction: each octet is one more than that before it, modulo 256, from 0 on."""

    def __init__(self) -> None:
        self._at = 0

    def next(self, nbytes: int) -> bytes:
        """The next ones."""
        start = self._at % len(_ALL)
        self._at += nbytes
        return (_ALL * ((start + nbytes) // len(_ALL) + 1))[start : start + nbytes]

    def verify(self, octets: bytes) -> None:
        """These have come; raises `OtherOctets` if they should be others."""
        begun = self._at
        wanted = self.next(len(octets))
        if octets != wanted:
            wrong = next(at for at, octet in enumerate(octets) if octet != wanted[at])
            raise OtherOctets(
                f"data verification failed byte {begun + wrong}: {octets[wrong]:#04x} came, {wanted[wrong]:#04x} is due"
            )
