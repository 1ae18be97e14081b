"""Every format on the wire, once, in the order of the RFCs' figures (RFC 5044, 6581, 5041, 5040, 7306).

The first half draws the figures with Construct: one definition per figure, one field per line, reserved bits named
`rsvd`, zero when sent and never checked on receipt. Such a definition builds wrong frames as willingly as right ones.

The second half holds the values and the few functions that the run time needs for the rare formats. They build only
what the RFCs allow, give away only what the RFCs let a receiver look at, and raise only this package's exceptions. The
headers that every FPDU has are parsed by `fastwire`, which must agree with the definitions here; startup frames by
`faststartup`, which leaves to the functions here what it is in doubt of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from construct import (
    BitsInteger,
    BitStruct,
    Bytes,
    Construct,
    ConstructError,
    Default,
    ExprValidator,
    Flag,
    If,
    Int8ub,
    Int16ub,
    Int32ub,
    Int32ul,
    Int64ub,
    Rebuild,
    Select,
    Struct,
    this,
)

from pyiwarp.buffers import Octets
from pyiwarp.codes import MAX_PRIVATE_DATA, REPLY_KEY, REQUEST_KEY, Opcode
from pyiwarp.errors import MalformedMessage, MalformedStartup, Term, UsageError
from pyiwarp.faststartup import Enhanced, StartupFrame

__all__ = [
    "ENHANCED_SIZE",
    "REPLY_KEY",
    "REQUEST_KEY",
    "STARTUP_HEADER_SIZE",
    "AtomicRequest",
    "AtomicRequestHeader",
    "AtomicResponse",
    "AtomicResponseHeader",
    "DdpControl",
    "Enhanced",
    "EnhancedWord",
    "Fpdu",
    "ImmediateData",
    "ImmediateDataHeader",
    "Marker",
    "RdmapControl",
    "ReadRequestHeader",
    "StartupFlags",
    "StartupFrame",
    "StartupHeader",
    "TaggedHeader",
    "Terminate",
    "TerminateControl",
    "TerminateHeader",
    "TerminatedDdpHeader",
    "UntaggedHeader",
    "build_atomic_request",
    "build_atomic_response",
    "build_enhanced",
    "build_immediate_data",
    "build_startup",
    "build_terminate",
    "check_startup_key",
    "parse_atomic_request",
    "parse_atomic_response",
    "parse_enhanced",
    "parse_immediate_data",
    "parse_startup_header",
    "parse_terminate",
]


# --- RFC 5044: MPA ---------------------------------------------------------------------------------------------------


def _pad_length(fpdu: Any) -> int:
    """Octets that bring ULPDU_Length and ULPDU to a multiple of four (RFC 5044 §4.1)."""
    length: int = fpdu.ulpdu_length
    return -(2 + length) % 4  # MPA-5044-4.1-05


Fpdu = Struct(  # RFC 5044 §4.1, figure 2: MPA-5044-4.1-01; markers are not shown there either
    "ulpdu_length" / Rebuild(Int16ub, lambda fpdu: len(fpdu.ulpdu)),  # the ULPDU alone: MPA-5044-4.1-02
    "ulpdu" / Bytes(this.ulpdu_length),  # exactly one DDP segment: MPA-5044-3-01
    "pad"  # zero when sent, any octets when received: MPA-5044-4.1-03, MPA-5044-4.1-04
    / Default(Bytes(_pad_length), lambda fpdu: bytes(_pad_length(fpdu))),
    "crc" / Int32ul,  # always there (MPA-5044-4.1-06); the only little-endian field: MPA-5044-4.4-12, MPA-5044-4.4-16
)

Marker = Struct(  # RFC 5044 §4.2, figure 3: MPA-5044-4.2-01
    "rsvd" / Default(Int16ub, 0),  # MPA-5044-4.2-02, MPA-5044-4.2-03
    "fpduptr" / Int16ub,  # whoever reads it masks the two low bits: MPA-5044-4.2-05
)

StartupFlags = BitStruct(  # octet 16 of figure 8; S is RFC 6581 §6's and one of five Res bits to RFC 5044
    "markers" / Flag,  # M: the sender of this frame wants markers in what it receives
    "crc" / Flag,  # C
    "rejected" / Flag,  # R: means something in a Reply alone
    "enhanced" / Flag,  # S: MPA2-6581-6-01
    "rsvd" / Default(BitsInteger(4), 0),  # MPA-5044-7.1.1-14, MPA2-6581-6-02
)

StartupHeader = Struct(  # RFC 5044 §7.1.1, figure 8, and RFC 6581 §6: the 20 octets before the Private Data
    "key" / Bytes(16),
    "flags" / StartupFlags,
    "revision" / Int8ub,  # MPA-5044-7.1.1-16
    "private_data_length" / Int16ub,  # the enhanced word counts: MPA-5044-7.1.1-19, MPA2-6581-6-07
)

# --- RFC 6581: MPA, enhanced startup ---------------------------------------------------------------------------------

EnhancedWord = BitStruct(  # RFC 6581 §9: MPA2-6581-9-01
    "peer_to_peer" / Flag,  # A
    "rtr_send" / Flag,  # B
    "ird" / BitsInteger(14),
    "rtr_write" / Flag,  # C
    "rtr_read" / Flag,  # D
    "ord" / BitsInteger(14),
)

# --- RFC 5041: DDP ---------------------------------------------------------------------------------------------------

DdpControl = BitStruct(  # RFC 5041 §4.1, figure 3
    "tagged" / Flag,  # T: DDP-5041-4.1-01, DDP-5041-4.1-02
    "last" / Flag,  # L
    "rsvd" / Default(BitsInteger(4), 0),  # DDP-5041-4.1-09, DDP-5041-4.1-10
    "dv" / Default(BitsInteger(2), 1),  # DDP-5041-4.1-11
)

RdmapControl = BitStruct(  # RFC 5040 §4.1, figure 3: the octet that DDP calls RsvdULP; RDMAP-5040-4.1-02
    "rv" / Default(BitsInteger(2), 1),  # RDMAP-5040-4.1-07, EXT-7306-4.1-01
    "rsvd" / Default(BitsInteger(2), 0),  # RDMAP-5040-4.1-08, RDMAP-5040-4.1-09
    "opcode" / BitsInteger(4),  # RDMAP-5040-4.1-05, EXT-7306-4.1-02
)

TaggedHeader = Struct(  # RFC 5041 §4.2, figure 4: 14 octets; DDP-5041-4.2-01
    "ddp" / DdpControl,
    "rdmap" / RdmapControl,  # RDMAP-5040-4.1-01
    "stag" / Int32ub,
    "to" / Int64ub,
)

UntaggedHeader = Struct(  # RFC 5041 §4.3, figure 5: 18 octets; DDP-5041-4.3-01
    "ddp" / DdpControl,
    "rdmap" / RdmapControl,
    "inval_stag" / Int32ub,  # RsvdULP's last four octets: RDMAP-5040-4.1-03
    "qn" / Int32ub,
    "msn" / Int32ub,
    "mo" / Int32ub,
)

# --- RFC 5040: RDMAP -------------------------------------------------------------------------------------------------

ReadRequestHeader = Struct(  # RFC 5040 §4.4, figure 6: 28 octets; RDMAP-5040-4.4-01
    "sink_stag" / Int32ub,
    "sink_to" / Int64ub,
    "read_size" / Int32ub,  # RDMARDSZ
    "source_stag" / Int32ub,
    "source_to" / Int64ub,
)

TerminateControl = BitStruct(  # RFC 5040 §4.8, figure 8, and the reserved bits beside it; RDMAP-5040-4.8-02
    "layer" / BitsInteger(4),
    "etype" / BitsInteger(4),
    "code" / BitsInteger(8),
    "has_length" / Flag,  # M: the DDP Segment Length is valid
    "has_ddp_header" / Flag,  # D
    "has_rdma_header" / Flag,  # R
    "rsvd" / Default(BitsInteger(13), 0),  # RDMAP-5040-4.8-07, RDMAP-5040-4.8-08
)

TerminatedDdpHeader = Select(  # its own T bit tells which header was copied: RDMAP-5040-4.8-11
    ExprValidator(Bytes(TaggedHeader.sizeof()), lambda octets, context: octets[0] >= 0x80),
    ExprValidator(Bytes(UntaggedHeader.sizeof()), lambda octets, context: octets[0] < 0x80),
)

TerminateHeader = Struct(  # RFC 5040 §4.8, figure 7: RDMAP-5040-4.8-01
    "control" / TerminateControl,
    "segment_length"  # there for M, since it must be valid, and there for D: RDMAP-5040-4.8-09, RDMAP-5040-4.8-10
    / If(lambda header: header.control.has_length or header.control.has_ddp_header, Int16ub),
    "ddp_header" / If(this.control.has_ddp_header, TerminatedDdpHeader),
    "rdma_header" / If(this.control.has_rdma_header, Bytes(ReadRequestHeader.sizeof())),  # RDMAP-5040-4.8-13
)

# --- RFC 7306: atomics and immediate data ----------------------------------------------------------------------------

AtomicRequestHeader = Struct(  # RFC 7306 §5.2.1, figure 4: 52 octets; EXT-7306-5.2.1-01
    "operation"
    / BitStruct(
        "rsvd" / Default(BitsInteger(28), 0),  # EXT-7306-5.2.1-02, EXT-7306-5.2.1-03
        "atomic_opcode" / BitsInteger(4),
    ),
    "request_id" / Int32ub,
    "stag" / Int32ub,
    "to" / Int64ub,
    "data" / Int64ub,  # Add Data or Swap Data
    "mask" / Int64ub,  # Add Mask or Swap Mask
    "compare_data" / Int64ub,
    "compare_mask" / Int64ub,
)

AtomicResponseHeader = Struct(  # RFC 7306 §5.2.2, figure 6: 12 octets; EXT-7306-5.2.2-01
    "request_id" / Int32ub,
    "original_value" / Int64ub,  # EXT-7306-5.2.2-02
)

ImmediateDataHeader = Struct(  # RFC 7306 §6.2, figure 7: 8 octets; EXT-7306-6.2-01
    "data" / Bytes(8),
)


# --- building and parsing with this package's exceptions -------------------------------------------------------------


def _build(definition: Construct[Any, Any], fields: Mapping[str, Any], clause: str) -> bytes:
    """Construct's octets; what does not fit the format is the caller's mistake."""
    try:
        return definition.build(dict(fields))
    except ConstructError as error:
        raise UsageError(f"{dict(fields)} does not fit the format of {clause}: {error}") from error


def _parse_message(definition: Construct[Any, Any], opcode: int, message: Octets) -> Any:
    """The fields of a message that has one length and no other (wire ambiguity: no code is named for a wrong one)."""
    if len(message) != definition.sizeof():
        raise MalformedMessage(opcode, len(message), definition.sizeof())
    return definition.parse(message)


# --- startup frames --------------------------------------------------------------------------------------------------

STARTUP_HEADER_SIZE: Final = StartupHeader.sizeof()
"""Octets of a startup frame before its Private Data (RFC 5044 §7.1.1)."""

ENHANCED_SIZE: Final = EnhancedWord.sizeof()
"""Octets of the enhanced word, with which Private Data begins when S is set (RFC 6581 §9)."""

_FIRST_ENHANCED_REVISION: Final = 2


def build_startup(frame: StartupFrame) -> bytes:
    """The octets of a startup frame; `UsageError` if the RFCs forbid to send it."""
    if (objection := _objection_to(frame)) is not None:
        raise UsageError(f"{objection}: {frame}")
    header = {
        "key": REPLY_KEY if frame.reply else REQUEST_KEY,
        "flags": {
            "markers": frame.markers,
            "crc": frame.crc,
            "rejected": frame.rejected,
            "enhanced": frame.enhanced,
        },
        "revision": frame.revision,
        "private_data_length": len(frame.private_data),
    }
    return _build(StartupHeader, header, "RFC 5044 §7.1.1") + frame.private_data


def _objection_to(frame: StartupFrame) -> str | None:
    if len(frame.private_data) > MAX_PRIVATE_DATA:  # MPA-5044-7.1.1-23, with the enhanced word: MPA2-6581-9-02
        return f"Private Data of {len(frame.private_data)} octets, {MAX_PRIVATE_DATA} are allowed (RFC 5044 §7.1.1)"
    if frame.rejected and not frame.reply:  # MPA-5044-7.1.1-11
        return "a Request cannot reject (RFC 5044 §7.1.1)"
    if frame.enhanced and frame.revision < _FIRST_ENHANCED_REVISION:  # MPA2-6581-6-04
        return "enhanced startup needs revision 2 (RFC 6581 §6)"
    if frame.enhanced and len(frame.private_data) < ENHANCED_SIZE:  # MPA2-6581-6-08
        return "the enhanced word is missing (RFC 6581 §6)"
    return None


def parse_startup_header(octets: Octets, *, reply: bool) -> tuple[StartupFrame, int]:
    """Read the first 20 octets of a startup frame: the frame without its Private Data, and how long that will be.

    Raises `MalformedStartup` for a wrong key and for a length that is not allowed. The revision is left to the caller.
    Bits that a receiver must not look at read as False: R in a Request, S before revision 2.
    """
    if len(octets) < STARTUP_HEADER_SIZE:
        raise MalformedStartup(f"a startup frame of {len(octets)} octets ends inside its header (RFC 5044 §7.1.1)")
    header = StartupHeader.parse(octets)
    check_startup_key(header.key, reply=reply)
    if header.private_data_length > MAX_PRIVATE_DATA:  # MPA-5044-7.1.1-21, MPA-5044-7.1.2-23
        raise MalformedStartup(
            f"PD_Length is {header.private_data_length}, at most {MAX_PRIVATE_DATA} are allowed: "
            f"{bytes(octets[:STARTUP_HEADER_SIZE]).hex(' ')} (RFC 5044 §7.1.1)"
        )
    frame = StartupFrame(
        reply=reply,
        markers=header.flags.markers,
        crc=header.flags.crc,
        rejected=header.flags.rejected and reply,  # MPA-5044-7.1.1-12
        enhanced=header.flags.enhanced and header.revision >= _FIRST_ENHANCED_REVISION,  # MPA-5044-7.1.1-15
        revision=header.revision,
        private_data=b"",
    )
    return frame, header.private_data_length


def check_startup_key(key: Octets, *, reply: bool) -> None:
    """Refuse the first octets of a frame that is not the one that is due (RFC 5044 §7.1.2 rule 5).

    `key` may be as little of the key as has come: a peer that speaks something else may never send sixteen octets.
    """
    seen, due = bytes(key), REPLY_KEY if reply else REQUEST_KEY
    if due.startswith(seen):  # MPA-5044-7.1.1-02, MPA-5044-7.1.1-04
        return
    if REQUEST_KEY.startswith(seen):  # MPA-5044-7.1.2-21
        cause = "an MPA Request came where a Reply is due: both sides are Initiators (RFC 5044 §7.1.2 rule 8)"
    elif REPLY_KEY.startswith(seen):
        cause = "an MPA Reply came where a Request is due: no Request was sent from here (RFC 5044 §7.1.2 rule 2)"
    else:
        cause = f"the peer does not speak MPA: {seen!r} came where {due!r} is due (RFC 5044 §7.1.1)"
    raise MalformedStartup(f"{cause}: {seen.hex(' ')}")  # MPA-5044-7.1.2-17


def build_enhanced(word: Enhanced) -> bytes:
    """The four octets with which Private Data begins; `UsageError` if the RFC forbids to send them."""
    if not word.peer_to_peer and (word.rtr_send or word.rtr_write or word.rtr_read):  # MPA2-6581-9.2-15
        raise UsageError(f"RTR bits without the peer-to-peer bit (RFC 6581 §9.2): {word}")
    return _build(EnhancedWord, word._asdict(), "RFC 6581 §9")


def parse_enhanced(private_data: Octets) -> Enhanced:
    """Read the enhanced word with which `private_data` begins; `MalformedStartup` if it is cut.

    Without the peer-to-peer bit the RTR bits must be ignored, so they read as False.
    """
    if len(private_data) < ENHANCED_SIZE:  # MPA2-6581-6-08
        raise MalformedStartup(
            f"S is set, but the Private Data is too short for the enhanced word: "
            f"{bytes(private_data).hex(' ') or 'no octets'} (RFC 6581 §6)"
        )
    word = EnhancedWord.parse(private_data)
    return Enhanced(
        peer_to_peer=word.peer_to_peer,
        rtr_send=word.rtr_send and word.peer_to_peer,  # MPA2-6581-9.2-16
        ird=word.ird,
        rtr_write=word.rtr_write and word.peer_to_peer,
        rtr_read=word.rtr_read and word.peer_to_peer,
        ord=word.ord,
    )


# --- Terminate -------------------------------------------------------------------------------------------------------


class Terminate(NamedTuple):
    """What follows the DDP header of a Terminate (RFC 5040 §4.8); the M, D and R bits follow from what is there.

    `segment_length` is the failing segment's ULPDU_Length, None for "not valid". `ddp_header` and `rdma_header` are
    copies of the failing segment's headers, empty where absent; one that was received may have been cut by the peer.
    """

    term: Term
    segment_length: int | None
    ddp_header: bytes
    rdma_header: bytes


def build_terminate(terminate: Terminate) -> bytes:
    """The Terminate header; `UsageError` if a number does not fit or a header copy is not whole."""
    term, segment_length, ddp_header, rdma_header = terminate
    fields = {
        "control": {
            **term._asdict(),
            "has_length": segment_length is not None,  # RDMAP-5040-4.8-04
            "has_ddp_header": bool(ddp_header),  # RDMAP-5040-4.8-05
            "has_rdma_header": bool(rdma_header),  # RDMAP-5040-4.8-06
        },
        "segment_length": segment_length or 0,
        "ddp_header": ddp_header,
        "rdma_header": rdma_header,
    }
    return _build(TerminateHeader, fields, "RFC 5040 §4.8")


def parse_terminate(message: Octets) -> Terminate:
    """Read a Terminate header, leniently: the cause counts most, and it is there whenever four octets are.

    What the M, D and R bits announce may be absent or cut; octets behind it are ignored, since a peer may also send
    unused fields as zero (RFC 5040 §7.1). `MalformedMessage` if there is no cause, or if an RDMA header without a DDP
    header has not its own length, so that nothing tells where it starts.
    """
    if len(message) < TerminateControl.sizeof():
        raise MalformedMessage(Opcode.TERMINATE, len(message), TerminateControl.sizeof())
    control = TerminateControl.parse(message)
    rest = bytes(message[TerminateControl.sizeof() :])
    segment_length, rest = _take_segment_length(control, rest)
    ddp_header, rest = _take_ddp_header(control, rest)
    return Terminate(
        Term(control.layer, control.etype, control.code),
        segment_length,
        ddp_header,
        _take_rdma_header(control, rest, len(message)),
    )


def _take_segment_length(control: Any, rest: bytes) -> tuple[int | None, bytes]:
    if not (control.has_length or control.has_ddp_header):  # RDMAP-5040-4.8-10
        return None, rest
    octets, rest = rest[:2], rest[2:]
    if not control.has_length or len(octets) < Int16ub.sizeof():  # RDMAP-5040-4.8-09
        return None, rest
    return Int16ub.parse(octets), rest


def _take_ddp_header(control: Any, rest: bytes) -> tuple[bytes, bytes]:
    if not (control.has_ddp_header and rest):
        return b"", rest
    tagged = DdpControl.parse(rest).tagged
    size = (TaggedHeader if tagged else UntaggedHeader).sizeof()  # RDMAP-5040-4.8-11
    return rest[:size], rest[size:]


def _take_rdma_header(control: Any, rest: bytes, message_size: int) -> bytes:
    if not (control.has_rdma_header and rest):
        return b""
    size = ReadRequestHeader.sizeof()  # RDMAP-5040-4.8-13
    if not control.has_ddp_header and len(rest) != size:
        raise MalformedMessage(Opcode.TERMINATE, message_size, message_size - len(rest) + size)
    return rest[:size]


# --- atomics and immediate data --------------------------------------------------------------------------------------


class AtomicRequest(NamedTuple):
    """An Atomic Request (RFC 7306 §5.2.1); `atomic_opcode` is an `AtomicOpcode`, or whatever else the peer sent.

    `data` and `mask` are Add Data and Add Mask or Swap Data and Swap Mask. The values that compare fields have by
    default are those that a FetchAdd must carry.
    """

    atomic_opcode: int
    request_id: int
    stag: int
    to: int
    data: int
    mask: int
    compare_data: int = 0  # EXT-7306-5.2.1-08
    compare_mask: int = 0xFFFF_FFFF_FFFF_FFFF


def build_atomic_request(request: AtomicRequest) -> bytes:
    """The 52 octets of an Atomic Request header; `UsageError` if a number does not fit."""
    fields = request._asdict()
    fields["operation"] = {"atomic_opcode": fields.pop("atomic_opcode")}
    return _build(AtomicRequestHeader, fields, "RFC 7306 §5.2.1")


def parse_atomic_request(message: Octets) -> AtomicRequest:
    """Read the 52 octets of an Atomic Request; any other length is a `MalformedMessage`."""
    fields = _parse_message(AtomicRequestHeader, Opcode.ATOMIC_REQUEST, message)
    return AtomicRequest(
        fields.operation.atomic_opcode, *(fields[name] for name in AtomicRequest._fields if name != "atomic_opcode")
    )


class AtomicResponse(NamedTuple):
    """An Atomic Response (RFC 7306 §5.2.2): whose it is, and what was in memory before."""

    request_id: int
    original_value: int


def build_atomic_response(response: AtomicResponse) -> bytes:
    """The 12 octets of an Atomic Response header; `UsageError` if a number does not fit."""
    return _build(AtomicResponseHeader, response._asdict(), "RFC 7306 §5.2.2")


def parse_atomic_response(message: Octets) -> AtomicResponse:
    """Read the 12 octets of an Atomic Response; any other length is a `MalformedMessage`."""
    fields = _parse_message(AtomicResponseHeader, Opcode.ATOMIC_RESPONSE, message)
    return AtomicResponse(fields.request_id, fields.original_value)


class ImmediateData(NamedTuple):
    """The eight octets of an Immediate Data message (RFC 7306 §6.2)."""

    data: bytes


def build_immediate_data(immediate: ImmediateData) -> bytes:
    """The eight octets; `UsageError` if they are not eight."""
    return _build(ImmediateDataHeader, immediate._asdict(), "RFC 7306 §6.3")  # EXT-7306-6.3-05


def parse_immediate_data(message: Octets, opcode: int = Opcode.IMMEDIATE) -> ImmediateData:
    """Read Immediate Data; any length but eight is a `MalformedMessage`, which names `opcode`."""
    return ImmediateData(_parse_message(ImmediateDataHeader, opcode, message).data)  # EXT-7306-6.3-07
