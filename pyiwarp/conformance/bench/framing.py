"""FPDUs right and wrong, with the bench's own arithmetic: CRC32C, pad and markers (RFC 5044 §4)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from crc32c import crc32c

from pyiwarp.decode.framing import MARKER_SIZE, MARKER_SPACING, Marker, pad_length

__all__ = ["Framer"]

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
