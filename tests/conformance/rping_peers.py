"""rping peers that break a rule: this package's rping, client or server, behind a relay that changes what it says.

Changes are made octet by octet, so that they reach FPDUs with markers too. What a peer hears is changed where it is to
overlook something: it never sees what it should refuse.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from crc32c import crc32c

import pyiwarp
from pyiwarp.cli.rping.protocol import Pinger, answer_pings
from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.framing import Framer
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.decode.framing import Fpdu
from tests.conformance.peers import Breaker, Change, Place, Voices, Way, relay
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["octet_of", "reframed", "rping", "with_crc"]

SIZE = 64  # octets of a ping
Edit = Callable[[Message], bytes | None]


def with_crc(octets: bytes | bytearray) -> bytes:
    """An FPDU's octets with the CRC that is right for them."""
    covered = bytes(octets[:-4])
    return covered + crc32c(covered).to_bytes(4, "little")


def octet_of(fpdu: Fpdu, index: int) -> int:
    """Where the octet `index` of the ULPDU stands among the FPDU's octets, in which there may be markers."""
    left = 2 + index
    position = 0
    markers = {marker.position for marker in fpdu.markers}
    while True:
        if position in markers:
            position += 4
            continue
        if not left:
            return position
        position += 1
        left -= 1


def reframed(seen: Message, ulpdu: bytes) -> bytes:
    """An FPDU of another ULPDU; one with markers stays as it is, since a size that changes moves all that follow."""
    return seen.fpdu.octets if seen.fpdu.markers else Framer().frame(ulpdu)


def _changing(edit: Edit | None) -> Change | None:
    """A change of FPDUs alone."""
    if edit is None:
        return None
    return lambda seen: seen.octets if isinstance(seen, Frame) else edit(seen)


async def _answer(connection: pyiwarp.Connection) -> None:
    with suppress(pyiwarp.IwarpError):
        await answer_pings(connection, PATIENCE, lambda ping: None)


async def _ping_again_and_again(port: int) -> None:
    while True:
        with suppress(pyiwarp.IwarpError, OSError):
            async with await pyiwarp.connect(HOST, port) as connection:
                pinger = Pinger(connection, SIZE, PATIENCE)
                for number in range(3):
                    await pinger.ping(number, verify=False)
        await asyncio.sleep(0.001)


def rping(
    name: str,
    says: Callable[[], Edit] | None = None,
    hears: Callable[[], Edit] | None = None,
    directions: frozenset[Direction] = frozenset(Direction),
) -> Breaker:
    """An rping server, or a client that connects again and again; `says` and `hears` make an edit per connection."""

    def voices() -> tuple[Change | None, Change | None]:
        return _changing(says() if says else None), _changing(hears() if hears else None)

    @asynccontextmanager
    async def make(direction: Direction) -> AsyncIterator[Place]:
        if direction is Direction.LISTEN:
            yield Place(visit=_visit(voices))
            return
        async with (
            await pyiwarp.serve(_answer, HOST, 0) as server,
            relay(Way(server.port), voices, outbound=False) as port,
        ):
            yield Place(port, level=Level.RPING)

    return Breaker(name, directions, make)


def _visit(voices: Voices) -> Callable[[int], AbstractAsyncContextManager[tuple[str, int] | None]]:
    @asynccontextmanager
    async def visit(port: int) -> AsyncIterator[None]:
        async with relay(Way(port), voices, outbound=True) as there:
            pinging = asyncio.get_running_loop().create_task(_ping_again_and_again(there))
            try:
                yield None
            finally:
                pinging.cancel()
                await asyncio.gather(pinging, return_exceptions=True)

    return visit
