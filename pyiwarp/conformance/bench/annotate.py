"""Octets field by field, for the report of a failure.

The formats of `wire` are walked one field after the other; what is cut, or behind the last field, is shown as it is.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from construct import Construct, ConstructError, Container

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.framing import Fpdu
from pyiwarp.wire import (
    AtomicRequestHeader,
    AtomicResponseHeader,
    EnhancedWord,
    ImmediateDataHeader,
    ReadRequestHeader,
    StartupHeader,
    TaggedHeader,
    TerminateHeader,
    UntaggedHeader,
)

__all__ = ["annotate_fpdu", "annotate_octets", "annotate_startup", "annotate_ulpdu"]

SHOWN = 16  # octets of one field that are written out
_MESSAGES: dict[int, Construct[Any, Any]] = {
    Opcode.READ_REQUEST: ReadRequestHeader,
    Opcode.TERMINATE: TerminateHeader,
    Opcode.IMMEDIATE: ImmediateDataHeader,
    Opcode.IMMEDIATE_SE: ImmediateDataHeader,
    Opcode.ATOMIC_REQUEST: AtomicRequestHeader,
    Opcode.ATOMIC_RESPONSE: AtomicResponseHeader,
}


def annotate_fpdu(fpdu: Fpdu) -> list[str]:
    """Lines for an FPDU: length, ULPDU by its headers, pad, CRC; then its markers, which no other offset counts."""
    lines = [_line(0, len(fpdu.ulpdu).to_bytes(2, "big"), "ULPDU_Length", str(len(fpdu.ulpdu)))]
    lines += annotate_ulpdu(fpdu.ulpdu, 2)
    if fpdu.pad:
        lines.append(_line(2 + len(fpdu.ulpdu), fpdu.pad, "pad", ""))
    verdict = "right" if fpdu.crc_right else f"wrong: {fpdu.computed:#010x} is right"
    crc = fpdu.crc.to_bytes(4, "little")
    lines.append(_line(2 + len(fpdu.ulpdu) + len(fpdu.pad), crc, "CRC", f"{fpdu.crc:#010x}, {verdict}"))
    for seen in fpdu.markers:
        fact = f"RESERVED {seen.marker.rsvd:#06x}, FPDUPTR {seen.marker.fpduptr}, due {seen.due}"
        lines.append(_line(seen.position, seen.marker.build(), "marker", fact))
    return lines


def annotate_ulpdu(ulpdu: bytes, base: int = 0) -> list[str]:
    """Lines for a DDP segment and the RDMAP header in it."""
    if not ulpdu:
        return []
    definition = TaggedHeader if ulpdu[0] >= 0x80 else UntaggedHeader
    lines, rest = _walk(definition, ulpdu, base)
    if len(rest) + definition.sizeof() == len(ulpdu):
        inner = _MESSAGES.get(ulpdu[1] & 0x0F) if ulpdu[0] < 0x80 else None
        if inner is not None and rest:
            more, rest = _walk(inner, rest, base + definition.sizeof())
            lines += more
    if rest:
        lines.append(_line(base + len(ulpdu) - len(rest), rest, "payload", f"{len(rest)} octets"))
    return lines


def annotate_startup(octets: bytes) -> list[str]:
    """Lines for an MPA Request or Reply, or for what came instead of one."""
    lines, rest = _walk(StartupHeader, octets, 0)
    enhanced = len(octets) > 16 and octets[16] & 0x10 and octets[17:18] > b"\x01"
    if enhanced and len(rest) >= EnhancedWord.sizeof():
        more, rest = _walk_bits(EnhancedWord, "enhanced", rest[:4], len(octets) - len(rest)), rest[4:]
        lines += more
    if rest:
        lines.append(_line(len(octets) - len(rest), rest, "Private Data", f"{len(rest)} octets"))
    return lines


def annotate_octets(octets: bytes, name: str = "octets") -> list[str]:
    """One line for octets that nothing is known about."""
    return [_line(0, octets, name, f"{len(octets)} octets: {octets[:40]!r}")]


def _walk(definition: Any, octets: bytes, base: int) -> tuple[list[str], bytes]:
    """Lines for the fields of a Struct, and what is left behind them."""
    stream = io.BytesIO(octets)
    context = Container(_parsing=True, _building=False, _sizing=False, _params=Container(), _io=stream)
    lines: list[str] = []
    for field in definition.subcons:
        start = stream.tell()
        try:
            value = field._parsereport(stream, context, field.name)
        except ConstructError:
            rest = octets[start:]
            return [*lines, _line(base + start, rest, f"{field.name} (cut)", f"{len(rest)} octets")], b""
        context[field.name] = value
        piece = octets[start : stream.tell()]
        if piece:
            lines += _field_lines(field.name, value, piece, base + start)
    return lines, octets[stream.tell() :]


def _field_lines(name: str, value: Any, piece: bytes, at: int) -> Iterator[str]:
    if isinstance(value, Container):
        facts = ", ".join(f"{key}={_shown(each)}" for key, each in value.items() if not key.startswith("_"))
        yield _line(at, piece, name, facts)
    elif name == "ddp_header":
        yield _line(at, piece, "terminated DDP header", "")
        yield from ("    " + line for line in annotate_ulpdu(piece, at))
    elif name == "rdma_header":
        yield _line(at, piece, "terminated RDMA header", "")
        yield from ("    " + line for line in _walk(ReadRequestHeader, piece, at)[0])
    else:
        yield _line(at, piece, name, _shown(value))


def _walk_bits(definition: Any, name: str, octets: bytes, at: int) -> list[str]:
    return list(_field_lines(name, definition.parse(octets), octets, at))


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, bytes):
        return repr(value) if value.isascii() and value.decode().isprintable() else ""
    return f"{value:#x}" if isinstance(value, int) and value > 9 else str(value)


def _line(at: int, octets: bytes, name: str, fact: str) -> str:
    dump = octets[:SHOWN].hex(" ") + (" ..." if len(octets) > SHOWN else "")
    return f"{at:#06x}  {dump:<{3 * SHOWN - 1}}  {name}{': ' if fact else ''}{fact}"
