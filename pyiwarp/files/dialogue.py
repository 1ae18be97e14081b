"""Messages between the two sides of a file transfer, and waits that end.

A side that owes an answer and needs long for it sends Busy every `BUSY_EVERY` seconds. A side that gives nothing of
what it owes for `patience` seconds is given up with `PeerSilent`: the message that is due, or while a file moves its
octets. Other FPDUs do not count, as empty Writes, Reads of nothing and messages that nobody asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar, overload

from pyiwarp import Access, Connection, Region
from pyiwarp.errors import Disconnected
from pyiwarp.files.errors import BadMessage, PeerSilent, Refusal, RefusedByPeer
from pyiwarp.files.messages import REASON_LIMIT, Busy, Cancel, Message, Refused, decode, encode

__all__ = ["Dialogue"]

BUSY_EVERY: Final = 2.0
BUSY_AT_ONCE: Final = 20
"""Busy messages that may already be waiting when a wait begins; after that, one a second is accepted."""

BUSY_LIMIT: Final = 10
"""How many times `patience` a peer may send Busy and not the answer."""

HEADERS: Final = 64
"""Octets of an FPDU that are not counted as payload: more than the headers, padding and CRC of any."""

SLOWEST: Final = 1024
"""Octets of payload a second, at least: what moves more slowly does not move."""

T = TypeVar("T")
M1 = TypeVar("M1", bound=Message)
M2 = TypeVar("M2", bound=Message)


class Dialogue:
    """The messages of one side on `connection`; no wait for the peer is longer than `patience` seconds."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self.connection = connection
        self.patience = patience
        self._incoming: asyncio.Task[bytes] | None = None
        self._owed = 0
        self._moved_before = 0

    @contextmanager
    def moving(self, nbytes: int) -> Iterator[None]:
        """In the block a file of `nbytes` octets moves; its octets are progress, and no more than it has."""
        self._owed, self._moved_before = nbytes, self._payload()
        try:
            yield
        finally:
            self._owed = 0

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
            waited = time.monotonic() - asked
            if busy > BUSY_AT_ONCE + waited or (busy and waited > BUSY_LIMIT * self.patience):
                raise BadMessage(f"the peer sends nothing but Busy where {due} is due")
            try:
                message = decode(await self._next_octets(f"the message {due}", patience))
            except Disconnected:
                raise Disconnected(f"the peer closed the connection where its message {due} was due") from None
            if isinstance(message, kinds):
                return message
            if isinstance(message, Refused):
                raise RefusedByPeer(message.reason)
            if not isinstance(message, Busy):
                raise BadMessage(f"the peer sent {message.op!r} where {due} is due")
        raise AssertionError("itertools.count does not end")

    async def _next_octets(self, due: str, patience: float | None) -> bytes:
        task = self._receiving()
        try:
            await self._wait_until_done(task, due, patience)
            return task.result()
        finally:
            self._incoming = None
            await _stop(task)

    def _receiving(self) -> asyncio.Task[bytes]:
        """The task that takes the next message; one that was begun beside a transfer goes on."""
        if self._incoming is None:
            self._incoming = asyncio.ensure_future(self.connection.recv())
            self._incoming.add_done_callback(_retrieve)
        return self._incoming

    async def wait_for(self, work: Coroutine[Any, Any, T], due: str, patience: float | None = None) -> T:
        """Wait for `work`; raises `PeerSilent` when the peer gives nothing of what it owes for `patience`."""
        task = asyncio.ensure_future(work)
        try:
            await self._wait_until_done(task, due, patience)
            return task.result()
        finally:
            await _stop(task)

    async def unless_cancelled(self, work: Coroutine[Any, Any, T], due: str) -> T:
        """Wait for `work` as `wait_for` does; the peer's Cancel stops it, and raises `Refusal`.

        The next `receive` has any other message, whether it came before the work was done or after.
        """
        task = asyncio.ensure_future(work)
        incoming = self._receiving()
        try:
            await self._wait_until_done(task, due, None, incoming)
            if not task.done():
                message = decode(incoming.result())
                if isinstance(message, Cancel):
                    self._incoming = None
                    raise Refusal(f"the client cancelled: {message.reason}")
                await self._wait_until_done(task, due, None)
            return task.result()
        finally:
            await _stop(task)

    async def _wait_until_done(
        self, task: asyncio.Task[Any], due: str, patience: float | None, other: asyncio.Task[Any] | None = None
    ) -> None:
        """Wait until `task` is done, or `other`, while the peer gives what it owes."""
        limit = self.patience if patience is None else patience
        tasks = {task} if other is None else {task, other}
        moved = self._moved()
        while True:
            done, _ = await asyncio.wait(tasks, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            before, moved = moved, max(moved, self._moved())
            if moved - before < min(max(1, SLOWEST * limit), max(1, self._owed - before)):
                raise PeerSilent(f"the peer did nothing for {limit:g} s; {due} was due")

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

    def _moved(self) -> int:
        """Octets of the file that have moved."""
        return min(self._owed, self._payload() - self._moved_before) if self._owed else 0

    def _payload(self) -> int:
        """Octets that moved in either direction, those of headers and small FPDUs left out."""
        now = self.connection.qp.counters()
        return now.octets_received + now.octets_sent - HEADERS * (now.fpdus_received + now.fpdus_sent)


async def _stop(task: asyncio.Task[Any]) -> None:
    """Cancel a task whose result is not needed any more, and wait until it has ended."""
    if not task.done():
        task.cancel()
        await asyncio.wait({task})
    _retrieve(task)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Mark the error of a task as seen: whoever waits for the task raises it, if somebody does."""
    if not task.cancelled():
        task.exception()


def clipped(reason: str) -> str:
    """`reason`, cut to the octets that its field holds."""
    return reason.encode(errors="replace")[:REASON_LIMIT].decode(errors="ignore")
