"""A connection's octets as lines for people: startup frames, FPDUs, and what is wrong with them.

`pyiwarp.decode` reads them; here is what a transcript adds: when each unit was whole, and which side is ours.
"""

from __future__ import annotations

from typing import NamedTuple

from pyiwarp.decode.directions import Session
from pyiwarp.decode.units import FpduUnit, StartupUnit, Unit
from pyiwarp.wire import Terminate

from .transcript import Transcript


class Frame(NamedTuple):
    """One startup frame, one FPDU, or octets that are neither, `sent` by our side; `seconds` is when it was whole."""

    seconds: float
    sent: bool
    unit: Unit

    @property
    def number(self) -> int:
        """FPDUs of a direction count from 1; 0 is none."""
        return self.unit.number if isinstance(self.unit, FpduUnit) else 0

    @property
    def ulpdu(self) -> bytes:
        """The ULPDU of an FPDU, empty for anything else."""
        return self.unit.ulpdu if isinstance(self.unit, FpduUnit) else b""

    @property
    def text(self) -> str:
        """What it is, in a line."""
        return self.unit.text

    @property
    def complaint(self) -> str:
        """What is wrong with it, and which clause says so."""
        return "; ".join(self.unit.wrong)

    @property
    def opcode(self) -> int | None:
        """The RDMAP opcode of an FPDU."""
        segment = self.unit.segment if isinstance(self.unit, FpduUnit) else None
        return segment.opcode if segment else None

    @property
    def last(self) -> bool:
        """Whether it ends its message."""
        segment = self.unit.segment if isinstance(self.unit, FpduUnit) else None
        return segment is None or segment.last

    @property
    def terminate(self) -> Terminate | None:
        """The Terminate that it carries, in the RFC's layout."""
        return self.unit.terminate if isinstance(self.unit, FpduUnit) else None

    def __str__(self) -> str:
        arrow = "→" if self.sent else "←"
        what = f"FPDU {self.number}" if self.number else "startup" if isinstance(self.unit, StartupUnit) else "octets"
        complaint = f"  !! {self.complaint}" if self.complaint else ""
        return f"{self.seconds:9.4f} {arrow} {what:<8} {self.text}{complaint}"


def frames(transcript: Transcript) -> list[Frame]:
    """All frames of a connection in the order in which they were complete."""
    session, found, seconds = Session(), [], 0.0
    for piece in transcript.pieces:
        seconds = piece.seconds
        direction = int(piece.sent is not transcript.initiator)
        found += [_frame(seconds, transcript, each) for each in session.feed(direction, piece.octets)]
    return found + [_frame(seconds, transcript, each) for each in session.finish()]


def _frame(seconds: float, transcript: Transcript, found: tuple[int, Unit]) -> Frame:
    direction, unit = found
    return Frame(seconds, (direction == 0) is transcript.initiator, unit)


def last_lines(transcript: Transcript, count: int) -> list[str]:
    """The end of a connection, with every frame that something is wrong with before it."""
    found = frames(transcript)
    shown = [frame for frame in found[:-count] if frame.complaint] + found[-count:]
    return [str(frame) for frame in shown]
