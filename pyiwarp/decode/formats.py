"""The figures of the RFCs with the names that they have there, and what each value says.

One `Figure` for each format of `wire`, in the RFCs' order (RFC 5044, 6581, 5041, 5040, 7306). Reserved bits have no
words: a receiver never looks at them.
"""

from __future__ import annotations

from typing import Any, Final

from construct import Struct

from pyiwarp.codes import REPLY_KEY, REQUEST_KEY, UNNEGOTIATED, AtomicOpcode, Opcode
from pyiwarp.decode.fields import Figure, Name
from pyiwarp.errors import Term
from pyiwarp.wire import (
    AtomicRequestHeader,
    AtomicResponseHeader,
    EnhancedWord,
    ImmediateDataHeader,
    ReadRequestHeader,
    StartupHeader,
    TaggedHeader,
    TerminateHeader,
    UntaggedHeader,
)

__all__ = [
    "ATOMIC_REQUEST",
    "ATOMIC_RESPONSE",
    "ENHANCED",
    "IMMEDIATE",
    "MESSAGES",
    "READ_REQUEST",
    "STARTUP",
    "TAGGED",
    "TERMINATE",
    "UNTAGGED",
    "opcode_name",
]

_NAMES: Final = {
    Opcode.WRITE: "RDMA Write",
    Opcode.READ_REQUEST: "RDMA Read Request",
    Opcode.READ_RESPONSE: "RDMA Read Response",
    Opcode.SEND: "Send",
    Opcode.SEND_INVAL: "Send with Invalidate",
    Opcode.SEND_SE: "Send with Solicited Event",
    Opcode.SEND_SE_INVAL: "Send with Solicited Event and Invalidate",
    Opcode.TERMINATE: "Terminate",
    Opcode.IMMEDIATE: "Immediate Data",
    Opcode.IMMEDIATE_SE: "Immediate Data with Solicited Event",
    Opcode.ATOMIC_REQUEST: "Atomic Request",
    Opcode.ATOMIC_RESPONSE: "Atomic Response",
}
_LAYERS: Final = ("RDMAP", "DDP", "LLP (MPA)")


def opcode_name(opcode: int) -> str:
    """The message type as RFC 5040 §4.3 and RFC 7306 §4.1 name it."""
    return _NAMES[Opcode(opcode)] if opcode in _NAMES else f"reserved opcode {opcode:#x}"


def _octets(count: int) -> str:
    return f"{count:,} octets" if count != 1 else "1 octet"


def _key(octets: bytes) -> str:
    kinds = {REQUEST_KEY: "an MPA Request", REPLY_KEY: "an MPA Reply"}
    return f"{octets.decode()}: {kinds[octets]}" if octets in kinds else "no Key of MPA"


def _depth(value: int) -> str:
    return "left to the upper layer" if value == UNNEGOTIATED else f"{value} Read Requests"


def _queue(value: int) -> str:
    names = ("Sends", "Read and Atomic Requests", "Terminate", "Atomic Responses")
    return names[value] if value < len(names) else "no queue of RDMAP"


def _term(control: Any) -> str:
    return Term(control.layer, control.etype, control.code).describe()


def _atomic(value: int) -> str:
    names: dict[int, str] = {AtomicOpcode.FETCH_ADD: "FetchAdd", AtomicOpcode.COMPARE_SWAP: "CmpSwap"}
    return names.get(value, "no operation of RFC 7306")


def _flag(name: str, set_: str, clear: str = "", *rules: str) -> Name:
    return Name(name, lambda value: set_ if value else clear, rules, 1)


def _reserved(width: int) -> Name:
    return Name("Reserved", width=width)


_ADDRESS: Final = Name("Tagged Offset", lambda value: f"TO {value:#x}")
_STAG: Final = Name("STag", lambda value: f"STag {value:#010x}: index {value >> 8:#x}, key {value & 0xFF:#04x}")


STARTUP: Final = Figure(
    "MPA",
    "RFC 5044 §7.1.1",
    StartupHeader,
    {
        "key": Name("Key", _key, ("MPA-5044-7.1.1-01", "MPA-5044-7.1.1-03")),
        "flags": Name(
            "M, C, R, S",
            rules=("MPA-5044-7.1.1-14", "MPA2-6581-6-01"),
            parts={
                "markers": _flag("M", "the sender wants to receive markers"),
                "crc": _flag("C", "the sender wants CRCs", "the sender can do without CRCs"),
                "rejected": _flag("R", "rejected"),
                "enhanced": _flag("S", "an enhanced word follows"),
                "rsvd": _reserved(4),
            },
        ),
        "revision": Name("Rev", lambda value: f"revision {value}", ("MPA-5044-7.1.1-16",)),
        "private_data_length": Name(
            "PD_Length", lambda value: f"{_octets(value)} of Private Data", ("MPA-5044-7.1.1-19",)
        ),
    },
)

_ENHANCED_PARTS: Final = {
    "peer_to_peer": _flag("A", "peer to peer", "client and server"),
    "rtr_send": _flag("B", "ready with a Send of no octets"),
    "ird": Name("IRD", lambda value: f"IRD: {_depth(value)} taken at a time", width=14),
    "rtr_write": _flag("C", "ready with a Write of no octets"),
    "rtr_read": _flag("D", "ready with a Read of no octets"),
    "ord": Name("ORD", lambda value: f"ORD: {_depth(value)} sent at a time", width=14),
}

ENHANCED: Final = Figure(
    "MPA",
    "RFC 6581 §9",
    Struct("word" / EnhancedWord),
    {"word": Name("Enhanced RDMA word", rules=("MPA2-6581-9-01",), parts=_ENHANCED_PARTS)},
)
"""The word with which Private Data begins if S is set."""


_DDP_CONTROL: Final = Name(
    "T, L, DV",
    rules=("DDP-5041-4.1-01", "DDP-5041-4.1-11"),
    clause="RFC 5041 §4.1",
    parts={
        "tagged": _flag("T", "tagged", "untagged"),
        "last": _flag("L", "the last segment of its message", "more segments follow"),
        "rsvd": _reserved(4),
        "dv": Name("DV", lambda value: f"DDP version {value}", width=2),
    },
)

_RDMAP_CONTROL: Final = Name(
    "RV, Opcode",
    rules=("RDMAP-5040-4.1-05", "RDMAP-5040-4.1-07"),
    format="RDMAP",  # to DDP these octets are RsvdULP
    clause="RFC 5040 §4.1",
    parts={
        "rv": Name("RV", lambda value: f"RDMAP version {value}", width=2),
        "rsvd": _reserved(2),
        "opcode": Name("Opcode", opcode_name, width=4),
    },
)

TAGGED: Final = Figure(
    "DDP",
    "RFC 5041 §4.2",
    TaggedHeader,
    {
        "ddp": _DDP_CONTROL,
        "rdmap": _RDMAP_CONTROL,
        "stag": _STAG._replace(rules=("DDP-5041-4.2-01",)),
        "to": _ADDRESS._replace(rules=("DDP-5041-4.2-01",)),
    },
)

UNTAGGED: Final = Figure(
    "DDP",
    "RFC 5041 §4.3",
    UntaggedHeader,
    {
        "ddp": _DDP_CONTROL,
        "rdmap": _RDMAP_CONTROL,
        "inval_stag": Name(
            "Invalidate STag",
            lambda value: f"STag {value:#010x}" if value else "none",
            ("RDMAP-5040-4.1-03",),
            format="RDMAP",
            clause="RFC 5040 §4.1",
        ),
        "qn": Name("QN", lambda value: f"queue {value}: {_queue(value)}", ("DDP-5041-4.3-01",)),
        "msn": Name("MSN", lambda value: f"message {value} of its queue", ("DDP-5041-4.3-01",)),
        "mo": Name("MO", lambda value: f"{_octets(value)} into the message", ("DDP-5041-4.3-01",)),
    },
)

READ_REQUEST: Final = Figure(
    "RDMAP",
    "RFC 5040 §4.4",
    ReadRequestHeader,
    {
        "sink_stag": Name("Data Sink STag", _STAG.words, ("RDMAP-5040-4.4-01",)),
        "sink_to": Name("Data Sink Tagged Offset", _ADDRESS.words),
        "read_size": Name("RDMA Read Message Size", _octets),
        "source_stag": Name("Data Source STag", _STAG.words),
        "source_to": Name("Data Source Tagged Offset", _ADDRESS.words),
    },
)

TERMINATE: Final = Figure(
    "RDMAP",
    "RFC 5040 §4.8",
    TerminateHeader,
    {
        "control": Name(
            "Terminate Control",
            _term,
            ("RDMAP-5040-4.8-02",),
            parts={
                "layer": Name("Layer", lambda value: _LAYERS[value] if value < len(_LAYERS) else "no layer", width=4),
                "etype": Name("EType", lambda value: f"error type {value}", width=4),
                "code": Name("Error Code", lambda value: f"error code {value:#04x}", width=8),
                "has_length": _flag("M", "the DDP Segment Length is valid"),
                "has_ddp_header": _flag("D", "a DDP header is copied"),
                "has_rdma_header": _flag("R", "an RDMA header is copied"),
                "rsvd": _reserved(13),
            },
        ),
        "segment_length": Name("DDP Segment Length", _octets, ("RDMAP-5040-4.8-09", "RDMAP-5040-4.8-10")),
        "ddp_header": Name("Terminated DDP Header", lambda value: "the header that was refused"),
        "rdma_header": Name("Terminated RDMA Header", lambda value: "the Read Request that was refused"),
    },
)

_OPERATION: Final = Name(
    "AOpCode",
    rules=("EXT-7306-5.2.1-01",),
    parts={"rsvd": _reserved(28), "atomic_opcode": Name("AOpCode", _atomic, width=4)},
)

ATOMIC_REQUEST: Final = Figure(
    "RDMAP",
    "RFC 7306 §5.2.1",
    AtomicRequestHeader,
    {
        "operation": _OPERATION,
        "request_id": Name("Request Identifier"),
        "stag": Name("Remote STag", _STAG.words),
        "to": Name("Remote Tagged Offset", _ADDRESS.words),
        "data": Name("Add or Swap Data"),
        "mask": Name("Add or Swap Mask"),
        "compare_data": Name("Compare Data"),
        "compare_mask": Name("Compare Mask"),
    },
)

ATOMIC_RESPONSE: Final = Figure(
    "RDMAP",
    "RFC 7306 §5.2.2",
    AtomicResponseHeader,
    {
        "request_id": Name("Original Request Identifier"),
        "original_value": Name("Original Remote Data Value", lambda value: f"{value} was there before"),
    },
)

IMMEDIATE: Final = Figure("RDMAP", "RFC 7306 §6.2", ImmediateDataHeader, {"data": Name("Immediate Data")})

MESSAGES: Final[dict[int, Figure]] = {
    Opcode.READ_REQUEST: READ_REQUEST,
    Opcode.TERMINATE: TERMINATE,
    Opcode.IMMEDIATE: IMMEDIATE,
    Opcode.IMMEDIATE_SE: IMMEDIATE,
    Opcode.ATOMIC_REQUEST: ATOMIC_REQUEST,
    Opcode.ATOMIC_RESPONSE: ATOMIC_RESPONSE,
}
"""The header behind that of DDP, by opcode; Sends and tagged messages have none (RFC 5040 §4.3, RFC 7306 §4.1)."""
