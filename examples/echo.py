"""Echo: every message comes back as it was sent. The "hello, world" of message passing.

    python examples/echo.py

A Send goes into the next receive that the peer has posted; a `Connection` posts receives by itself.
"""

from __future__ import annotations

import asyncio

import pyiwarp


async def echo(conn: pyiwarp.Connection) -> None:
    async for message in conn:
        await conn.send(message)


async def ask(port: int) -> None:
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        for message in (b"hello", b"", b"x" * 4096):
            await conn.send(message)
            answer = await conn.recv()
            assert answer == message
            print(f"{len(answer)} octets came back: {answer[:16]!r}")


async def main() -> None:
    async with await pyiwarp.serve(echo, "127.0.0.1") as server:
        await ask(server.port)


if __name__ == "__main__":
    asyncio.run(main())
