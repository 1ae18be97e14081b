"""Messages between the two sides of a file transfer, and waits that end.

A side that owes an answer and needs long for it sends Busy every `BUSY_EVERY` seconds. A side that neither sends nor
moves octets for `patience` seconds is given up with `PeerSilent`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, overload

from pyiwarp import Access, Connection, Region
from pyiwarp.errors import Disconnected
from pyiwarp.files.errors import BadMessage, PeerSilent, Refusal, RefusedByPeer
from pyiwarp.files.messages import REASON_LIMIT, Busy, Message, Refused, decode, encode

__all__ = ["Dialogue"]

BUSY_EVERY: Final = 2.0
BUSY_AT_ONCE: Final = 20
"""Busy messages that may already be waiting when a wait begins; after that, one a second is accepted."""

BUSY_LIMIT: Final = 3600

T = TypeVar("T")
M1 = TypeVar("M1", bound=Message)
M2 = TypeVar("M2", bound=Message)


class Dialogue:
    """The messages of one side on `connection`; no wait for the peer is longer than `patience` seconds."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self.connection = connection
        self.patience = patience

    async def send(self, message: Message) -> None:
        """Send one message."""
        await self.wait_for(self.connection.send(encode(message)), f"room for the message {message.op!r}")

    async def refuse(self, reason: str) -> None:
        """Send Refused with the reason."""
        await self.send(Refused(clipped(reason)))

    @overload
    async def receive(self, kind: type[M1], /, *, patience: float | None = None) -> M1: ...
    @overload
    async def receive(self, kind: type[M1], other: type[M2], /, *, patience: float | None = None) -> M1 | M2: ...
    @overload
    async def receive(self, *kinds: type[Message], patience: float | None = None) -> Message: ...
    async def receive(self, *kinds: type[Message], patience: float | None = None) -> Message:
        """The peer's next message, of one of `kinds`; Busy is skipped.

        Raises `RefusedByPeer` for Refused, `BadMessage` for any other message, `PeerSilent` when none comes,
        `Disconnected` when the peer has closed the connection.
        """
        due = " or ".join(repr(kind.op) for kind in kinds)
        asked = time.monotonic()
        for busy in itertools.count():
            if busy > BUSY_AT_ONCE + (time.monotonic() - asked) or busy > BUSY_LIMIT:
                raise BadMessage(f"the peer sends nothing but Busy where {due} is due")
            try:
                octets = await self.wait_for(self.connection.recv(), f"the message {due}", patience)
            except Disconnected:
                raise Disconnected(f"the peer closed the connection where its message {due} was due") from None
            message = decode(octets)
            if isinstance(message, kinds):
                return message
            if isinstance(message, Refused):
                raise RefusedByPeer(message.reason)
            if not isinstance(message, Busy):
                raise BadMessage(f"the peer sent {message.op!r} where {due} is due")
        raise AssertionError("itertools.count does not end")

    async def wait_for(self, work: Coroutine[Any, Any, T], due: str, patience: float | None = None) -> T:
        """Wait for `work` while octets move in either direction; raises `PeerSilent` when they stop for `patience`."""
        limit = self.patience if patience is None else patience
        task = asyncio.ensure_future(work)
        try:
            while True:
                before = self._progress()
                await asyncio.wait({task}, timeout=limit)
                if task.done():
                    return task.result()
                if self._progress() == before:
                    raise PeerSilent(f"the peer did nothing for {limit:g} s; {due} was due")
        finally:
            await _stop(task)

    async def keep_peer_waiting(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work of this side, and send Busy every `BUSY_EVERY` seconds until it is done."""
        task = asyncio.ensure_future(work)
        try:
            while True:
                await asyncio.wait({task}, timeout=BUSY_EVERY)
                if task.done():
                    return task.result()
                await self.send(Busy())
        finally:
            await _stop(task)

    @asynccontextmanager
    async def registered(self, memory: memoryview, access: Access) -> AsyncIterator[Region]:
        """Register `memory` for the block. An error other than a refusal aborts the connection."""
        region = self.connection.register(memory, access)
        try:
            yield region
        except Refusal:
            raise
        except BaseException:
            self.connection.abort()  # so that operations in flight release the memory
            raise
        finally:
            await self.wait_for(region.aclose(), "the end of operations on the memory")

    def _progress(self) -> tuple[int, int]:
        counters = self.connection.qp.counters()
        return counters.fpdus_received, counters.octets_sent


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose result is not needed any more, and wait until it has ended."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


def clipped(reason: str) -> str:
    """`reason`, cut to the octets that its field holds."""
    return reason.encode(errors="replace")[:REASON_LIMIT].decode(errors="ignore")
