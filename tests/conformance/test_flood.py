"""A peer that floods fills no memory of the bench's."""

from __future__ import annotations

import asyncio

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.tcp import MOST, Tcp
from tests.conformance.peers import HOST, responder

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
            seen = -1
            while seen != len(tcp.buffer):  # until nothing more comes
                seen = len(tcp.buffer)
                await asyncio.sleep(0.2)
            assert MOST < seen <= MOST + READ_AT_ONCE
            taken = 0
            async with asyncio.timeout(10):
                while taken + len(tcp.buffer) < FLOOD:
                    taken += len(tcp.buffer)
                    tcp.buffer.clear()
                    await tcp.more()
        finally:
            tcp.close()
