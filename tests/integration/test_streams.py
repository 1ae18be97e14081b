"""asyncio's streams over iWARP, on both loops: transfers, ends of all kinds, slow and cancelled readers."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pyiwarp.capture import Capture
from pyiwarp.sockets import StreamLost, StreamOptions, StreamTransport, open_connection
from pyiwarp.sockets.flow import HIGH_WATER
from pyiwarp.sockets.wire import Op
from tests.hosts import HOST
from tests.integration.loops import Runner, octets, run, soon
from tests.integration.streamrig import QUICK, SMALL, pair, serving, speaking_to

__all__ = ["run"]  # a fixture

BOTH = pytest.mark.parametrize("options", [QUICK, SMALL], ids=["usual", "small"])


async def send_all(writer: asyncio.StreamWriter, data: bytes, piece: int) -> None:
    for at in range(0, len(data), piece):
        writer.write(data[at : at + piece])
        await writer.drain()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionResetError):  # some tests abort
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()


def test_a_request_and_its_answer(run: Runner) -> None:
    """HTTP/1.0: the client asks, the server answers and closes, the client reads to the end."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        body = b"you asked " + request.split()[1]
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
        writer.write(body)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with serving(answer) as server:
            reader, writer = await open_connection(HOST, server.port, options=QUICK)
            writer.write(b"GET /path HTTP/1.0\r\nHost: here\r\n\r\n")
            head, body = (await reader.read()).split(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.0 200 OK")
            assert body == b"you asked /path"
            writer.close()
            await writer.wait_closed()

    run(main)


def test_lines_one_by_one(run: Runner) -> None:
    async def main() -> None:
        async with pair() as ((reader, writer), (other_reader, other_writer)):
            for number in range(300):
                writer.write(b"line %d\n" % number)
                assert await other_reader.readline() == b"line %d\n" % number
                other_writer.write(b"%d\n" % number)
                assert await reader.readline() == b"%d\n" % number

    run(main)


def test_each_end_is_captured_where_it_asks_for_it(run: Runner, tmp_path: Path) -> None:
    async def main() -> None:
        with Capture(tmp_path / "mine") as mine, Capture(tmp_path / "theirs") as theirs:
            left, right = (
                replace(QUICK, connection=replace(QUICK.connection, capture=capture)) for capture in (mine, theirs)
            )
            async with pair(left, right) as ((reader, _), (_, other_writer)):
                other_writer.write(b"over both\n")
                assert await reader.readline() == b"over both\n"
                assert b"over both" in (tmp_path / "mine").read_bytes()
                assert b"over both" in (tmp_path / "theirs").read_bytes()

    run(main)


@BOTH
def test_large_transfers_both_ways_at_once(run: Runner, options: StreamOptions) -> None:
    there, back = octets(1_000_003, 1), octets(700_001, 2)

    async def main() -> None:
        async with pair(options, options) as ((reader, writer), (other_reader, other_writer)):
            async with asyncio.TaskGroup() as group:
                group.create_task(send_all(writer, there, 65_536))
                group.create_task(send_all(other_writer, back, 10_001))
                arrived = group.create_task(other_reader.readexactly(len(there)))
                returned = group.create_task(reader.readexactly(len(back)))
            assert await arrived == there
            assert await returned == back

    run(main)


def test_many_small_writes(run: Runner) -> None:
    """They wait together for credit, and go on together."""
    data = octets(20_000)

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (other_reader, _)):
            for at in range(len(data)):
                writer.write(data[at : at + 1])
            assert await other_reader.readexactly(len(data)) == data

    run(main)


@BOTH
def test_half_close(run: Runner, options: StreamOptions) -> None:
    """The server answers when it has read to the end, and its octets arrive behind the client's end."""
    data = octets(100_000)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        everything = await reader.read()
        await send_all(writer, everything[::-1], 4096)
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with serving(answer, options) as server:
            reader, writer = await open_connection(HOST, server.port, options=options)
            assert writer.can_write_eof()
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data[::-1]
            with pytest.raises(RuntimeError, match="write_eof"):
                writer.write(b"more")
            writer.close()
            await writer.wait_closed()

    run(main)


def test_both_sides_shut_down(run: Runner) -> None:
    async def main() -> None:
        async with pair() as ((reader, writer), (other_reader, other_writer)):
            writer.write_eof()
            other_writer.write_eof()
            assert await reader.read() == await other_reader.read() == b""

    run(main)


def test_what_was_written_before_close_arrives(run: Runner) -> None:
    data = octets(300_000)

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (other_reader, _)):
            writer.write(data)
            writer.close()
            assert await other_reader.read() == data

    run(main)


def test_both_sides_close_with_much_to_send(run: Runner) -> None:
    """Neither reads any more, and neither waits for ever: the first to have sent everything ends the stream."""

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (_, other_writer)):
            for each in (writer, other_writer):
                each.write(bytes(300_000))
                each.close()
            ends = await asyncio.gather(writer.wait_closed(), other_writer.wait_closed(), return_exceptions=True)
            assert all(end is None or isinstance(end, StreamLost) for end in ends)

    run(main)


def test_abort_resets_the_peer(run: Runner) -> None:
    async def main() -> None:
        async with pair() as ((reader, writer), (other_reader, other_writer)):
            waiting = asyncio.ensure_future(other_reader.read())
            await asyncio.sleep(0)
            writer.transport.abort()
            with pytest.raises(ConnectionResetError):
                await waiting
            assert await reader.read() == b"", "as asyncio has it: who aborts sees the end, and no error"
            other_writer.write(b"x")
            with pytest.raises(ConnectionResetError):
                await other_writer.drain()

    run(main)


def test_a_peer_that_closes_before_it_has_read_everything(run: Runner) -> None:
    """Its program is gone: whoever writes to it is told that the connection was reset."""

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (_, other_writer)):
            writer.write(bytes(1_000_000))
            other_writer.close()
            with pytest.raises(ConnectionResetError):
                await writer.drain()

    run(main)


def test_a_slow_reader_slows_the_writer_down(run: Runner) -> None:
    """Nothing grows beyond the ring, the send memory and asyncio's limits, and nothing is lost."""
    data = octets(1_000_000)

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (other_reader, other_writer)):
            sending = asyncio.ensure_future(send_all(writer, data, 10_000))
            transport = other_writer.transport
            assert isinstance(transport, StreamTransport)
            await soon(lambda: not transport.is_reading())
            held = len(other_reader._buffer)  # type: ignore[attr-defined]
            for _ in range(100):
                await asyncio.sleep(0)
            assert len(other_reader._buffer) == held <= 2 * 65_536 + 4096  # type: ignore[attr-defined]
            assert not sending.done()
            assert writer.transport.get_write_buffer_size() <= HIGH_WATER + 10_000
            assert await other_reader.readexactly(len(data)) == data
            await sending

    run(main)


def test_one_write_that_is_larger_than_the_memory_for_sending(run: Runner) -> None:
    """TCP takes each part at once, so that nothing comes to tell of room for the next."""
    data = octets(300_000)

    async def main() -> None:
        little = replace(QUICK, send_memory=4096)
        for kind in (bytes, bytearray):
            async with pair(little, QUICK) as ((reader, writer), (other_reader, other_writer)):
                other_writer.write(b"!")
                assert await reader.readexactly(1) == b"!", "what begins a stream is over"
                writer.write(kind(data))
                assert await other_reader.readexactly(len(data)) == data

    run(main)


def test_a_cancelled_reader_loses_nothing(run: Runner) -> None:
    data = octets(50_000)

    async def main() -> None:
        async with pair(SMALL, SMALL) as ((_, writer), (other_reader, _)):
            found = bytearray()
            for at in range(0, len(data), 5000):
                reading = asyncio.ensure_future(other_reader.readexactly(5000))
                await asyncio.sleep(0)
                reading.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reading
                writer.write(data[at : at + 5000])
                found += await other_reader.readexactly(5000)
            assert bytes(found) == data

    run(main)


def test_a_cancelled_connect_leaves_nothing(run: Runner) -> None:
    async def main() -> None:
        async with serving(echo) as server:
            for turns in range(12):
                connecting = asyncio.ensure_future(open_connection(HOST, server.port, options=QUICK))
                for _ in range(turns):
                    await asyncio.sleep(0)
                connecting.cancel()
                try:
                    _, writer = await connecting
                except asyncio.CancelledError:
                    continue
                writer.transport.abort()
            await soon(lambda: not server.counters.requests or "0 streams" in repr(server))

    run(main)


def test_descriptors_stay_flat(run: Runner) -> None:
    """`run` fails if sockets are left."""

    async def main() -> None:
        async with serving(echo) as server:
            for number in range(30):
                reader, writer = await open_connection(HOST, server.port, options=QUICK)
                writer.write(b"x" * 10_000)
                if number % 3:
                    assert await reader.readexactly(10_000) == b"x" * 10_000
                if number % 2:
                    writer.close()
                    await writer.wait_closed()
                else:
                    writer.transport.abort()

    run(main)


def test_what_is_known_of_a_stream(run: Runner) -> None:
    async def main() -> None:
        async with pair() as ((_, writer), (_, other_writer)):
            assert isinstance(writer.transport, StreamTransport)
            peer = writer.get_extra_info("peername")
            assert peer == other_writer.get_extra_info("sockname") == writer.get_extra_info("socket").getpeername()
            assert writer.get_extra_info("sockname") == other_writer.get_extra_info("peername")
            assert writer.get_extra_info("agreement").revision == 2
            assert writer.get_extra_info("cipher") is None
            assert writer.get_extra_info("cipher", "none") == "none"
            assert "open" in repr(writer.transport)

    run(main)


def test_keep_alive_goes_on_until_the_end(run: Runner) -> None:
    """An idle server sends empty Writes, which a peer's program does not see."""

    async def main() -> None:
        async with serving(echo, replace(QUICK, keepalive=0.01)) as server, speaking_to(server.port) as speaker:
            assert (await speaker.heard())[0] == Op.SGL
            before = speaker.connection.qp.counters().fpdus_received
            await soon(lambda: speaker.connection.qp.counters().fpdus_received >= before + 3)
            await speaker.write(b"still here")
            assert await speaker.heard() == (Op.DATA, 10)

    run(main)
