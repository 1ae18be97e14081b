"""Files that other programs shorten while they are transferred, and disks that fail: one transfer ends, nothing else.

A process that uses a mapping of such a file is ended by SIGBUS, with all its connections.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pyiwarp import Options
from pyiwarp.files import client as client_module
from pyiwarp.files import staging
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.errors import Refusal, RefusedByPeer
from pyiwarp.files.messages import MESSAGE_LIMIT
from pyiwarp.files.source import Source
from tests.integration.filerig import Rig, content, rig, small_chunks
from tests.patience import PATIENCE

__all__ = ["rig", "small_chunks"]  # the fixtures

BIG = 8_000_000
"""Far more than is read ahead with small chunks."""


@pytest.fixture
def little_room(small_chunks: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """The client's memory is as small beside the file as the server's."""
    monkeypatch.setattr(client_module, "LARGEST_CHUNK", small_chunks)
    monkeypatch.setattr(client_module, "BEHIND", 4 * small_chunks)
    monkeypatch.setattr(staging, "STEP", small_chunks)
    return small_chunks


def once(action: Callable[[], object]) -> Callable[[int, int], None]:
    """A progress function that acts when the first octets are there."""
    done: list[bool] = []

    def progress(placed: int, total: int) -> None:
        if not done:
            done.append(True)
            action()

    return progress


async def both_ways(client: client_module.FileClient, rig: Rig) -> None:
    """The connection goes on."""
    (rig.served / "good").write_bytes(content(200_000))
    await client.get("good", rig.mine / "good")
    await client.put(rig.mine / "good", "back")
    assert (rig.served / "back").read_bytes() == content(200_000)


async def test_a_served_file_is_shortened(rig: Rig, little_room: int) -> None:
    path = rig.served / "file"
    path.write_bytes(content(BIG))
    (rig.mine / "old").write_bytes(b"old")
    async with rig.client() as other, rig.client() as client:
        with pytest.raises(RefusedByPeer, match="the file changed while it was being sent"):
            await client.get("file", rig.mine / "old", once(lambda: os.truncate(path, 4096)))
        assert rig.reports[0].error == "the file changed while it was being sent"
        await both_ways(client, rig)
        await both_ways(other, rig)
    assert (rig.mine / "old").read_bytes() == b"old"


async def test_a_file_that_is_put_is_shortened(rig: Rig, little_room: int) -> None:
    path = rig.mine / "file"
    path.write_bytes(content(BIG))
    (rig.served / "old").write_bytes(b"old")
    async with rig.client() as client:
        with pytest.raises(Refusal, match="the file changed while it was being sent"):
            await client.put(path, "old", once(lambda: os.truncate(path, 4096)))
        await both_ways(client, rig)
    assert rig.reports[0].error == "the client cancelled: the file changed while it was being sent"
    assert (rig.served / "old").read_bytes() == b"old"


def failing(call: str, place: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`call` (preadv or pwrite) fails for files of the directory `place`, from the second megabyte on."""
    real: Callable[..., Any] = getattr(os, call)

    def fail(fd: int, octets: Any, offset: int) -> Any:
        if offset > 1 << 20 and os.readlink(f"/proc/self/fd/{fd}").startswith(str(place)):
            raise OSError(error, os.strerror(error))
        return real(fd, octets, offset)

    monkeypatch.setattr(os, call, fail)


async def transfer(client: client_module.FileClient, direction: str, rig: Rig) -> None:
    if direction == "get":
        await client.get("file", rig.mine / "got")
    else:
        await client.put(rig.mine / "file", "got")


@pytest.mark.parametrize("error", [errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("direction", ["get", "put"])
async def test_a_file_that_cannot_be_read_any_more(
    rig: Rig, little_room: int, monkeypatch: pytest.MonkeyPatch, direction: str, error: int
) -> None:
    for directory in (rig.served, rig.mine):
        (directory / "file").write_bytes(content(BIG))
    async with rig.client() as client:
        with monkeypatch.context() as patch:
            failing("preadv", rig.served if direction == "get" else rig.mine, error, patch)
            with pytest.raises(Refusal, match=os.strerror(error)):
                await transfer(client, direction, rig)
        await both_ways(client, rig)
    assert not (rig.mine / "got").exists()
    assert not (rig.served / "got").exists()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("direction", ["get", "put"])
async def test_a_disk_that_takes_no_more(
    rig: Rig, little_room: int, monkeypatch: pytest.MonkeyPatch, direction: str, error: int
) -> None:
    """Where room was not reserved, or was and is not there."""
    for directory in (rig.served, rig.mine):
        (directory / "file").write_bytes(content(BIG))
    async with rig.client() as client:
        with monkeypatch.context() as patch:
            failing("pwrite", rig.mine if direction == "get" else rig.served, error, patch)
            with pytest.raises(Refusal, match=os.strerror(error)):
                await transfer(client, direction, rig)
        await both_ways(client, rig)
    assert not (rig.mine / "got").exists()
    assert not (rig.served / "got").exists()


@pytest.mark.parametrize("depth", [1, 4])
async def test_a_disk_that_is_slower_than_the_network(
    rig: Rig, little_room: int, monkeypatch: pytest.MonkeyPatch, depth: int
) -> None:
    """The server's Reads never reach memory that is not filled yet, nor its Writes memory that is in use."""
    (rig.mine / "file").write_bytes(content(BIG))
    real = Source.read_into

    def slow(self: Source, piece: memoryview, offset: int) -> None:
        time.sleep(0.002)
        real(self, piece, offset)

    monkeypatch.setattr(Source, "read_into", slow)
    options = Options(recv_size=MESSAGE_LIMIT, recv_depth=depth, linger=0.5)
    settings = ClientSettings(patience=PATIENCE, options=options)
    async with connected("127.0.0.1", rig.server.port, settings) as client:
        await client.put(rig.mine / "file", "put")
        await client.get("put", rig.mine / "got")
    assert (rig.mine / "got").read_bytes() == content(BIG)
