"""Many clients of one server, all of them busy: what each gets, and what each costs in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import cast

import pyiwarp
from benchmarks.lanes import options_of
from benchmarks.loops import run_on
from benchmarks.pairs import HOST, Job, Sample
from benchmarks.scale import FIRST, allow_connections, resident
from benchmarks.timing import now

__all__ = ["bare_crowd_client", "bare_crowd_server", "crowd_client"]

ThereAndBack = Callable[[], Awaitable[object]]
Connect = Callable[[AsyncExitStack], Awaitable[ThereAndBack]]


def crowd_client(job: Job, port: int) -> Sample:
    """`connections` clients send a message and await the answer, again and again; for `iwarp.awaited_server`."""
    message = bytes(job.size)

    async def connect(stack: AsyncExitStack) -> ThereAndBack:
        connection = await stack.enter_async_context(pyiwarp.connect(HOST, port, options=options_of(job)))

        async def there_and_back() -> None:
            await connection.send(message)
            await connection.recv()

        return there_and_back

    return cast("Sample", run_on(job.loop, _crowd(job, connect)))


def bare_crowd_server(job: Job, announce: Callable[[int], None]) -> None:
    """Answers messages of asyncio's streams."""
    allow_connections(job.connections)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(job.size))
                await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, HOST, 0)
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run_on(job.loop, main())


def bare_crowd_client(job: Job, port: int) -> Sample:
    """The same with asyncio's streams."""
    message = bytes(job.size)

    async def connect(stack: AsyncExitStack) -> ThereAndBack:
        reader, writer = await asyncio.open_connection(HOST, port)
        stack.callback(writer.close)

        async def there_and_back() -> None:
            writer.write(message)
            await reader.readexactly(job.size)

        return there_and_back

    return cast("Sample", run_on(job.loop, _crowd(job, connect)))


async def _crowd(job: Job, connect: Connect) -> Sample:
    """Messages/s of all clients together, the slowest over the fastest, and KiB that each has added to this process."""
    allow_connections(job.connections)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        first = [await connect(stack) for _ in range(FIRST)]
        await asyncio.gather(*(_keep_going(each, job.warmup) for each in first))
        before, after = resident(), 0
        crowd = [await connect(stack) for _ in range(job.connections)]

        def note() -> None:
            nonlocal after
            after = resident()

        loop.call_later(job.seconds / 2, note)
        began = now()
        counts = await asyncio.gather(*(_keep_going(each, job.seconds) for each in crowd))
        took = now() - began
        if not after:  # the loop had no time for it meanwhile
            note()
    return {
        "messages/s": sum(counts) / took,
        "slowest / fastest": min(counts) / max(counts),
        "KiB": (after - before) / job.connections / 1024,
    }


async def _keep_going(there_and_back: ThereAndBack, seconds: float) -> int:
    """How often it went there and back; at least once."""
    until, count = now() + seconds, 0
    while not count or now() < until:
        await there_and_back()
        count += 1
    return count
