"""Octets that every implementation must agree on, as data: FPDUs, startup frames, MULPDUs, Terminate codes.

Figures 5 and 6 of RFC 5044 are the RFC's own; the others were computed by independent code that reproduces both.
Whoever frames `ulpdu_of(vector)` at `vector.offset` of the stream must get `vector.octets`, and the other way round.
"""

from __future__ import annotations

from typing import NamedTuple

from pyiwarp import wire
from pyiwarp.errors import Term
from pyiwarp.fastwire import ReadRequest, Tagged, Untagged

Body = (
    bytes | ReadRequest | wire.Terminate | wire.AtomicRequest | wire.AtomicResponse | wire.ImmediateData
)  # what follows the DDP header


class Vector(NamedTuple):
    """One FPDU; with `markers`, `octets` hold the marker before its ULPDU_Length too, if one is due at `offset`."""

    name: str
    header: Tagged | Untagged
    body: Body
    octets: bytes
    markers: bool = False
    offset: int = 0  # of octets[0], counted from the start of Full Operation


def ulpdu_of(vector: Vector) -> bytes:
    """The DDP segment, built from the definitions in `wire`."""
    return header_octets(vector.header) + body_octets(vector.body)


def header_octets(header: Tagged | Untagged) -> bytes:
    control = {"opcode": header.rdmap & 0x0F, "rsvd": header.rdmap >> 4 & 0x03, "rv": header.rdmap >> 6}
    fields = header._asdict()
    fields.update(ddp={"tagged": isinstance(header, Tagged), "last": header.last}, rdmap=control)
    definition = wire.TaggedHeader if isinstance(header, Tagged) else wire.UntaggedHeader
    return definition.build(fields)


def body_octets(body: Body) -> bytes:
    match body:
        case ReadRequest():
            return wire.ReadRequestHeader.build(body._asdict())
        case wire.Terminate():
            return wire.build_terminate(body)
        case wire.AtomicRequest():
            return wire.build_atomic_request(body)
        case wire.AtomicResponse():
            return wire.build_atomic_response(body)
        case wire.ImmediateData():
            return wire.build_immediate_data(body)
        case _:
            return body


def _untagged(rdmap: int, qn: int, msn: int) -> Untagged:
    return Untagged(last=True, rdmap=rdmap, inval_stag=0, qn=qn, msn=msn, mo=0)


def _tagged(rdmap: int, stag: int, to: int) -> Tagged:
    return Tagged(last=True, rdmap=rdmap, stag=stag, to=to)


_SEND_1 = "4143 00000000 00000000 00000001 00000000"
_SEND_2 = "4143 00000000 00000000 00000002 00000000"
_READ_1 = "4141 00000000 00000001 00000001 00000000"
_TERMINATE = "4147 00000000 00000002 00000001 00000000"
_READ_16 = "DEADBEEF 0000000000000000 00000010 12345678 0000000000001000"


def _octets(*parts: str | bytes) -> bytes:
    return b"".join(bytes.fromhex(part) if isinstance(part, str) else part for part in parts)


FIGURE_5 = Vector(
    "RFC 5044 figure 5: first FPDU, markers on, Send of 24 zeros",
    _untagged(0x43, qn=0, msn=1),
    bytes(24),
    _octets("00000000 002A", _SEND_1, bytes(24), "52239983"),
    markers=True,
)

FIGURE_6 = Vector(
    "RFC 5044 figure 6: FPDU with a marker inside, Send of 24 zeros",
    _untagged(0x43, qn=0, msn=2),
    bytes(24),
    _octets("002A", _SEND_2, "00000014", bytes(24), "84925898"),
    markers=True,
    offset=0x1EC,
)

PLAIN_FPDUS = [
    Vector(
        "Send of 1 octet, three octets of pad",
        _untagged(0x43, qn=0, msn=1),
        b"a",
        _octets("0013", _SEND_1, "61 000000 7A82544E"),
    ),
    Vector(
        "Send of 3 octets, one octet of pad",
        _untagged(0x43, qn=0, msn=1),
        b"abc",
        _octets("0015", _SEND_1, "616263 00 447065AA"),
    ),
    Vector(
        "RTR Write, STag 0",
        _tagged(0x40, stag=0, to=0),
        b"",
        _octets("000E C140 00000000 0000000000000000 A30572AB"),
    ),
    Vector(
        "RTR Write, STag 1",
        _tagged(0x40, stag=1, to=0),
        b"",
        _octets("000E C140 00000001 0000000000000000 EBD34C5F"),
    ),
    Vector(
        "RTR Read",
        _untagged(0x41, qn=1, msn=1),
        ReadRequest(0, 0, 0, 0, 0),
        _octets("002E", _READ_1, bytes(28), "F2C6DD3D"),
    ),
    Vector(
        "Read Response that answers the RTR Read",
        _tagged(0x42, stag=0, to=0),
        b"",
        _octets("000E C142 00000000 0000000000000000 6975D6CA"),
    ),
    Vector(
        "RTR Send",
        _untagged(0x43, qn=0, msn=1),
        b"",
        _octets("0012", _SEND_1, "587BE8C4"),
    ),
    Vector(
        "Terminate for a CRC error",
        _untagged(0x47, qn=2, msn=1),
        wire.Terminate(Term(2, 0, 0x02), None, b"", b""),
        _octets("0016", _TERMINATE, "20020000 7FE42585"),
    ),
    Vector(
        "Write of 4 zeros",
        _tagged(0x40, stag=0x12345678, to=0x1000),
        bytes(4),
        _octets("0012 C140 12345678 0000000000001000 00000000 E4FCD2D8"),
    ),
    Vector(
        "Terminate for that Write: invalid STag",
        _untagged(0x47, qn=2, msn=1),
        wire.Terminate(Term(1, 1, 0x00), 0x12, _octets("C140 12345678 0000000000001000"), b""),
        _octets("0026", _TERMINATE, "1100C000 0012 C140 12345678 0000000000001000 A5784740"),
    ),
    Vector(
        "Read of 16 octets",
        _untagged(0x41, qn=1, msn=1),
        ReadRequest(sink_stag=0xDEADBEEF, sink_to=0, read_size=16, source_stag=0x12345678, source_to=0x1000),
        _octets("002E", _READ_1, _READ_16, "F5FC5697"),
    ),
    Vector(
        "Terminate for that Read: invalid STag",
        _untagged(0x47, qn=2, msn=1),
        wire.Terminate(Term(0, 1, 0x00), 0x2E, _octets(_READ_1), _octets(_READ_16)),
        _octets("0046", _TERMINATE, "0100E000 002E", _READ_1, _READ_16, "0CEDDB8E"),
    ),
    Vector(
        "Immediate Data",
        _untagged(0x48, qn=0, msn=1),
        wire.ImmediateData(_octets("0102030405060708")),
        _octets("001A 4148 00000000 00000000 00000001 00000000 0102030405060708 06C22805"),
    ),
    Vector(
        "FetchAdd of 1",
        _untagged(0x4A, qn=1, msn=1),
        wire.AtomicRequest(atomic_opcode=0, request_id=0x11, stag=0x12345678, to=0x1000, data=1, mask=0),
        _octets(
            "0046 414A 00000000 00000001 00000001 00000000 00000000 00000011 12345678 0000000000001000",
            "0000000000000001 0000000000000000 0000000000000000 FFFFFFFFFFFFFFFF 1840DBF9",
        ),
    ),
    Vector(
        "Atomic Response",
        _untagged(0x4B, qn=3, msn=1),
        wire.AtomicResponse(request_id=0x11, original_value=0x29),
        _octets("001E 414B 00000000 00000003 00000001 00000000 00000011 0000000000000029 3460FAAE"),
    ),
]

MARKER_BEFORE_CRC = Vector(
    "first FPDU, Send of 488 zeros: a marker between ULPDU and CRC",
    _untagged(0x43, qn=0, msn=1),
    bytes(488),
    _octets("00000000 01FA", _SEND_1, bytes(488), "000001FC 38CF64E8"),
    markers=True,
)

MARKER_BETWEEN_FPDUS = (
    Vector(
        "first FPDU, Send of 484 zeros: it ends where a marker is due",
        _untagged(0x43, qn=0, msn=1),
        bytes(484),
        _octets("00000000 01F6", _SEND_1, bytes(484), "A09BB55B"),
        markers=True,
    ),
    Vector(
        "second FPDU, zero-length Send: the marker belongs to it",
        _untagged(0x43, qn=0, msn=2),
        b"",
        _octets("00000000 0012", _SEND_2, "7C71E5B4"),
        markers=True,
        offset=512,
    ),
)

FPDUS = [FIGURE_5, FIGURE_6, *PLAIN_FPDUS, MARKER_BEFORE_CRC, *MARKER_BETWEEN_FPDUS]


class StartupVector(NamedTuple):
    """One startup frame, enhanced word included in its Private Data."""

    name: str
    frame: wire.StartupFrame
    enhanced: wire.Enhanced | None
    octets: bytes


_REQUEST_KEY = "4D 50 41 20 49 44 20 52 65 71 20 46 72 61 6D 65"
_REPLY_KEY = "4D 50 41 20 49 44 20 52 65 70 20 46 72 61 6D 65"
_ENHANCED = wire.Enhanced(peer_to_peer=True, rtr_send=True, ird=4, rtr_write=True, rtr_read=True, ord=4)


def _startup(
    *, reply: bool, revision: int = 1, rejected: bool = False, enhanced: bool = False, private_data: bytes = b""
) -> wire.StartupFrame:
    return wire.StartupFrame(
        reply=reply,
        markers=False,
        crc=True,
        rejected=rejected,
        enhanced=enhanced,
        revision=revision,
        private_data=private_data,
    )


STARTUPS = [
    StartupVector(
        "Request, revision 1, CRC, no Private Data",
        _startup(reply=False),
        None,
        _octets(_REQUEST_KEY, "40 01 0000"),
    ),
    StartupVector(
        "Request, revision 2, enhanced",
        _startup(reply=False, revision=2, enhanced=True, private_data=_octets("C004 C004")),
        _ENHANCED,
        _octets(_REQUEST_KEY, "50 02 0004 C004 C004"),
    ),
    StartupVector(
        "Reply, revision 2, enhanced, with Private Data of the ULP",
        _startup(reply=True, revision=2, enhanced=True, private_data=_octets("C004 C004") + b"hello"),
        _ENHANCED,
        _octets(_REPLY_KEY, "50 02 0009 C004 C004", b"hello"),
    ),
    StartupVector(
        "Reply, revision 1, rejecting, with Private Data",
        _startup(reply=True, rejected=True, private_data=b"no"),
        None,
        _octets(_REPLY_KEY, "60 01 0002", b"no"),
    ),
]

MULPDU_TABLE = [  # EMSS, MULPDU without markers, MULPDU with markers (RFC 5044 §4.5, clamped as §3 wants)
    (100, 128, 128),
    (513, 506, 498),
    (536, 530, 522),
    (1448, 1442, 1430),
    (1460, 1454, 1442),
    (1461, 1454, 1442),
    (8948, 8942, 8870),
    (65483, 64768, 64768),
]

TERM_TABLE = {  # every Terminate code that the RFCs and IANA's RDDP registries name: layer, error type, error codes
    (0, 0): [0x00],  # RFC 5040 §4.8: any code will do
    (0, 1): [0x00, 0x01, 0x02, 0x03, 0x04, 0x09, 0xFF],
    (0, 2): [0x05, 0x06, 0x07, 0x08, 0x09, 0xFF],
    (1, 0): [0x00],  # RFC 5041 §7.2
    (1, 1): [0x00, 0x01, 0x02, 0x03, 0x04],
    (1, 2): [0x01, 0x02, 0x03, 0x04, 0x05, 0x06],
    (2, 0): [0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07],  # RFC 5044 §8, RFC 6581 §8
}
