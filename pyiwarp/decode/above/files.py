"""The file service: its name in both sides' private data, a JSON object in each Send (docs/files.md)."""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from pyiwarp.codes import Opcode
from pyiwarp.decode.above.protocols import OPENER, Protocol, Reading
from pyiwarp.decode.fields import Field, Span
from pyiwarp.decode.segments import Segment

__all__ = ["FileService"]

_HELLO: Final = re.compile(rb"pyiwarp files (\d+)((?: [a-z0-9]{1,16})*)")
_SAID: Final = 60  # characters of a member's name or value
_MOST_MEMBERS: Final = 32
_NUMBERS: Final = ("stag", "to")


def _hello_fields(octets: bytes, at: int) -> list[Field]:
    text = octets.decode("ascii", "backslashreplace")
    return [Field("", "Protocol and digests", (Span(at, at + len(octets)),), octets, octets, text)]


class _Member(NamedTuple):
    """A member of a JSON object: where its octets are, with the punctuation behind it, and what it says."""

    begin: int
    end: int
    name: str
    says: str


def _members(octets: bytes) -> list[_Member]:
    """The members of a JSON object; none if it is none, or has more than any message of the file service."""
    try:
        text = octets.decode()
        if text[:1] != "{" or not isinstance(json.loads(text), dict):
            return []
        decoder, at = json.JSONDecoder(), 0
        begins: list[int] = []
        said: list[tuple[str, str]] = []
        while text[at:] != "}" and len(said) < _MOST_MEMBERS:
            begin = at + 1  # behind the brace or the comma; messages have no white space between their parts
            name, colon = decoder.raw_decode(text, begin)
            value, at = decoder.raw_decode(text, colon + 1)
            if text[colon] != ":" or text[at] not in ",}":
                return []
            begins.append(len(text[:begin].encode()))
            said.append((_shown(name), _value_shown(name, value, text[colon + 1 : at])))
    except (ValueError, IndexError, RecursionError):
        return []
    if text[at:] != "}":
        return []
    bounds = zip([0, *begins[1:]], [*begins[1:], len(octets)], strict=True)
    return [_Member(begin, end, *each) for (begin, end), each in zip(bounds, said, strict=True)]


def _shown(text: str) -> str:
    """The front of a text of the peer's, as one that can be written anywhere."""
    text = text if len(text) <= _SAID else text[:_SAID] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _value_shown(name: str, value: object, written: str) -> str:
    if name in _NUMBERS and isinstance(value, int):
        return f"{value:#x}"
    return _shown(value if isinstance(value, str) else written)


def _message_fields(octets: bytes, at: int) -> list[Field]:
    return [
        Field("", name, (Span(at + begin, at + end),), octets[begin:end], octets[begin:end], says)
        for begin, end, name, says in _members(octets)
    ]


class FileService(Protocol):
    """Sure when both sides name it in their private data."""

    title = "files"

    def __init__(self) -> None:
        super().__init__()
        self._named = [False, False]

    def hello(self, direction: int, private_data: bytes) -> Reading | None:
        """The name of the protocol, and digests that a side knows."""
        matched = _HELLO.fullmatch(private_data)
        if matched is None:
            return None
        self._named[direction] = True
        self.sure = all(self._named)
        digests = matched[2].decode().strip().replace(" ", ", ")
        who = "client" if direction == OPENER else "server"
        knows = f" and {digests}" if digests else ""
        return Reading(self, f"version {matched[1].decode()}, the {who} has SHA-256{knows}", _hello_fields)

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """A message of the dialogue, or a file's octets."""
        if not self.sure:
            return None
        if segment.opcode == Opcode.WRITE and segment.payload:
            return Reading(self, "octets of the file, written by the server")
        if segment.opcode == Opcode.READ_RESPONSE:
            return Reading(self, "octets of the file, Read by the server")
        if segment.opcode != Opcode.SEND or segment.mo or not segment.last:
            return None
        members = _members(segment.payload)
        if not members or members[0].name != "op":
            return None
        said = ", ".join(f"{each.name} {each.says}" for each in members[1:])
        return Reading(self, members[0].says + (f" {said}" if said else ""), _message_fields)
