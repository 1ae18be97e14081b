"""Operations in flight: begun in order, and at most so many at once."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from types import TracebackType

__all__ = ["Window"]


class Window:
    """Holds at most `depth` operations in flight; leaving it waits for all, or lets all go if there was an error."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._tasks: deque[asyncio.Task[None]] = deque()

    async def __aenter__(self) -> Window:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._tasks and error is None:
                await self._oldest()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begin(self, operation: Coroutine[None, None, None]) -> None:
        """Begin `operation` when there is room; raises the error of an earlier one, if one failed."""
        try:
            while len(self._tasks) >= self._depth:
                await self._oldest()
        except BaseException:
            operation.close()
            raise
        self._tasks.append(asyncio.get_running_loop().create_task(operation))

    async def _oldest(self) -> None:
        await self._tasks[0]
        self._tasks.popleft()
