"""A file server, a directory beside it, and what hostile peers need to talk to it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import pytest

from pyiwarp.connections.awaitable import Connection
from pyiwarp.connections.options import Options
from pyiwarp.connections.serving import connect
from pyiwarp.errors import ConnectionLost, Disconnected
from pyiwarp.files import session
from pyiwarp.files.client import ClientSettings, FileClient, connected
from pyiwarp.files.digests import Digest
from pyiwarp.files.hello import HELLO
from pyiwarp.files.messages import MESSAGE_LIMIT
from pyiwarp.files.report import Report
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer, ServerSettings
from tests.patience import PATIENCE

SETTINGS = ServerSettings(patience=PATIENCE, clients=4)
IMPATIENT = ServerSettings(patience=1.0)
OPTIONS = Options(recv_size=MESSAGE_LIMIT, linger=0.5)


class Rig:
    """A server of `served`, a directory `mine` beside it, and what the server reported."""

    def __init__(self, directory: Path) -> None:
        self.served = directory / "served"
        self.mine = directory / "mine"
        self.served.mkdir()
        self.mine.mkdir()
        self.reports: list[Report] = []
        self.server: FileServer

    def client(self, patience: float = PATIENCE, *, sha256: bool = False) -> AbstractAsyncContextManager[FileClient]:
        settings = ClientSettings(patience=patience, sha256=sha256, options=OPTIONS)
        return connected("127.0.0.1", self.server.port, settings)

    async def raw(self, hello: bytes = HELLO) -> Connection:
        """A connection on which anything may be said."""
        return await connect("127.0.0.1", self.server.port, private_data=hello, options=OPTIONS)

    async def next_report(self) -> Report:
        """The server's report of an interrupted transfer."""
        async with asyncio.timeout(PATIENCE):
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
    monkeypatch.setattr(session, "CHUNK", 1 << 16)
    return 1 << 16


async def answers_until_the_end(connection: Connection) -> None:
    """Receive until the connection has ended."""
    with suppress(ConnectionLost, Disconnected):
        while True:
            await connection.recv()


def content(nbytes: int) -> bytes:
    return hashlib.shake_128(b"seed").digest(nbytes)


def digest_of(octets: bytes, kind: Digest) -> str:
    """The digest in hexadecimal, computed in one go."""
    hashing = kind.begin()
    hashing.update(memoryview(octets))
    return hashing.hexdigest()
