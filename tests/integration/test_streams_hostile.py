"""Peers of a server of streams that do harm: each ends alone, and all others are served."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

import pyiwarp
from pyiwarp.sockets import (
    PeerViolation,
    StreamLost,
    StreamOptions,
    StreamServer,
    StreamTransport,
    create_server,
    open_connection,
)
from pyiwarp.sockets.wire import Control, Hello, Op
from tests.hostile.streampeers import hello_of, request_of
from tests.hosts import HOST
from tests.integration.loops import Runner, run, soon
from tests.integration.streamrig import QUICK, SMALL, RawSpeaker, serving, speaking_to
from tests.patience import PATIENCE

__all__ = ["run"]  # a fixture


class Echo:
    """Serves an echo, and remembers how the streams ended that did not end in order."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self.writers: list[asyncio.StreamWriter] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        except OSError as error:
            self.errors.append(reader.exception() or error)
        writer.close()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[StreamServer]:
        """Serve; when the block ends an honest client is served, and no stream is left."""
        async with serving(self, SMALL) as server:
            yield server
            reader, writer = await open_connection(HOST, server.port, options=QUICK)
            writer.write(b"honest")
            assert await reader.readexactly(6) == b"honest"
            writer.close()
            await writer.wait_closed()
            await soon(lambda: "0 streams" in repr(server))

    async def ended(self) -> BaseException:
        await soon(lambda: self.errors)
        return self.errors[0]


def test_a_peer_that_resets_at_once_has_an_address(run: Runner) -> None:
    peers: list[object] = []

    class Met(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            peers.append(transport.get_extra_info("peername"))

    async def main() -> None:
        server = await create_server(Met, HOST, options=QUICK)
        await asyncio.sleep(0)  # it waits for a Request
        with socket.create_connection((HOST, server.port), PATIENCE) as sock:
            name = sock.getsockname()
            sock.sendall(request_of(hello_of()))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await soon(lambda: peers)
        assert peers == [name]
        server.close()
        await server.wait_closed()

    run(main)


def test_a_word_that_may_not_come_ends_its_stream_alone(run: Runner) -> None:
    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server, speaking_to(server.port) as speaker:
            await speaker.write(b"well")
            await speaker.connection.send((0x20000001).to_bytes(4, sys.byteorder))
            error = await echo.ended()
            assert isinstance(error, PeerViolation)
            assert "0x20000001: the ops 1, 2, 3 and 5 are reserved" in str(error)

    run(main)


def test_a_flood_of_messages_that_were_not_granted(run: Runner) -> None:
    """The server has nobody to send the echo to, so it reads no more at last, and grants no more."""

    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server, speaking_to(server.port, credits=0) as speaker:
            with suppress(pyiwarp.IwarpError):
                for _ in range(2000):
                    await speaker.say(Op.DATA, 1024)
            assert isinstance(await echo.ended(), PeerViolation)

    run(main)


@pytest.mark.parametrize(
    ("op", "value"), [(Op.SGL, 384), (Op.CTRL, Control.KEEPALIVE), (Op.CTRL, Control.SHUTDOWN)], ids=str
)
def test_a_flood_of_words_that_may_come(run: Runner, op: Op, value: int) -> None:
    """They cost turns of the loop, as any octets do, and nothing grows."""

    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server, speaking_to(server.port) as speaker:
            with suppress(pyiwarp.IwarpError):
                for _ in range(3000):
                    await speaker.say(op, value)

    run(main)


@pytest.mark.parametrize(("credits", "room"), [(0, 65536), (384, 1), (1, 65536)], ids=["none", "one octet", "one"])
def test_a_peer_that_never_gives_credit(run: Runner, credits: int, room: int) -> None:
    """What the server would say waits, within bounds; the program sees that nothing goes, and others are served."""

    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server, speaking_to(server.port, credits, room) as speaker:
            for _ in range(15):
                await speaker.write(bytes(100))
            await soon(lambda: echo.writers and echo.writers[0].transport.get_write_buffer_size())
            reader, writer = await open_connection(HOST, server.port, options=QUICK)
            writer.write(b"meanwhile")
            assert await reader.readexactly(9) == b"meanwhile"
            writer.close()
            await writer.wait_closed()
            assert echo.writers[0].transport.get_write_buffer_size() <= 1500
            echo.writers[0].transport.abort()

    run(main)


def test_a_peer_that_never_speaks_holds_up_no_close(run: Runner) -> None:
    """After MPA startup the Responder may not speak first, DISCONNECT included (RFC 5044 §7.1.2)."""

    async def main() -> None:
        closed = asyncio.Event()

        async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()
            with suppress(StreamLost):
                await writer.wait_closed()
            closed.set()

        options = StreamOptions(connection=pyiwarp.Options(ird=1, ord=1, first_fpdu_timeout=None, linger=0.2))
        async with serving(close, options) as server:
            hello = Hello(384, (0x1000, 1, 2), pyiwarp.RemoteRegion(0x2000, 2, 4096))
            request = b"MPA ID Req Frame\x40\x01\0" + bytes([len(bytes(hello))]) + bytes(hello)
            with socket.create_connection((HOST, server.port), PATIENCE) as peer:
                peer.sendall(request)
                async with asyncio.timeout(PATIENCE):
                    await closed.wait()

    run(main)


def test_a_peer_that_writes_while_nobody_reads(run: Runner) -> None:
    """It fills the half of the ring that it has, and not an octet more."""

    async def main() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert isinstance(writer.transport, StreamTransport)
            writer.transport.pause_reading()
            writers.append(writer)

        async with serving(idle, SMALL) as server, speaking_to(server.port) as speaker:
            await speaker.write(bytes(2048))
            with suppress(pyiwarp.IwarpError):
                await speaker.say(Op.DATA, 1)
                await speaker.say(Op.DATA, 2048)
                await speaker.connection.recv()
                await speaker.connection.recv()
            await soon(lambda: writers and writers[0].is_closing())

    run(main)


SCRIPT: tuple[Callable[[RawSpeaker], Awaitable[None]], ...] = (
    lambda speaker: speaker.write(b"one"),
    lambda speaker: speaker.say(Op.SGL, 384),
    lambda speaker: speaker.write(b"two"),
    lambda speaker: speaker.say(Op.CTRL, Control.SHUTDOWN),
    lambda speaker: speaker.say(Op.CTRL, Control.DISCONNECT),
    lambda speaker: speaker.say(Op.SGL, 384),
)


@pytest.mark.parametrize("graceful", [False, True], ids=["reset", "closed"])
def test_a_peer_that_ends_at_every_message(run: Runner, graceful: bool) -> None:
    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server:
            for length in range(len(SCRIPT) + 1):
                async with speaking_to(server.port) as speaker:
                    for step in SCRIPT[:length]:
                        await step(speaker)
                    if graceful:
                        await speaker.connection.close()
            await soon(lambda: "0 streams" in repr(server))
            assert all(isinstance(error, StreamLost) for error in echo.errors)

    run(main)


def test_private_data_of_another_protocol_are_rejected(run: Runner) -> None:
    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server:
            for private_data in (b"", b"GET / HTTP/1.0\r\n\r\n", b"\2" + bytes(39), b"\1" + bytes(39)):
                with pytest.raises(pyiwarp.Rejected):
                    await pyiwarp.connect(HOST, server.port, private_data=private_data)
        assert not echo.writers[1:], "none of them came to the program"

    run(main)


def test_a_crowd_of_strangers_is_logged_once(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        caplog.set_level(logging.INFO, "pyiwarp.sockets")
        async with Echo().serving() as server:
            for _ in range(20):
                with pytest.raises(pyiwarp.Rejected):
                    await pyiwarp.connect(HOST, server.port, private_data=b"\2" + bytes(39))
        told = [message for message in caplog.messages if "not served" in message]
        assert len(told) == 1
        assert "version 2 of rsockets" in told[0]

    run(main)


def test_a_write_outside_the_ring_is_refused(run: Runner) -> None:
    """By the stack: the peer of a stream reaches its ring and its tables, and no other memory."""

    async def main() -> None:
        echo = Echo()
        async with echo.serving() as server, speaking_to(server.port) as speaker:
            outside = pyiwarp.RemoteRegion(speaker.peer.data_buffer.to + SMALL.ring, speaker.peer.data_buffer.stag, 8)
            with suppress(pyiwarp.IwarpError):
                await speaker.connection.write(b"outside!", outside)
                await speaker.connection.recv()
                await speaker.connection.recv()
            assert isinstance(await echo.ended(), StreamLost)

    run(main)
