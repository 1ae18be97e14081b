"""The Terminate codes by name, as RFC 5040 §4.8, RFC 5041 §7.2, RFC 5044 §8 and RFC 6581 §8 number them."""

from __future__ import annotations

from typing import Final

from pyiwarp.errors import Term

__all__ = [
    "DDP_CATASTROPHE",
    "DDP_TAGGED_BOUNDS",
    "DDP_TAGGED_NOT_ASSOCIATED",
    "DDP_TAGGED_STAG",
    "DDP_TAGGED_VERSION",
    "DDP_TAGGED_WRAP",
    "DDP_UNTAGGED_MO",
    "DDP_UNTAGGED_MSN",
    "DDP_UNTAGGED_NO_BUFFER",
    "DDP_UNTAGGED_QN",
    "DDP_UNTAGGED_TOO_LONG",
    "DDP_UNTAGGED_VERSION",
    "MPA_CRC",
    "MPA_IRD",
    "MPA_LOCAL",
    "MPA_MARKER",
    "MPA_RTR",
    "MPA_STARTUP",
    "RDMAP_ACCESS",
    "RDMAP_BOUNDS",
    "RDMAP_CANNOT_INVALIDATE",
    "RDMAP_NOT_ASSOCIATED",
    "RDMAP_OPCODE",
    "RDMAP_OPERATION_CANNOT_INVALIDATE",
    "RDMAP_OPERATION_UNSPECIFIED",
    "RDMAP_PROTECTION_UNSPECIFIED",
    "RDMAP_STAG",
    "RDMAP_STREAM_CATASTROPHE",
    "RDMAP_VERSION",
    "RDMAP_WRAP",
]

RDMAP_STAG: Final = Term(0, 1, 0x00)
RDMAP_BOUNDS: Final = Term(0, 1, 0x01)
RDMAP_ACCESS: Final = Term(0, 1, 0x02)
RDMAP_NOT_ASSOCIATED: Final = Term(0, 1, 0x03)
RDMAP_WRAP: Final = Term(0, 1, 0x04)
RDMAP_CANNOT_INVALIDATE: Final = Term(0, 1, 0x09)
RDMAP_PROTECTION_UNSPECIFIED: Final = Term(0, 1, 0xFF)
RDMAP_VERSION: Final = Term(0, 2, 0x05)
RDMAP_OPCODE: Final = Term(0, 2, 0x06)
RDMAP_STREAM_CATASTROPHE: Final = Term(0, 2, 0x07)
RDMAP_OPERATION_CANNOT_INVALIDATE: Final = Term(0, 2, 0x09)
RDMAP_OPERATION_UNSPECIFIED: Final = Term(0, 2, 0xFF)

DDP_CATASTROPHE: Final = Term(1, 0, 0x00)
DDP_TAGGED_STAG: Final = Term(1, 1, 0x00)
DDP_TAGGED_BOUNDS: Final = Term(1, 1, 0x01)
DDP_TAGGED_NOT_ASSOCIATED: Final = Term(1, 1, 0x02)
DDP_TAGGED_WRAP: Final = Term(1, 1, 0x03)
DDP_TAGGED_VERSION: Final = Term(1, 1, 0x04)
DDP_UNTAGGED_QN: Final = Term(1, 2, 0x01)
DDP_UNTAGGED_NO_BUFFER: Final = Term(1, 2, 0x02)
DDP_UNTAGGED_MSN: Final = Term(1, 2, 0x03)
DDP_UNTAGGED_MO: Final = Term(1, 2, 0x04)
DDP_UNTAGGED_TOO_LONG: Final = Term(1, 2, 0x05)
DDP_UNTAGGED_VERSION: Final = Term(1, 2, 0x06)

MPA_CRC: Final = Term(2, 0, 0x02)
MPA_MARKER: Final = Term(2, 0, 0x03)
MPA_STARTUP: Final = Term(2, 0, 0x04)
MPA_LOCAL: Final = Term(2, 0, 0x05)
MPA_IRD: Final = Term(2, 0, 0x06)
MPA_RTR: Final = Term(2, 0, 0x07)
