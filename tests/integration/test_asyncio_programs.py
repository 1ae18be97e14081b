"""Libraries that are made of asyncio's protocols and streams, over `create_server` and `open_connection` of iWARP."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import redis.asyncio
from aiohttp import web
from aiosmtpd.smtp import SMTP
from fakeredis import TcpFakeServer

from pyiwarp import sockets
from tests.patience import PATIENCE

LONG = bytes(range(256)) * 8000


class Connector(aiohttp.BaseConnector):
    """aiohttp's connections as streams over iWARP."""

    def __init__(self) -> None:
        super().__init__()
        self.streams: list[sockets.StreamTransport] = []

    async def _create_connection(self, req: Any, *_: object) -> Any:
        transport, protocol = await sockets.create_connection(self._factory, req.url.host, req.url.port)
        self.streams.append(transport)
        return protocol


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_chunked(10_000):
        await response.write(piece)
    await response.write_eof()
    return response


@asynccontextmanager
async def web_server() -> AsyncIterator[sockets.StreamServer]:
    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/echo", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    try:
        async with await sockets.create_server(runner.server, "127.0.0.1") as server:
            yield server
            await runner.shutdown()
            await runner.server.shutdown(PATIENCE)
    finally:
        await runner.cleanup()


async def test_aiohttp_at_both_ends() -> None:
    connector = Connector()
    async with web_server() as server, aiohttp.ClientSession(connector=connector) as session:

        async def post(body: bytes) -> None:
            async with session.post(f"http://127.0.0.1:{server.port}/echo", data=io.BytesIO(body)) as answer:
                assert await answer.read() == body

        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(post(LONG[:length]) for length in (1, 1000, 100_000, len(LONG))))
            await post(b"on a stream that is there already")
        assert len(connector.streams) == 4
        assert server.counters.requests == 4


class Mailbox:
    """aiosmtpd's handler: keeps each message."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.messages.append(envelope.content)
        return "250 OK"


async def test_aiosmtpd_and_a_client_of_streams() -> None:
    mailbox = Mailbox()
    text = b"a line of text\r\n" * 10_000
    async with (
        asyncio.timeout(PATIENCE),
        await sockets.create_server(lambda: SMTP(mailbox, hostname="here"), "127.0.0.1") as server,
    ):
        reader, writer = await sockets.open_connection("127.0.0.1", server.port)
        assert (await reader.readline()).startswith(b"220 here")
        for said, code in (
            (b"HELO there", b"250"),
            (b"MAIL FROM:<a@example.org>", b"250"),
            (b"RCPT TO:<b@example.org>", b"250"),
            (b"DATA", b"354"),
            (text + b".", b"250"),
            (b"QUIT", b"221"),
        ):
            writer.write(said + b"\r\n")
            await writer.drain()
            assert (await reader.readline()).startswith(code)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert mailbox.messages == [text]


class Connection(redis.asyncio.Connection):
    """redis-py's connection as a stream over iWARP."""

    async def _connect(self) -> None:
        self._reader, self._writer = await sockets.open_connection(self.host, int(self.port))
        await self.on_connect()


async def test_redis_and_a_blocking_server_of_the_family() -> None:
    """The server has threads and blocking sockets, the client asyncio's streams."""
    sockets.install(all=True)
    try:
        server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    finally:
        sockets.uninstall()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        pool = redis.asyncio.ConnectionPool(
            connection_class=Connection, host="127.0.0.1", port=server.server_address[1], protocol=2
        )
        async with asyncio.timeout(PATIENCE), redis.asyncio.Redis(connection_pool=pool) as client:
            # the server writes to sockets that do not wait, and takes it that they take all
            assert await client.set("key", LONG[:90_000])
            assert await client.get("key") == LONG[:90_000]
            async with client.pipeline() as pipeline:
                for _ in range(100):
                    pipeline.incr("counter")
                assert (await pipeline.execute())[-1] == 100
        await pool.disconnect()
    finally:
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(server.server_close)
        thread.join(PATIENCE)
    assert not thread.is_alive()
