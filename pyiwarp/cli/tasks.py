"""Waits with a time limit, and connections for the length of a block."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

from pyiwarp import Connection
from pyiwarp.files.errors import PeerSilent

__all__ = ["closing", "within"]

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], due: str) -> T:
    """The result of `work`; raises `PeerSilent`, which names what is `due`, after `seconds`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise PeerSilent(f"{due} did not come within {seconds:g} s") from None
        raise


@asynccontextmanager
async def closing(connection: Connection) -> AsyncIterator[Connection]:
    """Close `connection` when the block ends. An exception aborts it, without waiting for the peer to close."""
    try:
        yield connection
    except BaseException:
        connection.abort()
        raise
    await connection.close()
