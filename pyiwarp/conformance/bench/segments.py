"""DDP segments, built and read with the formats of `wire` and nothing else: right ones and wrong ones alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from construct import ConstructError

from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.wire import ReadRequestHeader, TaggedHeader, UntaggedHeader

__all__ = ["Segment", "build_read_request", "build_tagged", "build_untagged", "parse_segment"]

TO_MASK: Final = (1 << 64) - 1


def build_tagged(
    opcode: int,
    stag: int,
    to: int,
    payload: bytes = b"",
    *,
    last: bool = True,
    dv: int = 1,
    rv: int = 1,
    ddp_rsvd: int = 0,
    rdmap_rsvd: int = 0,
) -> bytes:
    """A tagged segment (RFC 5041 §4.2); a TO before the first or behind the last wraps, wherever the region lies."""
    header: bytes = TaggedHeader.build(
        {
            "ddp": {"tagged": True, "last": last, "rsvd": ddp_rsvd, "dv": dv},
            "rdmap": {"rv": rv, "rsvd": rdmap_rsvd, "opcode": opcode},
            "stag": stag,
            "to": to & TO_MASK,
        }
    )
    return header + payload


def build_untagged(
    opcode: int,
    qn: int,
    msn: int,
    payload: bytes = b"",
    *,
    mo: int = 0,
    last: bool = True,
    inval_stag: int = 0,
    dv: int = 1,
    rv: int = 1,
    ddp_rsvd: int = 0,
    rdmap_rsvd: int = 0,
) -> bytes:
    """An untagged segment (RFC 5041 §4.3)."""
    header: bytes = UntaggedHeader.build(
        {
            "ddp": {"tagged": False, "last": last, "rsvd": ddp_rsvd, "dv": dv},
            "rdmap": {"rv": rv, "rsvd": rdmap_rsvd, "opcode": opcode},
            "inval_stag": inval_stag,
            "qn": qn,
            "msn": msn,
            "mo": mo,
        }
    )
    return header + payload


def build_read_request(sink_stag: int, sink_to: int, read_size: int, source_stag: int, source_to: int) -> bytes:
    """The 28 octets that a Read Request carries (RFC 5040 §4.4); TOs wrap as in `build_tagged`."""
    fields = {
        "sink_stag": sink_stag,
        "sink_to": sink_to & TO_MASK,
        "read_size": read_size,
        "source_stag": source_stag,
        "source_to": source_to & TO_MASK,
    }
    octets: bytes = ReadRequestHeader.build(fields)
    return octets


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
