"""The file service: its name in both sides' private data, a JSON object in each Send (docs/files.md)."""

from __future__ import annotations

import json
import re
from typing import Final

from pyiwarp.codes import Opcode
from pyiwarp.decode.above.protocols import OPENER, Protocol, Reading
from pyiwarp.decode.fields import Field, Span
from pyiwarp.decode.segments import Segment

__all__ = ["FileService"]

_HELLO: Final = re.compile(rb"pyiwarp files (\d+)((?: [a-z0-9]{1,16})*)")
_SAID: Final = 60  # characters of a member's value
_NUMBERS: Final = ("stag", "to")


def _hello_fields(octets: bytes, at: int) -> list[Field]:
    text = octets.decode("ascii", "backslashreplace")
    return [Field("", "Protocol and digests", (Span(at, at + len(octets)),), octets, octets, text)]


def _members(octets: bytes) -> list[tuple[int, int, str, object]]:
    """Where each member of a JSON object is, its name and its value; none if it is none."""
    try:
        text = octets.decode()
        decoder, end, found = json.JSONDecoder(), 1, []
        if text[:1] != "{" or not isinstance(json.loads(text), dict):
            return []
        while True:
            begin = end
            name, at = decoder.raw_decode(text, begin)
            if text[at] != ":":
                return []
            value, end = decoder.raw_decode(text, at + 1)
            found.append((begin, end, str(name), value))
            if text[end:] == "}":
                break
            if text[end] != ",":
                return []
            end += 1
    except (ValueError, IndexError, RecursionError):
        return []
    places = [len(text[:begin].encode()) for begin, *_ in found]
    bounds = [0, *places[1:], len(octets)]
    return [(bounds[number], bounds[number + 1], name, value) for number, (_, _, name, value) in enumerate(found)]


def _shown(name: str, value: object) -> str:
    if name in _NUMBERS and isinstance(value, int):
        return f"{value:#x}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = text if len(text) <= _SAID else text[:_SAID] + "…"
    return text.encode("utf-8", "backslashreplace").decode()


def _message_fields(octets: bytes, at: int) -> list[Field]:
    return [
        Field(
            "", name[:_SAID], (Span(at + begin, at + end),), octets[begin:end], octets[begin:end], _shown(name, value)
        )
        for begin, end, name, value in _members(octets)
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
        if not members or members[0][2] != "op":
            return None
        said = ", ".join(f"{name} {_shown(name, value)}" for _, _, name, value in members[1:])
        return Reading(self, _shown("op", members[0][3]) + (f" {said}" if said else ""), _message_fields)
