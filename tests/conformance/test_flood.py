"""A peer that floods fills no memory of the bench's."""

from __future__ import annotations

import asyncio

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.tcp import MOST, Tcp
from tests.conformance.peers import responder
from tests.hosts import HOST
from tests.patience import PATIENCE

FLOOD = 4 * MOST
READ_AT_ONCE = 1 << 18


async def _flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for _ in range(FLOOD >> 20):
        writer.write(bytes(1 << 20))
        await writer.drain()
    await reader.read()


async def test_what_nobody_takes_is_left_to_the_peer() -> None:
    async with responder("a flood", _flood).make(Direction.CONNECT) as place:
        tcp = Tcp()
        await asyncio.get_running_loop().create_connection(lambda: tcp, HOST, place.port)
        try:
            async with asyncio.timeout(PATIENCE):
                while len(tcp.buffer) <= MOST:  # noqa: ASYNC110 - what comes is not told while nobody asks
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.2)  # more would have come meanwhile
            assert len(tcp.buffer) <= MOST + READ_AT_ONCE
            taken = 0
            async with asyncio.timeout(PATIENCE):
                while taken + len(tcp.buffer) < FLOOD:
                    taken += len(tcp.buffer)
                    tcp.buffer.clear()
                    await tcp.more()
        finally:
            tcp.close()
