"""Where an FPDU begins in a stream whose beginning was not seen (RFC 5044 §5.2).

A place is taken as the beginning of an FPDU if this one and those behind it have right CRCs, or, where no CRC is in
use, headers as they are sent: versions and opcodes that exist, reserved bits and pad of zero. With markers there must
also be a marker that points to the place, or stands right before it.
"""

from __future__ import annotations

import re
from typing import Final

from crc32c import crc32c

from pyiwarp.codes import Opcode
from pyiwarp.decode.framing import CRC_SIZE, LENGTH_SIZE, MARKER_SIZE, MARKER_SPACING, with_markers
from pyiwarp.fastwire import TAGGED, TAGGED_SIZE, UNTAGGED_SIZE, VERSION, VERSION_MASK

__all__ = ["place_of_fpdu"]

_OPCODES: Final = frozenset(Opcode)
_POINTER: Final = re.compile(rb"(?=\x00\x00(?:\x00[^\x00]|\x01[\x00-\xff]))", re.DOTALL)
"""A marker whose pointer is not zero; such may lie over each other."""

_HEAD: Final = 4  # octets from ULPDU_Length to the opcode
_DDP_RESERVED: Final = 0x3C
_RDMAP_RESERVED: Final = 0x30

_SEARCHED: Final = 140_000
"""Octets in which an FPDU is looked for: two of the largest FPDUs, and a little."""

_IN_A_ROW: Final = 3
"""FPDUs that must follow each other for a place to be taken as the first one's beginning, if so many are there."""

_AT_LEAST: Final = 2 * MARKER_SPACING
"""Octets that these FPDUs must have together: between two markers a stream looks as one without markers does."""


def place_of_fpdu(octets: bytes, markers: bool, *, crc: bool) -> tuple[int, int] | None:
    """Where the first FPDU begins that can be found, and how far into a marker interval that is; None if none can.

    The second number is what a `Deframer`'s `offset` must begin with; it is 0 without markers.
    """
    intervals = _intervals(octets) if markers else {}
    for place in range(min(len(octets), _SEARCHED)):
        leading = markers and octets[place : place + MARKER_SIZE] == bytes(MARKER_SIZE)
        if not _begins(octets, place + MARKER_SIZE * leading):
            continue
        offset = intervals.get(place) if markers and not leading else 0
        if offset is not None and _follow(octets, place, offset, markers=markers, crc=crc):
            return place, offset
    return None


def _intervals(octets: bytes) -> dict[int, int]:
    """Places that a marker points to, and how far each is into its marker interval."""
    found: dict[int, int] = {}
    for match in _POINTER.finditer(octets, 0, _SEARCHED + MARKER_SPACING):
        at = match.start()
        pointer = int.from_bytes(octets[at : at + MARKER_SIZE], "big")
        if pointer % MARKER_SIZE == 0:
            found.setdefault(at - pointer, -pointer % MARKER_SPACING)
    return found


def _begins(octets: bytes, at: int) -> bool:
    """Whether the first four octets of an FPDU may lie here; no marker divides them."""
    head = octets[at : at + _HEAD]
    if len(head) < _HEAD:
        return False
    size = TAGGED_SIZE if head[2] & TAGGED else UNTAGGED_SIZE
    return (
        int.from_bytes(head[:2], "big") >= size
        and head[2] & VERSION_MASK == VERSION
        and head[3] >> 6 == 1
        and head[3] & 15 in _OPCODES
    )


def _follow(octets: bytes, place: int, offset: int, *, markers: bool, crc: bool) -> bool:
    """Whether FPDUs follow each other from `place` on. No octets are copied: a peer may make every place look good."""
    begin, number = place, 0
    while number < _IN_A_ROW or begin - place < _AT_LEAST:
        at = offset + begin - place
        leading = MARKER_SIZE * (markers and not at % MARKER_SPACING)
        if begin + leading + _HEAD > len(octets):
            return number > 0
        length = LENGTH_SIZE + int.from_bytes(octets[begin + leading : begin + leading + LENGTH_SIZE], "big")
        pad = -length % 4
        size = length + pad + CRC_SIZE
        end, ulpdu_end = (begin + (with_markers(each, at) if markers else each) for each in (size, length))
        if end > len(octets):
            return number > 0 and _begins(octets, begin + leading)  # the rest is not there
        if crc:
            right = int.from_bytes(octets[end - CRC_SIZE : end], "little")
            if crc32c(memoryview(octets)[begin : end - CRC_SIZE]) != right:
                return False
        elif not _is_sent(octets, begin + leading) or any(octets[ulpdu_end : ulpdu_end + pad]):
            return False
        begin, number = end, number + 1
    return True


def _is_sent(octets: bytes, at: int) -> bool:
    """Whether an FPDU that lies here has a header as it is sent: reserved bits are zero, tagged messages are tagged."""
    ddp, rdmap = octets[at + LENGTH_SIZE], octets[at + LENGTH_SIZE + 1]
    tagged = rdmap & 15 in (Opcode.WRITE, Opcode.READ_RESPONSE)
    return (
        _begins(octets, at) and not ddp & _DDP_RESERVED and not rdmap & _RDMAP_RESERVED and bool(ddp & TAGGED) is tagged
    )
