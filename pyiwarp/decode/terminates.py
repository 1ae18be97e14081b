"""A Terminate's control field in the RFC's layout, whoever sent it (RFC 5040 §4.8)."""

from __future__ import annotations

from typing import Final

from pyiwarp.profile import PROFILES

__all__ = ["in_rfc_layout"]

_FLAGS_OF_BITFIELDS: Final = 0x07  # where M, D and R lie for C bitfields on a little-endian machine
_FLAGS_OF_RFC: Final = 0xE0
_CONTROL: Final = 4


def in_rfc_layout(message: bytes) -> bytes:
    """A Terminate message in the RFC's layout: Linux siw has its control field as C bitfields (docs/peers.md).

    It is known by its M, D and R bits. One that has none of them set is taken as it is.
    """
    turned = len(message) >= _CONTROL and message[2] & _FLAGS_OF_BITFIELDS and not message[2] & _FLAGS_OF_RFC
    return PROFILES["siw"].read_terminate(message) if turned else message
