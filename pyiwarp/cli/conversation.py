"""A connection for the length of a block: closed when all went well, aborted when not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pyiwarp.connections.awaitable import Connection

__all__ = ["conversation"]


@asynccontextmanager
async def conversation(connection: Connection) -> AsyncIterator[Connection]:
    """Nobody waits for the peer's goodbye after an error."""
    try:
        yield connection
    except BaseException:
        connection.abort()
        raise
    await connection.close()
