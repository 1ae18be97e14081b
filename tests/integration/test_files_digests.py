"""The digest that verifies a file: which one is agreed on, and that versions before that agreement go on working.

`GET`, `PUT` and `PUT_WITH_MODE` were recorded from the version before, with its chunks as small as `small_chunks`.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from pyiwarp import Connection, RemoteRegion, Request, listen
from pyiwarp.errors import IwarpError, Rejected
from pyiwarp.files import digests
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import BadMessage
from pyiwarp.files.report import Report
from pyiwarp.files.server import ServerSettings
from pyiwarp.mr import Access
from tests.integration.filerig import (
    OPTIONS,
    Rig,
    answers_until_the_end,
    content,
    digest_of,
    rig,
    serving,
    small_chunks,
)
from tests.patience import PATIENCE

__all__ = ["rig", "small_chunks"]  # the fixtures

needs_blake3 = pytest.mark.skipif(not Digest.BLAKE3.is_here, reason="the package blake3 is not installed")

HELLO_BEFORE = b"pyiwarp files 1"
REJECTION_BEFORE = b"this is a file server; it serves clients of pyiwarp files 1"
FILE = bytes(range(256)) * 400
SHA = "27783e87963a4efb6829b531c9ba57b44f45797f6770bd637fbf0d807cbdbae0"


class Said(NamedTuple):
    """One message of a recording."""

    by_client: bool
    text: str

    def lending(self, stag: int, to: int) -> bytes:
        """The message, with memory of this run where it names that of the recorded one."""
        fields = json.loads(self.text)
        if "stag" in fields:
            fields |= {"stag": stag, "to": to}
        return json.dumps(fields, separators=(",", ":")).encode()


GET = [
    Said(True, '{"op":"get","name":"file"}'),
    Said(False, '{"op":"found","size":102400}'),
    Said(True, '{"op":"ready","stag":2817188890,"to":75995084365824}'),
    Said(False, '{"op":"placed","upto":65536}'),
    Said(False, '{"op":"placed","upto":102400}'),
    Said(False, f'{{"op":"sent","sha256":"{SHA}"}}'),
    Said(True, '{"op":"kept"}'),
]
PUT = [
    Said(True, '{"op":"put","name":"put","size":102400,"stag":3709862363,"to":75995084476416}'),
    Said(False, '{"op":"placed","upto":65536}'),
    Said(False, '{"op":"placed","upto":102400}'),
    Said(True, f'{{"op":"commit","sha256":"{SHA}"}}'),
    Said(False, '{"op":"stored"}'),
]
PUT_WITH_MODE = [
    Said(
        True,
        '{"op":"put","name":"put","size":102400,"stag":910729112,"to":79242130083840,'
        '"permissions":416,"mtime":1700000000000000000}',
    ),
    *PUT[1:],
]


# --- which is agreed on ----------------------------------------------------------------------------------------------


async def both_ways(rig: Rig, *, sha256: bool = False) -> list[Report]:
    """A file goes both ways; returns what both sides report."""
    (rig.served / "file").write_bytes(content(300_000))
    rig.reports.clear()
    async with rig.client(sha256=sha256) as client:
        mine = [await client.get("file", rig.mine / "got"), await client.put(rig.mine / "got", "back")]
    assert (rig.served / "back").read_bytes() == content(300_000)
    return mine + rig.reports


def verified_by(kind: Digest, reports: list[Report]) -> bool:
    expected = {kind: digest_of(content(300_000), kind)}
    return len(reports) == 4 and all(
        (report.verified_by, report.error) == (kind.title, "")
        and all(report.digest(each) == expected.get(each, "") for each in Digest)
        for report in reports
    )


@needs_blake3
async def test_files_are_verified_by_blake3_where_both_have_it(rig: Rig, small_chunks: int) -> None:
    assert verified_by(Digest.BLAKE3, await both_ways(rig))


async def test_a_client_may_ask_for_sha256(rig: Rig, small_chunks: int) -> None:
    assert verified_by(Digest.SHA256, await both_ways(rig, sha256=True))


async def test_a_server_may_ask_for_sha256(tmp_path: Path, small_chunks: int) -> None:
    async with serving(tmp_path, ServerSettings(patience=PATIENCE, sha256=True)) as rig:
        assert verified_by(Digest.SHA256, await both_ways(rig))
        assert not rig.server.refusals


async def test_sides_without_blake3_use_sha256(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "BLAKE3", None)
    assert verified_by(Digest.SHA256, await both_ways(rig))


@needs_blake3
async def test_a_server_remembers_each_digest_by_itself(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was computed for a client with BLAKE3 is not told to one with SHA-256."""
    monkeypatch.setattr(digests, "SETTLED", -1)
    for sha256 in (False, True, False):
        kind = Digest.SHA256 if sha256 else Digest.BLAKE3
        assert verified_by(kind, await both_ways(rig, sha256=sha256))


# --- versions before -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("recorded", [GET, PUT, PUT_WITH_MODE], ids=["get", "put", "put with mode and times"])
async def test_a_client_of_before_hears_what_it_heard(rig: Rig, small_chunks: int, recorded: list[Said]) -> None:
    (rig.served / "file").write_bytes(FILE)
    connection = await rig.raw(HELLO_BEFORE)
    assert connection.private_data == HELLO_BEFORE
    memory = bytearray(len(FILE)) if recorded is GET else bytearray(FILE)
    async with connection.register(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ) as region:
        async with asyncio.timeout(PATIENCE):
            for said in recorded:
                if said.by_client:
                    await connection.send(said.lending(region.stag, region.to))
                else:
                    assert await connection.recv() == said.text.encode()
        report = await rig.next_report()
    await connection.close()
    assert (report.error, report.sha256, report.blake3) == ("", SHA, "")
    assert memory == FILE
    if recorded is not GET:
        assert (rig.served / "put").read_bytes() == FILE


class ServerOfBefore:
    """Plays its part of a recording, and rejects clients as the version before did."""

    def __init__(self, recorded: list[Said]) -> None:
        self._recorded = recorded
        self.offers: list[bytes] = []
        self.placed = bytearray(len(FILE))

    async def answer(self, request: Request) -> None:
        self.offers.append(request.private_data)
        if request.private_data != HELLO_BEFORE:
            await request.reject(REJECTION_BEFORE)
            return
        await self.play(await request.accept(HELLO_BEFORE))

    async def play(self, connection: Connection) -> None:
        stag = to = upto = 0
        for said in self._recorded:
            fields = json.loads(said.text)
            if said.by_client:
                heard = await connection.recv()
                if "stag" in fields:
                    stag, to = (json.loads(heard)[name] for name in ("stag", "to"))
                assert heard == said.lending(stag, to)
                continue
            if fields["op"] == "placed":
                remote = RemoteRegion(to + upto, stag, fields["upto"] - upto)
                if self._recorded is GET:
                    await connection.write(FILE[upto : fields["upto"]], remote)
                else:
                    await connection.read(memoryview(self.placed)[upto : fields["upto"]], remote)
                upto = fields["upto"]
            await connection.send(said.text.encode())
        await connection.close()


@asynccontextmanager
async def of_before(server: ServerOfBefore) -> AsyncIterator[int]:
    """A server's port; what it found wrong is raised at the end."""
    async with listen("127.0.0.1", options=OPTIONS) as listener, asyncio.TaskGroup() as tasks:

        async def accept_all() -> None:
            async for request in listener:
                tasks.create_task(server.answer(request))

        accepting = tasks.create_task(accept_all())
        yield listener.port
        accepting.cancel()


@pytest.mark.parametrize("sha256", [False, True], ids=["offers BLAKE3", "SHA-256 asked for"])
async def test_a_server_of_before_hears_what_it_heard(tmp_path: Path, sha256: bool) -> None:
    (tmp_path / "file").write_bytes(FILE)
    for recorded in (GET, PUT):
        server = ServerOfBefore(recorded)
        settings = ClientSettings(patience=PATIENCE, sha256=sha256, options=OPTIONS)
        async with of_before(server) as port, connected("127.0.0.1", port, settings) as client:
            assert client.digest is Digest.SHA256
            if recorded is GET:
                report = await client.get("file", tmp_path / "got")
                assert (tmp_path / "got").read_bytes() == FILE
            else:
                report = await client.put(tmp_path / "file", "put")
                assert server.placed == FILE
        assert (report.sha256, report.verified_by) == (SHA, "SHA-256")
        offers_blake3 = Digest.BLAKE3.is_here and not sha256
        assert server.offers == [HELLO_BEFORE + b" blake3"] * offers_blake3 + [HELLO_BEFORE]


# --- hostile peers ---------------------------------------------------------------------------------------------------


class Rejecting(ServerOfBefore):
    """Rejects everyone."""

    async def answer(self, request: Request) -> None:
        self.offers.append(request.private_data)
        await request.reject(REJECTION_BEFORE)


async def test_a_server_that_rejects_again_and_again_is_asked_twice_at_most() -> None:
    server = Rejecting([])
    async with of_before(server) as port:
        with pytest.raises(Rejected):
            await connected("127.0.0.1", port, ClientSettings(options=OPTIONS)).__aenter__()
    assert server.offers == [HELLO_BEFORE + b" blake3"] * Digest.BLAKE3.is_here + [HELLO_BEFORE]


class Choosing(ServerOfBefore):
    """Chooses a digest that nobody has offered."""

    async def answer(self, request: Request) -> None:
        await request.accept(HELLO_BEFORE + b" k12")


async def test_a_server_that_chooses_what_was_not_offered() -> None:
    async with of_before(Choosing([])) as port:
        with pytest.raises(BadMessage, match="chose a digest that this client has not offered"):
            await connected("127.0.0.1", port, ClientSettings(options=OPTIONS)).__aenter__()


class OfAnotherDigest(ServerOfBefore):
    """Agrees on BLAKE3, and tells a SHA-256."""

    async def answer(self, request: Request) -> None:
        with pytest.raises(IwarpError):
            await self.play(await request.accept(request.private_data))


@needs_blake3
async def test_a_server_that_tells_another_digest_than_was_agreed_on(tmp_path: Path) -> None:
    settings = ClientSettings(patience=PATIENCE, options=OPTIONS)
    async with of_before(OfAnotherDigest(GET)) as port:
        with pytest.raises(BadMessage, match="'sent' has another digest than BLAKE3"):
            async with connected("127.0.0.1", port, settings) as client:
                await client.get("file", tmp_path / "got")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("hello", "commit"),
    [
        (b"pyiwarp files 1", {"blake3": "0" * 64}),
        pytest.param(b"pyiwarp files 1 blake3", {"sha256": SHA}, marks=needs_blake3),
        (b"pyiwarp files 1", {"sha256": SHA, "blake3": "0" * 64}),
        (b"pyiwarp files 1", {}),
        (b"pyiwarp files 1", {"k12": "0" * 64}),
    ],
)
async def test_a_client_that_tells_another_digest_than_was_agreed_on(
    rig: Rig, hello: bytes, commit: dict[str, str]
) -> None:
    (rig.served / "put").write_bytes(b"old")
    connection = await rig.raw(hello)
    assert connection.private_data == hello
    region = connection.register(bytearray(FILE), Access.REMOTE_READ)
    async with asyncio.timeout(PATIENCE):
        await connection.send(PUT[0].lending(region.stag, region.to))
        await connection.recv()
        await connection.send(json.dumps({"op": "commit"} | commit).encode())
        await answers_until_the_end(connection)
    connection.abort()
    report = await rig.next_report()
    assert "digest" in report.error or "fields" in report.error
    assert (rig.served / "put").read_bytes() == b"old"


async def test_a_client_with_too_many_digests_is_rejected(rig: Rig) -> None:
    with pytest.raises(IwarpError, match="serves clients of pyiwarp files 1"):
        await rig.raw(HELLO_BEFORE + b" x" * 246)
    assert rig.server.refusals == {"other_application": 1}
