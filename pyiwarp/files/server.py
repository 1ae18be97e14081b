"""The file server: accepts clients up to a limit, each with a session in a task of its own."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Final

from pyiwarp import Listener, Request, listen
from pyiwarp.cm.foldedlog import FoldedLog
from pyiwarp.cm.listening import network_of
from pyiwarp.cm.reception import ListenerCounters
from pyiwarp.errors import IwarpError
from pyiwarp.files.digests import Digest
from pyiwarp.files.hello import STRANGER, answer
from pyiwarp.files.report import Report
from pyiwarp.files.room import DiskLimits
from pyiwarp.files.root import Root
from pyiwarp.files.session import ServerSettings, ServerState, Session

__all__ = ["FileServer", "ServerSettings"]

log = logging.getLogger(__name__)


GRACE: Final = 1.0
"""Seconds for which a client that is idle keeps its place even if the server is full: between two requests, say."""

FIRST_GRACE: Final = 0.05
"""The same for a client that has made no request, if all others are within theirs: its first one is on its way, say."""


@dataclass(slots=True)
class _Slot:
    """The place of one client; in startup it has no session."""

    began: float
    request: Request
    session: Session | None = None

    @property
    def peer(self) -> str:
        return self.request.peername

    @property
    def idle_since(self) -> float | None:
        return self.began if self.session is None else self.session.idle_since

    @property
    def has_asked(self) -> bool:
        return self.session is not None and self.session.has_asked

    @property
    def network(self) -> str:
        return network_of(self.peer.rpartition(":")[0].strip("[]"))


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None, "coroutines run in tasks"
    return task


class FileServer:
    """Serves `root`; `on_report` is called once for each transfer, when it has succeeded or failed.

    `start` listens; `close`, or leaving the `async with` block, interrupts the transfers that are going on.
    """

    def __init__(
        self,
        root: Root,
        settings: ServerSettings | None = None,
        on_report: Callable[[Report], None] = lambda report: None,
    ) -> None:
        settings = settings or ServerSettings()
        self.refusals: Counter[str] = Counter()
        """What was refused, by cause: full, idle (made room), other_application, read_only, and the limits."""
        limits = DiskLimits(
            self.refusals, max_file=settings.max_file, max_client=settings.max_client, reserve=settings.reserve
        )
        self._shared = ServerState(root, settings, on_report, self.refusals, limits)
        self._listener: Listener | None = None
        self._acceptor: asyncio.Task[None] | None = None
        self._slots: dict[asyncio.Task[None], _Slot] = {}
        self._leaving = set[asyncio.Task[None]]()
        self._log = FoldedLog(log)

    async def __aenter__(self) -> FileServer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return 0 if self._listener is None else self._listener.port

    @property
    def counters(self) -> ListenerCounters:
        """What the listener has seen, and what became of it; also when the server is closed."""
        return ListenerCounters() if self._listener is None else self._listener.counters

    @property
    def transfers(self) -> int:
        """The number of transfers going on."""
        return sum(slot.session is not None and slot.session.transferring for slot in self._slots.values())

    async def start(self, host: str | None = None, port: int = 0) -> None:
        """Listen; raises `OSError` if the address cannot be had."""
        settings = self._shared.settings
        self._listener = await listen(
            host, port, options=settings.options, backlog=settings.backlog, per_address=settings.per_address
        )
        self._acceptor = asyncio.get_running_loop().create_task(self._accept_all(self._listener))

    async def wait_closed(self) -> None:
        """Wait until the server is closed."""
        if self._acceptor is not None:
            await asyncio.wait({self._acceptor})

    async def close(self) -> None:
        """Stop listening and interrupt the transfers that are going on. Closing twice does nothing."""
        if self._listener is not None:
            self._listener.close()
        for task, slot in list(self._slots.items()):
            await self._end(task, slot, b"the server is closed")
        tasks = [task for task in (*self._leaving, self._acceptor) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept_all(self, listener: Listener) -> None:
        async for request in listener:
            task = asyncio.get_running_loop().create_task(self._answer(request))
            self._slots[task] = _Slot(time.monotonic(), request)
            task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._slots.pop(task, None)
        self._leaving.discard(task)

    async def _answer(self, request: Request) -> None:
        """One client from its Request to its end; its errors end no other session."""
        peer = request.peername
        try:
            chosen = answer(request.private_data, sha256=self._shared.settings.sha256)
            if chosen is None:
                self.refusals["other_application"] += 1
                await request.reject(STRANGER)
            elif len(self._slots) > self._shared.settings.clients and not await self._make_room():
                self.refusals["full"] += 1
                what = f"a client is rejected, all {self._shared.settings.clients} clients have work"
                self._log.say(logging.INFO, what, peer)
                await request.reject(b"the server is full")
            else:
                await self._serve(request, *chosen)
        except (IwarpError, OSError) as error:
            self._log.say(logging.INFO, f"a client's connection has ended, {type(error).__name__}", f"{peer}: {error}")
        except Exception:
            log.exception("%s: the session failed", peer)

    async def _end(self, task: asyncio.Task[None], slot: _Slot, reason: bytes) -> None:
        """End a session; a task that is cancelled before it has begun answers nobody, so its client is rejected."""
        del self._slots[task]
        self._leaving.add(task)
        task.cancel()
        if slot.session is None:
            with suppress(IwarpError):  # it has left, or has its answer
                await slot.request.reject(reason)

    async def _make_room(self) -> bool:
        """End a client that is idle, one in startup included; returns False if none may be ended.

        It is the one that has been idle longest, if that was for `GRACE`. Else it is one that never made a request: for
        `FIRST_GRACE`, or of an address that has more places than the newcomer's. So strangers that take all places
        again and again, and ask for nothing, keep out nobody (RFC 5042 §6.4).
        """
        me, now = _this_task(), time.monotonic()
        idle = [(since, task) for task, slot in self._slots.items() if (since := slot.idle_since) and task is not me]
        since, task = min(idle, key=lambda each: each[0], default=(now, me))
        if now - since < GRACE:
            places = Counter(slot.network for slot in self._slots.values())
            mine = places[self._slots[me].network]

            def shares(task: asyncio.Task[None]) -> int:
                return places[self._slots[task].network]

            silent = [
                (-shares(task), since, task)
                for since, task in idle
                if not self._slots[task].has_asked and (shares(task) > mine or now - since >= FIRST_GRACE)
            ]
            _, since, task = min(silent, key=lambda each: each[:2], default=(0, now, me))
        if task is me:
            return False
        slot = self._slots[task]
        await self._end(task, slot, b"the server is full")
        self.refusals["idle"] += 1
        what = "a client that is idle makes room for another"
        self._log.say(logging.INFO, what, f"{slot.peer}, for {now - since:.1f} s")
        return True

    async def _serve(self, request: Request, digest: Digest, hello: bytes) -> None:
        connection = await request.accept(hello)
        session = Session(connection, self._shared, digest)
        self._slots[_this_task()].session = session
        try:
            await session.run()
        except BaseException as error:
            connection.abort()
            if error is session.reported:
                return
            raise
        await connection.close()
