"""The talk of two sides of a file transfer: messages in and out, and no wait without an end.

A side that owes an answer and needs long for it says Busy now and then. A side that neither speaks nor moves octets
for `patience` seconds is given up.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, overload

from pyiwarp.cli.faults import BadMessage, PeerSilent, Refusal, RefusedByPeer
from pyiwarp.cli.fileproto import REASON_LIMIT, Busy, Message, Refused, decode, encode
from pyiwarp.connections.awaitable import Connection, Region
from pyiwarp.errors import Disconnected
from pyiwarp.mr import Access

__all__ = ["Dialogue"]

BUSY_EVERY: Final = 2.0
BUSY_AT_ONCE: Final = 20
"""So many may have piled up when one begins to listen; after that at most one in a second is taken."""

BUSY_LIMIT: Final = 3600

T = TypeVar("T")
M1 = TypeVar("M1", bound=Message)
M2 = TypeVar("M2", bound=Message)


class Dialogue:
    """One side's view of the conversation on `connection`."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self.connection = connection
        self.patience = patience

    async def say(self, message: Message) -> None:
        """Send one message."""
        await self.patiently(self.connection.send(encode(message)), f"taking the message {message.op!r}")

    async def refuse(self, reason: str) -> None:
        """Say no, and why."""
        await self.say(Refused(clipped(reason)))

    @overload
    async def hear(self, kind: type[M1], /, *, patience: float | None = None) -> M1: ...
    @overload
    async def hear(self, kind: type[M1], other: type[M2], /, *, patience: float | None = None) -> M1 | M2: ...
    @overload
    async def hear(self, *kinds: type[Message], patience: float | None = None) -> Message: ...
    async def hear(self, *kinds: type[Message], patience: float | None = None) -> Message:
        """The peer's next message, of one of `kinds`; Busy is skipped.

        Raises `RefusedByPeer` if the peer says no, `BadMessage` if it says anything else, `PeerSilent` if nothing,
        `Disconnected` if it has closed the connection.
        """
        due = " or ".join(repr(kind.op) for kind in kinds)
        asked = time.monotonic()
        for busy in itertools.count():
            if busy > BUSY_AT_ONCE + (time.monotonic() - asked) or busy > BUSY_LIMIT:
                raise BadMessage(f"the peer only ever says that it is busy where {due} is due")
            try:
                octets = await self.patiently(self.connection.recv(), f"the message {due}", patience)
            except Disconnected:
                raise Disconnected(f"the peer closed the connection where its message {due} was due") from None
            message = decode(octets)
            if isinstance(message, kinds):
                return message
            if isinstance(message, Refused):
                raise RefusedByPeer(message.reason)
            if not isinstance(message, Busy):
                raise BadMessage(f"the peer said {message.op!r} where {due} is due")
        raise AssertionError("counting has no end")

    async def patiently(self, work: Coroutine[Any, Any, T], due: str, patience: float | None = None) -> T:
        """Wait for `work` as long as octets move one way or the other; raises `PeerSilent` when they stop."""
        limit = self.patience if patience is None else patience
        task = asyncio.ensure_future(work)
        try:
            while True:
                life = self._life()
                await asyncio.wait({task}, timeout=limit)
                if task.done():
                    return task.result()
                if self._life() == life:
                    raise PeerSilent(f"the peer did nothing for {limit:g} s; {due} was due")
        finally:
            await _stop(task)

    async def busily(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work of this side's own, and let the peer know meanwhile that it goes on."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                await asyncio.wait({task}, timeout=BUSY_EVERY)
                if task.done():
                    return task.result()
                await self.say(Busy())
        finally:
            await _stop(task)

    @asynccontextmanager
    async def lent(self, memory: memoryview, access: Access) -> AsyncIterator[Region]:
        """Memory that the connection may use until the block ends; an error that is no refusal ends both."""
        region = self.connection.register(memory, access)
        try:
            yield region
        except Refusal:
            raise
        except BaseException:
            self.connection.abort()  # or what is in flight would hold the memory
            raise
        finally:
            await self.patiently(region.aclose(), "letting go of the memory")

    def _life(self) -> tuple[int, int]:
        stream = self.connection.qp.stream
        return stream.fpdus_received, stream.octets_sent


async def _stop(task: asyncio.Task[Any]) -> None:
    """Nobody waits for it any more."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def clipped(reason: str) -> str:
    """A reason that fits its field."""
    return reason.encode(errors="replace")[:REASON_LIMIT].decode(errors="ignore")
