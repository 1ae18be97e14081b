"""Many connections: how fast they are made, what making one costs, and what an idle one costs in memory."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, cast

import pyiwarp
from benchmarks.lanes import options_of
from benchmarks.loops import run_on
from benchmarks.open_files import allow_files
from benchmarks.pairs import HOST, Absent, Job, Sample
from benchmarks.timing import again_and_again
from pyiwarp import Connection

__all__ = [
    "allow_connections",
    "bare_idle_client",
    "bare_setup_client",
    "bare_setup_cost_client",
    "bare_setup_server",
    "idle_client",
    "no_server",
    "resident",
    "setup_client",
    "setup_cost_client",
    "setup_server",
]

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
FIRST: Final = 20  # before the count begins: what the first connections cost is the program's
SPARE_FILES: Final = 100


# --- set-up ----------------------------------------------------------------------------------------------------------


async def _stay(connection: Connection) -> None:
    async for _ in connection:
        pass


async def _echo_an_octet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(1))
    await reader.read(1)
    writer.close()


def setup_server(job: Job, announce: Callable[[int], None]) -> None:
    allow_connections(job.connections)

    async def main() -> None:
        async with await pyiwarp.serve(_stay, HOST, options=options_of(job)) as server:
            announce(server.port)
            await server.serve_forever()

    run_on(job.loop, main())


def setup_client(job: Job, port: int) -> Sample:
    """Connections made and closed, one after the other."""
    return cast("Sample", run_on(job.loop, again_and_again(job, lambda: _connect_once(job, port))))


def bare_setup_server(job: Job, announce: Callable[[int], None]) -> None:
    allow_connections(job.connections)

    async def main() -> None:
        server = await asyncio.start_server(_echo_an_octet, HOST, 0)
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run_on(job.loop, main())


def bare_setup_client(job: Job, port: int) -> Sample:
    """The same with asyncio's streams: an octet there and one back is their startup."""
    return cast("Sample", run_on(job.loop, again_and_again(job, lambda: _bare_connect_once(port))))


def no_server(job: Job, announce: Callable[[int], None]) -> None:
    """Both ends are in the measuring process."""
    announce(0)


def setup_cost_client(job: Job, port: int) -> Sample:
    """Processor time of both ends of a connection that is made, agreed on and closed."""

    async def main() -> Sample:
        async with await pyiwarp.serve(_stay, HOST, options=options_of(job)) as server:
            return await again_and_again(job, lambda: _connect_once(job, server.port))

    return cast("Sample", run_on(job.loop, main()))


def bare_setup_cost_client(job: Job, port: int) -> Sample:
    """The same with asyncio's streams."""

    async def main() -> Sample:
        async with await asyncio.start_server(_echo_an_octet, HOST, 0) as server:
            return await again_and_again(job, lambda: _bare_connect_once(server.sockets[0].getsockname()[1]))

    return cast("Sample", run_on(job.loop, main()))


async def _connect_once(job: Job, port: int) -> None:
    async with pyiwarp.connect(HOST, port, options=options_of(job)):
        pass


async def _bare_connect_once(port: int) -> None:
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(b"?")
    await reader.readexactly(1)
    writer.close()
    await writer.wait_closed()


# --- memory ----------------------------------------------------------------------------------------------------------


def idle_client(job: Job, port: int) -> Sample:
    """Hold so many connections; what this process has grown by for each."""
    allow_connections(job.connections)

    async def main() -> Sample:
        async with AsyncExitStack() as stack:

            async def connect(count: int) -> None:
                for _ in range(count):
                    await stack.enter_async_context(pyiwarp.connect(HOST, port, options=options_of(job)))

            await connect(FIRST)
            before = resident()
            await connect(job.connections)
            sample = _each(before, job)
        return sample

    return cast("Sample", run_on(job.loop, main()))


def bare_idle_client(job: Job, port: int) -> Sample:
    """The same with sockets alone."""
    allow_connections(job.connections)
    sockets: list[socket.socket] = []

    def connect(count: int) -> None:
        for _ in range(count):
            sockets.append(socket.create_connection((HOST, port)))

    connect(FIRST)
    before = resident()
    connect(job.connections)
    sample = _each(before, job)
    for each in sockets:
        each.close()
    return sample


def resident() -> int:
    """Octets of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def _each(before: int, job: Job) -> Sample:
    return {"KiB": (resident() - before) / job.connections / 1024}


def allow_connections(connections: int) -> None:
    """Let this process have so many connections; raises `Absent` if it may not."""
    wanted = connections + FIRST + SPARE_FILES
    if (allowed := allow_files(wanted)) < wanted:
        raise Absent(f"{wanted} open files are needed, the limit is {allowed}")
