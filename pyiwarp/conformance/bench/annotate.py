"""Octets field by field, as lines for the report of a failure; `pyiwarp.decode` says what the fields are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from pyiwarp.decode.fields import Field, hex_number
from pyiwarp.decode.frames import fields_of_fpdu, fields_of_octets, fields_of_startup, fields_of_ulpdu
from pyiwarp.decode.framing import Fpdu

__all__ = ["annotate_fpdu", "annotate_octets", "annotate_startup", "annotate_ulpdu"]

SHOWN: Final = 16  # octets of one field that are written out


def annotate_fpdu(fpdu: Fpdu) -> list[str]:
    """Lines for an FPDU: length, ULPDU by its headers, pad, CRC, and markers where they fall."""
    return _lines(fields_of_fpdu(fpdu))


def annotate_ulpdu(ulpdu: bytes, base: int = 0) -> list[str]:
    """Lines for a DDP segment and the RDMAP header in it."""
    return _lines(fields_of_ulpdu(ulpdu, base))


def annotate_startup(octets: bytes) -> list[str]:
    """Lines for an MPA Request or Reply, or for what came instead of one."""
    return _lines(fields_of_startup(octets))


def annotate_octets(octets: bytes, name: str = "octets") -> list[str]:
    """One line for octets that nothing is known about."""
    return _lines(fields_of_octets(octets, name))


def _lines(fields: Iterable[Field]) -> list[str]:
    return [_line(field) for field in fields]


def _line(field: Field) -> str:
    dump = field.octets[:SHOWN].hex(" ") + (" ..." if len(field.octets) > SHOWN else "")
    facts = ", ".join(f"{bits.name}={hex_number(bits.value)}" for bits in field.bits)
    said = "; ".join(part for part in (facts, field.words, field.wrong and f"wrong: {field.wrong}") if part)
    return f"{field.spans[0].start:#06x}  {dump:<{3 * SHOWN - 1}}  {field.name}{': ' if said else ''}{said}"
