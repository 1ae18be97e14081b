"""The numbers that the RFCs and the IANA RDDP registries give names to (RFC 5040, 5041, 5044, 6580, 6581, 7306)."""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "ATOMIC_REQUEST_SIZE",
    "ATOMIC_RESPONSE_SIZE",
    "ATOMIC_SIZE",
    "ENHANCED_SIZE",
    "IMMEDIATE_SIZE",
    "MAX_MESSAGE",
    "MAX_MULPDU",
    "MAX_PRIVATE_DATA",
    "MIN_MULPDU",
    "REPLY_KEY",
    "REQUEST_KEY",
    "STARTUP_HEADER_SIZE",
    "UNNEGOTIATED",
    "AtomicOpcode",
    "Layer",
    "Opcode",
    "QueueNumber",
    "Rtr",
    "flag_names",
]

MIN_MULPDU: Final = 128
"""The smallest MULPDU that MPA may offer, in octets (RFC 5044 §3)."""

MAX_MULPDU: Final = 64_768
"""The largest ULPDU that fits an FPDU with its markers, in octets (RFC 5044 §3)."""

MAX_PRIVATE_DATA: Final = 512
"""The largest Private Data of a startup frame, enhanced word included, in octets (RFC 5044 §7.1.1)."""

MAX_MESSAGE: Final = (1 << 32) - 1
"""The longest DDP message, in octets (RFC 5041 §5.2)."""

REQUEST_KEY: Final = b"MPA ID Req Frame"  # MPA-5044-7.1.1-01
"""How an MPA Request begins (RFC 5044 §7.1.1)."""

REPLY_KEY: Final = b"MPA ID Rep Frame"  # MPA-5044-7.1.1-03
"""How an MPA Reply begins."""

STARTUP_HEADER_SIZE: Final = 20
"""Octets of a startup frame before its Private Data (RFC 5044 §7.1.1)."""

ENHANCED_SIZE: Final = 4
"""Octets of the enhanced word, which begins the Private Data of an enhanced frame (RFC 6581 §9)."""

ATOMIC_SIZE: Final = 8
"""Octets of memory that an Atomic operates on (RFC 7306 §5.1)."""

ATOMIC_REQUEST_SIZE: Final = 52
"""Octets of an Atomic Request header (RFC 7306 §5.2.1)."""

ATOMIC_RESPONSE_SIZE: Final = 12
"""Octets of an Atomic Response header (RFC 7306 §5.2.2)."""

IMMEDIATE_SIZE: Final = 8
"""Octets of Immediate Data (RFC 7306 §6.2)."""

UNNEGOTIATED: Final = 0x3FFF
"""The IRD or ORD that leaves the value to the ULP (RFC 6581 §9.1)."""


def flag_names(flags: IntFlag) -> str:
    """The names of those that are set, as a message has them: `LOCAL_WRITE|REMOTE_READ`; "none" without any."""
    return "|".join(name for name, each in type(flags).__members__.items() if each & flags) or "none"


class Rtr(IntFlag):
    """The zero-length message with which a peer-to-peer Initiator opens the stream (RFC 6581 §9.2)."""

    SEND = 1
    WRITE = 2
    READ = 4

    def __repr__(self) -> str:
        return flag_names(self)


class Layer(IntEnum):
    """Who found the error that a Terminate reports (RFC 5040 §4.8)."""

    RDMAP = 0
    DDP = 1
    LLP = 2


class Opcode(IntEnum):
    """RDMAP message types (RFC 5040 §4.1 figure 4, RFC 7306 §4.1)."""

    WRITE = 0x0
    READ_REQUEST = 0x1
    READ_RESPONSE = 0x2
    SEND = 0x3
    SEND_INVAL = 0x4
    SEND_SE = 0x5
    SEND_SE_INVAL = 0x6
    TERMINATE = 0x7
    IMMEDIATE = 0x8
    IMMEDIATE_SE = 0x9
    ATOMIC_REQUEST = 0xA
    ATOMIC_RESPONSE = 0xB


class QueueNumber(IntEnum):
    """The untagged queues that RDMAP uses (RFC 5040 §3.1, RFC 7306 §4.1)."""

    SEND = 0
    READ_REQUEST = 1
    TERMINATE = 2
    ATOMIC_RESPONSE = 3


class AtomicOpcode(IntEnum):
    """What an Atomic Request asks for (RFC 7306 §5.2.1)."""

    FETCH_ADD = 0
    COMPARE_SWAP = 2
