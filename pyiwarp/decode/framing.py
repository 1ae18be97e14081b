"""FPDUs taken apart with arithmetic of their own: CRC32C, pad and markers (RFC 5044 §4).

Nothing here is shared with the stack's `mpa`, so that what reads the stack's octets does not repeat its mistakes. Of
each FPDU it is said what is there, right or not; judging is left to who reads it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

from crc32c import crc32c

__all__ = [
    "CRC_SIZE",
    "LENGTH_SIZE",
    "MARKER_SIZE",
    "MARKER_SPACING",
    "Deframer",
    "Fpdu",
    "Marker",
    "MarkerSeen",
    "pad_length",
    "with_markers",
]

MARKER_SPACING: Final = 512
MARKER_SIZE: Final = 4
LENGTH_SIZE: Final = 2
CRC_SIZE: Final = 4


def pad_length(ulpdu_length: int) -> int:
    """Octets of pad behind a ULPDU (RFC 5044 §4.1)."""
    return (4 - (ulpdu_length + LENGTH_SIZE) % 4) % 4


def with_markers(nbytes: int, offset: int) -> int:
    """Octets that `nbytes` of FPDUs take from `offset` of a stream with markers on: those and the markers before them.

    A marker behind the last of them is not counted (RFC 5044 §4.3).
    """
    before_marker = -offset % MARKER_SPACING
    if nbytes <= before_marker:
        return nbytes
    return nbytes + MARKER_SIZE * (1 + (nbytes - before_marker - 1) // (MARKER_SPACING - MARKER_SIZE))


class Marker(NamedTuple):
    """The two fields of a marker (RFC 5044 §4.2)."""

    rsvd: int
    fpduptr: int

    def build(self) -> bytes:
        """Its four octets."""
        return struct.pack(">HH", self.rsvd, self.fpduptr)


@dataclass(frozen=True, slots=True)
class MarkerSeen:
    """A marker of the peer's: at `position` in the FPDU's octets, holding `marker` where `due` belongs."""

    position: int
    marker: Marker
    due: int


@dataclass(frozen=True, slots=True)
class Fpdu:
    """An FPDU that came: `octets` are all of it, a marker right before it included; `offset` is where they began."""

    offset: int
    octets: bytes
    ulpdu: bytes
    pad: bytes
    crc: int
    computed: int
    markers: tuple[MarkerSeen, ...]

    @property
    def crc_right(self) -> bool:
        """Whether the CRC is that of the octets."""
        return self.crc == self.computed


class _Incomplete(Exception):
    """More octets must come: at least `wanted` in all."""

    def __init__(self, wanted: int) -> None:
        super().__init__(wanted)
        self.wanted = wanted


class Deframer:
    """Takes apart one direction of Full Operation; `markers` says whether it has markers."""

    def __init__(self, markers: bool = False) -> None:
        self.markers = markers
        self.offset = 0
        self.buffer = bytearray()
        self._enough = 0  # octets with which it is worth another try

    def next(self) -> Fpdu | None:
        """The next FPDU, None while it is not all there."""
        if len(self.buffer) < self._enough:
            return None
        reader = _Reader(self.buffer, self.offset, self.markers)
        try:
            fpdu = reader.fpdu()
        except _Incomplete as missing:
            self._enough = missing.wanted
            return None
        self._enough = 0
        del self.buffer[: reader.position]
        self.offset += reader.position
        return fpdu


class _Reader:
    """One try to read an FPDU from the front of `buffer`."""

    def __init__(self, buffer: bytearray, offset: int, markers: bool) -> None:
        self._buffer = buffer
        self._offset = offset
        self._with_markers = markers
        self._start: int | None = None
        self._markers: list[MarkerSeen] = []
        self.position = 0

    def fpdu(self) -> Fpdu:
        (length,) = struct.unpack(">H", self._take(LENGTH_SIZE))
        ulpdu = self._take(length)
        pad = self._take(pad_length(length))
        self._pass_marker()
        computed = crc32c(bytes(self._buffer[: self.position]))
        (crc,) = struct.unpack("<I", self._take(CRC_SIZE))
        octets = bytes(self._buffer[: self.position])
        return Fpdu(self._offset, octets, ulpdu, pad, crc, computed, tuple(self._markers))

    def _take(self, nbytes: int) -> bytes:
        """The next octets that are no markers."""
        taken = bytearray()
        while len(taken) < nbytes:
            self._pass_marker()
            self._start = self.position if self._start is None else self._start
            room = MARKER_SPACING - (self._offset + self.position) % MARKER_SPACING
            part = min(nbytes - len(taken), room) if self._with_markers else nbytes - len(taken)
            taken += self._raw(part)
        return bytes(taken)

    def _pass_marker(self) -> None:
        if not self._with_markers or (self._offset + self.position) % MARKER_SPACING:
            return
        due = 0 if self._start is None else self.position - self._start
        at = self.position
        self._markers.append(MarkerSeen(at, Marker(*struct.unpack(">HH", self._raw(MARKER_SIZE))), due))

    def _raw(self, nbytes: int) -> bytes:
        if self.position + nbytes > len(self._buffer):
            raise _Incomplete(self.position + nbytes)
        part = bytes(self._buffer[self.position : self.position + nbytes])
        self.position += nbytes
        return part
