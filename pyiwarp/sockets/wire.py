"""The octets of rsockets: private data, message words, entries of the target SGL and of the iomap table.

The private data are big-endian. Words are in the byte order of their sender, entries in that of the side whose memory
they are written to; `Order` has both for one byte order.
"""

from __future__ import annotations

import struct
import sys
from enum import IntEnum
from typing import Final, NamedTuple

from construct import Bytes, Const, Container, Int8ub, Int16ub, Int32ub, Int64ub, Struct

from pyiwarp import RemoteRegion
from pyiwarp.sockets.errors import NotSpoken

__all__ = [
    "BIG",
    "ENTRY_SIZE",
    "IOMAP_ENTRY_SIZE",
    "LITTLE",
    "MAX_VALUE",
    "NATIVE",
    "PRIVATE_DATA_SIZE",
    "WORD_SIZE",
    "Control",
    "Hello",
    "Op",
    "Order",
    "can_be",
    "iomap_entries",
]

VERSION: Final = 1
WORD_SIZE: Final = 4
ENTRY_SIZE: Final = 16
IOMAP_ENTRY_SIZE: Final = 24
_SETUP: Final = "§3 Set-up"

_BIG_ENDIAN: Final = 1
_KNOWS_IOMAPS: Final = 2
_OP_SHIFT: Final = 29
MAX_VALUE: Final = (1 << _OP_SHIFT) - 1
_FEW: Final = 128
_MANY_UNIT: Final = 256

_Memory: Final = Struct("to" / Int64ub, "stag" / Int32ub, "count" / Int32ub)
PrivateData: Final = Struct(
    "version" / Const(VERSION, Int8ub),
    "flags" / Int8ub,
    "credits" / Int16ub,
    "reserved" / Bytes(3),
    "iomap_size" / Int8ub,
    "target_sgl" / _Memory,
    "data_buffer" / _Memory,
)
PRIVATE_DATA_SIZE: Final[int] = PrivateData.sizeof()


class Op(IntEnum):
    """What a message word says: its bits 31 to 29."""

    DATA = 0
    SGL = 4
    IOMAP = 6
    CTRL = 7


class Control(IntEnum):
    """The value of a CTRL word."""

    DISCONNECT = 0
    KEEPALIVE = 1
    SHUTDOWN = 2


def can_be(memory: RemoteRegion) -> bool:
    """Whether memory of the peer ends at the last TO or before, so that a Write can name all of it."""
    return memory.to + memory.nbytes <= 1 << 64


def iomap_entries(count: int) -> int:
    """The next number of iomap entries from `count` on that the octet of the private data can say."""
    return count if count <= _FEW else -(-count // _MANY_UNIT) * _MANY_UNIT


def _iomap_octet(count: int) -> int:
    return count if count <= _FEW else count // _MANY_UNIT | _FEW


def _iomap_count(octet: int) -> int:
    return octet if octet <= _FEW else (octet & (_FEW - 1)) * _MANY_UNIT


class Hello(NamedTuple):
    """What a side says of itself in the private data of its MPA Request or Reply.

    `credits` is how many messages it can take, `target_sgl` where its array of `entries` entries lies, `data_buffer`
    the first half of its ring. The peer may write `iomaps` entries behind the array.
    """

    credits: int
    target_sgl: tuple[int, int, int]
    data_buffer: RemoteRegion
    big_endian: bool = sys.byteorder == "big"
    iomaps: int = 0

    def __bytes__(self) -> bytes:
        fields = {
            "flags": _KNOWS_IOMAPS | (_BIG_ENDIAN if self.big_endian else 0),
            "credits": self.credits,
            "reserved": bytes(3),
            "iomap_size": _iomap_octet(self.iomaps),
            "target_sgl": dict(zip(("to", "stag", "count"), self.target_sgl, strict=True)),
            "data_buffer": dict(zip(("to", "stag", "count"), self.data_buffer, strict=True)),
        }
        return PrivateData.build(fields)

    @classmethod
    def parse(cls, octets: bytes) -> Hello:
        """Read private data; what is behind octet 39 is padding. Raises `NotSpoken` for those of another protocol."""
        if len(octets) < PRIVATE_DATA_SIZE:
            raise NotSpoken(
                f"the peer speaks no rsockets: {len(octets)} octets of private data, not {PRIVATE_DATA_SIZE} "
                f"(docs/sockets.md, {_SETUP})"
            )
        if octets[0] != VERSION:
            raise NotSpoken(
                f"the peer speaks version {octets[0]} of rsockets, not {VERSION} (docs/sockets.md, {_SETUP})"
            )
        read = PrivateData.parse(octets)
        hello = cls(
            credits=read.credits,
            target_sgl=_memory(read.target_sgl),
            data_buffer=RemoteRegion(*_memory(read.data_buffer)),
            big_endian=bool(read.flags & _BIG_ENDIAN),
            iomaps=_iomap_count(read.iomap_size) if read.flags & _KNOWS_IOMAPS else 0,
        )
        hello.check()
        return hello

    @property
    def order(self) -> Order:
        """The byte order of its words, and of what is written to its memory."""
        return BIG if self.big_endian else LITTLE

    def check(self) -> None:
        """Raises `NotSpoken` for memory that no Write can name, or an array that is too short."""
        to, stag, entries = self.target_sgl
        if entries < 2:
            raise NotSpoken(f"the target SGL has {entries} entries, not 2 or more (docs/sockets.md, {_SETUP})")
        array = RemoteRegion(to, stag, entries * ENTRY_SIZE + self.iomaps * IOMAP_ENTRY_SIZE)
        for memory in (array, self.data_buffer):
            if not can_be(memory):
                raise NotSpoken(f"memory that ends behind the last TO: {memory} (docs/sockets.md, {_SETUP})")


def _memory(read: Container[int]) -> tuple[int, int, int]:
    return read.to, read.stag, read.count


class Order:
    """Words and entries in one byte order, `<` or `>`."""

    def __init__(self, sign: str) -> None:
        self._word = struct.Struct(f"{sign}I")
        self._entry = struct.Struct(f"{sign}QII")
        self._iomap = struct.Struct(f"{sign}QQII")
        self.data = self._word.pack
        """The DATA word of so many octets."""
        self.number = self._word.unpack
        """The number that four octets make, as a tuple; that of a DATA word is how many octets it tells of."""

    def word(self, op: Op, value: int) -> bytes:
        """The message word."""
        return self._word.pack(op << _OP_SHIFT | value)

    def read_word(self, octets: bytes | memoryview, at: int = 0) -> tuple[int, int]:
        """Bits 31 to 29 of the message word at an offset, and its other bits."""
        word: int = self._word.unpack_from(octets, at)[0]
        return word >> _OP_SHIFT, word & MAX_VALUE

    def entry(self, memory: RemoteRegion) -> bytes:
        """An entry of the target SGL."""
        return self._entry.pack(memory.to, memory.stag, memory.nbytes)

    def read_entry(self, octets: bytes | memoryview) -> RemoteRegion:
        """The memory that an entry of the target SGL names."""
        return RemoteRegion(*self._entry.unpack(octets))

    def iomap(self, offset: int, memory: RemoteRegion) -> bytes:
        """An entry of the iomap table."""
        return self._iomap.pack(offset, memory.to, memory.stag, memory.nbytes)

    def read_iomap(self, octets: bytes | memoryview) -> tuple[int, RemoteRegion]:
        """The offset and the memory of an entry of the iomap table."""
        offset, *memory = self._iomap.unpack(octets)
        return offset, RemoteRegion(*memory)


LITTLE: Final = Order("<")
BIG: Final = Order(">")
NATIVE: Final = BIG if sys.byteorder == "big" else LITTLE
