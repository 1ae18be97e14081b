"""A DDP segment as it came: its headers by the formats of `wire`, lawful or not (RFC 5041 §4, RFC 5040 §4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from construct import ConstructError

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.wire import TaggedHeader, UntaggedHeader

__all__ = ["Segment", "parse_segment"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A DDP segment as it came; the fields of the other kind of header are zero."""

    tagged: bool
    last: bool
    dv: int
    ddp_rsvd: int
    rv: int
    rdmap_rsvd: int
    opcode: int
    stag: int = 0
    to: int = 0
    inval_stag: int = 0
    qn: int = 0
    msn: int = 0
    mo: int = 0
    payload: bytes = b""

    def __str__(self) -> str:
        bits = f"T={self.tagged:d} L={self.last:d} DV={self.dv} RV={self.rv}"
        place = (
            f"STag {self.stag:#x}, TO {self.to:#x}" if self.tagged else f"queue {self.qn}, MSN {self.msn}, MO {self.mo}"
        )
        return f"{self.name} of {len(self.payload)} octets, {bits}, {place}"

    @property
    def name(self) -> str:
        """The message type in words."""
        try:
            return Opcode(self.opcode).name.replace("_", " ").capitalize()
        except ValueError:
            return f"opcode {self.opcode:#x}"

    @property
    def is_terminate(self) -> bool:
        """Whether it is a Terminate on the queue where those belong."""
        return not self.tagged and self.opcode == Opcode.TERMINATE and self.qn == QueueNumber.TERMINATE


def parse_segment(ulpdu: bytes) -> Segment | None:
    """The segment in a ULPDU, None if it ends inside its header."""
    if not ulpdu:
        return None
    tagged = ulpdu[0] >= 0x80
    definition = TaggedHeader if tagged else UntaggedHeader
    try:
        header: Any = definition.parse(ulpdu)
    except ConstructError:
        return None
    names = ("stag", "to") if tagged else ("inval_stag", "qn", "msn", "mo")
    return Segment(
        tagged=tagged,
        last=bool(header.ddp.last),
        dv=header.ddp.dv,
        ddp_rsvd=header.ddp.rsvd,
        rv=header.rdmap.rv,
        rdmap_rsvd=header.rdmap.rsvd,
        opcode=header.rdmap.opcode,
        payload=ulpdu[definition.sizeof() :],
        **{name: header[name] for name in names},
    )
