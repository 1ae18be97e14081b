"""Memory between a file and the network: who may use which octets when, in which thread they are hashed."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from pyiwarp.files import staging
from pyiwarp.files.destination import Destination
from pyiwarp.files.digests import Digest, Hash
from pyiwarp.files.directories import open_top
from pyiwarp.files.source import Source
from pyiwarp.files.staging import ReadAhead, StagingMemory, WriteBehind
from tests.integration.filerig import content, digest_of
from tests.patience import PATIENCE

STEP = 1 << 17
ROOM = 2 * STEP


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "STEP", STEP)


class GatedHash:
    """SHA-256 that waits for a gate, and tells in which threads it was computed."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate
        self._hash: Hash = Digest.SHA256.begin()
        self.threads = set[int]()

    def update(self, data: memoryview, /) -> None:
        self.threads.add(threading.get_ident())
        assert self._gate.wait(PATIENCE)
        self._hash.update(data)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> tuple[GatedHash, threading.Event]:
    gate = threading.Event()
    gated = GatedHash(gate)
    monkeypatch.setattr(Digest, "begin", lambda kind: gated)
    return gated, gate


async def settled(stage: ReadAhead | WriteBehind) -> int:
    """How far the file's octets were moved when nothing moves any more; they move within a moment."""
    moved = -1
    async with asyncio.timeout(PATIENCE):
        while moved != stage._moved or not moved:
            moved = stage._moved
            await asyncio.sleep(0.1)
    return moved


async def test_a_ring_is_not_read_into_before_its_octets_are_hashed(
    tmp_path: Path, hashing: tuple[GatedHash, threading.Event]
) -> None:
    gated, gate = hashing
    octets = content(5 * STEP)
    (tmp_path / "file").write_bytes(octets)
    memory = StagingMemory(len(octets), ROOM, ring=True)
    with Source.open(tmp_path / "file") as source:
        async with ReadAhead(source, memory, Digest.SHA256) as reading:
            reading.advance(len(octets))  # the network was faster
            assert await settled(reading) <= ROOM
            gate.set()
            assert await reading.finish() == hashlib.sha256(octets).hexdigest()
    assert threading.get_ident() not in gated.threads
    memory.close()


async def test_a_ring_is_not_placed_into_before_its_octets_are_hashed(
    tmp_path: Path, hashing: tuple[GatedHash, threading.Event]
) -> None:
    gated, gate = hashing
    memory = StagingMemory(2 * ROOM, ROOM, ring=True)
    with Destination(open_top(tmp_path), "file") as destination:
        destination.prepare(memory.nbytes)
        async with WriteBehind(destination, memory, Digest.SHA256) as writing:
            writing.advance(ROOM)
            room = asyncio.ensure_future(writing.wait_for_room(ROOM + 1))
            assert await settled(writing) > 0
            assert not room.done()
            gate.set()
            async with asyncio.timeout(PATIENCE):
                await room
                writing.advance(2 * ROOM)
                assert await writing.finish() == hashlib.sha256(bytes(2 * ROOM)).hexdigest()
    assert threading.get_ident() not in gated.threads
    memory.close()


@pytest.mark.parametrize("has_call", [True, False], ids=["", "the system has no call for it"])
async def test_pages_are_warmed_and_keep_what_they_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_call: bool
) -> None:
    """What a peer placed before its pages were made elsewhere stays."""
    if not has_call:
        monkeypatch.setattr(staging, "_MADVISE", None)
    monkeypatch.setattr(staging, "WARM", 2 * STEP)
    octets = content(20 * STEP + 1234)
    memory = StagingMemory(len(octets), ROOM, ring=False)
    warmed: list[tuple[int, int]] = []
    real = memory.warm

    def warm(start: int, end: int) -> None:
        warmed.append((start, end))
        real(start, end)

    monkeypatch.setattr(memory, "warm", warm)
    with Destination(open_top(tmp_path), "file") as destination:
        destination.prepare(len(octets))
        async with WriteBehind(destination, memory, Digest.SHA256) as writing:
            for start in range(0, len(octets), STEP):
                end = min(start + STEP, len(octets))
                await writing.wait_for_room(end)
                memory.view[start:end] = octets[start:end]
                writing.advance(end)
            assert await writing.finish() == digest_of(octets, Digest.SHA256)
        destination.keep()
    assert (tmp_path / "file").read_bytes() == octets
    assert warmed == [(start, start + STEP) for start in range(0, len(warmed) * STEP, STEP)]
    assert len(warmed) <= 20
    memory.close()


async def test_memory_is_given_back_as_the_file_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a file of any size would have all of its octets in memory at the end."""
    dropped: list[tuple[int, int]] = []
    monkeypatch.setattr(StagingMemory, "drop", lambda self, start, end: dropped.append((start, end)))
    octets = content(6 * STEP)
    (tmp_path / "file").write_bytes(octets)
    memory = StagingMemory(len(octets), ROOM, ring=False)
    with Source.open(tmp_path / "file") as source:
        async with ReadAhead(source, memory, Digest.SHA256) as reading:
            for end in range(STEP, len(octets) + 1, STEP):
                async with asyncio.timeout(PATIENCE):
                    await reading.wait_until_done(end)
                reading.advance(end)
            await reading.finish()
    memory.close()
    assert dropped[0][0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(dropped)), "each octet once, in order"
    assert dropped[-1][1] >= len(octets) - ROOM - STEP


def test_warming_changes_no_octet_and_makes_the_pages() -> None:
    memory = StagingMemory(4 * STEP, 4 * STEP, ring=False)
    memory.view[STEP : STEP + 5] = b"hello"
    memory.warm(0, 4 * STEP)
    assert bytes(memory.view[STEP : STEP + 5]) == b"hello"
    assert bytes(memory.view[:STEP]) == bytes(STEP)
    memory.close()
