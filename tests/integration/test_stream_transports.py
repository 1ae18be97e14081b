"""The contract of asyncio's transports and servers, kept by streams over iWARP, on both loops."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest

import pyiwarp
from pyiwarp.sockets import (
    NotSpoken,
    StreamLost,
    StreamOptions,
    StreamServer,
    StreamTransport,
    create_connection,
    create_server,
    open_connection,
)
from pyiwarp.sockets.flow import HIGH_WATER
from pyiwarp.sockets.wire import Hello
from tests.golden.test_rsockets import KEEP_ALIVE
from tests.hosts import HOST, keep_little
from tests.integration.loops import Runner, octets, run, run_on, silent_listener, soon
from tests.integration.streamrig import QUICK, SMALL, serving, speaking_to
from tests.patience import PATIENCE

__all__ = ["run"]  # a fixture


@dataclass
class Calls:
    """What the loop has told a protocol of, in order."""

    names: list[str] = field(default_factory=list)
    data: bytearray = field(default_factory=bytearray)
    error: Exception | None = None
    transport: StreamTransport | None = None

    def made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, StreamTransport)
        self.transport = transport
        self.names.append("connection_made")

    @property
    def end(self) -> StreamTransport:
        assert self.transport is not None
        return self.transport


class Plain(asyncio.Protocol):
    def __init__(self, *, goes_on: bool = False) -> None:
        self.calls = Calls()
        self._goes_on = goes_on

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.made(transport)

    def data_received(self, data: bytes) -> None:
        self.calls.data += data

    def eof_received(self) -> bool:
        self.calls.names.append("eof_received")
        return self._goes_on

    def pause_writing(self) -> None:
        self.calls.names.append("pause_writing")

    def resume_writing(self) -> None:
        self.calls.names.append("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.names.append("connection_lost")
        self.calls.error = exc


class Buffered(asyncio.BufferedProtocol):
    """Takes its octets into a buffer of its own, which is smaller than what comes."""

    def __init__(self) -> None:
        self.calls = Calls()
        self._buffer = bytearray(777)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.made(transport)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.calls.data += self._buffer[:nbytes]

    def eof_received(self) -> bool:
        self.calls.names.append("eof_received")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.names.append("connection_lost")


A = TypeVar("A", Plain, Buffered)
B = TypeVar("B", Plain, Buffered)


@asynccontextmanager
async def joined(left: A, right: B, options: StreamOptions = QUICK) -> AsyncIterator[tuple[A, B]]:
    server = await create_server(lambda: right, HOST, options=options)
    async with server:
        await create_connection(lambda: left, HOST, server.port, options=options)
        await soon(lambda: right.calls.transport)
        try:
            yield left, right
        finally:
            for protocol in (left, right):
                protocol.calls.end.abort()


def test_the_calls_of_a_stream_that_ends_in_order(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(), Plain()) as (left, right):
            left.calls.end.write(b"some")
            left.calls.end.writelines([b"thing ", bytearray(b"more"), memoryview(b"!")])
            left.calls.end.close()
            assert left.calls.end.is_closing()
            await soon(lambda: "connection_lost" in left.calls.names and "connection_lost" in right.calls.names)
            assert left.calls.names == ["connection_made", "connection_lost"]
            assert right.calls.names == ["connection_made", "eof_received", "connection_lost"]
            assert right.calls.data == b"something more!"
            assert left.calls.error is right.calls.error is None

    run(main)


def test_who_returns_true_from_eof_received_goes_on_writing(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(), Plain(goes_on=True)) as (left, right):
            left.calls.end.write_eof()
            await soon(lambda: "eof_received" in right.calls.names)
            assert not right.calls.end.is_closing()
            right.calls.end.write(b"the answer")
            right.calls.end.close()
            await soon(lambda: "connection_lost" in left.calls.names)
            assert left.calls.data == b"the answer"

    run(main)


def test_who_returns_nothing_from_eof_received_is_closed(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(goes_on=True), Plain()) as (left, right):
            left.calls.end.write_eof()
            await soon(lambda: "eof_received" in right.calls.names)
            assert right.calls.end.is_closing()
            await soon(lambda: "connection_lost" in right.calls.names)
            await soon(lambda: "eof_received" in left.calls.names)
            assert left.calls.error is right.calls.error is None

    run(main)


def test_a_buffered_protocol(run: Runner) -> None:
    data = octets(50_000)

    async def main() -> None:
        async with joined(Plain(), Buffered()) as (left, right):
            left.calls.end.write(data)
            left.calls.end.close()
            await soon(lambda: "connection_lost" in right.calls.names)
            assert right.calls.data == data
            assert right.calls.names == ["connection_made", "eof_received", "connection_lost"]

    run(main)


def test_a_protocol_that_is_exchanged(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(), Plain()) as (left, right):
            left.calls.end.write(b"first")
            await soon(lambda: right.calls.data)
            other = Buffered()
            right.calls.end.set_protocol(other)
            assert right.calls.end.get_protocol() is other
            left.calls.end.write(b"second")
            await soon(lambda: other.calls.data)
            assert right.calls.data == b"first"
            assert other.calls.data == b"second"

    run(main)


def test_pause_reading_withholds_credit(run: Runner) -> None:
    """The peer sends what its credits allow, then its program is asked to pause."""
    data = octets(400_000)

    async def main() -> None:
        async with joined(Plain(), Plain(), SMALL) as (left, right):
            right.calls.end.pause_reading()
            right.calls.end.pause_reading()
            assert not right.calls.end.is_reading()
            left.calls.end.write(data)
            assert left.calls.names[-1] == "pause_writing"
            for _ in range(100):
                await asyncio.sleep(0)
            assert not right.calls.data
            assert left.calls.end.get_write_buffer_size() >= len(data) - 3 * SMALL.ring
            right.calls.end.resume_reading()
            assert right.calls.end.is_reading()
            await soon(lambda: len(right.calls.data) == len(data))
            assert right.calls.data == data
            assert left.calls.names[-1] == "resume_writing"

    run(main)


def test_the_limits_of_the_write_buffer(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(), Plain(), SMALL) as (left, right):
            end = left.calls.end
            assert end.get_write_buffer_limits() == (HIGH_WATER // 4, HIGH_WATER)
            end.set_write_buffer_limits(low=100)
            assert end.get_write_buffer_limits() == (100, 400)
            end.set_write_buffer_limits(high=0)
            assert end.get_write_buffer_limits() == (0, 0)
            with pytest.raises(ValueError, match="must be >="):
                end.set_write_buffer_limits(high=1, low=2)
            right.calls.end.pause_reading()
            end.write(bytes(4096 + 1))
            assert left.calls.names == ["connection_made", "pause_writing"]
            right.calls.end.resume_reading()
            await soon(lambda: "resume_writing" in left.calls.names)

    run(main)


class Failing(Plain):
    """Its program fails when it is asked to pause."""

    def pause_writing(self) -> None:
        super().pause_writing()
        raise ValueError("the program's")


def test_a_program_that_fails_when_it_is_asked_to_pause_goes_on(run: Runner) -> None:
    """As with asyncio's own transports: the loop is told, the stream is as it was."""
    data = octets(400_000)

    async def main() -> None:
        told: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
        async with joined(Failing(), Plain(), SMALL) as (left, right):
            left.calls.end.write(data)
            assert left.calls.names[-1] == "pause_writing"
            await soon(lambda: len(right.calls.data) == len(data))
            assert left.calls.names[-1] == "resume_writing"
        ((message, error),) = [(each["message"], str(each["exception"])) for each in told]
        assert (message, error) == ("protocol.pause_writing() failed", "the program's")

    run(main)


def test_who_goes_on_writing_behind_the_end_is_told_at_the_sixth_time(
    run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    """As with asyncio's own transports: what is written a moment after the end is no fault of the program's."""

    async def main() -> None:
        async with joined(Plain(), Plain()) as (left, _):
            end = left.calls.end
            end.close()
            for _ in range(5):
                end.write(b"x")
                end.write(b"")
            assert not caplog.records
            end.write(b"x")
            assert [record.levelname for record in caplog.records] == ["WARNING"]

    run(main)


def test_what_cannot_be_written(run: Runner) -> None:
    async def main() -> None:
        async with joined(Plain(), Plain()) as (left, right):
            end = left.calls.end
            with pytest.raises(TypeError, match="'str'"):
                end.write("text")  # type: ignore[arg-type]
            end.write(b"")
            memory = bytearray(b"as it was")
            end.write(memory)
            memory[:] = b"otherwise"
            await soon(lambda: len(right.calls.data) == 9)
            assert right.calls.data == b"as it was"
            end.close()
            end.write(b"into nothing")
            end.close()
            end.abort()

    run(main)


def test_a_protocol_that_raises_ends_its_stream_alone(run: Runner) -> None:
    class Failing(Plain):
        def data_received(self, data: bytes) -> None:
            raise ValueError("the program's mistake")

    async def main() -> None:
        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with joined(Plain(), Failing()) as (left, right):
            left.calls.end.write(b"x")
            await soon(lambda: "connection_lost" in left.calls.names)
            assert isinstance(right.calls.error, ValueError)
            assert [type(context["exception"]) for context in told] == [ValueError]
            assert isinstance(left.calls.error, ConnectionResetError)

    run(main)


def test_an_empty_buffer_ends_the_stream(run: Runner) -> None:
    class Full(Buffered):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

    async def main() -> None:
        told: list[dict[str, object]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        async with joined(Plain(), Full()) as (left, _):
            left.calls.end.write(b"x")
            await soon(lambda: "connection_lost" in left.calls.names)
            assert "empty buffer" in str(told[0]["exception"])

    run(main)


MPA_REQUEST = bytes.fromhex("4d504120 49442052 65712046 72616d65 5002002c 00010001")


def test_what_was_written_before_close_is_lost_with_the_connection(run: Runner) -> None:
    """The peer takes nothing from TCP and resets it: the program is told that not everything was sent."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol = Plain()
        server = await create_server(lambda: protocol, HOST, options=QUICK)
        hello = bytes(Hello(384, (0, 1, 2), pyiwarp.RemoteRegion(0, 2, 1 << 30)))
        async with server:
            with socket.socket() as peer:
                keep_little(peer)
                peer.setblocking(False)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                await loop.sock_connect(peer, (HOST, server.port))
                await loop.sock_sendall(peer, MPA_REQUEST + hello)
                reply = await loop.sock_recv(peer, 20 + 44)
                assert reply.startswith(b"MPA ID Rep Frame")
                await loop.sock_sendall(peer, KEEP_ALIVE)
                await soon(lambda: protocol.calls.transport)
                end = protocol.calls.end
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                end.write(bytes(QUICK.send_memory))
                end.close()
                for _ in range(20):
                    await asyncio.sleep(0)
            await soon(lambda: "connection_lost" in protocol.calls.names)
            assert isinstance(protocol.calls.error, StreamLost)

    run(main)


def unauthenticated(protocol: int) -> ssl.SSLContext:
    """TLS without certificates, which no test needs."""
    context = ssl.SSLContext(protocol)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("aNULL:@SECLEVEL=0")
    return context


def test_tls_above_a_stream() -> None:
    """By asyncio's own `start_tls`; uvloop's takes its own transports only."""
    data = octets(200_000)

    async def secret(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go\n")
        await writer.start_tls(unauthenticated(ssl.PROTOCOL_TLS_SERVER))
        writer.write(await reader.readexactly(len(data)))
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with serving(secret, SMALL) as server:
            reader, writer = await open_connection(HOST, server.port, options=SMALL)
            writer.write(b"STARTTLS\n")
            assert await reader.readline() == b"go\n"
            await writer.start_tls(unauthenticated(ssl.PROTOCOL_TLS_CLIENT))
            assert writer.get_extra_info("cipher") is not None
            writer.write(data)
            assert await reader.readexactly(len(data)) == data
            writer.close()
            with suppress(ssl.SSLError):
                await writer.wait_closed()

    run_on(asyncio.new_event_loop, main)


def test_a_handshake_that_fails_ends_the_stream() -> None:
    async def open_text(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"this is no TLS\n")
        with suppress(OSError):
            await reader.read()
        writer.close()

    async def main() -> None:
        async with serving(open_text, QUICK) as server:
            _, writer = await open_connection(HOST, server.port, options=QUICK)
            with pytest.raises(ssl.SSLError):
                await writer.start_tls(unauthenticated(ssl.PROTOCOL_TLS_CLIENT))

    run_on(asyncio.new_event_loop, main)


# --- connecting ------------------------------------------------------------------------------------------------------


def test_nobody_listens(run: Runner) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as unused:
            port = unused.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            await open_connection(HOST, port, options=QUICK)

    run(main)


def test_a_peer_that_speaks_no_mpa(run: Runner) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 another protocol is spoken here\r\n" * 2)
        with suppress(OSError):
            await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(answer, HOST, 0)
        async with server:
            with pytest.raises(NotSpoken, match="speaks no rsockets over MPA"):
                await open_connection(HOST, server.sockets[0].getsockname()[1], options=QUICK)

    run(main)


def test_a_peer_that_speaks_another_protocol_over_iwarp(run: Runner) -> None:
    async def handler(connection: pyiwarp.Connection) -> None:
        with suppress(pyiwarp.IwarpError):
            await connection.recv()

    async def main() -> None:
        async with await pyiwarp.serve(handler, HOST) as server:
            with pytest.raises(NotSpoken, match="0 octets of private data"):
                await open_connection(HOST, server.port, options=QUICK)

    run(main)


def test_a_peer_that_does_not_answer(run: Runner) -> None:
    async def main() -> None:
        impatient = StreamOptions(connection=pyiwarp.Options(timeout=0.05))
        async with silent_listener() as port:
            with pytest.raises(TimeoutError):
                await open_connection(HOST, port, options=impatient)

    run(main)


def test_a_factory_that_raises(run: Runner) -> None:
    def factory() -> Plain:
        raise ValueError("the program's mistake")

    async def nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()

    async def main() -> None:
        async with serving(nothing) as server:
            with pytest.raises(ValueError, match="the program's mistake"):
                await create_connection(factory, HOST, server.port, options=QUICK)
        failing = await create_server(factory, HOST, options=QUICK)
        async with failing:
            with pytest.raises(NotSpoken, match="rejects the stream"):
                await open_connection(HOST, failing.port, options=QUICK)

    run(main)


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_server_that_begins_later(run: Runner) -> None:
    async def main() -> None:
        protocol = Plain()
        server = await create_server(lambda: protocol, HOST, options=QUICK, start_serving=False)
        async with server:
            assert not server.is_serving()
            connecting = asyncio.ensure_future(create_connection(Plain, HOST, server.port, options=QUICK))
            await asyncio.sleep(0.01)
            assert not connecting.done()
            await server.start_serving()
            assert server.is_serving()
            transport, _ = await connecting
            transport.close()

    run(main)


def test_a_server_that_is_closed_waits_for_its_streams(run: Runner) -> None:
    async def main() -> None:
        protocol = Plain(goes_on=True)
        server: StreamServer = await create_server(lambda: protocol, HOST, options=QUICK)
        assert server.get_loop() is asyncio.get_running_loop()
        assert server.sockets[0].getsockname()[1] == server.port
        transport, _ = await create_connection(Plain, HOST, server.port, options=QUICK)
        await soon(lambda: protocol.calls.transport)
        server.close()
        server.close()
        waiting = asyncio.ensure_future(server.wait_closed())
        with pytest.raises(ConnectionRefusedError):
            await create_connection(Plain, HOST, transport.get_extra_info("peername")[1], options=QUICK)
        assert not waiting.done()
        assert not server.sockets
        server.close_clients()
        await waiting
        assert protocol.calls.names[-1] == "connection_lost"
        with pytest.raises(RuntimeError, match="closed"):
            await server.start_serving()

    run(main)


def test_a_server_serves_until_it_is_cancelled(run: Runner) -> None:
    async def main() -> None:
        server = await create_server(Plain, HOST, options=QUICK)
        forever = asyncio.ensure_future(server.serve_forever())
        transport, protocol = await create_connection(Plain, HOST, server.port, options=QUICK)
        transport.close()
        await soon(lambda: "connection_lost" in protocol.calls.names)
        forever.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forever
        assert not server.is_serving()

    run(main)


def test_streams_beyond_the_limit_are_rejected(run: Runner) -> None:
    async def main() -> None:
        server = await create_server(Plain, HOST, options=QUICK, max_connections=1)
        async with server:
            first, protocol = await create_connection(Plain, HOST, server.port, options=QUICK)
            with pytest.raises(NotSpoken, match="rejects the stream"):
                await create_connection(Plain, HOST, server.port, options=QUICK)
            assert server.counters.over_limit == 1
            first.close()
            await soon(lambda: "connection_lost" in protocol.calls.names and "0 streams" in repr(server))
            second, _ = await create_connection(Plain, HOST, server.port, options=QUICK)
            second.close()

    run(main)


def test_limits_of_a_server_are_positive(run: Runner) -> None:
    async def main() -> None:
        with pytest.raises(pyiwarp.UsageError, match="max_connections is 0"):
            await create_server(Plain, HOST, max_connections=0)

    run(main)


def test_closing_before_the_end_of_the_connection_is_told(run: Runner) -> None:
    """The peer has closed, and the transport has not heard of it: nothing is posted any more."""

    async def main() -> None:
        protocol = Plain()
        server = await create_server(lambda: protocol, HOST, options=QUICK)
        async with server, speaking_to(server.port) as speaker:
            await soon(lambda: protocol.calls.transport)
            end = protocol.calls.end
            told = end._qp.on_ended

            def late() -> None:
                end.close()
                told()

            end._qp.on_ended = late
            await speaker.heard()
            await speaker.connection.close()
            await soon(lambda: "connection_lost" in protocol.calls.names)
            assert isinstance(protocol.calls.error, StreamLost)

    run(main)


def test_a_stream_on_a_socket_that_is_connected(run: Runner) -> None:
    async def echo_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(1))
        writer.close()

    async def main() -> None:
        async with serving(echo_once, QUICK) as server:
            sock = socket.create_connection((HOST, server.port), PATIENCE)
            name = sock.getsockname()
            transport, protocol = await create_connection(Plain, sock=sock, options=QUICK)
            assert transport.get_extra_info("sockname") == name
            transport.write(b"x")
            await soon(lambda: bytes(protocol.calls.data) == b"x")
            transport.close()
            wrongs: list[dict[str, Any]] = [{}, {"host": HOST}, {"sock": sock, "port": 1}]
            for wrong in wrongs:
                with pytest.raises(pyiwarp.UsageError, match="host and port, or on sock"):
                    await create_connection(Plain, **wrong)

    run(main)
