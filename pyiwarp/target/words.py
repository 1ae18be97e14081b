"""The control protocol's lines: a command is a word and key=value pairs, an answer one line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

__all__ = ["Refused", "Words", "bad", "cannot", "reply"]

_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
_WORD: Final = re.compile(r"[a-z][a-z0-9_]*")
_BITS: Final = 64


class Refused(Exception):
    """A command is not carried out; `name` says in one word why, the text says it to people."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name

    @property
    def line(self) -> str:
        """The answer."""
        return f"! {self.name} {' '.join(str(self).split())}"


def bad(text: str) -> Refused:
    """The command makes no sense."""
    return Refused("bad", text)


def cannot(text: str) -> Refused:
    """The command makes sense, but not here."""
    return Refused("cannot", text)


class Words:
    """One command.

    Its function reads each value first and then calls `end`, which refuses the keys that were not read: a command that
    is not understood as a whole has no effect.
    """

    def __init__(self, line: str) -> None:
        name, *rest = line.split()
        if not _WORD.fullmatch(name):
            raise bad(f"{name[:40]!r} is no command")
        self.name = name
        self._pairs: dict[str, str] = {}
        self._known: set[str] = set()
        for pair in rest:
            key, equals, value = pair.partition("=")
            if not equals or not _WORD.fullmatch(key):
                raise bad(f"{pair[:40]!r} is not key=value")
            if key in self._pairs:
                raise bad(f"{key}= is there twice")
            self._pairs[key] = value

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        self._known.add(key)
        return key in self._pairs

    def text(self, key: str, otherwise: str | None = None) -> str:
        """The value as it is; without `otherwise` the key must be there."""
        self._known.add(key)
        value = self._pairs.get(key, otherwise)
        if value is None:
            raise bad(f"{self.name} needs {key}=")
        return value

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """One of the words `choices`, by default the first."""
        value = self.text(key, choices[0])
        if value not in choices:
            raise bad(f"{key}={value} is none of {' '.join(choices)}")
        return value

    def number(self, key: str, otherwise: int | None = None, most: int = (1 << _BITS) - 1, least: int = 0) -> int:
        """A number without sign, as C writes it, from `least` to `most`."""
        value = _number(key, self.text(key, None if otherwise is None else str(otherwise)), most)
        if value < least:
            raise bad(f"{key}={value} is less than {least}")
        return value

    def flag(self, key: str, otherwise: bool = False) -> bool:
        """0 or 1."""
        return bool(self.number(key, int(otherwise), 1))

    def numbers(self, key: str, otherwise: Sequence[int] | None, most: int) -> tuple[int, ...]:
        """Numbers with commas between them; none for an empty value."""
        if otherwise is not None and not self.has(key):
            return tuple(otherwise)
        value = self.text(key)
        return tuple(_number(key, each, most) for each in value.split(",")) if value else ()

    def octets(self, key: str, otherwise: bytes | None = None) -> bytes:
        """Hexadecimal data."""
        value = self.text(key, None if otherwise is None else otherwise.hex())
        try:
            return bytes.fromhex(value)
        except ValueError:
            raise bad(f"{key}= is not hexadecimal data") from None

    def end(self) -> None:
        """Refuse the keys that were not read."""
        unknown = sorted(self._pairs.keys() - self._known)
        if unknown:
            raise cannot(f"{self.name} has no {' '.join(key + '=' for key in unknown)} here")


def _number(key: str, text: str, most: int) -> int:
    if not _NUMBER.fullmatch(text):
        raise bad(f"{key}={text[:40]} is no number")
    octal = text.startswith("0") and text[1:].isdigit()
    try:
        value = int(text, 8 if octal else 0)
    except ValueError:  # Python converts no decimal number of more than 4,300 digits
        value = most + 1
    if value > most:
        raise bad(f"{key}={text[:40]} is more than {most}")
    return value


def reply(**values: object) -> str:
    """The answer to a command that was carried out: flags as 0 and 1, data as hexadecimal digits."""
    return " ".join(("=", *(f"{key}={_shown(value)}" for key, value in values.items())))


def _shown(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return value.hex()
    return str(int(value)) if isinstance(value, bool) else str(value)
