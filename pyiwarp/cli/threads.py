"""Work that would hold up the event loop, done in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

__all__ = ["in_thread"]

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do `work` in a thread of the loop's pool.

    Cancelling waits until the thread is done with it, so that memory and files that it uses may be closed then.
    """
    job = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(job)
    except asyncio.CancelledError:
        while not job.done():
            await asyncio.wait({job})
        if not job.cancelled():
            job.exception()  # it was somebody's who is gone
        raise
