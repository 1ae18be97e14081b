"""Tasks that go along memory while it is filled."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

__all__ = ["Follower"]


class Follower:
    """A task that does something to `memory` as far as `advance` says that it is filled, or a little ahead of that.

    `filled` octets are there from the beginning. `async with` stops the task and lets the memory go.
    """

    def __init__(self, memory: memoryview, filled: int = 0) -> None:
        self._memory = memory[:]
        self._filled = filled
        self._more = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._memory.release()

    def advance(self, filled: int) -> None:
        """The first `filled` octets are there and will not change."""
        self._filled = filled
        self._more.set()

    async def _news(self) -> None:
        """Return after the next `advance`."""
        self._more.clear()
        await self._more.wait()

    async def _follow(self) -> None:
        """What is done; uses of `_memory` end before it reports or is cancelled."""
        raise NotImplementedError
