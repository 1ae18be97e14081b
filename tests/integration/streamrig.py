"""Streams over loopback for tests, and a peer that says what the test has it say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pyiwarp
from pyiwarp import Access, Context, Options, RemoteRegion
from pyiwarp.sockets import StreamOptions, StreamServer, open_connection, start_server
from pyiwarp.sockets.wire import NATIVE, Hello, Op
from tests.hosts import HOST
from tests.patience import PATIENCE

QUICK = StreamOptions(connection=replace(StreamOptions().connection, timeout=PATIENCE, linger=1.0))
SMALL = replace(QUICK, ring=4096, send_memory=4096, recv_queue=16, send_queue=16)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(handler: Handler, options: StreamOptions = QUICK) -> AsyncIterator[StreamServer]:
    """A server of streams; it has ended, with all of its streams, when the block has."""
    server = await start_server(handler, HOST, options=options)
    async with server:
        yield server


@asynccontextmanager
async def pair(left: StreamOptions = QUICK, right: StreamOptions = QUICK) -> AsyncIterator[tuple[Ends, Ends]]:
    """Two ends of one stream, both the test's; they are closed when the block ends."""
    accepted: asyncio.Future[Ends] = asyncio.get_running_loop().create_future()

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result((reader, writer))

    async with serving(take, right) as server:
        one = await open_connection(HOST, server.port, options=left)
        other = await accepted
        try:
            yield one, other
        finally:
            for _, writer in (one, other):
                writer.close()
            for _, writer in (one, other):
                with suppress(OSError):
                    await writer.wait_closed()


class RawSpeaker:
    """A peer of a server that knows the protocol and says whatever the test has it say.

    It has `credits` receives to tell of, and one buffer of `room` octets for the server to write.
    """

    def __init__(self, credits: int = 384, room: int = 65536) -> None:
        self._pd = Context().alloc_pd()
        self.memory = self._pd.register(bytearray(32 + room), Access.REMOTE_WRITE)
        to, stag = self.memory.to, self.memory.stag
        self.hello = bytes(Hello(credits, (to, stag, 2), RemoteRegion(to + 32, stag, room)))
        self._written = 0

    async def connect(self, port: int) -> None:
        """Connect to a server of streams."""
        options = Options(timeout=PATIENCE, linger=0.3, recv_depth=512, recv_size=16, send_depth=2048)
        self.connection = await pyiwarp.connect(HOST, port, private_data=self.hello, options=options, pd=self._pd)
        self.peer = Hello.parse(self.connection.private_data)

    async def say(self, op: int, value: int) -> None:
        """Send a word, whether it may come or not."""
        await self.connection.send(NATIVE.word(Op(op), value))

    async def write(self, octets: bytes) -> None:
        """Write octets to the server's ring, and tell of them; no more than its first half has room for."""
        await self.connection.write(octets, self.peer.data_buffer.at(self._written))
        self._written += len(octets)
        await self.say(Op.DATA, len(octets))

    async def heard(self) -> tuple[int, int]:
        """The next word of the server."""
        return NATIVE.read_word(await self.connection.recv())

    def abort(self) -> None:
        """End at once."""
        self.connection.abort()
        self._pd.context.close()


@asynccontextmanager
async def speaking_to(port: int, credits: int = 384, room: int = 65536) -> AsyncIterator[RawSpeaker]:
    """A `RawSpeaker` that is connected."""
    speaker = RawSpeaker(credits, room)
    await speaker.connect(port)
    try:
        yield speaker
    finally:
        speaker.abort()
