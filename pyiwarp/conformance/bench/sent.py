"""The octets that the bench has sent last on one connection, for the report of a failure."""

from __future__ import annotations

from collections import deque
from typing import Final

from pyiwarp.conformance.bench.annotate import annotate_fpdu, annotate_octets, annotate_startup
from pyiwarp.decode.framing import Deframer
from pyiwarp.wire import REPLY_KEY, REQUEST_KEY

__all__ = ["SentRecord"]

PIECES: Final = 8  # that are remembered: each is what one call sent
SHOWN: Final = 3  # frames, FPDUs or pieces that a report has


class SentRecord:
    """What one connection was given, piece by piece."""

    def __init__(self) -> None:
        self._startup: deque[bytes] = deque(maxlen=PIECES)
        self._pieces: deque[tuple[int, bytes]] = deque(maxlen=PIECES)
        self._markers: bool | None = None  # None before Full Operation
        self._offset = 0  # octets of Full Operation

    def begin_full_operation(self, *, markers: bool) -> None:
        """What follows are FPDUs, with markers or without."""
        self._markers = markers

    def add(self, octets: bytes) -> None:
        """These octets are sent."""
        if self._markers is None:
            self._startup.append(octets)
        else:
            self._pieces.append((self._offset, octets))
            self._offset += len(octets)

    def annotated(self) -> list[str]:
        """The last of them by their fields, oldest first; what is no startup frame and no FPDU as it is."""
        parts = [_startup_lines(octets) for octets in self._startup] + self._fpdu_lines()
        return [line for part in parts[-SHOWN:] for line in part]

    def _fpdu_lines(self) -> list[list[str]]:
        """The FPDUs in the pieces, which need not begin where a piece does, and what is left behind them."""
        parts: list[list[str]] = []
        if not self._pieces:
            return parts
        deframer = Deframer(bool(self._markers))
        deframer.offset = self._pieces[0][0]
        for _, octets in self._pieces:
            deframer.buffer += octets
            while (fpdu := deframer.next()) is not None:
                parts.append(annotate_fpdu(fpdu))
        if deframer.buffer:
            parts.append(annotate_octets(bytes(deframer.buffer), "no whole FPDU"))
        return parts


def _startup_lines(octets: bytes) -> list[str]:
    known = octets.startswith((REQUEST_KEY, REPLY_KEY))
    return annotate_startup(octets) if known else annotate_octets(octets)
