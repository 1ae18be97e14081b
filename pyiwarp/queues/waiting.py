"""Waiting for objects that know no event loop: for their news, and for the end of all work in a queue.

What is awaited needs asyncio; `running_loop` says so where a program has none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from pyiwarp.errors import WrongState

if TYPE_CHECKING:
    import asyncio

__all__ = ["Drain", "Waiters", "running_loop"]

WhenDrained = Callable[[Callable[[], None]], None]


def running_loop() -> asyncio.AbstractEventLoop:
    """The event loop that runs in this thread; raises `WrongState` if none of asyncio's does."""
    import asyncio  # here, so that programs without an event loop never load it

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        other = _other_library()
        runs = f"{other} runs here" if other else "none runs in this thread"
        raise WrongState(
            f"what is awaited needs a running event loop of asyncio or uvloop, and {runs}; "
            "pyiwarp.blocking has the same connections for programs and threads without an event loop"
        ) from None


def _other_library() -> str:
    """What runs coroutines here instead of asyncio, as sniffio tells of trio; empty if that is not known."""
    sniffio = sys.modules.get("sniffio")  # which such a library has imported
    if sniffio is None:
        return ""
    try:
        return str(sniffio.current_async_library())
    except sniffio.AsyncLibraryNotFoundError:
        return ""


class Waiters:
    """The tasks that wait for the next piece of news; each looks for itself, when it is woken, what it was.

    Nothing is handed over by waking, so a waiter that is cancelled loses nothing and takes nothing from another.
    """

    __slots__ = ("_futures",)

    def __init__(self) -> None:
        self._futures: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Return after the next `wake`. Cancelling only stops the wait."""
        future = running_loop().create_future()
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


class Drain:
    """One wait; over when each of the `queues` has made the call that it was asked for."""

    __slots__ = ("_left", "_on_drained", "_waiters")

    def __init__(self, on_drained: Callable[[], None] | None, *queues: WhenDrained) -> None:
        self._on_drained = on_drained
        self._waiters = Waiters()
        self._left = len(queues)
        for when_drained in queues:
            when_drained(self._one_less)

    def __await__(self) -> Generator[Any, None, None]:
        while self._left:
            yield from self._waiters.wait().__await__()

    def _one_less(self) -> None:
        self._left -= 1
        if not self._left:
            self._waiters.wake()
            if self._on_drained is not None:
                self._on_drained()
