"""`pyiwarp explain --live`: what passes is told and not changed."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Access, Connection, RemoteRegion
from pyiwarp.cm.asyncio_dialing import dial
from pyiwarp.cm.listening import listening_sockets
from pyiwarp.explain import live
from pyiwarp.explain.live import LiveProxy
from pyiwarp.explain.packets import TcpSegment
from pyiwarp.explain.story import Conversation, Message, Reader
from tests.children import COMMAND, finished, started
from tests.hosts import keep_little

LIMIT = 60.0


class Watching:
    """A proxy that runs, and what it told."""

    def __init__(self, proxy: LiveProxy) -> None:
        self.proxy = proxy
        self.port = 0
        self.texts: list[str] = []
        self.complaints: list[str] = []


@asynccontextmanager
async def watching(port: int, keep: int | None = 8) -> AsyncIterator[Watching]:
    def tell(conversation: Conversation, messages: list[Message]) -> None:
        watched.texts += [message.text for message in messages]

    listening = asyncio.Event()

    def on_listening(host: str, port: int) -> None:
        watched.port = port
        listening.set()

    complain: Callable[[str], None] = lambda line: watched.complaints.append(line)  # noqa: E731
    watched = Watching(LiveProxy("127.0.0.1", port, tell, complain, keep=keep))
    task = asyncio.create_task(watched.proxy.run("127.0.0.1", 0, on_listening))
    try:
        await asyncio.wait_for(listening.wait(), LIMIT)
        yield watched
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT):
        while not holds():  # noqa: ASYNC110  # of what other tasks do, nobody says
            await asyncio.sleep(0.01)


@asynccontextmanager
async def peer(
    speak: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    async with await asyncio.start_server(speak, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_octets_pass_unchanged_and_the_end_of_one_direction_leaves_the_other() -> None:
    mine, theirs = (random.Random(seed).randbytes(2_000_000) for seed in (1, 2))
    came: list[bytes] = []

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(await reader.read(-1))  # until the client's end
        writer.write(theirs)
        await writer.drain()
        writer.close()

    async with peer(speak) as port, watching(port) as watched, asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
        writer.write(mine)
        writer.write_eof()
        assert await reader.read(-1) == theirs
        writer.close()
        await until(lambda: sum(text.startswith("TCP FIN") for text in watched.texts) == 2)
    assert came == [mine]
    assert watched.proxy.conversations == []


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_reset_is_passed_on(by_client: bool) -> None:
    seen: list[bool] = []
    reset = struct.pack("ii", 1, 0)

    async def end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, breaks: bool) -> None:
        if breaks:
            await reader.readexactly(1)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            return
        try:
            await reader.read(-1)
            seen.append(False)
        except ConnectionResetError:
            seen.append(True)
        writer.close()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x")
        await end(reader, writer, not by_client)

    async with peer(speak) as port, watching(port) as watched, asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
        writer.write(b"x")
        await end(reader, writer, by_client)
        await until(lambda: len(seen) == 1)
        await until(lambda: "TCP RST: the connection is reset" in watched.texts)
    assert seen == [True]


@pytest.mark.parametrize("by_client", [True, False])
async def test_a_side_that_has_gone_before_the_other_is_there_is_no_error(
    by_client: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It resets TCP before the proxy looks at it; the other side is let go, and nothing is left."""
    there, gone = asyncio.Event(), asyncio.Event()
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(context))

    def leave(writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if by_client:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        else:
            leave(writer)
        gone.set()

    async def dialed(*place: Any) -> socket.socket:
        sock = await dial(*place)
        if by_client:
            await there.wait()
            leave(client)
        else:
            await gone.wait()
        await asyncio.sleep(0.1)  # the reset passes on loopback
        return sock

    monkeypatch.setattr(live, "dial", dialed)
    async with peer(speak) as port, watching(port) as watched, asyncio.timeout(LIMIT):
        reader, client = await asyncio.open_connection("127.0.0.1", watched.port)
        there.set()
        if not by_client:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        await gone.wait()
        await until(lambda: not watched.proxy._tasks)
        client.close()
    gc.collect()
    assert unhandled == []
    assert watched.complaints == []


async def test_a_side_that_takes_nothing_makes_the_other_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = asyncio.Event()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        keep_little(writer.get_extra_info("socket"))
        await silent.wait()
        writer.close()

    async def dialed(*place: Any) -> socket.socket:
        keep_little(sock := await dial(*place))
        return sock

    def listening(*places: Any) -> list[socket.socket]:
        keep_little(*(found := listening_sockets(*places)))  # those that it accepts are as it is
        return found

    monkeypatch.setattr(live, "dial", dialed)
    monkeypatch.setattr(live, "listening_sockets", listening)
    most = 16 << 20  # what the kernel keeps of it is a tenth, at most
    async with peer(speak) as port, watching(port) as watched:
        with socket.create_connection(("127.0.0.1", watched.port), LIMIT) as sock:
            keep_little(sock)
            sock.setblocking(False)
            loop, passed, piece = asyncio.get_running_loop(), 0, random.Random(3).randbytes(1 << 16)
            with suppress(TimeoutError):
                while passed < most:
                    async with asyncio.timeout(0.5):
                        await loop.sock_sendall(sock, piece)
                    passed += len(piece)
            assert passed < most
        silent.set()


async def test_of_what_is_no_mpa_the_beginning_alone_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0
    take = Reader.take

    def counted(reader: Reader, segment: TcpSegment) -> None:
        nonlocal looked
        looked += len(segment.payload)
        take(reader, segment)

    monkeypatch.setattr(Reader, "take", counted)
    came = asyncio.get_running_loop().create_future()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set_result(await reader.read(-1))
        writer.close()

    async with peer(speak) as port, watching(port) as watched, asyncio.timeout(LIMIT):
        _, writer = await asyncio.open_connection("127.0.0.1", watched.port)
        writer.write(bytes(3_000_000))
        writer.write_eof()
        assert await came == bytes(3_000_000)
        writer.close()
    assert looked <= live._LOOKED_AT


async def test_a_place_where_nobody_listens_is_said_and_the_client_is_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with watching(port) as watched, asyncio.timeout(LIMIT):
        reader, writer = await asyncio.open_connection("127.0.0.1", watched.port)
        with suppress(ConnectionResetError):
            assert await reader.read(-1) == b""
        await until(lambda: len(watched.complaints) == 1)
        writer.close()


async def lend(conn: Connection) -> None:
    async with conn.register(bytearray(4096), Access.LOCAL_WRITE | Access.REMOTE_WRITE) as region:
        await conn.send(region.advertise())
        with suppress(pyiwarp.IwarpError):
            async for _ in conn:
                pass


async def session(port: int) -> None:
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        remote = RemoteRegion.parse(await conn.recv())
        await conn.write(bytearray(3000), remote)
        await conn.send(b"done")


async def test_a_session_is_told_as_it_passes_and_later_ones_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEPT_CONNECTIONS", 2)
    async with (
        await pyiwarp.serve(lend, "127.0.0.1") as server,
        watching(server.port) as watched,
        asyncio.timeout(LIMIT),
    ):
        for number in range(1, 4):
            await session(watched.port)
            await until(lambda: sum(each.startswith("TCP FIN") for each in watched.texts) >= 2 * number)  # noqa: B023
    assert [text.partition(",")[0] for text in watched.texts[:2]] == ["MPA Request", "MPA Reply"]
    assert any(text.startswith("RDMA Write ") and "[3000 octets" in text for text in watched.texts)
    assert (len(watched.proxy.conversations), watched.proxy.forgotten) == (2, 1)
    kept = [message.text for message in watched.proxy.conversations[0].messages]
    assert watched.texts[: len(kept)] == kept


@pytest.mark.skipif(sys.platform == "win32", reason="a child cannot be sent Ctrl-C there")
@pytest.mark.parametrize("form", ["--html", "--json"])
async def test_ctrl_c_ends_it_and_writes_what_was_seen(tmp_path: Path, form: str) -> None:
    page = tmp_path / "page.html"
    async with await pyiwarp.serve(lend, "127.0.0.1") as server:
        words = ["--html", str(page)] if form == "--html" else ["--json"]
        command = [*COMMAND, "explain", "--live", f"127.0.0.1:{server.port}", *words]
        with started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            async with asyncio.timeout(LIMIT):
                said = await asyncio.to_thread(child.stderr.readline)
                matched = re.search(r"clients come to 127\.0\.0\.1:(\d+)", said)
                assert matched is not None, said
                await session(int(matched[1]))
                if form == "--html":
                    while "TCP FIN" not in await asyncio.to_thread(child.stdout.readline):
                        pass
                child.send_signal(signal.SIGINT)
                out, err = await asyncio.to_thread(child.communicate, timeout=LIMIT)
    assert child.returncode == 0, err
    if form == "--html":
        assert "RDMA Write" in page.read_text(encoding="utf-8")
    else:
        (told,) = (json.loads(line) for line in out.splitlines())
        assert any("RDMA Write" in message["text"] for message in told["messages"])


@pytest.mark.parametrize("words", [["--listen", "7"], ["--live", "h:1", "--demo", "write"], ["--live", "h:0"]])
def test_what_cannot_be_watched_is_said(words: list[str]) -> None:
    done = finished([*COMMAND, "explain", *words], timeout=LIMIT)
    assert done.returncode in (1, 2)
    assert done.stderr
