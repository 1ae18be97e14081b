"""Private memory between a file and the network: a file's own pages are never sent from, hashed or placed into.

Another program may shorten a file at any time, its file system may fail or be full. A load or store to a mapping of
the file would then end this process with SIGBUS; reading and writing return an error, which costs one transfer.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pyiwarp import Region, RegionSlice
from pyiwarp.files.destination import Destination
from pyiwarp.files.errors import Refusal, reason_of
from pyiwarp.files.source import Source
from pyiwarp.files.tasks import in_thread

__all__ = ["ReadAhead", "StagingMemory", "WriteBehind"]

STEP: Final = 4 << 20
"""Octets that one call in a thread reads or writes, and hashes: enough that the hand-over is cheap."""

HUGE_PAGE: Final = 2 << 20
_NORESERVE: Final = getattr(mmap, "MAP_NORESERVE", 0x4000)
"""Its number on Linux, for most processors; Python has the name since 3.13."""


class StagingMemory:
    """Memory for a file of `nbytes` octets, of which at most `room` are in use at once.

    A `ring` has only `room` octets and is used again and again. Otherwise each octet of the file has its own address,
    as a peer needs that places or reads all of it by one STag; pages come into being when they are used and are given
    back by `drop`.
    """

    def __init__(self, nbytes: int, room: int, *, ring: bool) -> None:
        self.nbytes = nbytes
        self.room = min(nbytes, room)
        self._ring = ring
        self._length = self.room if ring else nbytes
        self._mapping = _anonymous(self._length) if self._length else None
        self.view = memoryview(self._mapping) if self._mapping is not None else memoryview(bytearray())

    def piece(self, start: int, end: int) -> memoryview:
        """The memory of the file's octets from `start` to `end`; they must lie in the ring without a break."""
        offset = start % self._length
        return self.view[offset : offset + end - start]

    def slice_of(self, region: Region, start: int, end: int) -> RegionSlice:
        """The same octets of the region that has this memory."""
        offset = start % self._length
        return region[offset : offset + end - start]

    def unbroken(self, start: int) -> int:
        """The end of the longest piece that begins at `start`."""
        return min(self.nbytes, start - start % self._length + self._length)

    def drop(self, start: int, end: int) -> None:
        """The octets from `start` to `end` are not needed any more."""
        if self._ring or self._mapping is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = end if end == self.nbytes else end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, last - first)

    def close(self) -> None:
        """Give the memory back, or when the transport of an aborted connection drops its last view of it."""
        self.view.release()


def _anonymous(nbytes: int) -> mmap.mmap:
    """Memory that costs nothing before it is used."""
    if not hasattr(mmap, "MAP_PRIVATE"):
        return mmap.mmap(-1, nbytes)
    mapping = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NORESERVE)
    if hasattr(mmap, "MADV_HUGEPAGE") and nbytes >= HUGE_PAGE:
        with suppress(OSError):  # a kernel without them
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping


class Stage:
    """A task that moves a file's octets between the file and `memory`, in order, and hashes them (SHA-256).

    `done` counts the octets moved. Leaving the `async with` block cancels the task. A digest that is `known` is not
    computed again.
    """

    def __init__(self, memory: StagingMemory, known: str = "") -> None:
        self.memory = memory
        self.done = 0
        self._known = known
        self._hash = hashlib.sha256()
        self._told = 0
        self._changed = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())
        self._task.add_done_callback(lambda _: self._changed.set())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def advance(self, upto: int) -> None:
        """The transfer has dealt with the file's first `upto` octets."""
        self._told = upto
        self._changed.set()

    async def wait_until_done(self, upto: int) -> None:
        """Wait until `done` is at least `upto`; raises `Refusal` if the file fails before."""
        while self.done < upto:
            if self._task.done():
                self._task.result()
            await self._change()

    async def finish(self) -> str:
        """Wait until the whole file is moved; returns its SHA-256 in hexadecimal. Raises as `wait_until_done`."""
        await asyncio.shield(self._task)
        return self._known or self._hash.hexdigest()

    async def _run(self) -> None:
        try:
            while self.done < self.memory.nbytes:
                end = min(self.done + STEP, self._limit(), self.memory.unbroken(self.done))
                if end <= self.done:
                    await self._change()
                    continue
                await in_thread(self._step, self.done, end)
                self.done = end
                self._changed.set()
            await in_thread(self._check_end)
        except OSError as error:
            raise Refusal(reason_of(error)) from error

    async def _change(self) -> None:
        """Wait for something new: for this task what the transfer tells, for the transfer what this task has done."""
        self._changed.clear()
        await self._changed.wait()

    def _step(self, start: int, end: int) -> None:
        with self.memory.piece(start, end) as piece:
            self._move(piece, start)
            if not self._known:
                self._hash.update(piece)

    def _limit(self) -> int:
        """The end of the octets that may be moved now."""
        raise NotImplementedError

    def _move(self, piece: memoryview, start: int) -> None:
        """Move the octets of `piece`, which begin at `start` in the file; runs in a thread."""
        raise NotImplementedError

    def _check_end(self) -> None:
        """Look, in a thread, at whether the file is as it was said to be."""


class ReadAhead(Stage):
    """Reads `source` into memory ahead of a transfer that sends it, by as much as the memory has room.

    `advance` says what has been sent, and is not needed any more.
    """

    def __init__(self, source: Source, memory: StagingMemory, known: str = "") -> None:
        self._source = source
        self._dropped = 0
        super().__init__(memory, known)

    def _limit(self) -> int:
        return self._told + self.memory.room

    def _move(self, piece: memoryview, start: int) -> None:
        sent = self._told
        self.memory.drop(self._dropped, sent)
        self._dropped = sent
        self._source.read_into(piece, start)

    def _check_end(self) -> None:
        self._source.check_end()


class WriteBehind(Stage):
    """Writes to `destination` what a transfer has placed in memory; `advance` says how much that is."""

    def __init__(self, destination: Destination, memory: StagingMemory) -> None:
        self._destination = destination
        super().__init__(memory)

    async def wait_for_room(self, upto: int) -> None:
        """Wait until the octets before `upto` may be placed; raises `Refusal` if the file cannot be written."""
        await self.wait_until_done(upto - self.memory.room)

    def _limit(self) -> int:
        return self._told

    def _move(self, piece: memoryview, start: int) -> None:
        self._destination.write(piece, start)

    def _step(self, start: int, end: int) -> None:
        super()._step(start, end)
        self.memory.drop(start, end)
