"""Where an FPDU begins in a stream whose beginning was not seen (RFC 5044 §5.2).

Without markers a place is taken as the beginning of an FPDU if this one and those behind it have right CRCs, or, where
no CRC is in use, headers of versions and opcodes that exist. With markers each marker points to the FPDU that it stands
in, so two of them, 512 octets apart, are enough.
"""

from __future__ import annotations

from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.decode.framing import CRC_SIZE, LENGTH_SIZE, MARKER_SIZE, MARKER_SPACING, Deframer, Fpdu
from pyiwarp.fastwire import TAGGED, TAGGED_SIZE, UNTAGGED_SIZE, VERSION, VERSION_MASK

__all__ = ["place_of_fpdu"]

_OPCODES: Final = frozenset(Opcode)

_SEARCHED: Final = 140_000
"""Octets in which an FPDU is looked for: two of the largest FPDUs, and a little."""

_IN_A_ROW: Final = 3
"""FPDUs that must follow each other for a place to be taken as the first one's beginning, if so many are there."""


def place_of_fpdu(octets: bytes, markers: bool, *, crc: bool) -> tuple[int, int] | None:
    """Where the first FPDU begins that can be found, and how far into a marker interval that is; None if none can.

    The second number is what a `Deframer`'s `offset` must begin with; it is 0 without markers.
    """
    for place in range(min(len(octets), _SEARCHED)):
        leading = markers and octets[place : place + MARKER_SIZE] == bytes(MARKER_SIZE)
        if not _begins(octets, place + MARKER_SIZE * leading):
            continue
        offset = _interval(octets, place) if markers and not leading else 0
        if offset is not None and _follow(octets, place, offset, markers=markers, crc=crc):
            return place, offset
    return None


def _interval(octets: bytes, place: int) -> int | None:
    """How far `place` is into its marker interval, if there is a marker that points to it."""
    for at in range(place, min(place + MARKER_SPACING, len(octets) - MARKER_SIZE), MARKER_SIZE):
        if octets[at : at + MARKER_SIZE] == (at - place).to_bytes(MARKER_SIZE, "big"):
            return (place - at) % MARKER_SPACING
    return None


def _begins(octets: bytes, at: int) -> bool:
    """Whether the first four octets of an FPDU may lie here; no marker divides them."""
    head = octets[at : at + 4]
    if len(head) < 4:
        return False
    size = TAGGED_SIZE if head[2] & TAGGED else UNTAGGED_SIZE
    return (
        int.from_bytes(head[:2], "big") >= size
        and head[2] & VERSION_MASK == VERSION
        and head[3] >> 6 == 1
        and head[3] & 15 in _OPCODES
    )


def _follow(octets: bytes, place: int, offset: int, *, markers: bool, crc: bool) -> bool:
    """Whether FPDUs follow each other from `place` on."""
    deframer = Deframer(markers)
    deframer.offset = offset
    end = place
    for number in range(_IN_A_ROW):
        wanted = _size(octets, end, markers=markers, leading=markers and not deframer.offset % MARKER_SPACING)
        deframer.buffer[:] = octets[end : end + wanted]
        fpdu = deframer.next()
        if fpdu is None:
            return number > 0  # the rest is not there
        if not _plausible(fpdu, crc=crc):
            return False
        end += len(fpdu.octets)
    return True


def _size(octets: bytes, place: int, *, markers: bool, leading: bool) -> int:
    """Octets that the FPDU at `place` may have at most, markers included."""
    at = place + MARKER_SIZE * leading
    length = int.from_bytes(octets[at : at + LENGTH_SIZE], "big") + LENGTH_SIZE + 3 + CRC_SIZE
    return length + markers * (length // (MARKER_SPACING - MARKER_SIZE) + 2) * MARKER_SIZE


def _plausible(fpdu: Fpdu, *, crc: bool) -> bool:
    if crc:
        return fpdu.crc_right
    return _begins(len(fpdu.ulpdu).to_bytes(LENGTH_SIZE, "big") + fpdu.ulpdu[:2], 0) and not any(fpdu.pad)
