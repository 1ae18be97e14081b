"""rsockets: both sides' private data, message words, and what is written to whose memory (docs/sockets.md)."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from construct import (
    Bytes,
    Construct,
    Int8ub,
    Int16ub,
    Int32ub,
    Int32ul,
    Int64ub,
    Int64ul,
    Struct,
)

from pyiwarp.codes import Opcode
from pyiwarp.decode.above.protocols import Protocol, Reading, figured
from pyiwarp.decode.fields import Figure, Name
from pyiwarp.decode.segments import Segment

__all__ = ["Rsockets"]

_VERSION: Final = 1
_BIG_ENDIAN: Final = 1
_KNOWN_FLAGS: Final = 3
_WORD: Final = 4
_ENTRY: Final = 16
_IOMAP_ENTRY: Final = 24
_OP_SHIFT: Final = 29
_VALUE: Final = (1 << _OP_SHIFT) - 1
_CONTROLS: Final = ("disconnect: no more octets either way", "keepalive", "shutdown: this side writes no more")

_HELLO: Final = Struct(
    "version" / Int8ub,
    "flags" / Int8ub,
    "credits" / Int16ub,
    "reserved" / Bytes(3),
    "iomap_size" / Int8ub,
    "sgl_to" / Int64ub,
    "sgl_stag" / Int32ub,
    "sgl_count" / Int32ub,
    "buffer_to" / Int64ub,
    "buffer_stag" / Int32ub,
    "buffer_size" / Int32ub,
)


def _flags(value: int) -> str:
    order = "big-endian" if value & _BIG_ENDIAN else "little-endian"
    return f"words and entries are {order}" + (", direct writes are known" if value & 2 else "")


def _stag(value: int) -> str:
    return f"STag {value:#010x}"


def _to(value: int) -> str:
    return f"TO {value:#x}"


def _octets(value: int) -> str:
    return f"{value:,} octets"


PRIVATE_DATA: Final = Figure(
    "rsockets",
    "",
    _HELLO,
    {
        "version": Name("Version", lambda value: f"version {value}"),
        "flags": Name("Flags", _flags),
        "credits": Name("Credits", lambda value: f"{value} messages can be taken"),
        "reserved": Name("Reserved"),
        "iomap_size": Name("Iomap size"),
        "sgl_to": Name("Target SGL: TO", _to),
        "sgl_stag": Name("Target SGL: STag", _stag),
        "sgl_count": Name("Target SGL: entries", lambda value: f"{value} entries"),
        "buffer_to": Name("Data buffer: TO", _to),
        "buffer_stag": Name("Data buffer: STag", _stag),
        "buffer_size": Name("Data buffer: size", _octets),
    },
)


def word_says(word: int) -> str:
    """What a message word says."""
    op, value = word >> _OP_SHIFT, word & _VALUE
    if op == 0:
        return f"{value:,} octets more are in the ring"
    if op == 4:
        return f"the target SGL has entries, {value} messages more can be taken"
    if op == 6:
        return "the iomap table has changed"
    if op == 7:
        return _CONTROLS[value] if value < len(_CONTROLS) else f"control {value}"
    return f"operation {op}, which nobody knows"


class _Order(NamedTuple):
    word: Figure
    entry: Figure
    iomap: Figure


def _order(int32: Construct[int, int], int64: Construct[int, int]) -> _Order:
    memory: dict[str, Name] = {"to": Name("TO", _to), "stag": Name("STag", _stag), "size": Name("Size", _octets)}
    parts: tuple[Any, ...] = ("to" / int64, "stag" / int32, "size" / int32)
    return _Order(
        Figure("rsockets", "", Struct("word" / int32), {"word": Name("Word", word_says)}),
        Figure("rsockets", "", Struct(*parts), memory),
        Figure("rsockets", "", Struct("offset" / int64, *parts), {"offset": Name("Offset", str), **memory}),
    )


_LITTLE: Final = _order(Int32ul, Int64ul)
_BIG: Final = _order(Int32ub, Int64ub)


class Rsockets(Protocol):
    """Known by both sides' private data; sure when a Write goes to memory that these name."""

    title = "rsockets"

    def __init__(self) -> None:
        super().__init__()
        self._hellos: list[Any] = [None, None]
        self._rings: tuple[set[int], set[int]] = (set(), set())  # STags of each side's ring

    def hello(self, direction: int, private_data: bytes) -> Reading | None:
        """Private data of 40 octets or more, as librdmacm's have them."""
        if len(private_data) < _HELLO.sizeof():
            return None
        hello = _HELLO.parse(private_data)
        likely = hello.version == _VERSION and hello.flags <= _KNOWN_FLAGS and not any(hello.reserved)
        if not likely or hello.sgl_count < 2 or not hello.buffer_size:
            return None
        self._hellos[direction] = hello
        self._rings[direction].add(hello.buffer_stag)
        return Reading(
            self,
            f"can take {hello.credits} messages, has a ring of {hello.buffer_size:,} octets in the first half",
            figured(PRIVATE_DATA),
        )

    def read(self, direction: int, segment: Segment) -> Reading | None:
        """A word in a Send, octets or an entry in a Write."""
        if None in self._hellos:
            return None
        peer, own = self._hellos[1 - direction], self._hellos[direction]
        if segment.opcode == Opcode.SEND and len(segment.payload) == _WORD:
            word = int.from_bytes(segment.payload, "big" if own.flags & _BIG_ENDIAN else "little")
            return Reading(self, word_says(word), figured(_figures(own).word))
        if segment.opcode != Opcode.WRITE or not segment.payload:
            return None
        if segment.stag == peer.sgl_stag:
            return self._entry(direction, peer, segment)
        if segment.stag in self._rings[1 - direction]:
            self.sure = True
            return Reading(self, "octets into the peer's ring")
        return None

    def _entry(self, direction: int, peer: Any, segment: Segment) -> Reading | None:
        place = segment.to - peer.sgl_to
        figures = _figures(peer)
        if 0 <= place < peer.sgl_count * _ENTRY and len(segment.payload) == _ENTRY:
            self.sure = True
            entry = figures.entry.definition.parse(segment.payload)
            if len(self._rings[direction]) < peer.sgl_count:
                self._rings[direction].add(entry.stag)
            says = f"entry {place // _ENTRY} of the target SGL: {entry.size:,} octets of the ring are free"
            return Reading(self, says, figured(figures.entry))
        if place >= peer.sgl_count * _ENTRY and len(segment.payload) == _IOMAP_ENTRY:
            return Reading(self, "an entry of the iomap table", figured(figures.iomap))
        return None


def _figures(hello: Any) -> _Order:
    return _BIG if hello.flags & _BIG_ENDIAN else _LITTLE
