"""What a scenario's connections sent and received, kept for the message of a failure."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pyiwarp.buffers import Octets
from pyiwarp.capture import Address, Capture, Flow, Tap

KEPT = 64 << 20
"""Octets kept of one connection; what comes later is counted only."""


class Piece(NamedTuple):
    """Octets that passed together, `seconds` after the connection was opened; `sent` by our side."""

    seconds: float
    sent: bool
    octets: bytes


class Transcript(Tap):
    """One connection: all its octets, in the order in which our side saw them."""

    def __init__(self, tap: Tap | None, *, initiator: bool) -> None:
        self.initiator = initiator
        self.pieces: list[Piece] = []
        self.left_out = 0
        self._tap = tap
        self._kept = 0
        self._start = time.monotonic()

    def opened(self, local: Address, peer: Address) -> None:
        """TCP is established."""
        if self._tap is not None:
            self._tap.opened(local, peer)

    def sent(self, octets: Iterable[Octets]) -> None:
        """These octets were given to TCP."""
        whole = b"".join(octets)
        self._keep(sent=True, octets=whole)
        if self._tap is not None:
            self._tap.sent([whole])

    def received(self, octets: Octets) -> None:
        """These octets came from TCP."""
        self._keep(sent=False, octets=bytes(octets))
        if self._tap is not None:
            self._tap.received(octets)

    def closed(self) -> None:
        """TCP has ended."""
        if self._tap is not None:
            self._tap.closed()

    def stream(self, *, sent: bool) -> bytes:
        """All that went in one direction."""
        return b"".join(piece.octets for piece in self.pieces if piece.sent is sent)

    def _keep(self, *, sent: bool, octets: bytes) -> None:
        if self._kept + len(octets) > KEPT:
            self.left_out += len(octets)
            return
        self._kept += len(octets)
        self.pieces.append(Piece(time.monotonic() - self._start, sent, octets))


class Recording(Capture):
    """A transcript of each connection, and a pcapng of all of them if `path` says where."""

    def __init__(self, path: Path | None = None) -> None:
        super().__init__(path or os.devnull)
        self._to_file = path is not None
        self.transcripts: list[Transcript] = []

    def __enter__(self) -> Recording:
        return self

    def flow(self, *, initiator: bool) -> Flow:
        """A tap for one more connection."""
        tap = super().flow(initiator=initiator) if self._to_file else None
        transcript = Transcript(tap, initiator=initiator)
        self.transcripts.append(transcript)
        return transcript  # type: ignore[return-value]  # a Tap, which is all that anybody asks of a Flow
