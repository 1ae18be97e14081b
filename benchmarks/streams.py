"""asyncio's streams over TCP and over iWARP, with the same program at both ends: only what lies below differs.

    python -m benchmarks.streams [what `python -m benchmarks.compare` takes]

measures the rows of `benchmarks.compare` that compare them, C's rstream over the kernel's siw among the candidates.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple, cast

from benchmarks.loops import run_on
from benchmarks.pairs import HOST, Job, Sample, filled
from benchmarks.timing import again_and_again, back_and_forth_awaited, now
from pyiwarp.sockets import StreamOptions, open_connection, start_server

__all__ = ["bulk_client", "bulk_server", "echo_client", "echo_server", "setup_client"]

CHUNK: Final = 1 << 20
LIMIT: Final = 2 * CHUNK

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Announce = Callable[[int], None]


class Family(NamedTuple):
    """How streams of one kind come to be."""

    connect: Callable[[Job, int], Awaitable[Ends]]
    serve: Callable[[Job, Handler, Announce], Coroutine[None, None, None]]


async def _connect_tcp(job: Job, port: int) -> Ends:
    return await asyncio.open_connection(HOST, port, limit=LIMIT)


async def _serve_tcp(job: Job, handler: Handler, announce: Announce) -> None:
    server = await asyncio.start_server(handler, HOST, 0, limit=LIMIT)
    announce(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def _connect_iwarp(job: Job, port: int) -> Ends:
    return await open_connection(HOST, port, limit=LIMIT, options=_options(job))


async def _serve_iwarp(job: Job, handler: Handler, announce: Announce) -> None:
    server = await start_server(handler, HOST, limit=LIMIT, options=_options(job))
    announce(server.port)
    await server.serve_forever()


def _options(job: Job) -> StreamOptions:
    usual = StreamOptions()
    return replace(usual, connection=replace(usual.connection, crc=job.crc))


FAMILIES: Final[Mapping[str, Family]] = {
    "tcp": Family(_connect_tcp, _serve_tcp),
    "iwarp": Family(_connect_iwarp, _serve_iwarp),
}


# --- bulk ------------------------------------------------------------------------------------------------------------


def bulk_server(family: str, job: Job, announce: Announce) -> None:
    """Read until the peer has no more to send, and answer with one octet."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(CHUNK):
            pass
        writer.write(b"!")
        await writer.drain()
        writer.close()

    run_on(job.loop, FAMILIES[family].serve(job, take, announce))


def bulk_client(family: str, job: Job, port: int) -> Sample:
    """Write messages until the time is over, and wait for the answer."""

    async def phase(seconds: float) -> float:
        reader, writer = await FAMILIES[family].connect(job, port)
        message, nbytes = memoryview(filled(job.size)), 0
        began = now()
        while now() < began + seconds:
            writer.write(message)
            await writer.drain()
            nbytes += job.size
        writer.write_eof()
        await reader.readexactly(1)
        rate = nbytes / (now() - began)
        writer.close()
        await writer.wait_closed()
        return rate

    async def main() -> Sample:
        await phase(job.warmup)
        rate = await phase(job.seconds)
        return {"GB/s": rate / 1e9, "messages/s": rate / job.size}

    return cast("Sample", run_on(job.loop, main()))


# --- back and forth --------------------------------------------------------------------------------------------------


def echo_server(family: str, job: Job, announce: Announce) -> None:
    """Send each message back."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            while True:
                writer.write(await reader.readexactly(job.size))
                await writer.drain()
        writer.close()

    run_on(job.loop, FAMILIES[family].serve(job, echo, announce))


def echo_client(family: str, job: Job, port: int) -> Sample:
    """Send a message and read it back, again and again."""

    async def main() -> Sample:
        reader, writer = await FAMILIES[family].connect(job, port)
        message = bytes(job.size)

        async def there_and_back() -> None:
            writer.write(message)
            await writer.drain()
            await reader.readexactly(job.size)

        sample = await back_and_forth_awaited(job, there_and_back)
        writer.close()
        await writer.wait_closed()
        return sample

    return cast("Sample", run_on(job.loop, main()))


# --- set-up ----------------------------------------------------------------------------------------------------------


def setup_client(family: str, job: Job, port: int) -> Sample:
    """Streams made, an octet there and back, closed, one after the other: processor time of both ends."""

    async def main() -> Sample:
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        server = asyncio.create_task(FAMILIES[family].serve(job, _echo_an_octet, found.set_result))
        at = await found

        async def once() -> None:
            reader, writer = await FAMILIES[family].connect(job, at)
            writer.write(b"?")
            await reader.readexactly(1)
            writer.close()
            await writer.wait_closed()

        sample = await again_and_again(job, once)
        server.cancel()
        return sample

    return cast("Sample", run_on(job.loop, main()))


async def _echo_an_octet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.read(1))
    await reader.read(1)
    writer.close()


def main(arguments: list[str]) -> int:
    """The command line."""
    from benchmarks import compare, rows  # which name the functions of this module

    only = [word for row in rows.ROWS if row.name.startswith("streams-") for word in ("--only", row.name)]
    return compare.main([*only, *arguments])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
