"""perftest's control connection (-R): both sides' version, page size, cache line, MTU, records, results."""

from __future__ import annotations

import re
import struct
from typing import Any, Final

from construct import Bytes, Construct, Int32ub, Int64ub, Struct

from pyiwarp.codes import Opcode
from pyiwarp.decode.above.protocols import Protocol, Reading, figured
from pyiwarp.decode.fields import Figure, Name
from pyiwarp.decode.segments import Segment

__all__ = ["Perftest"]

_VERSION: Final = re.compile(rb"(\d{1,2}\.\d{1,3})\0+")
_VERSION_SIZE: Final = 16
_FIGURE_SIZE: Final = 8
_DOUBLE: Final = struct.Struct(">d")


def _one(name: str, definition: Construct[Any, Any]) -> Figure:
    return Figure("perftest", "", Struct("value" / definition), {"value": Name(name)})


_STEPS: Final = (
    _one("Version", Bytes(_VERSION_SIZE)),
    _one("Cycle buffer", Int32ub),
    _one("Cache line", Int32ub),
    _one("MTU", Bytes(2)),
)
"""The first messages of each side."""

_RECORD: Final = Figure(
    "perftest",
    "",
    Struct(
        "lid" / Int32ub,
        "out_reads" / Int32ub,
        "qpn" / Int32ub,
        "psn" / Int32ub,
        "rkey" / Int32ub,
        "hole" / Bytes(4),
        "vaddr" / Int64ub,
        "gid" / Bytes(16),
        "srqn" / Int32ub,
        "gid_index" / Int32ub,
    ),
    {
        "lid": Name("LID"),
        "out_reads": Name("Outstanding Reads", lambda value: f"{value} at a time"),
        "qpn": Name("QP number"),
        "psn": Name("PSN"),
        "rkey": Name("Rkey", lambda value: f"STag {value:#010x}"),
        "hole": Name("Hole"),
        "vaddr": Name("Address", lambda value: f"TO {value:#x}"),
        "gid": Name("GID"),
        "srqn": Name("SRQ number"),
        "gid_index": Name("GID index"),
    },
)
_RESULT: Final = _one("Figure of the result", Int64ub)


class Perftest(Protocol):
    """Likely when a side's first message is a version; sure when both sides' are, and their next ones fit."""

    title = "perftest"

    def __init__(self) -> None:
        super().__init__()
        self._steps = [0, 0]
        self._out = False

    def lost(self) -> None:
        """Which step is which is not known any more."""
        self._out = True

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """A step of the exchange."""
        payload = segment.payload
        if self._out or segment.opcode != Opcode.SEND or not payload:
            return None
        step = self._steps[direction]
        self._steps[direction] += 1
        if step < len(_STEPS):
            return self._step(step, payload)
        if not self.sure:
            return None
        if len(payload) == _RECORD.size:
            record = _RECORD.definition.parse(payload)
            return Reading(self, f"its memory is at STag {record.rkey:#010x}, TO {record.vaddr:#x}", figured(_RECORD))
        if len(payload) == _FIGURE_SIZE:
            number = _DOUBLE.unpack(payload)[0]
            whole = int.from_bytes(payload, "big")
            says = f"{whole:,}" if whole < 1 << 40 else f"{number:,.2f}"
            return Reading(self, f"a figure of the result: {says}", figured(_RESULT))
        return None

    def _step(self, step: int, payload: bytes) -> Reading | None:
        figure = _STEPS[step]
        fits = len(payload) == figure.size and (step > 0 or _VERSION.fullmatch(payload) is not None)
        self._out = not fits
        if not fits:
            return None
        self.sure = self.sure or min(self._steps) > 1
        value = figure.definition.parse(payload).value
        if isinstance(value, bytes):
            value = value.rstrip(b"\0").decode("ascii", "backslashreplace")
        return Reading(self, f"{figure.names['value'].text.lower()} {value}", figured(figure))
