"""What is wrong with one FPDU by itself, whatever case it belongs to (RFC 5044 §4, RFC 5041 §4, RFC 5040 §4, RFC 7306).

Each rule is a function that yields a `Breach` for what it finds; `judge` puts them together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pyiwarp.codes import (
    ATOMIC_REQUEST_SIZE,
    ATOMIC_RESPONSE_SIZE,
    IMMEDIATE_SIZE,
    MAX_MULPDU,
    MIN_MULPDU,
    Opcode,
    QueueNumber,
)
from pyiwarp.decode.framing import MARKER_SIZE, MARKER_SPACING, Fpdu
from pyiwarp.decode.segments import Segment
from pyiwarp.wire import ReadRequestHeader

__all__ = ["Breach", "fpdu_breaches", "mulpdu_bound", "segment_breaches"]

KNOWN: Final = frozenset(Opcode)
TAGGED: Final = {Opcode.WRITE, Opcode.READ_RESPONSE}
INVALIDATING: Final = {Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL}
EXTENSIONS: Final = {Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE, Opcode.ATOMIC_REQUEST, Opcode.ATOMIC_RESPONSE}
QUEUES: Final[Mapping[int, QueueNumber]] = {
    Opcode.READ_REQUEST: QueueNumber.READ_REQUEST,
    Opcode.SEND: QueueNumber.SEND,
    Opcode.SEND_INVAL: QueueNumber.SEND,
    Opcode.SEND_SE: QueueNumber.SEND,
    Opcode.SEND_SE_INVAL: QueueNumber.SEND,
    Opcode.TERMINATE: QueueNumber.TERMINATE,
    Opcode.IMMEDIATE: QueueNumber.SEND,
    Opcode.IMMEDIATE_SE: QueueNumber.SEND,
    Opcode.ATOMIC_REQUEST: QueueNumber.READ_REQUEST,
    Opcode.ATOMIC_RESPONSE: QueueNumber.ATOMIC_RESPONSE,
}
SIZES: Final[Mapping[int, tuple[int, str]]] = {
    Opcode.READ_REQUEST: (ReadRequestHeader.sizeof(), "RDMAP-5040-4.4-01"),
    Opcode.IMMEDIATE: (IMMEDIATE_SIZE, "EXT-7306-6.3-05"),
    Opcode.IMMEDIATE_SE: (IMMEDIATE_SIZE, "EXT-7306-6.3-05"),
    Opcode.ATOMIC_REQUEST: (ATOMIC_REQUEST_SIZE, "EXT-7306-5.2.1-01"),
    Opcode.ATOMIC_RESPONSE: (ATOMIC_RESPONSE_SIZE, "EXT-7306-5.2.2-01"),
}
"""The octets that a message of one segment has behind its DDP header, and the requirement that says so."""


class Breach(NamedTuple):
    """A rule that an FPDU breaks: the id of the requirement, what it demands, and what came."""

    rule: str
    expected: str
    came: str


def mulpdu_bound(emss: int | None, *, markers: bool) -> int:
    """The largest ULPDU that a peer may send whose EMSS is at most `emss` octets; None says nothing about it."""
    if emss is None:
        return MAX_MULPDU
    between = -(-emss // MARKER_SPACING) * MARKER_SIZE if markers else 0  # MPA-5044-4.5-01, MPA-5044-4.5-02
    return max(MIN_MULPDU, min(emss - 6 - between - emss % 4, MAX_MULPDU))


# --- MPA -------------------------------------------------------------------------------------------------------------


def fpdu_breaches(fpdu: Fpdu, *, crc: bool, most: int) -> Iterator[Breach]:
    """The CRC if `crc` says that it is in use, the pad, the markers, and the size: `most` octets of ULPDU."""
    if crc and not fpdu.crc_right:
        yield Breach("MPA-5044-4.4-12", f"CRC {fpdu.computed:#010x}", f"CRC {fpdu.crc:#010x}")
    if any(fpdu.pad):
        yield Breach("MPA-5044-4.1-03", "pad octets of zero", f"pad {fpdu.pad.hex(' ')}")
    yield from _marker_breaches(fpdu)
    if len(fpdu.ulpdu) > most:
        rule = "DDP-5041-5.2-02" if most < MAX_MULPDU else "MPA-5044-3-05"
        yield Breach(rule, f"a ULPDU of {most} octets at most", f"one of {len(fpdu.ulpdu)}")


def _marker_breaches(fpdu: Fpdu) -> Iterator[Breach]:
    for seen in fpdu.markers:
        expected, came = f"a marker {seen.due:08x}", f"a marker {seen.marker.build().hex()}"
        if seen.marker.rsvd:
            yield Breach("MPA-5044-4.2-02", expected, came)
        if seen.marker.fpduptr & 3:
            yield Breach("MPA-5044-4.2-04", expected, came)
        if seen.marker.fpduptr & ~3 != seen.due:
            yield Breach("MPA-5044-4.3-04", expected, came)


# --- DDP and RDMAP ---------------------------------------------------------------------------------------------------


def segment_breaches(segment: Segment | None) -> Iterator[Breach]:
    """The fields of one segment's headers; None is a ULPDU that ends inside them."""
    if segment is None:
        yield Breach("DDP-5041-4.4-01", "a DDP header", "a ULPDU that is too short for one")
        return
    yield from _control_breaches(segment)
    if segment.opcode not in KNOWN:
        yield Breach("RDMAP-5040-4.1-05", "a known opcode", f"opcode {segment.opcode:#x}")
        return
    yield from _kind_breaches(segment)
    yield from _size_breaches(segment)


def _control_breaches(segment: Segment) -> Iterator[Breach]:
    """Versions and reserved bits: the same in every message."""
    if segment.dv != 1:
        yield Breach("DDP-5041-4.1-11", "DV 1", f"DV {segment.dv}")
    if segment.ddp_rsvd:
        yield Breach("DDP-5041-4.1-09", "reserved bits of zero in DDP's control octet", f"{segment.ddp_rsvd:#x}")
    if segment.rv != 1:
        rule = "EXT-7306-4.1-01" if segment.opcode in EXTENSIONS else "RDMAP-5040-4.1-07"
        yield Breach(rule, "RV 1", f"RV {segment.rv}")
    if segment.rdmap_rsvd:
        yield Breach("RDMAP-5040-4.1-08", "reserved bits of zero in RDMAP's control octet", f"{segment.rdmap_rsvd:#x}")


def _kind_breaches(segment: Segment) -> Iterator[Breach]:
    """The opcode says whether the segment is tagged, its queue, and whether there is an STag to invalidate."""
    extension = segment.opcode in EXTENSIONS
    if segment.tagged != (segment.opcode in TAGGED):
        rule = "EXT-7306-4.1-05" if extension else "RDMAP-5040-4.1-04"
        yield Breach(rule, f"T={not segment.tagged:d} in a {segment.name}", f"T={segment.tagged:d}")
        return
    if segment.tagged:
        return
    if segment.qn != QUEUES[segment.opcode]:
        rule = "EXT-7306-4.1-05" if extension else "RDMAP-5040-4.1-06"
        yield Breach(rule, f"a {segment.name} on queue {QUEUES[segment.opcode]:d}", f"queue {segment.qn}")
    if segment.inval_stag and segment.opcode not in INVALIDATING:
        rule = "EXT-7306-4.1-03" if extension else "RDMAP-5040-4.1-10"
        yield Breach(rule, f"an STag field of zero in a {segment.name}", f"{segment.inval_stag:#x}")


def _size_breaches(segment: Segment) -> Iterator[Breach]:
    """Messages that are headers alone have a fixed size, and come in one segment."""
    if segment.opcode in SIZES:
        size, rule = SIZES[segment.opcode]
        if len(segment.payload) != size:
            yield Breach(rule, f"{size} octets of {segment.name}", f"{len(segment.payload)} octets")
    if segment.opcode in SIZES or segment.opcode == Opcode.TERMINATE:
        if not segment.last:
            yield Breach("DDP-5041-4.1-03", f"L=1 in a {segment.name}", "L=0")
        if segment.mo:
            yield Breach("DDP-5041-4.3-11", f"MO 0 in a {segment.name}", f"MO {segment.mo}")
