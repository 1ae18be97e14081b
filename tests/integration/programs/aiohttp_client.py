"""aiohttp: bodies that are larger than any buffer, several at once, and a WebSocket."""

import asyncio
import sys

import aiohttp

URL = f"http://127.0.0.1:{sys.argv[1]}"
LONG = bytes(range(256)) * 10_000


async def main() -> None:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:

        async def post(body: bytes) -> None:
            async with session.post(f"{URL}/echo", data=body) as answer:
                assert await answer.read() == body

        await asyncio.gather(*(post(LONG[:length]) for length in (1, 1000, 100_000, len(LONG))))
        async with session.ws_connect(f"{URL}/messages") as socket:
            for word in ("one", "two"):
                await socket.send_str(word)
                assert await socket.receive_str() == word.upper()


asyncio.run(main())
print("done")
