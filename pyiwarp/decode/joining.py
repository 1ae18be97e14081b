"""Where an FPDU begins in a stream whose beginning was not seen (RFC 5044 §5.2).

A place is taken as the beginning of an FPDU if this one and those behind it have right CRCs, or, where no CRC is in
use, headers as they are sent: versions and opcodes that exist, reserved bits and pad of zero. With markers there must
also be a marker that points to the place, or stands right before it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from crc32c import crc32c

from pyiwarp.codes import Opcode
from pyiwarp.decode.framing import CRC_SIZE, LENGTH_SIZE, MARKER_SIZE, MARKER_SPACING, with_markers
from pyiwarp.fastwire import TAGGED, TAGGED_SIZE, UNTAGGED_SIZE, VERSION, VERSION_MASK

__all__ = ["place_of_fpdu"]

_OPCODES: Final = frozenset(Opcode)
_POINTER: Final = re.compile(rb"(?=\x00\x00(?:\x00[^\x00]|\x01[\x00-\xff]))", re.DOTALL)
"""A marker whose pointer is not zero; such may lie over each other."""

_SENT: Final = re.compile(rb"(?=..(?:[\x81\xC1][\x40\x42]|[\x01\x41][\x41\x43-\x4B]))", re.DOTALL)
"""The beginning of an FPDU whose header is as it is sent: reserved bits are zero, tagged messages are tagged."""

_POSSIBLE: Final = re.compile(
    rb"(?=..[%s][\x40-\x4B\x50-\x5B\x60-\x6B\x70-\x7B])"
    % b"".join(b"\\x%02X" % ddp for ddp in range(VERSION, 256, VERSION_MASK + 1)),
    re.DOTALL,
)
"""The beginning of an FPDU whose versions and opcode exist."""

_WORK: Final = 8 << 20
"""Octets that one search may look at."""

_LOOK: Final = 512
"""Octets for which one look at a header counts: it takes about as long as the CRC of so many."""

_HEAD: Final = 4  # octets from ULPDU_Length to the opcode

_SEARCHED: Final = 140_000
"""Octets in which an FPDU is looked for: two of the largest FPDUs, and a little."""

_IN_A_ROW: Final = 3
"""FPDUs that must follow each other for a place to be taken as the first one's beginning, if so many are there."""

_AT_LEAST: Final = 2 * MARKER_SPACING
"""Octets that these FPDUs must have together: between two markers a stream looks as one without markers does."""


class _Spent(Exception):
    """The search has looked at as many octets as it may."""


class _Work:
    """What a search may still do, in octets: a peer may make every place look good."""

    def __init__(self) -> None:
        self._left = _WORK

    def spend(self, nbytes: int) -> None:
        """So many octets are looked at; raises `_Spent` if these are too many."""
        self._left -= nbytes
        if self._left < 0:
            raise _Spent


def place_of_fpdu(octets: bytes, markers: bool, *, crc: bool) -> tuple[int, int] | None:
    """Where the first FPDU begins that can be found, and how far into a marker interval that is; None if none can.

    The second number is what a `Deframer`'s `offset` must begin with; it is 0 without markers. FPDUs whose headers are
    as they are sent are looked for first, others only if there are none.
    """
    intervals = _intervals(octets) if markers else {}
    for heads in (_SENT, _POSSIBLE):
        with suppress(_Spent):
            found = _search(octets, heads, intervals, markers=markers, crc=crc)
            if found is not None:
                return found
    return None


def _search(
    octets: bytes, heads: re.Pattern[bytes], intervals: dict[int, int], *, markers: bool, crc: bool
) -> tuple[int, int] | None:
    work = _Work()
    for match in heads.finditer(octets, 0, _SEARCHED + _HEAD):
        place = match.start()
        leading = markers and place >= MARKER_SIZE and octets[place - MARKER_SIZE : place] == bytes(MARKER_SIZE)
        if leading and _is_first(octets, place - MARKER_SIZE, 0, work, markers=markers, crc=crc):
            return place - MARKER_SIZE, 0
        offset = intervals.get(place) if markers else 0
        if offset is not None and _is_first(octets, place, offset, work, markers=markers, crc=crc):
            return place, offset
    return None


def _is_first(octets: bytes, place: int, offset: int, work: _Work, *, markers: bool, crc: bool) -> bool:
    """Whether an FPDU begins here: by the headers behind it first, which takes little, then by CRCs or pads."""
    likely = _follow(octets, place, offset, work, markers, _is_possible)
    return likely and _follow(octets, place, offset, work, markers, _has_right_crc if crc else _is_sent)


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


class _Place(NamedTuple):
    """Where an FPDU lies, if one does: from `begin` to `end`, a marker before it included; its head, its pad."""

    begin: int
    head: int
    pad: int
    crc: int
    end: int


def _follow(
    octets: bytes, place: int, offset: int, work: _Work, markers: bool, right: Callable[[bytes, _Place, _Work], bool]
) -> bool:
    """Whether FPDUs that are `right` follow each other from `place` on, as far as they are there."""
    begin, number = place, 0
    while number < _IN_A_ROW or begin - place < _AT_LEAST:
        work.spend(_LOOK)
        at = offset + begin - place
        head = begin + MARKER_SIZE * (markers and not at % MARKER_SPACING)
        if head + _HEAD > len(octets):
            return number > 0
        length = LENGTH_SIZE + int.from_bytes(octets[head : head + LENGTH_SIZE], "big")
        sizes = (length, length + -length % 4 + CRC_SIZE)
        ulpdu_end, end = (begin + (with_markers(each, at) if markers else each) for each in sizes)
        if end > len(octets):
            return number > 0 and _begins(octets, head)  # the rest is not there
        if not right(octets, _Place(begin, head, ulpdu_end, end - CRC_SIZE, end), work):
            return False
        begin, number = end, number + 1
    return True


def _is_possible(octets: bytes, place: _Place, work: _Work) -> bool:
    return _begins(octets, place.head)


def _has_right_crc(octets: bytes, place: _Place, work: _Work) -> bool:
    """No octets are copied."""
    work.spend(place.end - place.begin)
    return crc32c(memoryview(octets)[place.begin : place.crc]) == int.from_bytes(
        octets[place.crc : place.end], "little"
    )


def _is_sent(octets: bytes, place: _Place, work: _Work) -> bool:
    """Whether an FPDU that lies here has a header as it is sent, and a pad of zero."""
    length = LENGTH_SIZE + int.from_bytes(octets[place.head : place.head + LENGTH_SIZE], "big")
    pad = octets[place.pad : place.pad + -length % 4]
    return _SENT.match(octets, place.head) is not None and _begins(octets, place.head) and not any(pad)
