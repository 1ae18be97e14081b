"""What one client of the file server may take: a place, time, and room on the disk."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyiwarp import Connection, Rejected, RemoteRegion
from pyiwarp.errors import IwarpError
from pyiwarp.files import server as server_module
from pyiwarp.files.client import connected
from pyiwarp.files.errors import RefusedByPeer
from pyiwarp.files.hello import HELLO
from pyiwarp.files.report import Report
from pyiwarp.files.room import RESERVE, default_reserve
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer, ServerSettings
from tests.integration.filerig import Rig, content, rig, serving
from tests.patience import PATIENCE

__all__ = ["rig"]  # the fixture

GIB = 1 << 30


async def keep_sending_nothing(connection: Connection) -> None:
    """Empty RDMA Writes, which are lawful for any STag, until the connection ends."""
    while True:
        await connection.write(b"", RemoteRegion(0, 1, 0))
        await asyncio.sleep(0.05)


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("owed", ["Commit", "Ready"])
async def test_empty_writes_are_not_what_is_owed(tmp_path: Path, owed: str) -> None:
    async with serving(tmp_path, ServerSettings(patience=1.0)) as rig:
        (rig.served / "file").write_bytes(content(1000))
        connection = await rig.raw()
        request = {"op": "put", "name": "x", "size": 0, "stag": 1, "to": 0}
        await connection.send(json.dumps(request if owed == "Commit" else {"op": "get", "name": "file"}).encode())
        with pytest.raises(IwarpError):
            await asyncio.wait_for(keep_sending_nothing(connection), PATIENCE)
        assert "the peer did nothing for 1 s" in (await rig.next_report()).error
        connection.abort()


async def test_a_client_without_a_request_is_ended_whatever_it_sends(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerSettings(idle=0.5)) as rig:
        connection = await rig.raw()
        with pytest.raises(IwarpError):
            await asyncio.wait_for(keep_sending_nothing(connection), PATIENCE)
        connection.abort()


# --- places ----------------------------------------------------------------------------------------------------------


async def test_the_client_that_is_idle_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "GRACE", 0.0)
    caplog.set_level(logging.INFO)
    async with serving(tmp_path, ServerSettings(clients=2)) as rig:
        (rig.served / "file").write_bytes(b"served")
        async with rig.client() as first:
            await first.get("file", rig.mine / "one")
            longest = await rig.raw()
            await first.get("file", rig.mine / "two")  # so that it is not the one
            async with rig.client() as third:
                with pytest.raises(IwarpError):
                    await asyncio.wait_for(longest.recv(), PATIENCE)
                await third.get("file", rig.mine / "three")
                await first.get("file", rig.mine / "four")
        assert rig.server.refusals == {"idle": 1}
    assert "makes room" in caplog.text
    longest.abort()


async def test_who_never_asked_makes_room_although_nobody_was_idle_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "GRACE", PATIENCE)
    monkeypatch.setattr(server_module, "FIRST_GRACE", 0.0)
    async with serving(tmp_path, ServerSettings(clients=3)) as rig:
        (rig.served / "file").write_bytes(b"served")
        async with rig.client() as honest:
            await honest.get("file", rig.mine / "one")
            strangers = [await rig.raw() for _ in range(2)]
            async with rig.client() as newcomer:
                with pytest.raises(IwarpError):
                    await asyncio.wait_for(strangers[0].recv(), PATIENCE)
                await newcomer.get("file", rig.mine / "two")
                await honest.get("file", rig.mine / "three")
        assert rig.server.refusals == {"idle": 1}
        for stranger in strangers:
            stranger.abort()


def is_accepted(port: int, source: str, stack: ExitStack) -> bool:
    """Whether the server accepts a client from the address `source`, which then stays."""
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE, source_address=(source, 0)))
    sock.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, len(HELLO))) + HELLO)
    return not sock.recv(20, socket.MSG_WAITALL)[16] & 0x20  # the R flag


async def test_an_address_with_more_places_makes_room_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "GRACE", PATIENCE)
    monkeypatch.setattr(server_module, "FIRST_GRACE", PATIENCE)
    other_host = "127.0.0.2"  # Linux: all of 127/8 is this host
    async with serving(tmp_path, ServerSettings(clients=3)) as rig:
        with ExitStack() as stack:
            strangers = [await rig.raw() for _ in range(3)]
            with pytest.raises(Rejected, match="full"):  # of the same address, and as new as they are
                await rig.raw()
            assert await asyncio.to_thread(is_accepted, rig.server.port, other_host, stack)
            with pytest.raises(IwarpError):
                await asyncio.wait_for(strangers[0].recv(), PATIENCE)
            assert not await asyncio.to_thread(is_accepted, rig.server.port, other_host, stack), "it has its share"
            for each in strangers:
                each.abort()


async def test_a_client_with_work_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server_module, "GRACE", 0.0)
    caplog.set_level(logging.INFO)
    async with serving(tmp_path, ServerSettings(clients=1)) as rig:
        (rig.served / "file").write_bytes(b"served")
        busy = await rig.raw()
        await busy.send(b'{"op":"get","name":"file"}')
        await busy.recv()
        with pytest.raises(Rejected, match="full"):
            await rig.client().__aenter__()
        assert rig.server.refusals == {"full": 1}
        busy.abort()
    assert "all 1 clients have work" in caplog.text


def asking(port: int, stack: ExitStack) -> socket.socket:
    """A client that has sent its MPA Request."""
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE))
    sock.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, len(HELLO))) + HELLO)
    return sock


async def test_each_of_several_that_ask_at_once_has_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One makes room for another before the server has looked at it."""
    monkeypatch.setattr(server_module, "FIRST_GRACE", 0.0)
    async with serving(tmp_path, ServerSettings(clients=1)) as rig:
        with ExitStack() as stack:
            socks = [asking(rig.server.port, stack) for _ in range(4)]
            for sock in socks:
                assert len(await asyncio.to_thread(sock.recv, 20, socket.MSG_WAITALL)) == 20


async def test_who_has_asked_has_an_answer_when_the_server_ends(tmp_path: Path) -> None:
    async with serving(tmp_path) as rig:
        with ExitStack() as stack:
            socks = [asking(rig.server.port, stack) for _ in range(2)]
            async with asyncio.timeout(PATIENCE):
                while len(rig.server._slots) < 2:  # noqa: ASYNC110 - the server has no event for tests
                    await asyncio.sleep(0)
            await rig.server.close()
            for sock in socks:
                assert len(await asyncio.to_thread(sock.recv, 20, socket.MSG_WAITALL)) == 20


async def test_strangers_do_not_fill_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving(tmp_path) as rig:
        for _ in range(20):
            stranger = await rig.raw()
            await stranger.send(b"no message")
            with pytest.raises(IwarpError):
                await asyncio.wait_for(stranger.recv(), PATIENCE)
            stranger.abort()
    assert len([record for record in caplog.records if record.name == "pyiwarp.files.server"]) == 1


# --- the disk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "name", "why"),
    [
        (ServerSettings(max_file=999), "max_file", "a file of 1000 octets; the server takes 999"),
        (ServerSettings(max_client=999), "max_client", "1000 octets and 0 that this client has under way"),
        (ServerSettings(reserve=1 << 60), "reserve", f"no room for 1000 octets: {1 << 60} are kept free"),
    ],
)
async def test_a_file_beyond_a_limit_is_refused(tmp_path: Path, limits: ServerSettings, name: str, why: str) -> None:
    async with serving(tmp_path, limits) as rig:
        (rig.mine / "file").write_bytes(content(1000))
        (rig.mine / "small").write_bytes(b"")
        async with rig.client() as client:
            with pytest.raises(RefusedByPeer, match=why):
                await client.put(rig.mine / "file", "file")
            assert rig.server.refusals == {name: 1}
            assert why in rig.reports[0].error
            if name != "reserve":
                await client.put(rig.mine / "small", "small")
        assert not (rig.served / "file").exists()


async def test_files_within_the_limits(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerSettings(max_file=1000, max_client=1000, reserve=0)) as rig:
        (rig.mine / "file").write_bytes(content(1000))
        async with rig.client() as client:
            for name in ("one", "two"):  # one after the other: only what is under way counts
                await client.put(rig.mine / "file", name)
        assert rig.server.refusals == {}


async def test_two_files_of_a_client_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path, ServerSettings(max_client=1500)) as rig:
        (rig.mine / "file").write_bytes(content(1000))
        limits = rig.server._shared.limits
        async with rig.client() as client:
            with limits.taken("127.0.0.1", 1000), pytest.raises(RefusedByPeer, match="1000 that this client has"):
                await client.put(rig.mine / "file", "file")
            with limits.taken("192.0.2.1", 1000):
                await client.put(rig.mine / "file", "file")


@pytest.mark.parametrize(("size", "reserve"), [(GIB, GIB // 20), (1000 * GIB, RESERVE)])
async def test_some_of_the_disk_is_left_by_default(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, size: int, reserve: int
) -> None:
    """One twentieth of a small disk, a gibibyte of a large one."""
    (rig.mine / "file").write_bytes(content(5000))
    real = os.fstatvfs
    free = reserve + 5000

    def disk(fd: int) -> os.statvfs_result:
        return os.statvfs_result([1, 1, size, free, free, *real(fd)[5:]])

    async with rig.client() as client:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fstatvfs", disk)
            assert default_reserve(0) == reserve
            await client.put(rig.mine / "file", "fits")
            free -= 1
            with pytest.raises(RefusedByPeer, match=f"{reserve} are kept free"):
                await client.put(rig.mine / "file", "does not")


async def test_room_that_cannot_be_reserved_is_spoken_for(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no fallocate, two files at once may not have the same room."""
    (rig.mine / "file").write_bytes(content(5000))
    real = os.fstatvfs
    monkeypatch.setattr(os, "fstatvfs", lambda fd: os.statvfs_result([1, 1, 20_000, 9000, 9000, *real(fd)[5:]]))
    async with rig.client() as client:
        await client.put(rig.mine / "file", "alone")
        with rig.server._shared.limits.promised(5000), pytest.raises(RefusedByPeer, match="no room"):
            await client.put(rig.mine / "file", "second")


# --- reports ---------------------------------------------------------------------------------------------------------


async def test_a_report_that_fails_ends_no_transfer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail(report: Report) -> None:
        raise BrokenPipeError("nobody reads")

    (tmp_path / "file").write_bytes(b"served")
    with Root(tmp_path) as root:
        async with FileServer(root, on_report=fail) as server:
            await server.start("127.0.0.1")
            async with connected("127.0.0.1", server.port) as client:
                await client.get("file", tmp_path / "one")
                await client.get("file", tmp_path / "two")
    assert "the report of a transfer failed" in caplog.text
