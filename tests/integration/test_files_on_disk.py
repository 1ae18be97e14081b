"""What `fsync` promises, and what a digest that was wrong leaves behind, seen from outside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pyiwarp.files import digests as digests_module
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.destination import Destination
from pyiwarp.files.dialogue import Dialogue
from pyiwarp.files.errors import ChecksumMismatch, PeerSilent
from pyiwarp.files.server import ServerSettings
from pyiwarp.verbs import QpCounters
from tests.integration.filerig import OPTIONS, Rig, content, digest_of, rig, serving
from tests.integration.loops import soon

__all__ = ["rig"]


class Synced:
    """Which files and directories were flushed to the disk, and what a directory held at that moment."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directories: list[tuple[Path, list[str]]] = []
        self.files: list[int] = []
        real = os.fsync

        def fsync(fd: int) -> None:
            place = Path(os.readlink(f"/proc/self/fd/{fd}"))
            if place.is_dir():
                self.directories.append((place, sorted(os.listdir(place))))
            else:
                self.files.append(os.fstat(fd).st_size)
            real(fd)

        monkeypatch.setattr(os, "fsync", fsync)


@pytest.mark.parametrize("old", [None, b"what was there"], ids=["a new file", "one that is replaced"])
@pytest.mark.parametrize("nbytes", [0, 100_000])
async def test_put_and_get_with_fsync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nbytes: int, old: bytes | None
) -> None:
    synced = Synced(monkeypatch)
    settings = ClientSettings(patience=20, fsync=True, options=OPTIONS)
    async with serving(tmp_path, ServerSettings(patience=20, fsync=True)) as rig:
        (rig.mine / "file").write_bytes(content(nbytes))
        if old is not None:
            (rig.served / "kept").write_bytes(old)
            (rig.mine / "back").write_bytes(old)
        async with connected("127.0.0.1", rig.server.port, settings) as client:
            await client.put(rig.mine / "file", "kept")
            assert synced.files == [nbytes]
            assert synced.directories == [(rig.served, ["kept"])]
            await client.get("kept", rig.mine / "back")
            assert synced.files == [nbytes] * 2
            assert synced.directories[1:] == [(rig.mine, ["back", "file"])]
        assert (rig.mine / "back").read_bytes() == content(nbytes)


async def test_neither_without(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = Synced(monkeypatch)
    (rig.mine / "file").write_bytes(content(1000))
    async with rig.client() as client:
        await client.put(rig.mine / "file", "kept")
        await client.get("kept", rig.mine / "back")
    assert (synced.files, synced.directories) == ([], [])


async def test_a_wrong_digest_is_forgotten(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A digest that is remembered and wrong refuses the file once, and not for ever."""
    monkeypatch.setattr(digests_module, "SETTLED", -1)
    (rig.served / "file").write_bytes(content(5000))
    digests = rig.server._shared.digests
    async with rig.client() as client:
        kind = client.digest
        right = digest_of(content(5000), kind)
        await client.get("file", rig.mine / "one")
        await soon(lambda: len(digests) == 1)  # when the client's last message has come
        ((identity, _),) = digests._digests
        assert digests.get(identity, kind) == right
        digests._digests[identity, kind] = "0" * 64
        with pytest.raises(ChecksumMismatch):
            await client.get("file", rig.mine / "two")
        assert not (rig.mine / "two").exists()
        assert digests.get(identity, kind) is None, "what was found wrong is not given again"
        await client.get("file", rig.mine / "two")
        await soon(lambda: digests.get(identity, kind) == right)
    assert (rig.mine / "two").read_bytes() == content(5000)


async def test_a_digest_that_nobody_has_found_right_is_not_remembered(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client refuses what it got: the server may have read the file while it changed."""
    monkeypatch.setattr(digests_module, "SETTLED", -1)
    (rig.served / "file").write_bytes(content(5000))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async with rig.client() as client:
        monkeypatch.setattr(Destination, "keep", full)
        with pytest.raises(OSError, match="No space"):
            await client.get("file", rig.mine / "one")
        assert (await rig.next_report()).error.startswith("the client cancelled")
        assert len(rig.server._shared.digests) == 0


# --- time limits count progress --------------------------------------------------------------------------------------


class Slow:
    """A connection on which something has moved whenever somebody looks, `looks` times."""

    def __init__(self, looks: int, ended: asyncio.Event, octets: int) -> None:
        self.qp = self
        self._left = looks
        self._looks = looks
        self._octets = octets
        self._ended = ended

    def counters(self) -> QpCounters:
        self._left -= 1
        if self._left == 0:
            self._ended.set()
        fpdus = self._looks - max(0, self._left)
        return QpCounters(fpdus_received=fpdus, octets_received=fpdus * self._octets)


@pytest.mark.parametrize("looks", [2, 20])
async def test_a_slow_transfer_that_moves_is_waited_for(looks: int) -> None:
    """Many times the limit altogether, and never the limit without octets of the file."""
    ended = asyncio.Event()
    talk = Dialogue(Slow(looks, ended, 128), 0.01)  # type: ignore[arg-type]
    with talk.moving(1 << 20):
        assert await talk.wait_for(_done(ended), "the file") == "done"


@pytest.mark.parametrize(
    ("owed", "octets"),
    [(0, 1500), (1 << 20, 20), (1 << 20, 52), (500, 1500)],
    ids=["nothing", "empty Writes", "Reads of nothing", "more than is owed"],
)
async def test_what_is_not_owed_is_not_progress(owed: int, octets: int) -> None:
    ended = asyncio.Event()
    talk = Dialogue(Slow(1000, ended, octets), 0.01)  # type: ignore[arg-type]
    with talk.moving(owed), pytest.raises(PeerSilent):
        await talk.wait_for(_done(ended), "the file")


async def _done(ended: asyncio.Event) -> str:
    await ended.wait()
    return "done"
