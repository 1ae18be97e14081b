"""Tasks that wait for news of an object that knows no event loop itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["Waiters"]


class Waiters:
    """The tasks that wait for the next piece of news; each looks for itself, when it is woken, what it was.

    Nothing is handed over by waking, so a waiter that is cancelled loses nothing and takes nothing from another.
    """

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return after the next `wake`. Cancelling only stops the wait."""
        import asyncio  # here, so that programs without an event loop never load it

        future = asyncio.get_running_loop().create_future()
        self._futures.append(future)
        try:
            await future
        finally:
            if future in self._futures:
                self._futures.remove(future)

    def wake(self) -> None:
        """There is news: everyone who waits looks."""
        futures, self._futures = self._futures, []
        for future in futures:
            if not future.done():
                future.set_result(None)
