"""rping: 16 octets that advertise memory, 16 that say go ahead, a Read and a Write between them."""

from __future__ import annotations

from typing import Final, NamedTuple

from construct import Int32ub, Int64ub, Struct

from pyiwarp.codes import Opcode
from pyiwarp.decode.above.protocols import OPENER, Protocol, Reading, figured, quoted
from pyiwarp.decode.fields import Figure, Name
from pyiwarp.decode.segments import Segment
from pyiwarp.fastwire import READ_REQUEST_SIZE, parse_read_request

__all__ = ["Rping"]

_TEXT: Final = b"rdma-ping-"
_LARGEST: Final = 1 << 20

ADVERTISEMENT: Final = Figure(
    "rping",
    "",
    Struct("address" / Int64ub, "rkey" / Int32ub, "size" / Int32ub),
    {
        "address": Name("Address", lambda value: f"TO {value:#x}"),
        "rkey": Name("Rkey", lambda value: f"STag {value:#010x}"),
        "size": Name("Size", lambda value: f"{value:,} octets"),
    },
)
_GO_AHEAD: Final = Figure(
    "rping",
    "",
    ADVERTISEMENT.definition,
    {key: Name(name.text, lambda value: "means nothing in a go-ahead") for key, name in ADVERTISEMENT.names.items()},
)


class _Advertised(NamedTuple):
    to: int
    stag: int
    size: int


class Rping(Protocol):
    """Likely when the first message of the client is an advertisement; sure when the text that is Read is rping's."""

    title = "rping"

    def __init__(self) -> None:
        super().__init__()
        self._advertised: _Advertised | None = None
        self._out = False

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """A message of a ping."""
        if self._out:
            return None
        if segment.opcode == Opcode.SEND and segment.payload:
            return self._send(direction, segment.payload)
        if self._advertised is None:
            return None
        if direction == OPENER:
            return self._response(segment)
        return self._served(segment, self._advertised)

    def _send(self, direction: int, payload: bytes) -> Reading | None:
        if len(payload) != ADVERTISEMENT.size:
            self._out = not self.sure
            return None
        if direction != OPENER:
            return None if self._advertised is None else Reading(self, "the server says go ahead", figured(_GO_AHEAD))
        memory = ADVERTISEMENT.definition.parse(payload)
        if not (memory.address and memory.rkey and 0 < memory.size <= _LARGEST):
            self._out = not self.sure
            return None
        self._advertised = _Advertised(memory.address, memory.rkey, memory.size)
        return Reading(
            self,
            f"the client advertises {memory.size:,} octets at STag {memory.rkey:#010x}, TO {memory.address:#x}",
            figured(ADVERTISEMENT),
        )

    def _served(self, segment: Segment, memory: _Advertised) -> Reading | None:
        if segment.opcode == Opcode.READ_REQUEST and len(segment.payload) == READ_REQUEST_SIZE:
            read = parse_read_request(segment.payload)
            if (read.source_to, read.source_stag, read.read_size) == memory:
                return Reading(self, "the server Reads the text that was advertised")
        if segment.opcode == Opcode.WRITE and segment.stag == memory.stag:
            return Reading(self, f"the text goes back: {quoted(segment.payload)}")
        return None

    def _response(self, segment: Segment) -> Reading | None:
        if segment.opcode != Opcode.READ_RESPONSE:
            return None
        self.sure = self.sure or segment.payload.startswith(_TEXT)
        return Reading(self, f"the client's text: {quoted(segment.payload)}")
