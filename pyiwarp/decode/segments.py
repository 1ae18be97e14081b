"""A DDP segment as it came, lawful or not (RFC 5041 §4, RFC 5040 §4.1).

Its header is read without the formats of `wire`, since a long session has many; a test compares both.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct
from typing import Final

from pyiwarp.codes import Opcode, QueueNumber

__all__ = ["Segment", "parse_segment"]

_TAGGED: Final = Struct(">BBIQ")
_UNTAGGED: Final = Struct(">BBIIII")


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
    tagged = ulpdu[:1] >= b"\x80"
    header = _TAGGED if tagged else _UNTAGGED
    if len(ulpdu) < header.size:
        return None
    ddp, rdmap, *fields = header.unpack_from(ulpdu)
    names = ("stag", "to") if tagged else ("inval_stag", "qn", "msn", "mo")
    return Segment(
        tagged=tagged,
        last=bool(ddp & 0x40),
        dv=ddp & 3,
        ddp_rsvd=ddp >> 2 & 15,
        rv=rdmap >> 6,
        rdmap_rsvd=rdmap >> 4 & 3,
        opcode=rdmap & 15,
        payload=ulpdu[header.size :],
        **dict(zip(names, fields, strict=True)),
    )
