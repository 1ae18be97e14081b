"""The file transfer between a server and a client in one process: what works, what is refused, who may connect."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import mmap
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pyiwarp.cli.transfers import summary
from pyiwarp.connections.awaitable import Connection
from pyiwarp.connections.options import Options
from pyiwarp.connections.serving import connect, serve
from pyiwarp.errors import IwarpError, Rejected
from pyiwarp.files import room, server, session
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.dialogue import Dialogue
from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage, CannotConnect, ChecksumMismatch, Refusal, RefusedByPeer
from pyiwarp.files.messages import MESSAGE_LIMIT, decode
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer, ServerSettings
from pyiwarp.files.source import Identity, Source
from pyiwarp.files.staging import Stage
from pyiwarp.mr import Access
from tests.hosts import closed_port
from tests.integration.filerig import Rig, content, digest_of, rig, serving, small_chunks
from tests.patience import PATIENCE

__all__ = ["rig", "small_chunks"]  # the fixtures

SHA_OF_NOTHING = hashlib.sha256().hexdigest()


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
        assert report.digest(client.digest) == digest_of(octets, client.digest)
        assert f"{client.digest.title} ok" in summary(report)
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
    assert not any(ord(char) < 32 for report in rig.reports for char in summary(report))


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


@pytest.mark.parametrize(("mode", "times"), [(False, False), (True, False), (False, True)])
async def test_mode_and_times_are_taken_over_if_asked_for(rig: Rig, mode: bool, times: bool) -> None:
    path = rig.served / "tool"
    path.write_bytes(b"#!/bin/sh")
    path.chmod(0o700)
    os.utime(path, ns=(0, 1_000_000_000_123_456_789))
    settings = ClientSettings(mode=mode, times=times)
    async with connected("127.0.0.1", rig.server.port, settings) as client:
        await client.get("tool", rig.mine / "got")
        (rig.mine / "got").chmod(0o750)
        await client.put(rig.mine / "got", "put")
    for file, expected in ((rig.mine / "got", 0o750), (rig.served / "put", 0o750 if mode else None)):
        status = file.stat()
        assert (status.st_mtime_ns == 1_000_000_000_123_456_789) == times
        assert expected is None or status.st_mode & 0o777 == expected
    assert ((rig.served / "put").stat().st_mode & 0o111 != 0) == mode


async def test_odd_times_of_a_file_hide_no_listing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("good", "odd"):
        (rig.served / name).touch()
    real = os.stat

    def odd(path: str, *args: Any, **kwargs: Any) -> os.stat_result:
        status = real(path, *args, **kwargs)
        if path != "odd":
            return status
        seconds = 1 << 62
        fields = [*status[:7], seconds, seconds, seconds]
        return os.stat_result(fields, {"st_mtime_ns": seconds * 10**9})

    monkeypatch.setattr(os, "stat", odd)
    async with rig.client() as client:
        assert [entry.name async for entry in client.entries()] == ["good", "odd"]


async def test_files_of_proc_arrive_with_their_octets(rig: Rig) -> None:
    octets = await asyncio.to_thread(Path("/proc/version").read_bytes)
    assert octets
    async with rig.client() as client:
        await client.put(Path("/proc/version"), "version")
    assert (rig.served / "version").read_bytes() == octets
    with Root(Path("/proc")) as root:
        async with FileServer(root) as other:
            await other.start("127.0.0.1")
            async with connected("127.0.0.1", other.port) as client:
                await client.get("version", rig.mine / "version")
    assert (rig.mine / "version").read_bytes() == octets


@pytest.mark.parametrize("name", ["file/", "none/", "sub/"])
async def test_a_slash_at_the_end_means_a_directory(rig: Rig, name: str) -> None:
    (rig.served / "file").write_bytes(b"served")
    (rig.served / "sub").mkdir()
    (rig.mine / "file").write_bytes(b"mine")
    async with rig.client() as client:
        with pytest.raises(RefusedByPeer, match="directory"):
            await client.get(name, rig.mine / "x")
        with pytest.raises(RefusedByPeer, match="directory"):
            await client.put(rig.mine / "file", name)
        with suppress(RefusedByPeer):
            assert [entry async for entry in client.entries(name)] == []
            assert name == "sub/"
    assert (rig.served / "file").read_bytes() == b"served"


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
    monkeypatch.setattr("pyiwarp.files.digests.SETTLED", -1)
    real_get = cache.get

    def get(identity: Identity, kind: Digest) -> str | None:
        asked.append(real_get(identity, kind))
        return asked[-1]

    monkeypatch.setattr(cache, "get", get)
    async with rig.client() as client:
        for _ in range(2):
            await client.get("file", rig.mine / "file")
        (rig.served / "file").write_bytes(content(999))
        await client.get("file", rig.mine / "file")
    assert asked == [None, digest_of(content(1000), client.digest), None]
    assert (rig.mine / "file").read_bytes() == content(999)


async def test_octets_beyond_four_gib_of_a_region(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Offsets that no 32 bits hold, both ways; the files are sparse and only their ends travel."""
    far = (1 << 32) + (1 << 20)
    nbytes = far + 12345
    with (rig.served / "file").open("wb") as file:
        os.truncate(file.fileno(), nbytes)
        os.pwrite(file.fileno(), content(12345), far)
    with (rig.mine / "file").open("w+b") as mine:
        os.truncate(mine.fileno(), nbytes)
        sink = mmap.mmap(mine.fileno(), nbytes)
    async with rig.client() as client:
        connection, talk = client.connection, Dialogue(client.connection, PATIENCE)
        async with connection.register(sink, Access.REMOTE_WRITE | Access.LOCAL_WRITE) as region:
            real_range = range
            monkeypatch.setattr(session, "range", lambda start, stop, step: real_range(far, stop, step), raising=False)
            real_run = Stage._run

            async def run_from_there(self: Stage) -> None:
                self._moved = self._hashed = self._told = far
                await real_run(self)

            monkeypatch.setattr(Stage, "_run", run_from_there)
            monkeypatch.setattr(Stage, "finish", _no_digest)
            await talk.send(decode(b'{"op":"get","name":"file"}'))
            assert json.loads(await connection.recv()) == {"op": "found", "size": nbytes}
            await talk.send(decode(json.dumps({"op": "ready", "stag": region.stag, "to": region.to}).encode()))
            assert json.loads(await connection.recv()) == {"op": "placed", "upto": nbytes}
            assert json.loads(await connection.recv())["op"] == "sent"
            await talk.send(decode(b'{"op":"kept"}'))
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
        assert rig.server.refusals == {"read_only": 1}


def _full(fd: int, nbytes: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def test_a_full_disk_on_either_side(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for directory in (rig.served, rig.mine):
        (directory / "file").write_bytes(b"old")
    (rig.mine / "new").write_bytes(b"new")
    async with rig.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(room, "_fallocate", _full)
            with pytest.raises(OSError, match="No space left"):
                await client.get("file", rig.mine / "file")
            with pytest.raises(RefusedByPeer, match="No space left"):
                await client.put(rig.mine / "new", "file")
        assert [report.error for report in rig.reports] == [
            "the client cancelled: No space left on device",
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
    real_check = Source.check_end

    def change_and_check(self: Source) -> None:
        with path.open("r+b") as file:
            file.write(b"changed")
        real_check(self)

    monkeypatch.setattr(Source, "check_end", change_and_check)
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

    monkeypatch.setattr(Stage, "finish", different)
    async with rig.client() as client:
        with pytest.raises(ChecksumMismatch):
            await client.get("file", rig.mine / "file")
        with pytest.raises(RefusedByPeer, match=client.digest.title):
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


async def test_more_clients_than_allowed_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE", PATIENCE)
    async with serving(tmp_path, ServerSettings(clients=1)) as rig:
        async with rig.client() as client:
            with pytest.raises(Rejected, match="full"):
                await rig.client().__aenter__()
            assert [entry async for entry in client.entries()] == []
        async with asyncio.timeout(PATIENCE):
            while True:  # the first has its place until the server has seen it leave
                with suppress(Rejected):
                    async with rig.client():
                        return
                await asyncio.sleep(0.01)


async def test_other_applications_are_rejected(rig: Rig) -> None:
    with pytest.raises(Rejected, match="file server"):
        await connect("127.0.0.1", rig.server.port, private_data=b"hello")


async def test_a_server_of_something_else(tmp_path: Path) -> None:
    async def nothing(connection: Connection) -> None:
        await asyncio.sleep(PATIENCE)

    async with await serve(nothing, "127.0.0.1") as server:
        with pytest.raises(BadMessage, match="not a file server"):
            await connected("127.0.0.1", server.port).__aenter__()


async def test_a_port_where_nobody_listens() -> None:
    with closed_port() as port, pytest.raises(CannotConnect, match="refused"):
        await connected("127.0.0.1", port).__aenter__()


@pytest.mark.parametrize("nbytes", [0, 1])
@pytest.mark.parametrize("name", ["new/", "", "../x", "nowhere/x"])
async def test_the_connection_goes_on_after_a_put_that_was_refused(rig: Rig, nbytes: int, name: str) -> None:
    """Of an empty file too, whose Commit the client sends without waiting."""
    (rig.mine / "file").write_bytes(bytes(nbytes))
    async with rig.client() as client:
        for _ in range(3):
            with pytest.raises(RefusedByPeer):
                await client.put(rig.mine / "file", name)
        await client.put(rig.mine / "file", "kept")
        await client.get("kept", rig.mine / "back")
    assert (rig.mine / "back").read_bytes() == bytes(nbytes)
