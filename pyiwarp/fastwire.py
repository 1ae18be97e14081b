"""The headers that every FPDU has, with `struct`: the fast twins of the definitions in `wire`.

Each function gives the same verdict as its Construct twin on every octet string, refusals included; a property
test holds it to that. RFC 5041 §4.2 and §4.3, RFC 5040 §4.4.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from pyiwarp.buffers import Octets
from pyiwarp.codes import Opcode
from pyiwarp.errors import DdpCatastrophe, MalformedMessage, TaggedVersion, UntaggedVersion

__all__ = [
    "LAST",
    "READ_REQUEST_SIZE",
    "SEND_FIELDS",
    "TAGGED",
    "TAGGED_FIELDS",
    "TAGGED_HEAD",
    "TAGGED_LEAD",
    "TAGGED_SIZE",
    "UNTAGGED_FIELDS",
    "UNTAGGED_FIRST",
    "UNTAGGED_HEAD",
    "UNTAGGED_LEAD",
    "UNTAGGED_SIZE",
    "VERSION",
    "VERSION_MASK",
    "ReadRequest",
    "Tagged",
    "Untagged",
    "build_read_request",
    "build_tagged",
    "build_untagged",
    "parse_read_request",
    "parse_tagged",
    "parse_untagged",
]


TAGGED: Final = 0x80  # T: bit 0 of the DDP control octet
LAST: Final = 0x40  # L: bit 1
VERSION_MASK: Final = 0x03  # DV: bits 6 and 7; bits 2 to 5 are never looked at (DDP-5041-4.1-10)
VERSION: Final = 0x01  # DDP-5041-4.1-11

_TAGGED: Final = Struct(">BBIQ")
_UNTAGGED: Final = Struct(">BBIIII")
_READ_REQUEST: Final = Struct(">IQIIQ")

TAGGED_HEAD: Final = Struct(">HBBIQ")
"""How an FPDU with a tagged segment begins: MPA's length, then the header."""

UNTAGGED_HEAD: Final = Struct(">HBBIIII")
"""How an FPDU with an untagged segment begins."""

TAGGED_LEAD: Final = Struct(">QQ")
"""The same octets as `TAGGED_HEAD`: eight that the segments of a message share, and the TO."""

UNTAGGED_LEAD: Final = Struct(">QQI")
"""The same octets as `UNTAGGED_HEAD`: eight that the segments of a message share, QN and MSN, and the MO."""

UNTAGGED_FIRST: Final = Struct(">QQ4x")
"""The same with MO 0: the first segment of a message."""

TAGGED_FIELDS: Final = Struct(">HHIQ")
"""The same octets as `TAGGED_HEAD`, both control octets as one number: for an FPDU by itself."""

UNTAGGED_FIELDS: Final = Struct(">HHIQI")
"""The same octets as `UNTAGGED_HEAD`: length, both control octets, STag, QN and MSN, and the MO."""

SEND_FIELDS: Final = Struct(">HH4xQ4x")
"""The same without an STag and with MO 0: length, both control octets, QN and MSN."""

TAGGED_SIZE: Final = _TAGGED.size
UNTAGGED_SIZE: Final = _UNTAGGED.size
READ_REQUEST_SIZE: Final = _READ_REQUEST.size


class Tagged(NamedTuple):
    """The header of a tagged DDP segment (RFC 5041 §4.2): `rdmap` is RsvdULP, the octet that belongs to RDMAP."""

    last: bool
    rdmap: int
    stag: int
    to: int


class Untagged(NamedTuple):
    """The header of an untagged DDP segment (RFC 5041 §4.3): RsvdULP is `rdmap` and `inval_stag`."""

    last: bool
    rdmap: int
    inval_stag: int
    qn: int
    msn: int
    mo: int


class ReadRequest(NamedTuple):
    """The header of an RDMA Read Request (RFC 5040 §4.4); `sink` and `source` say where the data goes and is."""

    sink_stag: int
    sink_to: int
    read_size: int
    source_stag: int
    source_to: int


def parse_tagged(ulpdu: Octets) -> Tagged:
    """Read the header of a tagged segment.

    Raises `DdpCatastrophe` if the segment ends inside its header, `TaggedVersion` if DV is not 1.
    """
    if len(ulpdu) < TAGGED_SIZE:
        raise DdpCatastrophe(len(ulpdu), "shorter than the tagged header of 14")
    control, rdmap, stag, to = _TAGGED.unpack_from(ulpdu)
    if control & VERSION_MASK != VERSION:
        raise TaggedVersion(control & VERSION_MASK)
    return Tagged(control & LAST != 0, rdmap, stag, to)


def build_tagged(header: Tagged) -> bytes:
    """The 14 octets of a tagged header; reserved bits are zero (DDP-5041-4.1-09)."""
    last, rdmap, stag, to = header
    return _TAGGED.pack(TAGGED | LAST | VERSION if last else TAGGED | VERSION, rdmap, stag, to)


def parse_untagged(ulpdu: Octets) -> Untagged:
    """Read the header of an untagged segment.

    Raises `DdpCatastrophe` if the segment ends inside its header, `UntaggedVersion` if DV is not 1.
    """
    if len(ulpdu) < UNTAGGED_SIZE:
        raise DdpCatastrophe(len(ulpdu), "shorter than the untagged header of 18")
    control, rdmap, inval_stag, qn, msn, mo = _UNTAGGED.unpack_from(ulpdu)
    if control & VERSION_MASK != VERSION:
        raise UntaggedVersion(control & VERSION_MASK)
    return Untagged(control & LAST != 0, rdmap, inval_stag, qn, msn, mo)


def build_untagged(header: Untagged) -> bytes:
    """The 18 octets of an untagged header; reserved bits are zero (DDP-5041-4.1-09)."""
    last, rdmap, inval_stag, qn, msn, mo = header
    return _UNTAGGED.pack(LAST | VERSION if last else VERSION, rdmap, inval_stag, qn, msn, mo)


def parse_read_request(message: Octets) -> ReadRequest:
    """Read the 28 octets of a Read Request; any other length is a `MalformedMessage`."""
    if len(message) != READ_REQUEST_SIZE:
        raise MalformedMessage(Opcode.READ_REQUEST, len(message), READ_REQUEST_SIZE)
    return ReadRequest._make(_READ_REQUEST.unpack_from(message))


def build_read_request(header: ReadRequest) -> bytes:
    """The 28 octets of a Read Request header."""
    return _READ_REQUEST.pack(*header)
