"""What one direction of a connection is made of: startup frames, FPDUs, and octets that are neither.

Each unit knows its octets, its fields, one line of text, and what is wrong with it. Fields are made when they are asked
for: a long session has many units, of which few are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from pyiwarp.codes import ENHANCED_SIZE, REPLY_KEY, REQUEST_KEY, STARTUP_HEADER_SIZE, Opcode, QueueNumber
from pyiwarp.decode.above.protocols import Reading
from pyiwarp.decode.fields import Field, Span, through
from pyiwarp.decode.formats import MESSAGES, opcode_name
from pyiwarp.decode.frames import fields_of_fpdu, fields_of_octets, fields_of_startup
from pyiwarp.decode.framing import Fpdu
from pyiwarp.decode.segments import Segment, parse_segment
from pyiwarp.decode.terminates import in_rfc_layout
from pyiwarp.errors import IwarpError
from pyiwarp.fastwire import READ_REQUEST_SIZE, VERSION, parse_read_request
from pyiwarp.wire import (
    EnhancedWord,
    StartupHeader,
    Terminate,
    parse_atomic_request,
    parse_atomic_response,
    parse_terminate,
)

__all__ = ["FpduUnit", "StartupUnit", "Unit"]

_SHOWN: Final = 48  # octets that a line of text has
_INVALIDATING: Final = (Opcode.SEND_INVAL, Opcode.SEND_SE_INVAL)


@dataclass(frozen=True)
class Unit:
    """Octets of one direction, from `offset` on; this class itself stands for those that make nothing whole."""

    offset: int
    octets: bytes
    why: str = ""
    above: Reading | None = field(default=None, kw_only=True)
    """What the protocol above RDMAP reads in it."""

    @property
    def text(self) -> str:
        """One line for people."""
        words = f"{self.why}, " if self.why else ""
        return f"{words}{len(self.octets)} octets: {self.octets[:_SHOWN].hex(' ')}"

    @property
    def fields(self) -> list[Field]:
        """Its fields, at their places in the direction; each octet is in one."""
        return [field.moved(Span(*(at + self.offset for at in span)) for span in field.spans) for field in self._fields]

    @property
    def wrong(self) -> list[str]:
        """What breaks a rule, with its clause."""
        return [f"{field.name}: {field.wrong}" for field in self._fields if field.wrong]

    @property
    def _fields(self) -> list[Field]:
        return fields_of_octets(self.octets, "Octets")


@dataclass(frozen=True)
class StartupUnit(Unit):
    """An MPA Request or Reply (RFC 5044 §7.1.1), or what stands where one is due."""

    @property
    def text(self) -> str:
        """Its kind and revision, what it asks for, and its Private Data."""
        if len(self.octets) < STARTUP_HEADER_SIZE:
            return super().text
        header, private_data = StartupHeader.parse(self.octets), self.octets[STARTUP_HEADER_SIZE:]
        names = {REQUEST_KEY: "MPA Request", REPLY_KEY: "MPA Reply"}
        words = [names.get(header.key, "a startup frame with another Key"), f"revision {header.revision}"]
        words += [name for name in ("markers", "crc", "rejected") if header.flags[name]]
        if header.flags.enhanced and header.revision > 1 and len(private_data) >= ENHANCED_SIZE:
            word = EnhancedWord.parse(private_data)
            words.append(f"IRD {word.ird} ORD {word.ord}")
            kinds = {"peer_to_peer": "peer to peer", "rtr_send": "Send", "rtr_write": "Write", "rtr_read": "Read"}
            words += [text for name, text in kinds.items() if word[name]]
            private_data = private_data[ENHANCED_SIZE:]
        if private_data:
            words.append(f"{len(private_data)} octets of private data: {private_data[:_SHOWN].hex(' ')}")
        return ", ".join(words)

    @property
    def private_data(self) -> bytes:
        """What belongs to the protocol above, without the enhanced word."""
        if len(self.octets) < STARTUP_HEADER_SIZE:
            return b""
        header, private_data = StartupHeader.parse(self.octets), self.octets[STARTUP_HEADER_SIZE:]
        return private_data[ENHANCED_SIZE:] if header.flags.enhanced and header.revision > 1 else private_data

    @property
    def _fields(self) -> list[Field]:
        return _read_above(fields_of_startup(self.octets), "Private Data", self.above)


@dataclass(frozen=True)
class FpduUnit(Unit):
    """An FPDU; `number` counts those of its direction from 1. `crc` says whether CRCs are in use."""

    fpdu: Fpdu | None = None
    number: int = 0
    crc: bool = True

    @cached_property
    def segment(self) -> Segment | None:
        """The DDP segment, None if the ULPDU is too short for one."""
        return parse_segment(self.ulpdu)

    @property
    def ulpdu(self) -> bytes:
        """The ULPDU: one DDP segment."""
        assert self.fpdu is not None
        return self.fpdu.ulpdu

    @cached_property
    def terminate(self) -> Terminate | None:
        """The Terminate header, in the RFC's layout; None if this is no Terminate that can be read."""
        if self.segment is None or not self.segment.is_terminate:
            return None
        try:
            return parse_terminate(in_rfc_layout(self.segment.payload))
        except IwarpError:
            return None

    @property
    def text(self) -> str:
        """The kind of message, where it goes, and what its header asks for."""
        if self.segment is None:
            return f"a ULPDU of {len(self.ulpdu)} octets: {self.ulpdu[:_SHOWN].hex(' ')}"
        return _segment_text(self.segment, self.terminate)

    @property
    def wrong(self) -> list[str]:
        """What breaks a rule, with its clause; most FPDUs are right, which is seen without their fields."""
        return [] if self._is_plain else super().wrong

    @property
    def _is_plain(self) -> bool:
        """Whether it is right, and has no header behind that of DDP, which may be cut."""
        assert self.fpdu is not None
        segment = self.segment
        return (
            segment is not None
            and (segment.dv, segment.rv) == (VERSION, VERSION)
            and (segment.tagged or segment.opcode not in MESSAGES)
            and (self.fpdu.crc_right or not self.crc)
            and not any(self.fpdu.pad)
            and not self.fpdu.markers
        )

    @property
    def _fields(self) -> list[Field]:
        assert self.fpdu is not None
        return _read_above(fields_of_fpdu(self.fpdu, crc=self.crc), "Payload", self.above)


def _read_above(fields: list[Field], name: str, above: Reading | None) -> list[Field]:
    """The fields, with those of the protocol above in the place of the one that only RDMAP has a name for."""
    if above is None:
        return fields
    found: list[Field] = []
    for each in fields:
        parts = above.fields(each.octets, 0) if each.name == name else []
        found += [part.moved(through(each.spans, part.spans[0])) for part in parts] or [each]
    return sorted(found, key=lambda each: each.spans[0].start)


def _segment_text(segment: Segment, terminate: Terminate | None) -> str:
    name, size = opcode_name(segment.opcode), len(segment.payload)
    if segment.tagged:
        text = f"{name} STag={segment.stag:#010x} TO={segment.to:#x} [{size} octets]"
    else:
        text = f"{name} QN={segment.qn} MSN={segment.msn} MO={segment.mo} [{size} octets]" + _message_text(segment)
    if terminate is not None:
        text += f": {terminate.term} {terminate.term.describe()}"
    return text + " L" * segment.last


def _message_text(segment: Segment) -> str:
    """What the RDMAP header of an untagged message says."""
    if segment.opcode in _INVALIDATING:
        return f" invalidates {segment.inval_stag:#010x}"
    if segment.qn == QueueNumber.READ_REQUEST and segment.opcode == Opcode.READ_REQUEST:
        if len(segment.payload) == READ_REQUEST_SIZE:
            read = parse_read_request(segment.payload)
            return f" of {read.read_size} from STag={read.source_stag:#010x} TO={read.source_to:#x}"
        return ""
    try:
        if segment.opcode == Opcode.ATOMIC_REQUEST:
            asked = parse_atomic_request(segment.payload)
            return f" at STag={asked.stag:#010x} TO={asked.to:#x}, request {asked.request_id}"
        if segment.opcode == Opcode.ATOMIC_RESPONSE:
            told = parse_atomic_response(segment.payload)
            return f" to request {told.request_id}: {told.original_value:#x}"
    except IwarpError:
        return ""
    return ""
