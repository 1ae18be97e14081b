"""rstream's dialogue, on a stream of asyncio's over iWARP or over TCP.

Both sides know the tests. For each the client sends 16 octets and the server 16, then each time all messages go to the
server and as many come back.
"""

from __future__ import annotations

import asyncio
import json as jsonlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

from pyiwarp.cli.address import Address
from pyiwarp.cli.rsockets.figures import HEADING, Trial
from pyiwarp.cli.rsockets.rolling import Rolling
from pyiwarp.cli.tasks import within
from pyiwarp.errors import Disconnected
from pyiwarp.sockets import StreamOptions, StreamServer, open_connection, start_server

__all__ = ["Plan", "Rstream"]

GREETING: Final = 16
STEP: Final = 1 << 20
"""Octets that are given to a stream or taken from it at once."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Plan(NamedTuple):
    """What is played: `series` has the tests of each connection. Each step must be done within `patience` seconds.

    `options` are None for plain TCP.
    """

    series: Sequence[Sequence[Trial]]
    options: StreamOptions | None
    patience: float
    verify: bool
    json: bool


class Rstream:
    """One side of rstream; the octets count over all of its tests and connections."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sent, self._came = Rolling(), Rolling()
        self._zeros = bytes(STEP)

    async def connect(self, host: str, port: int, local_host: str | None) -> None:
        """Be the client of the server at `host`."""
        self._print_heading()
        options = self._plan.options
        for tests in self._plan.series:
            if options is None:
                local = None if local_host is None else (local_host, 0)
                ends = await asyncio.open_connection(host, port, limit=STEP, local_addr=local)
            else:
                ends = await open_connection(host, port, limit=STEP, options=options, local_host=local_host)
            await self._play(ends, tests, client=True)

    async def serve(self, host: str, port: int) -> None:
        """Be the server of one client."""
        clients: asyncio.Queue[Ends] = asyncio.Queue()
        async with self._listening(clients, host, port) as listening:
            self._announce(Address(host, listening))
            self._print_heading()
            for tests in self._plan.series:
                await self._play(await clients.get(), tests, client=False)

    @asynccontextmanager
    async def _listening(self, clients: asyncio.Queue[Ends], host: str, port: int) -> AsyncIterator[int]:
        """Take as many clients as there are connections; more are turned away. Gives the port."""
        taken: list[asyncio.StreamWriter] = []

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(taken) >= len(self._plan.series):
                writer.transport.abort()
                return
            taken.append(writer)
            clients.put_nowait((reader, writer))

        options = self._plan.options
        server: asyncio.Server | StreamServer
        if options is None:
            server = await asyncio.start_server(take, host, port, limit=STEP)
        else:
            server = await start_server(take, host, port, limit=STEP, options=options)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in taken:
                writer.transport.abort()

    async def _play(self, ends: Ends, tests: Sequence[Trial], *, client: bool) -> None:
        """All tests of one connection, which is closed then."""
        reader, writer = ends
        try:
            for test in tests:
                await self._run(reader, writer, test, client=client)
        except BaseException:
            writer.transport.abort()
            raise
        writer.close()
        with suppress(ConnectionError):  # the peer may have closed first
            await writer.wait_closed()

    async def _run(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, test: Trial, *, client: bool
    ) -> None:
        async def there(nbytes: int) -> None:
            await (self._send(writer, nbytes) if client else self._receive(reader, nbytes))

        async def back(nbytes: int) -> None:
            await (self._receive(reader, nbytes) if client else self._send(writer, nbytes))

        await there(GREETING)
        await back(GREETING)
        begun = time.perf_counter()
        for _ in range(test.iterations):
            for turn in (there, back):
                for _ in range(test.messages):
                    await turn(test.size)
        self._print_row(test, time.perf_counter() - begun)

    async def _send(self, writer: asyncio.StreamWriter, nbytes: int) -> None:
        while nbytes:
            piece = min(nbytes, STEP)
            writer.write(self._sent.next(piece) if self._plan.verify else self._zeros[:piece])
            await within(self._plan.patience, writer.drain(), "room for octets")
            nbytes -= piece

    async def _receive(self, reader: asyncio.StreamReader, nbytes: int) -> None:
        while nbytes:
            octets = await within(self._plan.patience, reader.read(min(nbytes, STEP)), f"{nbytes} octets")
            if not octets:
                raise Disconnected(f"the peer closed the connection where {nbytes} octets were due")
            if self._plan.verify:
                self._came.verify(octets)
            nbytes -= len(octets)

    # --- what is printed ---------------------------------------------------------------------------------------------

    def _announce(self, place: Address) -> None:
        if self._plan.json:
            print(jsonlib.dumps({"event": "listening", "host": place.host, "port": place.port}), flush=True)
        else:
            print(f"waiting for rstream at {place}; Ctrl-C stops", flush=True)

    def _print_heading(self) -> None:
        if not self._plan.json:
            print(HEADING, flush=True)

    def _print_row(self, test: Trial, seconds: float) -> None:
        if not self._plan.json:
            print(test.row(seconds), flush=True)
            return
        gigabits, usec = test.figures(seconds)
        facts = {"event": "test", **test._asdict(), "verified": self._plan.verify, "seconds": round(seconds, 6)}
        print(jsonlib.dumps(facts | {"gbit_per_s": round(gigabits, 4), "usec": round(usec, 3)}), flush=True)
