"""The exchange of perftest's -R mode, versions 5.70 to 6.27: what the control connection carries, octet for octet.

Every step is the same: the client sends, then the server sends as much. Both learn the other's version, page size,
cache line and MTU, then the record with address and STag; the client's results close the bandwidth tests.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable
from typing import Final, NamedTuple, Protocol

from pyiwarp import RemoteRegion
from pyiwarp.cli.perftest.figures import Bandwidth
from pyiwarp.cli.terminal import shown_whole
from pyiwarp.files.errors import BadMessage

__all__ = ["RECORD_SIZE", "VERSION", "Control", "Link", "Record", "Terms"]

VERSION: Final = "6.06"
OLDEST, TOO_NEW = (5, 70), (6, 28)  # from 6.28 on a dump of the sender's device attributes follows the MTU
VERSION_SIZE: Final = 16
CYCLE_BUFFER: Final = 4096
CACHE_LINE: Final = 64
MTU_4096: Final = b"5\0"  # the greatest there is, so that the peer's own counts; over TCP it means nothing
_INT: Final = struct.Struct("!I")
_LONG: Final = struct.Struct("!Q")
_DOUBLE: Final = struct.Struct("!d")
_RECORD: Final = struct.Struct("!5I4xQ16sII")
RECORD_SIZE: Final = _RECORD.size


class Record(NamedTuple):
    """What each side tells of its end of the data connection; over TCP only `rkey` and `vaddr` mean anything."""

    lid: int = 0
    out_reads: int = 0
    qpn: int = 0
    psn: int = 0
    rkey: int = 0
    vaddr: int = 0
    gid: bytes = bytes(16)
    srqn: int = 0
    gid_index: int = 0

    def __bytes__(self) -> bytes:
        return _RECORD.pack(*self)

    @classmethod
    def parse(cls, octets: bytes) -> Record:
        """Read a record."""
        return cls(*_RECORD.unpack(octets))

    def memory(self, nbytes: int) -> RemoteRegion:
        """The `nbytes` of memory that it advertises."""
        return RemoteRegion(self.vaddr, self.rkey, nbytes)


class Terms(NamedTuple):
    """What both sides agreed on: the peer's version, the octets that messages walk through, and in what steps."""

    version: str
    cycle_buffer: int
    cache_line: int

    def buffer_size(self, size: int) -> int:
        """How much memory each side offers for messages of `size` octets."""
        return max(size, self.cycle_buffer)

    def offset(self, number: int, size: int) -> int:
        """Where in that memory message `number` begins."""
        if 2 * size > self.cycle_buffer:
            return 0
        step = -(-size // self.cache_line) * self.cache_line
        return number % (self.cycle_buffer // step) * step


class Link(Protocol):
    """A connection that carries short messages."""

    def send(self, octets: bytes) -> Awaitable[None]:
        """Send a message."""

    def recv(self) -> Awaitable[bytes]:
        """The peer's next message."""


class Control:
    """One side of the lock-step conversation on the control connection."""

    def __init__(self, link: Link, *, client: bool) -> None:
        self._link = link
        self._client = client

    async def exchange(self, mine: bytes, what: str = "a record") -> bytes:
        """Give the peer `mine` and return its own, which is as long."""
        if self._client:
            await self._link.send(mine)
        theirs = await self._link.recv()
        if len(theirs) != len(mine):
            raise BadMessage(
                f"the peer sent {len(theirs)} octets where {what} of {len(mine)} is due; does it run the same test?"
            )
        if not self._client:
            await self._link.send(mine)
        return theirs

    async def agree(self) -> Terms:
        """The first four steps; raises `BadMessage` if the peer's version is one that speaks differently."""
        version = await self.exchange(VERSION.encode().ljust(VERSION_SIZE, b"\0"), "a version")
        known = _checked_version(version)
        cycle = await self._greater(CYCLE_BUFFER, "a page size")
        line = await self._greater(CACHE_LINE, "a cache line")
        await self.exchange(MTU_4096, "an MTU")
        if not 0 < line <= cycle <= 1 << 24:
            raise BadMessage(f"the peer's cache line is {line} octets and its page {cycle}: that cannot be")
        return Terms(known, cycle, line)

    async def exchange_record(self, record: Record) -> Record:
        """A step with records."""
        return Record.parse(await self.exchange(bytes(record)))

    async def report(self, bandwidth: Bandwidth | None) -> Bandwidth:
        """Tell this side's results, or None if it has none; returns the other's, which mean nothing if it has none."""
        mine = bandwidth or Bandwidth(size=0, iterations=0, peak=0, average=0, rate=0)
        size = await self._integer(mine.size)
        iterations = await self._integer(mine.iterations)
        peak = await self._double(mine.peak)
        average = await self._double(mine.average)
        rate = await self._double(mine.rate)
        return Bandwidth(size=size, iterations=iterations, peak=peak, average=average, rate=rate)

    async def _greater(self, mine: int, what: str) -> int:
        (theirs,) = _INT.unpack(await self.exchange(_INT.pack(mine), what))
        return max(mine, int(theirs))

    async def _integer(self, mine: int) -> int:
        (theirs,) = _LONG.unpack(await self.exchange(_LONG.pack(mine), "a figure"))
        return int(theirs)

    async def _double(self, mine: float) -> float:
        (theirs,) = _DOUBLE.unpack(await self.exchange(_DOUBLE.pack(mine), "a figure"))
        return float(theirs)


def _checked_version(octets: bytes) -> str:
    """The version in the peer's first message, if it is one of those that speak as this module does."""
    text = octets.partition(b"\0")[0]
    major, dot, minor = text.partition(b".")
    if not (dot and major.isdigit() and minor.isdigit()):
        raise BadMessage(f"the peer's first message {shown_whole(octets)} is no version of perftest")
    if not OLDEST <= (int(major), int(minor)) < TOO_NEW:
        raise BadMessage(f"the peer speaks as perftest {shown_whole(text)} does; known are versions 5.70 to 6.27")
    return text.decode()
