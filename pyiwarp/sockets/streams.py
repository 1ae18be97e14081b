"""asyncio's streams over iWARP: `open_connection` and `start_server`, with asyncio's own readers and writers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from pyiwarp import cm
from pyiwarp.sockets.connecting import create_connection
from pyiwarp.sockets.delivery import ReaderProtocol
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.serving import MAX_STREAMS, StreamServer, create_server

__all__ = ["open_connection", "start_server"]

READER_LIMIT: Final = 1 << 16
"""Octets that a reader holds before it makes the peer wait, as in asyncio."""

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


async def open_connection(
    host: str,
    port: int,
    *,
    limit: int = READER_LIMIT,
    options: StreamOptions | None = None,
    local_host: str | None = None,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream to the rsockets program that listens on `host` and `port`; as `asyncio.open_connection`.

    `limit` is the reader's, in octets; the rest, and what is raised, is as with `create_connection`.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = ReaderProtocol(reader, loop=loop)
    transport, _ = await create_connection(lambda: protocol, host, port, options=options, local_host=local_host)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def start_server(
    client_connected_cb: ClientConnected,
    host: str | None = None,
    port: int = 0,
    *,
    limit: int = READER_LIMIT,
    options: StreamOptions | None = None,
    backlog: int = cm.DEFAULT_BACKLOG,
    per_address: int = cm.PER_ADDRESS,
    max_connections: int | None = MAX_STREAMS,
    start_serving: bool = True,
) -> StreamServer:
    """Serve rsockets programs with a reader and a writer for each; as `asyncio.start_server`.

    `client_connected_cb` is called with them, and runs in a task of its own if it is a coroutine function. The rest is
    as with `create_server`.
    """
    loop = asyncio.get_running_loop()

    def factory() -> ReaderProtocol:
        reader = asyncio.StreamReader(limit=limit, loop=loop)
        return ReaderProtocol(reader, client_connected_cb, loop=loop)

    return await create_server(
        factory,
        host,
        port,
        options=options,
        backlog=backlog,
        per_address=per_address,
        max_connections=max_connections,
        start_serving=start_serving,
    )
