"""The conversation of rping (rdma-core's librdmacm/examples): a Read, a Write and four Sends make one ping.

The client advertises a text, the server Reads it and says go ahead; the client advertises empty memory, the server
Writes the text there and says go ahead. An advertisement is be64 address, be32 STag, be32 length; of a go-ahead only
the size of 16 octets matters.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from pyiwarp import Access, Connection, RegionSlice, RemoteRegion
from pyiwarp.cli.rping.limits import MAX_SIZE
from pyiwarp.cli.tasks import within
from pyiwarp.errors import Disconnected, IwarpError
from pyiwarp.files.errors import BadMessage
from pyiwarp.mr import ADVERTISEMENT_SIZE

__all__ = ["MESSAGE_SIZE", "DataMismatch", "Ping", "Pinger", "answer_pings", "ping_text"]

MESSAGE_SIZE: Final = ADVERTISEMENT_SIZE
GO_AHEAD: Final = bytes(MESSAGE_SIZE)
FIRST, LAST = 65, 122  # the characters that a text rolls through: A to z
SHOWN: Final = 8

T = TypeVar("T")


class DataMismatch(IwarpError):
    """What came back is not what was sent."""


class Ping(NamedTuple):
    """One round: its number from 0, what came back, and how long it took."""

    number: int
    data: bytes
    seconds: float


def ping_text(number: int, size: int) -> bytes:
    """The octets of ping `number`: a heading, characters that begin one later with every ping, and a NUL."""
    heading = b"rdma-ping-%d: " % number
    rolled = bytes(range(FIRST, LAST + 1))
    start = number % len(rolled)
    need = size - len(heading)
    rolling = (rolled * (need // len(rolled) + 2))[start : start + need]
    return (heading + rolling)[: size - 1] + b"\0"


def check_same(number: int, sent: bytes, came: bytes) -> None:
    """Raises `DataMismatch` that says where the two differ, and in what."""
    if sent == came:
        return
    wrong = [offset for offset in range(len(sent)) if sent[offset] != came[offset]]
    first = wrong[0]
    raise DataMismatch(
        f"ping {number}: {len(wrong)} of {len(sent)} octets came back changed; from offset {first} on "
        f"{came[first : first + SHOWN].hex(' ')} came, {sent[first : first + SHOWN].hex(' ')} was sent"
    )


class _Exchange:
    """Messages of 16 octets in both directions, each with the time limit `patience` in seconds."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self.connection = connection
        self._patience = patience

    async def send(self, message: bytes) -> None:
        await self.within_limit(self.connection.send(message), "room for a message of 16 octets")

    async def receive(self, due: str) -> bytes:
        message = await self.within_limit(self.connection.recv(), due)
        if len(message) != MESSAGE_SIZE:
            raise BadMessage(f"the peer sent {len(message)} octets where {due} of 16 is due: it does not speak rping")
        return message

    async def within_limit(self, work: Awaitable[T], due: str) -> T:
        return await within(self._patience, work, due)


class Pinger:
    """The client's side of `connection`; each message must come within `patience` seconds."""

    def __init__(self, connection: Connection, size: int, patience: float) -> None:
        remote = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE
        self._exchange = _Exchange(connection, patience)
        self._text = connection.register(bytearray(size), remote)
        self._echo = connection.register(bytearray(size), remote)

    async def ping(self, number: int, *, verify: bool) -> Ping:
        """One round; with `verify` raises `DataMismatch` if not every octet came back."""
        size = self._text.nbytes
        text = ping_text(number, size)
        self._text.view[:] = text
        begun = time.perf_counter()
        await self._advertise(self._text[:], "the go-ahead after the server's Read")
        await self._advertise(self._echo[:], "the go-ahead after the server's Write")
        seconds = time.perf_counter() - begun
        data = bytes(self._echo.view)
        if verify:
            check_same(number, text, data)
        return Ping(number, data, seconds)

    async def _advertise(self, memory: RegionSlice, due: str) -> None:
        await self._exchange.send(memory.advertise())
        try:
            await self._exchange.receive(due)
        except Disconnected:
            raise BadMessage(f"the server closed the connection where {due} was due") from None


async def answer_pings(connection: Connection, patience: float, on_ping: Callable[[Ping], None]) -> int:
    """Serve one client until it closes the connection; returns how many pings it made.

    `on_ping` is called with each text that was Read. Raises `BadMessage` for what rping does not say.
    """
    exchange = _Exchange(connection, patience)
    memory = connection.register(bytearray(MAX_SIZE), Access.LOCAL_WRITE)
    number = 0
    while True:
        try:
            advertisement = await exchange.receive("an advertisement")
        except Disconnected:
            return number
        begun = time.perf_counter()
        text = await _fetch(exchange, memory[:], RemoteRegion.parse(advertisement))
        await exchange.send(GO_AHEAD)
        try:
            advertisement = await exchange.receive("the advertisement of memory for the text")
        except Disconnected:
            raise BadMessage("the client closed the connection in the middle of a ping") from None
        # as C's strings go: up to the first NUL and with it
        answer = memory[: text.find(b"\0") + 1 or len(text)]
        await exchange.within_limit(connection.write(answer, RemoteRegion.parse(advertisement)), "room for a Write")
        await exchange.send(GO_AHEAD)
        on_ping(Ping(number, text, time.perf_counter() - begun))
        number += 1


async def _fetch(exchange: _Exchange, memory: RegionSlice, source: RemoteRegion) -> bytes:
    """The client's text, by Read."""
    if source.nbytes > memory.nbytes:
        raise BadMessage(f"the client advertises {source.nbytes} octets; a ping has at most {memory.nbytes}")
    text = memory.region[: source.nbytes]
    await exchange.within_limit(exchange.connection.read(text, source), "the answer to a Read")
    return bytes(text.view)
