"""The file transfer and what hostile clients and servers get of the other side."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pyiwarp.connections.awaitable import Connection
from pyiwarp.connections.serving import serve
from pyiwarp.errors import ConnectionLost, Disconnected, IwarpError, MalformedStartup, TerminatedByPeer
from pyiwarp.files.client import ClientSettings, FileClient, connected
from pyiwarp.files.errors import BadMessage, ChecksumMismatch, PeerSilent, RefusedByPeer
from pyiwarp.files.hello import HELLO
from pyiwarp.files.messages import MESSAGE_LIMIT, Message, decode, encode
from pyiwarp.mr import Access, RemoteRegion
from tests.integration.filerig import (
    OPTIONS,
    Rig,
    answers_until_the_end,
    content,
    impatient,
    rig,
    serving,
    small_chunks,
)
from tests.patience import PATIENCE

__all__ = ["impatient", "rig", "small_chunks"]  # the fixtures

SHA_OF_NOTHING = hashlib.sha256().hexdigest()


# --- hostile clients -------------------------------------------------------------------------------------------------

BAD_TALK = [
    [b"\0"],
    [b"[" * 5000],
    [b'{"op":"kept"}'],
    [b'{"op":"get","name":"file"}', b'{"op":"get","name":"file"}'],
    [b'{"op":"get","name":"file"}', b'{"op":"ready","stag":-1,"to":0}'],
    [b'{"op":"put","name":"x","size":70368744177664,"stag":1,"to":1}'],
    [b'{"op":"found","size":1}'],
]


@pytest.mark.parametrize("talk", BAD_TALK)
async def test_bad_talk_ends_the_connection(rig: Rig, talk: list[bytes]) -> None:
    (rig.served / "file").write_bytes(b"served")
    connection = await rig.raw()
    for message in talk:
        await connection.send(message)
    async with asyncio.timeout(PATIENCE):
        await answers_until_the_end(connection)
    connection.abort()


async def test_a_client_that_lends_no_memory(rig: Rig) -> None:
    (rig.served / "file").write_bytes(content(100_000))
    connection = await rig.raw()
    await connection.send(b'{"op":"get","name":"file"}')
    await connection.recv()
    await connection.send(b'{"op":"ready","stag":4660,"to":0}')
    with pytest.raises(IwarpError, match="STag 0x00001234"):
        await connection.recv()
    report = await rig.next_report()
    assert "invalid STag" in report.error
    connection.abort()


async def test_a_client_that_lends_too_little(rig: Rig) -> None:
    connection = await rig.raw()
    (rig.served / "old").write_bytes(b"old")
    region = connection.register(bytearray(1000), Access.REMOTE_READ)
    await connection.send(
        json.dumps({"op": "put", "name": "old", "size": 2000, "stag": region.stag, "to": region.to}).encode()
    )
    with pytest.raises(IwarpError, match="outside the region"):
        await connection.recv()
    assert "bounds" in (await rig.next_report()).error
    assert (rig.served / "old").read_bytes() == b"old"
    connection.abort()


@pytest.mark.parametrize("last_words", [0, 1, 2])
async def test_a_client_that_falls_silent(impatient: Rig, last_words: int) -> None:
    (impatient.served / "file").write_bytes(content(1000))
    connection = await impatient.raw()
    region = connection.register(bytearray(1000), Access.REMOTE_WRITE | Access.LOCAL_WRITE)
    words: list[dict[str, object]] = [
        {"op": "get", "name": "file"},
        {"op": "ready", "stag": region.stag, "to": region.to},
    ]
    if last_words == 0:
        words = [{"op": "put", "name": "x", "size": 0, "stag": 1, "to": 0}]  # and no Commit
    for word in words[: max(last_words, 1)]:
        await connection.send(json.dumps(word).encode())
    report = await impatient.next_report()
    assert "the peer did nothing for 1 s" in report.error
    connection.abort()


async def test_a_client_that_floods(impatient: Rig) -> None:
    """Messages that nobody asked for stop the reading, not the server."""
    (impatient.mine / "file").write_bytes(b"good")
    connection = await impatient.raw()
    region = connection.register(bytearray(100_000), Access.REMOTE_READ)
    put = {"op": "put", "name": "x", "size": 100_000, "stag": region.stag, "to": region.to}
    await connection.send(json.dumps(put).encode())

    async def flood() -> None:
        while True:
            await connection.send(b'{"op":"busy"}' + b" " * 4000)

    with pytest.raises(IwarpError):
        await asyncio.wait_for(flood(), PATIENCE)
    assert (await impatient.next_report()).error
    connection.abort()
    async with impatient.client() as client:
        await client.put(impatient.mine / "file", "file")


async def test_a_client_that_leaves_in_the_middle(rig: Rig, small_chunks: int) -> None:
    (rig.served / "file").write_bytes(content(20_000_000))
    (rig.served / "old").write_bytes(b"old")
    (rig.mine / "file").write_bytes(content(20_000_000))

    async def leave_during(operation: str) -> None:
        def leave(done: int, total: int) -> None:
            client.connection.abort()

        async with rig.client() as client:
            if operation == "get":
                await client.get("file", rig.mine / "new", leave)
            else:
                await client.put(rig.mine / "file", "old", leave)

    for operation in ("get", "put"):
        with pytest.raises(IwarpError):
            await leave_during(operation)
        assert (await rig.next_report()).error
    assert not (rig.mine / "new").exists()
    assert (rig.served / "old").read_bytes() == b"old"


async def test_cancelling_leaves_the_old_file(rig: Rig, small_chunks: int) -> None:
    (rig.served / "file").write_bytes(content(20_000_000))
    (rig.mine / "file").write_bytes(b"old")

    def cancel() -> None:
        task.cancel()

    async def get() -> None:
        async with rig.client() as client:
            await client.get("file", rig.mine / "file", lambda done, total: cancel())

    task = asyncio.ensure_future(get())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (rig.mine / "file").read_bytes() == b"old"
    assert (await rig.next_report()).error


async def test_closing_the_server_breaks_off(tmp_path: Path, small_chunks: int) -> None:
    async with serving(tmp_path) as rig:
        (rig.served / "file").write_bytes(content(20_000_000))

        def close(done: int, total: int) -> None:
            if not closing:
                assert rig.server.transfers == 1
                closing.append(asyncio.ensure_future(rig.server.close()))

        closing: list[asyncio.Future[None]] = []
        with pytest.raises((ConnectionLost, Disconnected)):
            async with rig.client() as client:
                await client.get("file", rig.mine / "file", close)
        await asyncio.gather(*closing)
        assert rig.reports[0].error == "the transfer was interrupted"
        assert rig.server.transfers == 0


# --- hostile servers -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def answering(*answers: bytes, error: object = None) -> AsyncIterator[FileClient]:
    """A client of a server that gives these answers whatever it is asked."""

    async def handler(connection: Connection) -> None:
        await connection.recv()
        for answer in answers:
            await connection.send(answer)
        async for _ in connection:
            pass

    async with await serve(handler, "127.0.0.1", accept=lambda request: HELLO, options=OPTIONS) as server:
        settings = ClientSettings(patience=0.5 if error is PeerSilent else PATIENCE, options=OPTIONS)
        async with connected("127.0.0.1", server.port, settings) as client:
            yield client


def said(**fields: object) -> bytes:
    return json.dumps(fields).encode()


FOUND = said(op="found", size=1000)
PLACED = said(op="placed", upto=1000)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([], PeerSilent),
        ([FOUND], PeerSilent),
        ([b"HTTP/1.1 400 Bad Request"], BadMessage),
        ([PLACED], BadMessage),
        ([said(op="found", size=1 << 45)], OSError),
        ([FOUND, FOUND], BadMessage),
        ([FOUND, said(op="placed", upto=1001)], BadMessage),
        ([FOUND, said(op="placed", upto=0)], BadMessage),
        ([FOUND, PLACED, PLACED], BadMessage),
        ([FOUND, said(op="sent", sha256=SHA_OF_NOTHING)], BadMessage),
        ([FOUND, PLACED, said(op="sent", sha256=SHA_OF_NOTHING)], ChecksumMismatch),
        ([FOUND, PLACED, said(op="refused", reason="x\x1b")], RefusedByPeer),
        ([said(op="busy")], PeerSilent),
    ],
)
async def test_servers_that_lie_to_get(tmp_path: Path, answers: list[bytes], error: type[Exception]) -> None:
    (tmp_path / "file").write_bytes(b"old")

    async def get() -> None:
        async with answering(*answers, error=error) as client:
            await client.get("x", tmp_path / "file")

    with pytest.raises(error):
        await get()
    assert os.listdir(tmp_path) == ["file"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ([], PeerSilent),
        ([said(op="stored")], BadMessage),
        ([said(op="placed", upto=5)], BadMessage),
        ([said(op="placed", upto=4)], PeerSilent),
        ([said(op="refused", reason="no")], RefusedByPeer),
        ([said(op="placed", upto=4), said(op="refused", reason="no")], RefusedByPeer),
    ],
)
async def test_servers_that_lie_to_put(tmp_path: Path, answers: list[bytes], error: type[Exception]) -> None:
    (tmp_path / "file").write_bytes(b"mine")

    async def put() -> None:
        async with answering(*answers, error=error) as client:
            await client.put(tmp_path / "file", "x")

    with pytest.raises(error):
        await put()


@pytest.mark.parametrize(
    ("answers", "error"),
    [([], PeerSilent), ([said(op="end", count=1)], BadMessage), ([said(op="entries", entries=[])], BadMessage)],
)
async def test_servers_that_lie_to_ls(answers: list[bytes], error: type[Exception]) -> None:
    async def listing() -> None:
        async with answering(*answers, error=error) as client:
            async for _ in client.entries():
                pass

    with pytest.raises(error):
        await listing()


async def test_a_server_that_writes_outside_the_memory(tmp_path: Path) -> None:
    async def handler(connection: Connection) -> None:
        await connection.recv()
        await connection.send(FOUND)
        ready = json.loads(await connection.recv())
        await connection.write(bytes(1001), RemoteRegion(ready["to"], ready["stag"], 1001))
        with pytest.raises(TerminatedByPeer):
            await connection.recv()

    async with await serve(handler, "127.0.0.1", accept=lambda request: HELLO, options=OPTIONS) as server:
        with pytest.raises(IwarpError, match="outside the region"):
            async with connected("127.0.0.1", server.port, ClientSettings(options=OPTIONS)) as client:
                await client.get("x", tmp_path / "file")
    assert os.listdir(tmp_path) == []


async def test_a_web_server_is_no_iwarp_peer() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(web, "127.0.0.1", 0) as server:
        with pytest.raises(MalformedStartup):
            await connected("127.0.0.1", server.sockets[0].getsockname()[1]).__aenter__()


def test_every_message_is_bounded() -> None:
    message: Message = decode(said(op="get", name="x" * 1024))
    assert len(encode(message)) < MESSAGE_LIMIT
