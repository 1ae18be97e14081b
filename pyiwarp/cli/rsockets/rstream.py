"""rstream's dialogue, on a stream of asyncio's over iWARP or over TCP.

Both sides know the tests. For each the client sends 16 octets and the server 16, then each time all messages go to the
server and as many come back. riostream's is the same with direct writes instead of messages.
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
from pyiwarp.files.errors import PeerSilent
from pyiwarp.sockets import StreamOptions, StreamServer, StreamTransport, open_connection, start_server

__all__ = ["Plan", "Rstream"]

GREETING: Final = 16
STEP: Final = 1 << 20
"""Octets that are given to a stream or taken from it at once."""

_NO_TURN: Final = 0xFF
"""What the last octet of a buffer is before the first turn; turns count modulo one more."""

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Plan(NamedTuple):
    """What is played: `series` has the tests of each connection. Each step must be done within `patience` seconds.

    `options` are None for plain TCP. With `direct` it is riostream's dialogue.
    """

    series: Sequence[Sequence[Trial]]
    options: StreamOptions | None
    patience: float
    verify: bool
    direct: bool
    json: bool


class Rstream:
    """One side of rstream; the octets count over all of its tests and connections."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sent, self._came = Rolling(), Rolling()
        self._written, self._placed = Rolling(), Rolling()  # by direct writes
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
            run = self._run_direct if self._plan.direct else self._run
            for test in tests:
                await run(reader, writer, test, client=client)
            writer.close()
            with suppress(ConnectionError):  # the peer may have closed first
                await within(self._plan.patience, writer.wait_closed(), "the end of the connection")
        except BaseException:
            writer.transport.abort()
            raise

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
            counting = self._plan.verify and not self._plan.direct
            writer.write(self._sent.next(piece) if counting else self._zeros[:piece])
            await within(self._plan.patience, writer.drain(), "room for octets")
            nbytes -= piece

    async def _receive(self, reader: asyncio.StreamReader, nbytes: int) -> None:
        while nbytes:
            octets = await within(self._plan.patience, reader.read(min(nbytes, STEP)), f"{nbytes} octets")
            if not octets:
                raise Disconnected(f"the peer closed the connection where {nbytes} octets were due")
            if self._plan.verify and not self._plan.direct:
                self._came.verify(octets)
            nbytes -= len(octets)

    # --- riostream ---------------------------------------------------------------------------------------------------

    async def _run_direct(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, test: Trial, *, client: bool
    ) -> None:
        """As `_run`, but by direct writes into one buffer at each side, under offset 0.

        The last octet of a turn's last message is the number of the turn: the other side looks at it until it is there.
        """
        transport = writer.transport
        assert isinstance(transport, StreamTransport)
        buffer = bytearray(test.size)
        buffer[-1] = _NO_TURN
        await within(self._plan.patience, transport.iomap(buffer, 0), "credit for the offer of a buffer")
        for sends in (client, not client):
            await (self._send(writer, GREETING) if sends else self._receive(reader, GREETING))
        begun = time.perf_counter()
        for turn in range(2 * test.iterations):
            if (turn % 2 == 0) == client:
                await self._write_turn(transport, test, turn)
            else:
                await self._await_turn(transport, buffer, turn)
        self._print_row(test, time.perf_counter() - begun)
        transport.iounmap(0)

    async def _write_turn(self, transport: StreamTransport, test: Trial, turn: int) -> None:
        size = test.size - 1
        if test.messages > 1:
            earlier = bytes(size) + bytes([turn - 1 & _NO_TURN])
            for _ in range(test.messages - 1):
                await within(self._plan.patience, transport.iowrite(earlier, 0), "room for a direct write")
        octets = self._written.next(size) if self._plan.verify else bytes(size)
        last = transport.iowrite(octets + bytes([turn & _NO_TURN]), 0)
        await within(self._plan.patience, last, "room for a direct write")

    async def _await_turn(self, transport: StreamTransport, buffer: bytearray, turn: int) -> None:
        """No event tells of a direct write."""
        until = time.monotonic() + self._plan.patience
        while buffer[-1] != turn & _NO_TURN:
            if transport.is_closing():
                raise Disconnected(f"the peer closed the connection where direct write {turn} was due")
            if time.monotonic() > until:
                raise PeerSilent(f"direct write {turn} did not come within {self._plan.patience:g} s")
            await asyncio.sleep(0)
        if self._plan.verify:
            self._placed.verify(bytes(buffer[:-1]))

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
