"""Octets as fields: which octets, what the RFC calls them, their value, and the value in words.

A `Figure` is a format of `wire` with the names that the RFC's figure has. `walk` takes octets apart by it, one field
after the other; what is cut is a field as well, so that each octet belongs to one field and to one only.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from construct import Construct, ConstructError, Container

__all__ = ["Bits", "Field", "Figure", "Name", "Span", "hex_number", "through", "walk"]

_SHOWN_AS_TEXT: Final = 40  # octets of a printable value that stand in the words


class Span(NamedTuple):
    """Octets from `start` to before `end`, counted from the beginning of what was decoded."""

    start: int
    end: int

    @property
    def nbytes(self) -> int:
        """How many octets."""
        return self.end - self.start


class Bits(NamedTuple):
    """A part of a field that is shorter than an octet or is no whole number of octets; `width` in bits."""

    name: str
    width: int
    value: int
    words: str


@dataclass(frozen=True, slots=True)
class Field:
    """One field: `octets` are those at its `spans`, more than one if a marker stands inside.

    `format` is the layer whose figure has it, `value` its number, or its octets if it is none. `rules` are ids of
    requirements, `wrong` says what breaks one of them, empty if nothing does.
    """

    format: str
    name: str
    spans: tuple[Span, ...]
    octets: bytes
    value: int | bytes
    words: str = ""
    clause: str = ""
    rules: tuple[str, ...] = ()
    bits: tuple[Bits, ...] = ()
    wrong: str = ""

    def moved(self, spans: Iterable[Span]) -> Field:
        """The same field at other octets of the stream."""
        return replace(self, spans=tuple(spans))


Words = Callable[[Any], str]
"""What a value says, for people."""


class Name(NamedTuple):
    """What the RFC's figure calls a field or a group of bits; `width` in bits is 0 for whole octets.

    `format` and `clause` are those of the figure, unless another layer's figure has the field.
    """

    text: str
    words: Words = lambda value: ""
    rules: tuple[str, ...] = ()
    width: int = 0
    parts: Mapping[str, Name] = {}  # of a group of bits, in order: never changed
    format: str = ""
    clause: str = ""


class Figure(NamedTuple):
    """A format of `wire`, the layer and clause of its figure, and its fields' names, by `wire`'s."""

    format: str
    clause: str
    definition: Construct[Any, Any]
    names: Mapping[str, Name]

    @property
    def size(self) -> int:
        """How many octets it has, if it always has as many."""
        return int(self.definition.sizeof())


def hex_number(value: int) -> str:
    """A number as the field's tools write it: decimal where it is short, hexadecimal else."""
    return str(value) if value < 10 else f"{value:#x}"


def walk(figure: Figure, octets: bytes, at: int = 0) -> tuple[list[Field], int]:
    """The fields at the front of `octets`, which begin at `at`, and how many octets they take.

    A field that is cut takes what is left.
    """
    stream = io.BytesIO(octets)
    values: dict[str, Any] = {}
    found: list[Field] = []
    for part in figure.definition.subcons:  # type: ignore[attr-defined]  # a Struct's, as all figures are
        start = stream.tell()
        name = figure.names[part.name]
        try:
            values[part.name] = value = part.parse_stream(stream, **values)
        except ConstructError:
            if rest := octets[start:]:
                found.append(_cut(figure, name, rest, at + start))
            return found, len(octets)
        if piece := octets[start : stream.tell()]:
            found.append(_field(figure, name, value, piece, at + start))
    return found, stream.tell()


def _cut(figure: Figure, name: Name, rest: bytes, at: int) -> Field:
    wrong = f"{name.text} ends after {len(rest)} octets"
    span, clause = Span(at, at + len(rest)), name.clause or figure.clause
    return Field(name.format or figure.format, name.text, (span,), rest, rest, "cut", clause, wrong=wrong)


def _field(figure: Figure, name: Name, value: Any, piece: bytes, at: int) -> Field:
    bits: tuple[Bits, ...] = ()
    if isinstance(value, Container):
        bits = tuple(
            Bits(part.text, part.width, int(value[key]), part.words(int(value[key])))
            for key, part in name.parts.items()
        )
        words = name.words(value) or ", ".join(bit.words for bit in bits if bit.words)
        value = int.from_bytes(piece, "big")
    elif isinstance(value, bytes):
        words = name.words(value) or _as_text(value)
    else:
        value = int(value)
        words = name.words(value)
    span, clause = Span(at, at + len(piece)), name.clause or figure.clause
    return Field(name.format or figure.format, name.text, (span,), piece, value, words, clause, name.rules, bits)


def _as_text(octets: bytes) -> str:
    """Octets that a person can read, as a person reads them."""
    printable = octets.isascii() and octets.decode().isprintable()
    return repr(octets[:_SHOWN_AS_TEXT])[1:] if printable and octets else ""


def through(spans: Iterable[Span], part: Span) -> Iterator[Span]:
    """Where a part of what lies at `spans` is; it counts their octets without what stands between them."""
    passed = 0
    for span in spans:
        first, last = max(part.start, passed), min(part.end, passed + span.nbytes)
        if first < last:
            yield Span(span.start + first - passed, span.start + last - passed)
        passed += span.nbytes
