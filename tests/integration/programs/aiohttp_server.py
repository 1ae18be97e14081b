"""aiohttp: an echo of bodies and of messages of a WebSocket."""

import asyncio
import contextlib

from aiohttp import WSMsgType, web


async def echo(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for piece in request.content.iter_chunked(10_000):
        await response.write(piece)
    await response.write_eof()
    return response


async def messages(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.TEXT:
            await socket.send_str(message.data.upper())
    return socket


async def main() -> None:
    app = web.Application(client_max_size=1 << 24)
    app.add_routes([web.post("/echo", echo), web.get("/messages", messages)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


with contextlib.suppress(KeyboardInterrupt):
    asyncio.run(main())
