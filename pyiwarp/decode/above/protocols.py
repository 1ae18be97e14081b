"""What a protocol above RDMAP is to the decoder, and what it reads in a message.

A protocol is a guess until the octets leave no doubt: `sure` says which, and so does every line and field of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from pyiwarp.decode.fields import Field, Figure, Span, walk
from pyiwarp.decode.segments import Segment

__all__ = ["OPENER", "FieldsOf", "Protocol", "Reading", "figured", "quoted"]

OPENER: Final = 0
"""The direction of the side that opened the connection."""

FieldsOf = Callable[[bytes, int], list[Field]]
"""The fields of octets that begin at a place; each octet is in one."""


class Protocol:
    """One protocol on one connection; messages are shown to it in their order."""

    title: str

    def __init__(self) -> None:
        self.sure = False

    @property
    def name(self) -> str:
        """Its title, as a guess as long as it is one."""
        return self.title if self.sure else f"looks like {self.title}"

    def hello(self, direction: int, private_data: bytes) -> Reading | None:
        """What the private data of a startup frame say, None if it is not of this protocol."""
        return None

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """What a segment says, None if it is not of this protocol."""
        return None

    def lost(self) -> None:
        """Octets of a direction were not captured."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a protocol reads in one segment or in private data; `says` is for people."""

    protocol: Protocol
    says: str
    fields_of: FieldsOf | None = None

    def __str__(self) -> str:
        return f"{self.protocol.name}: {self.says}"

    def fields(self, octets: bytes, at: int) -> list[Field]:
        """The fields of the octets; none if they are not divided."""
        if self.fields_of is None:
            return []
        format = self.protocol.title if self.protocol.sure else f"{self.protocol.title}?"
        return [replace(field, format=format) for field in self.fields_of(octets, at)]


def figured(figure: Figure) -> FieldsOf:
    """The fields by a figure, for octets that are as many as it has, or more that mean nothing."""

    def fields(octets: bytes, at: int) -> list[Field]:
        found, used = walk(figure, octets, at)
        if rest := octets[used:]:
            span = Span(at + used, at + len(octets))
            found.append(Field(figure.format, "Padding", (span,), rest, rest, f"{len(rest):,} octets"))
        return found

    return fields


def quoted(octets: bytes, most: int = 40) -> str:
    """The front of a text of the peer's."""
    return repr(octets[:most].decode("utf-8", "backslashreplace")) + ("…" if len(octets) > most else "")
