"""Tasks and threads of a transfer: bounded operations in flight, work in a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import ParamSpec, TypeVar

__all__ = ["Window", "in_thread", "opened_in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work`, which would block the event loop, in a thread of the loop's pool; returns its result.

    Cancelling waits until the thread has finished, so that the caller may then close the memory and files it used.
    `opened_in_thread` is for work whose result is to be closed.
    """
    return await opened_in_thread(_nothing, work, *args, **kwargs)


async def opened_in_thread(close: Callable[[T], object], work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As `in_thread`, for `work` that opens something: `close` is given it if the call is cancelled meanwhile."""
    job = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not job.done():
        try:
            await asyncio.wait({job})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if job.exception() is None:  # asking marks an error as retrieved: the cancelled caller cannot receive it
            close(job.result())
        raise cancelled
    return job.result()


def _nothing(result: object) -> None:
    """There is nothing to close."""


class Window:
    """Runs operations concurrently, at most `depth` at once, started in order.

    Leaving the `async with` block waits for all of them; leaving it by an exception cancels them.
    """

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
                await self._finish_oldest()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def begin(self, operation: Coroutine[None, None, None]) -> None:
        """Start `operation` when fewer than `depth` are in flight; raises the error of an earlier one that failed."""
        try:
            while len(self._tasks) >= self._depth:
                await self._finish_oldest()
        except BaseException:
            operation.close()
            raise
        self._tasks.append(asyncio.get_running_loop().create_task(operation))

    async def _finish_oldest(self) -> None:
        await self._tasks[0]
        self._tasks.popleft()
