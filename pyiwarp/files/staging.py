"""Private memory between a file and the network: a file's own pages are never sent from, hashed or placed into.

Another program may shorten a file at any time, its file system may fail or be full. A load or store to a mapping of
the file would then end this process with SIGBUS; reading and writing return an error, which costs one transfer.
"""

from __future__ import annotations

import asyncio
import ctypes
import mmap
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from pyiwarp import Region, RegionSlice
from pyiwarp.files.destination import Destination
from pyiwarp.files.digests import Digest
from pyiwarp.files.errors import Refusal, reason_of
from pyiwarp.files.source import Source
from pyiwarp.files.tasks import Window, in_thread

__all__ = ["ReadAhead", "StagingMemory", "WriteBehind"]

STEP: Final = 4 << 20
"""Octets that one call in a thread reads, writes or hashes: enough that the hand-over is cheap."""

HASHED_AT_ONCE: Final = 1 << 16
"""Octets up to which hashing takes less time than handing them to a thread."""

WARM: Final = 96 << 20
"""Octets ahead of those reported as placed whose pages are made: what a server may have placed, and some more."""

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
        self.is_ring = ring
        self._length = self.room if ring else nbytes
        self._mapping = _anonymous(self._length) if self._length else None
        self.view = memoryview(self._mapping) if self._mapping is not None else memoryview(bytearray())
        self._address = 0 if self._mapping is None else ctypes.addressof(ctypes.c_char.from_buffer(self._mapping))

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
        if self.is_ring or self._mapping is None or not hasattr(mmap, "MADV_DONTNEED"):
            return
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        last = end if end == self.nbytes else end // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last:
            self._mapping.madvise(mmap.MADV_DONTNEED, first, last - first)

    def warm(self, start: int, end: int) -> None:
        """Make the pages of the octets from `start`, a page's first, to `end`; what they hold already stays.

        It takes a thread's time that the event loop's would take when it places octets there. Where the system has no
        call for it, pages are made when they are used.
        """
        if _MADVISE is not None:
            _MADVISE(self._address + start, end - start, _POPULATE_WRITE)

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


def _madvise() -> Callable[[int, int, int], int] | None:
    """The system call of Linux, during which other threads run: that of `mmap` stops them all."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    call = ctypes.CDLL(None).madvise
    call.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    call.restype = ctypes.c_int
    return call


_MADVISE: Final = _madvise()
_POPULATE_WRITE: Final = 23
"""MADV_POPULATE_WRITE of Linux 5.14; an earlier one refuses the number and does nothing."""


class Stage:
    """A task that moves a file's octets between the file and `memory`, in order, and computes their digest.

    One thread moves octets while another hashes those before them. Leaving the `async with` block cancels the task.
    A digest that is `known` is not computed again.
    """

    def __init__(self, memory: StagingMemory, digest: Digest, known: str = "") -> None:
        self.memory = memory
        self._known = known
        self._hash = digest.begin()
        self._moved = 0
        self._hashed = 0
        self._dropped = 0
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
        """Wait until the octets before `upto` are done with; raises `Refusal` if the file fails before."""
        while self._done() < upto:
            if self._task.done():
                self._task.result()
            await self._change()

    async def finish(self) -> str:
        """Wait until the whole file is moved; returns its digest in hexadecimal. Raises as `wait_until_done`."""
        await asyncio.shield(self._task)
        return self._known or self._hash.hexdigest()

    async def _run(self) -> None:
        try:
            async with Window(1) as hashing:
                while (start := self._moved) < self.memory.nbytes:
                    end = min(start + STEP, self._limit(), self.memory.unbroken(start))
                    if end <= start:
                        await self._change()
                        continue
                    await in_thread(self._move, start, end)
                    self._moved = end
                    self._changed.set()
                    await hashing.begin(self._hash_next(end))
            await in_thread(self._check_end)
        except OSError as error:
            raise Refusal(reason_of(error)) from error

    async def _change(self) -> None:
        """Wait for something new: for this task what the transfer tells, for the transfer what this task has done."""
        self._changed.clear()
        await self._changed.wait()

    async def _hash_next(self, end: int) -> None:
        """Hash the octets from those that are hashed already to `end`."""
        start = self._hashed
        with self.memory.piece(start, end) as piece:
            if self._known:
                pass
            elif end - start > HASHED_AT_ONCE:
                await in_thread(self._hash.update, piece)
            else:
                self._hash.update(piece)
        self._hashed = end
        self._changed.set()

    def _drop(self, upto: int) -> None:
        """The memory of the octets before `upto` is not needed any more."""
        self.memory.drop(self._dropped, upto)
        self._dropped = upto

    def _done(self) -> int:
        """The end of the octets that the transfer may use, or may overwrite."""
        raise NotImplementedError

    def _limit(self) -> int:
        """The end of the octets that may be moved now."""
        raise NotImplementedError

    def _move(self, start: int, end: int) -> None:
        """Move the file's octets from `start` to `end`; runs in a thread."""
        raise NotImplementedError

    def _check_end(self) -> None:
        """Look, in a thread, at whether the file is as it was said to be."""


class ReadAhead(Stage):
    """Reads `source` into memory ahead of a transfer that sends it, by as much as the memory has room.

    `advance` says what has been sent, and is not needed any more.
    """

    def __init__(self, source: Source, memory: StagingMemory, digest: Digest, known: str = "") -> None:
        self._source = source
        super().__init__(memory, digest, known)

    def _done(self) -> int:
        return self._moved

    def _limit(self) -> int:
        return self._finished() + self.memory.room

    def _finished(self) -> int:
        """The end of the octets that are sent and hashed."""
        return min(self._told, self._hashed)

    def _move(self, start: int, end: int) -> None:
        self._drop(self._finished())
        with self.memory.piece(start, end) as piece:
            self._source.read_into(piece, start)

    def _check_end(self) -> None:
        self._source.check_end()


class WriteBehind(Stage):
    """Writes to `destination` what a transfer has placed in memory; `advance` says how much that is."""

    def __init__(self, destination: Destination, memory: StagingMemory, digest: Digest) -> None:
        self._destination = destination
        super().__init__(memory, digest)

    async def _run(self) -> None:
        warming = asyncio.get_running_loop().create_task(self._warm_ahead())
        try:
            await super()._run()
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)

    async def _warm_ahead(self) -> None:
        """Make the pages ahead of those that are in use. A ring's are made once, a small file's are few."""
        warmed = self.memory.nbytes if self.memory.is_ring else 0
        while self.memory.nbytes - warmed > STEP:
            if warmed >= self._told + WARM:
                await self._change()
                continue
            await in_thread(self.memory.warm, warmed, warmed + STEP)
            warmed += STEP

    def _done(self) -> int:
        return self._hashed

    async def wait_for_room(self, upto: int) -> None:
        """Wait until the octets before `upto` may be placed; raises `Refusal` if the file cannot be written."""
        await self.wait_until_done(upto - self.memory.room)

    def _limit(self) -> int:
        return self._told

    def _move(self, start: int, end: int) -> None:
        self._drop(self._hashed)
        with self.memory.piece(start, end) as piece:
            self._destination.write(piece, start)
