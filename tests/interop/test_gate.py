"""The relay that holds back what a peer sends, between two plain TCP ends."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from interop.gate import Gate

HERE = "127.0.0.1"
PATIENCE = 30.0
End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def ends(*, peer_listens: bool) -> AsyncIterator[tuple[Gate, End, End]]:
    """A gate, our end and the peer's."""
    accepted: asyncio.Queue[End] = asyncio.Queue()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.put_nowait((reader, writer))

    server = await asyncio.start_server(take, HERE, 0)
    async with asyncio.timeout(PATIENCE), Gate(peer_listens=peer_listens) as gate:
        port = await gate.before(HERE, server.sockets[0].getsockname()[1])
        active = await asyncio.open_connection(HERE, port)
        passive = await accepted.get()
        try:
            yield (gate, active, passive) if peer_listens else (gate, passive, active)
        finally:
            for _, writer in (active, passive):
                writer.transport.abort()
            server.close()


@pytest.mark.parametrize("peer_listens", [True, False])
async def test_all_passes_both_ways_until_both_have_ended(peer_listens: bool) -> None:
    async with ends(peer_listens=peer_listens) as (_, ours, peer):
        data = bytes(range(256)) * 4000
        for source, sink in ((ours, peer), (peer, ours)):
            source[1].write(data)
            source[1].write_eof()
            assert await sink[0].read(-1) == data


@pytest.mark.parametrize("peer_listens", [True, False])
async def test_what_the_peer_sends_is_held_and_dropped_when_it_ends(peer_listens: bool) -> None:
    async with ends(peer_listens=peer_listens) as (gate, ours, peer):
        gate.hold(5)
        peer[1].write(bytes(8 << 20))
        await gate.shut()
        ours[1].write(b"still passes")
        assert await peer[0].readexactly(12) == b"still passes"
        peer[1].write_eof()
        gate.peer_ended()
        assert await ours[0].read(-1) == bytes(5)


async def test_a_reset_of_the_peer_is_a_reset_for_us() -> None:
    async with ends(peer_listens=True) as (gate, ours, peer):
        gate.hold(1)
        peer[1].write(b"12")
        await gate.shut()
        peer[1].get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer[1].transport.abort()
        gate.peer_ended()
        with pytest.raises(ConnectionResetError):
            await ours[0].read(-1)


async def test_where_nobody_listens_the_connection_ends() -> None:
    with socket.create_server((HERE, 0)) as free:
        port = free.getsockname()[1]
    async with asyncio.timeout(PATIENCE), Gate(peer_listens=True) as gate:
        reader, writer = await asyncio.open_connection(HERE, await gate.before(HERE, port))
        assert await reader.read(-1) == b""
        writer.close()
