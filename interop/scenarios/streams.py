"""Streams of octets between `pyiwarp.sockets` and C programs on librdmacm's rsockets."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from interop.peer import HERE, Can
from interop.stage import PATIENCE, Stage
from pyiwarp.cli.rsockets.rolling import Rolling
from pyiwarp.sockets import StreamOptions, open_connection, start_server

from .registry import LIMIT, add

_PORT = 7471
_GREETING = 16


@dataclass(frozen=True)
class _Test:
    """What rstream is told: so many times, so many messages of this size each way."""

    size: int
    count: int
    iterations: int

    @property
    def words(self) -> str:
        """For rstream: blocking calls, and every octet verified."""
        return f"-S {self.size} -C {self.count} -I {self.iterations} -T b -T v"


class _End:
    """Our end of rstream's dialogue: greetings, then each time all messages there and all back."""

    def __init__(self, stage: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._stage, self._reader, self._writer = stage, reader, writer
        self._sent, self._expected = Rolling(), Rolling()

    async def send(self, nbytes: int) -> None:
        """One message of ours."""
        self._writer.write(self._sent.next(nbytes))
        await self._writer.drain()

    async def receive(self, nbytes: int) -> None:
        """One message of rstream's, every octet as it should be."""
        octets = await self._reader.readexactly(nbytes)
        self._stage.check(octets == self._expected.next(nbytes), f"{nbytes} octets of rstream's are not those it sent")

    async def play(self, test: _Test, *, client: bool) -> None:
        """The whole dialogue; the client speaks first."""
        first, second = (self.send, self.receive) if client else (self.receive, self.send)
        await first(_GREETING)
        await second(_GREETING)
        for _ in range(test.iterations):
            for turn in (first, second):
                for _ in range(test.count):
                    await turn(test.size)
        if not client:
            self._stage.check(await self._reader.read() == b"", "rstream said more than it should")
        self._writer.close()
        await self._writer.wait_closed()


def _options(stage: Stage) -> StreamOptions:
    """With room for all that rstream sends to a client, so that it is told of none while it ends.

    rstream's server closes when its octets are with TCP. A word of ours that comes then makes its TCP reset the
    connection, and the end of the octets is lost; rstream-and-ours and rcopy have rings that are used again.
    """
    options = stage.options(ird=1, ord=1, first_fpdu_timeout=None, extensions=False)
    if stage.pyiwarp_connects:
        return StreamOptions(ring=1 << 24, recv_queue=2048, connection=options)
    return StreamOptions(connection=options)


async def _rstream(stage: Stage, test: _Test) -> None:
    programs = stage.peer.programs()
    if stage.pyiwarp_connects:
        program = await programs.start(f"rstream -b {programs.address} -p {_PORT} {test.words}", _PORT)
        port = await programs.reach(_PORT)
        reader, writer = await open_connection(HERE, port, options=_options(stage))
        await _End(stage, reader, writer).play(test, client=True)
    else:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await _End(stage, reader, writer).play(test, client=False)
            except BaseException as error:
                writer.transport.abort()
                ended.set_exception(error)
            else:
                ended.set_result(None)

        async with await start_server(serve, HERE, options=_options(stage)) as server:
            program = await programs.start(f"rstream -s {programs.host_address} -p {server.port} {test.words}")
            await asyncio.wait_for(ended, 2 * PATIENCE)
    status = await program.wait(PATIENCE)
    stage.check(status == 0, f"rstream ended with status {status}: {program.text}")
    stage.check("data verification failed" not in program.text, f"rstream found other octets: {program.text}")


def _register(name: str, test: _Test) -> None:
    async def run(stage: Stage) -> None:
        await _rstream(stage, test)

    about = f"rstream, every octet verified: {test.iterations} × {test.count} messages of {test.size:,} octets each way"
    add(name, "streams", about, run, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)


_register("rstream-short", _Test(64, 1, 5))
_register("rstream-64", _Test(64, 1, 200))
_register("rstream-4096", _Test(4096, 100, 2))
_register("rstream-1000000", _Test(1_000_000, 2, 2))
