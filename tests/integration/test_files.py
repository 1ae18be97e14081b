"""The file transfer between a server and a client in one process, and what hostile ones get of the other."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import mmap
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from pyiwarp.api import connect, serve
from pyiwarp.cli import filesession
from pyiwarp.cli.dialogue import Dialogue
from pyiwarp.cli.digest import FollowingDigest
from pyiwarp.cli.faults import BadMessage, CannotConnect, ChecksumMismatch, PeerSilent, Refusal, RefusedByPeer
from pyiwarp.cli.fileclient import ClientSettings, FileClient, connected
from pyiwarp.cli.fileproto import HELLO, MESSAGE_LIMIT, Message, decode, encode
from pyiwarp.cli.fileserver import FileServer, ServerSettings
from pyiwarp.cli.report import Report
from pyiwarp.cli.root import Root
from pyiwarp.cli.source import Identity
from pyiwarp.connection import Connection, Options
from pyiwarp.errors import ConnectionLost, Disconnected, IwarpError, MalformedStartup, Rejected, TerminatedByPeer
from pyiwarp.mr import Access, RemoteRegion

SETTINGS = ServerSettings(patience=20, clients=4)
IMPATIENT = ServerSettings(patience=0.3)
OPTIONS = Options(recv_size=MESSAGE_LIMIT, linger=0.5)
SHA_OF_NOTHING = hashlib.sha256().hexdigest()


class Rig:
    """A server of `served`, a directory `mine` beside it, and what the server reported."""

    def __init__(self, directory: Path) -> None:
        self.served = directory / "served"
        self.mine = directory / "mine"
        self.served.mkdir()
        self.mine.mkdir()
        self.reports: list[Report] = []
        self.server: FileServer

    def client(self, patience: float = 20.0) -> AbstractAsyncContextManager[FileClient]:
        return connected("127.0.0.1", self.server.port, ClientSettings(patience=patience, options=OPTIONS))

    async def raw(self) -> Connection:
        """A connection on which anything may be said."""
        return await connect("127.0.0.1", self.server.port, private_data=HELLO, options=OPTIONS)

    async def next_report(self) -> Report:
        """The server's report of what was broken off."""
        async with asyncio.timeout(20):
            while not self.reports:  # noqa: ASYNC110 - the server has no event for tests
                await asyncio.sleep(0.01)
        return self.reports.pop(0)

    def leftovers(self) -> list[str]:
        """Temporary files, in either directory."""
        return [name for directory in (self.served, self.mine) for name in os.listdir(directory) if name[0] == "."]


@asynccontextmanager
async def serving(directory: Path, settings: ServerSettings = SETTINGS) -> AsyncIterator[Rig]:
    rig = Rig(directory)
    with Root(rig.served) as root:
        async with FileServer(root, settings, rig.reports.append) as rig.server:
            await rig.server.start("127.0.0.1")
            yield rig
    assert rig.leftovers() == []


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving(tmp_path) as rig:
        yield rig


@pytest.fixture
async def impatient(tmp_path: Path) -> AsyncIterator[Rig]:
    async with serving(tmp_path, IMPATIENT) as rig:
        yield rig


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> int:
    """Chunks so small that little files need many."""
    monkeypatch.setattr(filesession, "CHUNK", 1 << 16)
    return 1 << 16


def content(nbytes: int) -> bytes:
    return hashlib.shake_128(b"seed").digest(nbytes)


# --- what works ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbytes", [0, 1, 2, 4095, 65535, 65536, 65537, 1_000_003])
async def test_a_file_goes_both_ways(rig: Rig, small_chunks: int, nbytes: int) -> None:
    octets = content(nbytes)
    (rig.served / "file").write_bytes(octets)
    seen: list[tuple[int, int]] = []
    async with rig.client() as client:
        got = await client.get("file", rig.mine / "got", lambda *progress: seen.append(progress))
        put = await client.put(rig.mine / "got", "back")
    assert (rig.mine / "got").read_bytes() == (rig.served / "back").read_bytes() == octets
    chunks = -(-nbytes // small_chunks)
    assert seen == [(min(number * small_chunks, nbytes), nbytes) for number in range(1, chunks + 1)]
    for report in (got, put, *rig.reports):
        assert (report.nbytes, report.error, report.operations) == (nbytes, "", chunks)
        assert report.sha256 == hashlib.sha256(octets).hexdigest()
        assert "SHA-256 ok" in str(report)
    assert [report.stag for report in rig.reports] == [got.stag, put.stag]


async def test_several_files_and_subdirectories(rig: Rig) -> None:
    (rig.served / "sub").mkdir()
    names = ["a", "sub/b", "é 文\n\x1b[31m"]
    for name in names:
        (rig.served / name).write_text(name)
    async with rig.client() as client:
        for number, name in enumerate(names):
            await client.get(name, rig.mine / str(number))
            await client.put(rig.mine / str(number), f"sub/{number}")
    assert [(rig.served / "sub" / str(number)).read_text() for number in range(3)] == names
    assert not any(ord(char) < 32 for report in rig.reports for char in str(report))


async def test_several_clients_at_once(rig: Rig, small_chunks: int) -> None:
    octets = content(5_000_000)
    (rig.served / "file").write_bytes(octets)

    async def one(number: int) -> None:
        async with rig.client() as client:
            await client.get("file", rig.mine / str(number))
            await client.put(rig.mine / str(number), str(number))

    await asyncio.gather(*(one(number) for number in range(4)))
    assert {(rig.served / str(number)).read_bytes() for number in range(4)} == {octets}


async def test_connections_of_every_kind(rig: Rig) -> None:
    (rig.served / "file").write_bytes(content(300_000))
    for options in (
        Options(recv_size=MESSAGE_LIMIT, revision=1),
        Options(recv_size=MESSAGE_LIMIT, markers=True),
        Options(recv_size=MESSAGE_LIMIT, mulpdu=128),
        Options(recv_size=MESSAGE_LIMIT, ord=1),
    ):
        async with connected("127.0.0.1", rig.server.port, ClientSettings(options=options)) as client:
            await client.get("file", rig.mine / "file")
            await client.put(rig.mine / "file", "back")
        assert (rig.served / "back").read_bytes() == content(300_000)


async def test_a_listing_of_any_length(rig: Rig) -> None:
    names = sorted(f"{'x' * 200}{number:05}" for number in range(300))
    for name in names:
        (rig.served / name).touch()
    async with rig.client() as client:
        assert [entry.name async for entry in client.entries()] == names
        with pytest.raises(RefusedByPeer, match="No such file"):
            [entry async for entry in client.entries("none")]
        (rig.served / "sub").mkdir()
        assert [entry async for entry in client.entries("sub/")] == []


async def test_an_empty_directory_has_an_empty_listing(rig: Rig) -> None:
    async with rig.client() as client:
        assert [entry async for entry in client.entries()] == []


async def test_a_file_that_was_sent_before_is_not_hashed_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.served / "file").write_bytes(content(1000))
    asked: list[str | None] = []
    cache = rig.server._shared.digests
    monkeypatch.setattr("pyiwarp.cli.digestcache.SETTLED", -1)
    real_get = cache.get

    def get(identity: Identity) -> str | None:
        asked.append(real_get(identity))
        return asked[-1]

    monkeypatch.setattr(cache, "get", get)
    async with rig.client() as client:
        for _ in range(2):
            await client.get("file", rig.mine / "file")
        (rig.served / "file").write_bytes(content(999))
        await client.get("file", rig.mine / "file")
    assert asked == [None, hashlib.sha256(content(1000)).hexdigest(), None]
    assert (rig.mine / "file").read_bytes() == content(999)


async def test_octets_beyond_four_gib_of_a_region(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that no 32 bits hold, both ways; the files are sparse and only their ends travel."""
    far = (1 << 32) + (1 << 20)
    nbytes = far + 12345
    with (rig.served / "file").open("wb") as file:
        os.truncate(file.fileno(), nbytes)
        os.pwrite(file.fileno(), content(12345), far)
    with (rig.mine / "file").open("w+b") as file:
        os.truncate(file.fileno(), nbytes)
        sink = mmap.mmap(file.fileno(), nbytes)
    async with rig.client() as client:
        connection, talk = client.connection, Dialogue(client.connection, 5)
        async with connection.register(sink, Access.REMOTE_WRITE | Access.LOCAL_WRITE) as region:
            real_range = range
            monkeypatch.setattr(
                filesession, "range", lambda start, stop, step: real_range(far, stop, step), raising=False
            )
            monkeypatch.setattr(FollowingDigest, "finish", _no_digest)
            await talk.say(decode(b'{"op":"get","name":"file"}'))
            assert json.loads(await connection.recv()) == {"op": "found", "size": nbytes}
            await talk.say(decode(json.dumps({"op": "ready", "stag": region.stag, "to": region.to}).encode()))
            assert json.loads(await connection.recv()) == {"op": "placed", "upto": nbytes}
            assert json.loads(await connection.recv())["op"] == "sent"
            await talk.say(decode(b'{"op":"kept"}'))
        assert sink[far:] == content(12345)
    sink.close()


async def _no_digest(self: object) -> str:
    return SHA_OF_NOTHING


# --- refusals: the connection goes on --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["none", "/etc/passwd", "../x", "sub/../../x", "out", "sub", "fifo", "up/mine/x", "", "a/b/c"]
)
async def test_names_that_are_refused(rig: Rig, name: str) -> None:
    (rig.served / "sub").mkdir()
    (rig.served / "out").symlink_to("/etc/passwd")
    (rig.served / "up").symlink_to("..")
    os.mkfifo(rig.served / "fifo")
    (rig.served / "good").write_bytes(b"good")
    (rig.mine / "old").write_bytes(b"old")
    async with rig.client() as client:
        with pytest.raises(RefusedByPeer):
            await client.get(name, rig.mine / "old")
        if name not in ("none", "out"):  # these may be made
            with pytest.raises(RefusedByPeer):
                await client.put(rig.mine / "old", name)
        assert (rig.mine / "old").read_bytes() == b"old"
        await client.get("good", rig.mine / "good")
    assert "refused" not in str(rig.reports[0])
    assert rig.reports[0].error


async def test_the_reasons_name_no_path_of_the_server(rig: Rig) -> None:
    async with rig.client() as client:
        with pytest.raises(RefusedByPeer) as caught:
            await client.get("none", rig.mine / "x")
    assert str(caught.value) == "No such file or directory"


async def test_a_read_only_server(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerSettings(read_only=True)) as rig:
        (rig.served / "file").write_bytes(b"old")
        (rig.mine / "file").write_bytes(content(100_000))
        async with rig.client() as client:
            with pytest.raises(RefusedByPeer, match="read-only"):
                await client.put(rig.mine / "file", "file")
            await client.get("file", rig.mine / "got")
        assert (rig.served / "file").read_bytes() == b"old"


def _full(fd: int, offset: int, nbytes: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_full_disk_on_either_side(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (rig.served, rig.mine):
        (directory / "file").write_bytes(b"old")
    (rig.mine / "new").write_bytes(b"new")
    async with rig.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", _full)
            with pytest.raises(OSError, match="No space left"):
                await client.get("file", rig.mine / "file")
            with pytest.raises(RefusedByPeer, match="No space left"):
                await client.put(rig.mine / "new", "file")
        assert [report.error for report in rig.reports] == [
            "the client gave up: No space left on device",
            "No space left on device",
        ]
        await client.get("file", rig.mine / "file")
    assert (rig.served / "file").read_bytes() == b"old"


async def test_missing_permission_on_either_side(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.served / "file").write_bytes(b"old")
    (rig.mine / "file").write_bytes(b"mine")
    real_open = os.open

    def forbidding(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "file" or flags & os.O_TMPFILE == os.O_TMPFILE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real_open(path, flags, mode, dir_fd=dir_fd)

    async with rig.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", forbidding)
            with pytest.raises(RefusedByPeer, match="Permission denied"):
                await client.get("file", rig.mine / "file")
            with pytest.raises(RefusedByPeer, match="Permission denied"):
                await client.put(rig.mine / "file", "new")
        await client.get("file", rig.mine / "file")


async def test_a_file_that_changes_on_its_way_is_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = rig.served / "file"
    path.write_bytes(content(100_000))
    os.utime(path, ns=(0, 0))
    (rig.mine / "old").write_bytes(b"old")
    real_finish = FollowingDigest.finish

    async def finish_and_change(self: FollowingDigest) -> str:
        with path.open("r+b") as file:
            file.write(b"changed")
        return await real_finish(self)

    monkeypatch.setattr(FollowingDigest, "finish", finish_and_change)
    async with rig.client() as client:
        with pytest.raises(RefusedByPeer, match="changed"):
            await client.get("file", rig.mine / "old")
    assert (rig.mine / "old").read_bytes() == b"old"


async def test_a_wrong_checksum_is_found_on_either_side(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    (rig.served / "file").write_bytes(b"served")
    (rig.mine / "file").write_bytes(b"mine")
    calls = iter(range(100))

    async def different(self: object) -> str:
        return f"{next(calls):064x}"

    monkeypatch.setattr(FollowingDigest, "finish", different)
    async with rig.client() as client:
        with pytest.raises(ChecksumMismatch):
            await client.get("file", rig.mine / "file")
        with pytest.raises(RefusedByPeer, match="SHA-256"):
            await client.put(rig.mine / "file", "file")
    assert (rig.served / "file").read_bytes() == b"served"
    assert (rig.mine / "file").read_bytes() == b"mine"


async def test_a_destination_that_cannot_be(rig: Rig) -> None:
    (rig.served / "file").write_bytes(b"served")
    (rig.mine / "dir").mkdir()
    async with rig.client() as client:
        with pytest.raises(IwarpError, match="directory"):
            await client.get("file", rig.mine / "dir")
        with pytest.raises(FileNotFoundError):
            await client.get("file", rig.mine / "none" / "file")
        with pytest.raises(FileNotFoundError):
            await client.put(rig.mine / "none", "x")
        await client.get("file", rig.mine / "file")


@pytest.mark.parametrize("by_link", [False, True])
async def test_a_destination_that_is_no_file_stays(rig: Rig, by_link: bool) -> None:
    (rig.served / "file").write_bytes(b"served")
    os.mkfifo(rig.mine / "fifo")
    (rig.mine / "link").symlink_to("fifo")
    async with rig.client() as client:
        with pytest.raises(Refusal, match="it is a FIFO"):
            await client.get("file", rig.mine / ("link" if by_link else "fifo"))
        await client.get("file", rig.mine / "file")
    assert (rig.mine / "fifo").is_fifo()
    assert (rig.mine / "link").is_symlink()


@pytest.mark.parametrize("name", ["\udcff", "x" * 1025])
async def test_names_that_cannot_be_said(rig: Rig, name: str) -> None:
    (rig.served / "good").write_bytes(b"good")
    async with rig.client() as client:
        with pytest.raises(Refusal, match="1024 octets of UTF-8"):
            await client.get(name, rig.mine / "x")
        with pytest.raises(Refusal, match="1024 octets of UTF-8"):
            await client.put(rig.served / "good", name)
        with pytest.raises(Refusal, match="1024 octets of UTF-8"):
            assert [entry async for entry in client.entries(name)] == []
        await client.get("good", rig.mine / "good")  # the connection goes on
    assert os.listdir(rig.mine) == ["good"]


# --- who may connect -------------------------------------------------------------------------------------------------


async def test_more_clients_than_allowed_are_rejected(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerSettings(clients=1)) as rig:
        async with rig.client() as client:
            with pytest.raises(Rejected, match="full"):
                await rig.client().__aenter__()
            assert [entry async for entry in client.entries()] == []
        for _ in range(100):  # the first has its place until the server has seen it leave
            try:
                async with rig.client():
                    return
            except Rejected:
                await asyncio.sleep(0.01)
        pytest.fail("the place never came free")


async def test_other_applications_are_rejected(rig: Rig) -> None:
    with pytest.raises(Rejected, match="file server"):
        await connect("127.0.0.1", rig.server.port, private_data=b"hello")


async def test_a_server_of_something_else(tmp_path: Path) -> None:
    async def nothing(connection: Connection) -> None:
        await asyncio.sleep(5)

    async with await serve(nothing, "127.0.0.1") as server:
        with pytest.raises(BadMessage, match="no file server"):
            await connected("127.0.0.1", server.port).__aenter__()
    with pytest.raises(CannotConnect, match="refused"):
        await connected("127.0.0.1", server.port).__aenter__()


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


async def answers_until_the_end(connection: Connection) -> None:
    with suppress(ConnectionLost, Disconnected):
        while True:
            await connection.recv()


@pytest.mark.parametrize("talk", BAD_TALK)
async def test_bad_talk_ends_the_connection(rig: Rig, talk: list[bytes]) -> None:
    (rig.served / "file").write_bytes(b"served")
    connection = await rig.raw()
    for message in talk:
        await connection.send(message)
    async with asyncio.timeout(20):
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
    assert "the peer did nothing for 0.3 s" in report.error
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
        await asyncio.wait_for(flood(), 20)
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
        assert rig.reports[0].error == "the transfer was broken off"
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
        settings = ClientSettings(patience=0.5 if error is PeerSilent else 20, options=OPTIONS)
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
