"""The messages of the file service: one JSON object in each Send; every field is validated when it is decoded.

docs/files.md has the sequences. A message is at most `MESSAGE_LIMIT` octets, which is the size of the
receives that both sides post.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Final, NamedTuple, Self

from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage

__all__ = [
    "MESSAGE_LIMIT",
    "NAME_LIMIT",
    "Busy",
    "Cancel",
    "Commit",
    "End",
    "Entries",
    "Entry",
    "Found",
    "Get",
    "Kept",
    "List",
    "Message",
    "Placed",
    "Put",
    "Ready",
    "Refused",
    "Sent",
    "Stored",
    "decode",
    "encode",
    "packed",
]

MESSAGE_LIMIT: Final = 8192
NAME_LIMIT: Final = 1024
REASON_LIMIT: Final = 512
SIZE_LIMIT: Final = 1 << 46
PERMISSIONS: Final = 0o777
TIME_LIMIT: Final = 1 << 40
KINDS: Final = ("file", "directory", "link", "other")


class Entry(NamedTuple):
    """One entry of a listing: `kind` is one of `KINDS`, `nbytes` its size, `modified` seconds since 1970."""

    name: str
    """Its name in the directory that was listed."""
    kind: str
    nbytes: int
    modified: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message; `op` is its name on the wire."""

    op: ClassVar[str]


@dataclass(frozen=True, slots=True)
class Digested(Message):
    """A message with the digest of a file in hexadecimal; it has one field, which is named as the digest."""

    sha256: str | None = None
    blake3: str | None = None

    @classmethod
    def of(cls, kind: Digest, digest: str) -> Self:
        """The message with a digest of that kind."""
        return cls(**{kind.value: digest})

    def digest(self, kind: Digest) -> str:
        """The digest; raises `BadMessage` if it is not of the kind on which both sides have agreed."""
        digest: str | None = getattr(self, kind.value)
        if digest is None:
            raise BadMessage(f"the peer's {self.op!r} has another digest than {kind.title}, which was agreed on")
        return digest


@dataclass(frozen=True, slots=True)
class Get(Message):
    """Client: asks for the file `name`, and for its mode and times if they are wanted. Answer: Found or Refused."""

    op: ClassVar[str] = "get"
    name: str
    mode: bool = False
    times: bool = False


@dataclass(frozen=True, slots=True)
class Found(Message):
    """Server: the file has `size` octets, and what was asked for beside. Answer: Ready or Cancel."""

    op: ClassVar[str] = "found"
    size: int
    permissions: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Ready(Message):
    """Client: RDMA Write it to `stag` and `to`. Answer: Placed…, then Sent; or Refused."""

    op: ClassVar[str] = "ready"
    stag: int
    to: int


@dataclass(frozen=True, slots=True)
class Placed(Message):
    """Server: the first `upto` octets of the file are placed at the receiving side."""

    op: ClassVar[str] = "placed"
    upto: int


@dataclass(frozen=True, slots=True)
class Sent(Digested):
    """Server: all octets are placed; their digest. Answer: Kept or Cancel."""

    op: ClassVar[str] = "sent"


@dataclass(frozen=True, slots=True)
class Kept(Message):
    """Client: the checksum matched and the file is stored."""

    op: ClassVar[str] = "kept"


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """Client: cancels the transfer."""

    op: ClassVar[str] = "cancel"
    reason: str


@dataclass(frozen=True, slots=True)
class Put(Message):
    """Client: RDMA Read the file `name` of `size` octets from `stag` and `to`. Answer: Placed…; or Refused.

    It gets `permissions`, and `mtime` in nanoseconds since 1970, if the message has them.
    """

    op: ClassVar[str] = "put"
    name: str
    size: int
    stag: int
    to: int
    permissions: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True)
class Commit(Digested):
    """Client: the file's digest. Answer: Stored or Refused."""

    op: ClassVar[str] = "commit"


@dataclass(frozen=True, slots=True)
class Stored(Message):
    """Server: the checksum matched and the file is stored."""

    op: ClassVar[str] = "stored"


@dataclass(frozen=True, slots=True)
class List(Message):
    """Client: asks for the entries of the directory `path`. Answer: Entries…, then End; or Refused."""

    op: ClassVar[str] = "list"
    path: str


@dataclass(frozen=True, slots=True)
class Entries(Message):
    """Server: some entries of the directory."""

    op: ClassVar[str] = "entries"
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class End(Message):
    """Server: the listing is complete, `count` entries."""

    op: ClassVar[str] = "end"
    count: int


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """Server: refuses; `reason` is for people."""

    op: ClassVar[str] = "refused"
    reason: str


@dataclass(frozen=True, slots=True)
class Busy(Message):
    """Either: the answer that is due takes longer."""

    op: ClassVar[str] = "busy"


MESSAGES: Final[dict[str, type[Message]]] = {
    kind.op: kind
    for kind in (Get, Found, Ready, Placed, Sent, Kept, Cancel, Put, Commit, Stored, List, Entries, End, Refused, Busy)
}


_DIGESTS: Final = frozenset(digest.value for digest in Digest)
_OPTIONAL: Final = _DIGESTS | {"mode", "times", "permissions", "mtime"}
"""Fields that a message has only if a user asked for what they carry, or if they have the digest that was agreed on."""


def encode(message: Message) -> bytes:
    """The octets of one Send. A field that has its default is left out."""
    said = {
        name: value for name, value in asdict(message).items() if name not in _OPTIONAL or value not in (None, False)
    }
    return json.dumps({"op": message.op} | said, ensure_ascii=False, separators=(",", ":")).encode()


def decode(octets: bytes) -> Message:
    """Decode one Send; raises `BadMessage` for everything that is not exactly one of the messages above."""
    try:
        fields_sent = json.loads(octets)
    except (ValueError, RecursionError) as error:
        raise BadMessage("the peer's message is not JSON") from error
    op = fields_sent.pop("op", None) if isinstance(fields_sent, dict) else None
    if not isinstance(op, str) or op not in MESSAGES:
        raise BadMessage("the peer's message is not one of the file service")
    kind = MESSAGES[op]
    names = {field.name for field in fields(kind)}
    if not names - _OPTIONAL <= fields_sent.keys() <= names:
        raise BadMessage(f"the peer's {op!r} does not have exactly the fields {sorted(names - _OPTIONAL)}")
    if issubclass(kind, Digested) and len(fields_sent) != 1:
        raise BadMessage(f"the peer's {op!r} does not have exactly one of the fields {sorted(_DIGESTS)}")
    for name in fields_sent:
        fields_sent[name] = _CHECKS[name](fields_sent[name], name)
    return kind(**fields_sent)


def packed(entries: list[Entry]) -> int:
    """How many of `entries`, from the first on, go into one message."""
    room = MESSAGE_LIMIT - len(encode(Entries(())))
    for count, entry in enumerate(entries):
        room -= len(json.dumps(entry, ensure_ascii=False, separators=(",", ":")).encode()) + 1
        if room < 0:
            return count
    return len(entries)


# --- the checks ------------------------------------------------------------------------------------------------------


def _integer(limit: int) -> Callable[[Any, str], int]:
    def check(value: Any, field: str) -> int:
        if type(value) is not int or not 0 <= value < limit:
            raise BadMessage(f"the peer's {field!r} is not an integer from 0 to {limit - 1}")
        return value

    return check


def _text(limit: int) -> Callable[[Any, str], str]:
    def check(value: Any, field: str) -> str:
        if not isinstance(value, str) or len(value.encode(errors="replace")) > limit:
            raise BadMessage(f"the peer's {field!r} is not a text of at most {limit} octets")
        return value

    return check


def _time(value: Any, field: str) -> int:
    if type(value) is not int or not -(1 << 63) <= value < 1 << 63:
        raise BadMessage(f"the peer's {field!r} is not a time in nanoseconds")
    return value


def _asked(value: Any, field: str) -> bool:
    if value is not True:
        raise BadMessage(f"the peer's {field!r} is there and not true")
    return True


def _digest(value: Any, field: str) -> str:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise BadMessage(f"the peer's {field!r} is not a {Digest(field).title} in hexadecimal")
    return value


def _entries(value: Any, field: str) -> tuple[Entry, ...]:
    if not isinstance(value, list) or not value:
        raise BadMessage(f"the peer's {field!r} is not a list with entries")
    return tuple(_entry(item) for item in value)


def _entry(item: Any) -> Entry:
    if not isinstance(item, list) or len(item) != 4:
        raise BadMessage("the peer's listing has an entry without its four fields")
    name, kind, nbytes, modified = item
    if kind not in KINDS or type(modified) is not int or abs(modified) >= TIME_LIMIT:
        raise BadMessage("the peer's listing has an entry of no known kind or time")
    return Entry(_text(NAME_LIMIT)(name, "name"), kind, _size(nbytes, "size"), modified)


_size = _integer(1 << 63)

_CHECKS: Final[dict[str, Callable[[Any, str], Any]]] = {
    "name": _text(NAME_LIMIT),
    "path": _text(NAME_LIMIT),
    "reason": _text(REASON_LIMIT),
    "size": _integer(SIZE_LIMIT),
    "upto": _integer(SIZE_LIMIT),
    "count": _integer(1 << 53),
    "stag": _integer(1 << 32),
    "to": _integer(1 << 64),
    "mode": _asked,
    "times": _asked,
    "permissions": _integer(PERMISSIONS + 1),
    "mtime": _time,
    "entries": _entries,
    **dict.fromkeys(_DIGESTS, _digest),
}
