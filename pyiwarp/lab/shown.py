"""What happened, in words: messages both ways, completions, octets of memory that changed, states."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from pyiwarp.decode.fields import Field
from pyiwarp.decode.units import Unit

__all__ = ["Change", "Happened", "octets_text"]

WIDTH: Final = 79
_SHOWN: Final = 16  # octets in a line
_ARROWS: Final = {True: "──▶ ", False: "◀── "}


def octets_text(octets: bytes) -> str:
    """Octets in hexadecimal, and as text where they are text; of many, the first ones."""
    shown = octets[:_SHOWN].hex(" ") + (" ..." if len(octets) > _SHOWN else "")
    text = octets[:_SHOWN]
    return f"{shown}  {text.decode()!r}" if text.isascii() and text.decode().isprintable() and text else shown


class Change(NamedTuple):
    """Octets of a region that are others now, from octet `start` of it on."""

    stag: int
    start: int
    octets: bytes

    def __str__(self) -> str:
        end = self.start + len(self.octets) - 1
        where = f"octet {self.start}" if end == self.start else f"octets {self.start} to {end}"
        return f"STag {self.stag:#010x}, {where}: {octets_text(self.octets)}"


@dataclass(frozen=True)
class Happened:
    """What one step has led to; at the prompt it shows itself.

    `units` are the startup frames and FPDUs, each with whether the raw peer has sent it.
    """

    units: tuple[tuple[bool, Unit], ...] = ()
    completions: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join(self._lines()) or "nothing: no frame is whole, and the endpoint does nothing"

    @property
    def sent(self) -> list[Unit]:
        """What the raw peer has sent."""
        return [unit for by_peer, unit in self.units if by_peer]

    @property
    def answers(self) -> list[Unit]:
        """What the endpoint has sent."""
        return [unit for by_peer, unit in self.units if not by_peer]

    @property
    def fields(self) -> Fields:
        """Each field of each unit; at the prompt it shows itself."""
        return Fields(self.units)

    def _lines(self) -> Iterator[str]:
        for by_peer, unit in self.units:
            yield from _wrapped(_ARROWS[by_peer], unit.text)
            for wrong in unit.wrong:
                yield from _wrapped("    !! ", wrong)
        for lead, told in (("completed: ", self.completions), ("memory: ", self.changes), ("endpoint: ", self.notes)):
            for each in told:
                yield from _wrapped(lead, str(each))


@dataclass(frozen=True)
class Fields:
    """The fields of some units, a line for each: the octets that it has in its direction, and what they are."""

    units: Sequence[tuple[bool, Unit]]

    def __repr__(self) -> str:
        lines = []
        for by_peer, unit in self.units:
            lines += _wrapped(_ARROWS[by_peer], unit.text)
            for field in unit.fields:
                lines += _field_lines(field, unit.offset)
        return "\n".join(lines) or "no fields"


def _field_lines(field: Field, origin: int) -> Iterator[str]:
    at = ",".join(f"{span.start - origin}" for span in field.spans)
    octets = field.octets[:8].hex(" ") + (" ..." if len(field.octets) > 8 else "")
    words = f": {field.words}" if field.words else ""
    clause = f" ({field.clause})" if field.clause else ""
    lead = f"{at:>4}  {octets:<23}  "
    yield from _wrapped(lead, f"{field.name}{words}{clause}", len(lead) + 2)
    if field.wrong:
        yield from _wrapped(" " * len(lead) + "!! ", field.wrong)


def _wrapped(lead: str, text: str, indent: int | None = None) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=lead, subsequent_indent=" " * (len(lead) if indent is None else indent)
    )
