"""FPDUs with the bench's own arithmetic: CRC32C, pad and markers (RFC 5044 §4).

`Framer` makes right FPDUs and wrong ones. `Deframer` takes the peer's octets apart and says of each FPDU what is there,
right or not; judging is left to who reads it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from crc32c import crc32c

__all__ = ["MARKER_SIZE", "MARKER_SPACING", "Deframer", "Fpdu", "Framer", "Marker", "pad_length"]

MARKER_SPACING: Final = 512
MARKER_SIZE: Final = 4
LENGTH_SIZE: Final = 2
CRC_SIZE: Final = 4


def pad_length(ulpdu_length: int) -> int:
    """Octets of pad behind a ULPDU (RFC 5044 §4.1)."""
    return (4 - (ulpdu_length + LENGTH_SIZE) % 4) % 4


class Marker(NamedTuple):
    """The two fields of a marker (RFC 5044 §4.2)."""

    rsvd: int
    fpduptr: int

    def build(self) -> bytes:
        """Its four octets."""
        return struct.pack(">HH", self.rsvd, self.fpduptr)


Tamper = Callable[[Marker], Marker]


class Framer:
    """Makes the FPDUs of one half connection; `markers` says whether the peer asked for them.

    `made` is called with the ULPDU of each, and whether the FPDU around it is right.
    """

    def __init__(self, markers: bool = False, made: Callable[[bytes, bool], None] = lambda ulpdu, right: None) -> None:
        self.markers = markers
        self._made = made
        self.offset = 0  # octets of Full Operation that were made, from which marker positions follow

    def frame(
        self,
        ulpdu: bytes,
        *,
        length: int | None = None,
        pad: bytes | None = None,
        crc: int | None = None,
        crc_mask: int = 0,
        tamper: Tamper | None = None,
        crc_leading_marker: bool = True,
    ) -> bytes:
        """One FPDU of `ulpdu`, right unless told otherwise.

        `length` goes into ULPDU_Length as it is, `pad` behind the ULPDU, `crc` into the CRC field; `crc_mask` is
        XORed to the right CRC. `tamper` changes each marker before the CRC is made. With `crc_leading_marker` False
        a marker right before the FPDU is left out of its CRC.
        """
        pad = bytes(pad_length(len(ulpdu))) if pad is None else pad
        body = struct.pack(">H", len(ulpdu) if length is None else length) + ulpdu + pad
        octets = bytearray()
        start: int | None = None
        covered = 0

        def append(part: bytes) -> None:
            nonlocal start
            while part:
                self._mark(octets, start, tamper)
                start = len(octets) if start is None else start
                room = MARKER_SPACING - (self.offset + len(octets)) % MARKER_SPACING if self.markers else len(part)
                octets.extend(part[:room])
                part = part[room:]

        append(body)
        self._mark(octets, start, tamper)
        if not crc_leading_marker:
            covered = start or 0
        right = crc32c(bytes(octets[covered:]))
        append(struct.pack("<I", (right if crc is None else crc) ^ crc_mask))
        self.offset += len(octets)
        wrong = (length, crc, tamper) != (None, None, None) or crc_mask or any(pad) or not crc_leading_marker
        self._made(ulpdu, not wrong and len(pad) == pad_length(len(ulpdu)))
        return bytes(octets)

    def damaged(self, ulpdu: bytes, at: int, mask: int) -> bytes:
        """One FPDU of `ulpdu` with the CRC of a right one, in which `mask` is XORed to one octet.

        `at` counts from ULPDU_Length on, and counts no markers.
        """
        position = offset = self.offset
        octets = bytearray(self.frame(ulpdu))
        for _ in range(at + 1):
            if self.markers and position % MARKER_SPACING == 0:
                position += MARKER_SIZE
            position += 1
        octets[position - 1 - offset] ^= mask
        self._made(ulpdu, False)
        return bytes(octets)

    def _mark(self, octets: bytearray, start: int | None, tamper: Tamper | None) -> None:
        """Append the marker that is due here, if one is and is not there already."""
        here = self.offset + len(octets)
        if not self.markers or here % MARKER_SPACING:
            return
        marker = Marker(0, 0 if start is None else len(octets) - start)
        octets.extend((tamper(marker) if tamper else marker).build())


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
    """More octets must come."""


class Deframer:
    """Takes apart what the peer sends in Full Operation; `markers` says whether the bench asked for them."""

    def __init__(self, markers: bool = False) -> None:
        self.markers = markers
        self.offset = 0
        self.buffer = bytearray()

    def next(self) -> Fpdu | None:
        """The next FPDU, None while it is not all there."""
        reader = _Reader(self.buffer, self.offset, self.markers)
        try:
            fpdu = reader.fpdu()
        except _Incomplete:
            return None
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
            raise _Incomplete
        part = bytes(self._buffer[self.position : self.position + nbytes])
        self.position += nbytes
        return part
