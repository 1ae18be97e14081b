"""rdma_cm's model on asyncio: `CmId`, whose steps are awaited, and `EventChannel`, whose events are iterated.

    channel = EventChannel()
    listener = CmId(channel)
    listener.bind_addr("0.0.0.0", 15044)
    await listener.listen()
    async for event in channel:
        if event.type is CmEventType.CONNECT_REQUEST:
            event.id.create_qp()
            event.id.accept()

A step begins when it is called. It may be awaited, its event may be taken from the channel, or both.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator
from typing import Any, cast

from pyiwarp import cm
from pyiwarp.cm.asyncio_dialing import resolve
from pyiwarp.cm.cm_events import BaseChannel, CmEvent, CmEventType, ConnParam, Pending
from pyiwarp.cm.handshake import ConnectRequest
from pyiwarp.cm.identifiers import CONNECT_TIMEOUT, RESOLVE_TIMEOUT, BaseId, CmState
from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cm.unclosed import warn_unclosed
from pyiwarp.errors import Closed, IwarpError
from pyiwarp.negotiation import Offer
from pyiwarp.pump import Driver, socket_name
from pyiwarp.queues.qp import QueuePair
from pyiwarp.queues.waiting import running_loop
from pyiwarp.verbs import Context

__all__ = ["CmEvent", "CmEventType", "CmId", "CmState", "ConnParam", "EventChannel", "Step"]


class EventChannel(BaseChannel):
    """Events of many identifiers; `async for` gives them until `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._news = asyncio.Event()

    def post(self, event: CmEvent[Any]) -> None:
        """Add an event; for identifiers."""
        super().post(event)
        self._news.set()

    async def get_event(self) -> CmEvent[CmId]:
        """The next event. Cancelling loses none. Raises `Closed` when the channel is closed and empty."""
        while not self._events:
            self._check_more_to_come()
            self._news.clear()
            running_loop()
            await self._news.wait()
        return self._events.popleft()

    async def __aiter__(self) -> AsyncIterator[CmEvent[CmId]]:
        while self._open or self._events:
            try:
                yield await self.get_event()
            except Closed:
                return

    def close(self) -> None:
        """Take no more events, and wake those who wait; see `BaseChannel.close`."""
        super().close()
        self._news.set()


class Step(Awaitable["CmEvent[CmId]"]):
    """A step that has begun; awaiting it gives its event, or raises the cause of its failure.

    Cancelling the task that awaits does not cancel the step; closing the identifier does.
    """

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def __await__(self) -> Generator[Any, None, CmEvent[CmId]]:
        if self._pending.event is None:
            over = asyncio.Event()
            tell = over.set
            self._pending.call_when_over(tell)
            try:
                yield from over.wait().__await__()
            finally:
                self._pending.forget_caller(tell)
        return self._pending.result()


class CmId(BaseId):
    """An identifier on asyncio; see `BaseId`. `async with` closes it. Time limits are in seconds."""

    channel: EventChannel | None
    """Where its events go; None if steps are awaited alone."""

    _listener: cm.Listener | None = None

    def __init__(self, channel: EventChannel | None = None, *, context: Context | None = None) -> None:
        super().__init__(channel, context)
        self._loop = running_loop()
        self._work: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def __del__(self) -> None:
        listens = self._listener is not None and self._listener.is_open
        if not self._closed and (listens or self._is_connected):
            warn_unclosed(self)

    async def __aenter__(self) -> CmId:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        if self._work is not None:
            await asyncio.gather(self._work, return_exceptions=True)

    def resolve_addr(self, host: str, port: int, *, timeout: float = RESOLVE_TIMEOUT) -> Step:
        """Resolve `host` and its route within `timeout` seconds: ADDR_RESOLVED or ADDR_ERROR."""
        pending = self._begin_resolve(host, port)

        async def look_up() -> None:
            try:
                async with asyncio.timeout(timeout):
                    found = await resolve(host, port)
                self._resolved(pending, found, None)
            except OSError as error:  # a TimeoutError is one
                self._resolved(pending, (), error)

        self._start(look_up())
        return Step(pending)

    def resolve_route(self) -> Step:
        """Find the route: ROUTE_RESOLVED, since that is TCP's business."""
        return Step(self._resolve_route())

    def connect(self, param: ConnParam | None = None, *, timeout: float = CONNECT_TIMEOUT) -> Step:
        """Connect the queue pair: ESTABLISHED, REJECTED, UNREACHABLE or CONNECT_ERROR."""
        qp, offer = self._begin_connect(param, timeout)
        pending = Pending()
        assert self.peer_addr is not None, "it was resolved"
        host, port = self.peer_addr

        async def connect() -> None:
            try:
                llp = await cm.connect(qp, host, port, offer, local_host=self._local_host, addresses=self._peers)
            except (OSError, IwarpError) as error:
                self._connected(pending, None, error)
            else:
                self._connected(pending, llp, None)

        self._start(connect())
        return Step(pending)

    async def listen(
        self,
        backlog: int = DEFAULT_BACKLOG,
        *,
        per_address: int = PER_ADDRESS,
        sock: socket.socket | None = None,
    ) -> None:
        """Listen at the address that was bound; each peer is a CONNECT_REQUEST. Raises `OSError` if that fails.

        `backlog` and `per_address` bound the peers in startup, as in `pyiwarp.listen`; a backlog of 0 is the default,
        as for `rdma_listen`. With `sock` the identifier takes over a TCP socket that the program has bound, instead of
        `bind_addr`; raises `UsageError` for what is none.
        """
        host, port, offer = self._begin_listen()
        listener = self._listener = await cm.listen(
            host, port, offer, sock=sock, backlog=backlog or DEFAULT_BACKLOG, per_address=per_address
        )
        self.local_addr = (host or "", listener.port) if sock is None else socket_name(sock.getsockname())
        self._stop = listener.close

        async def take_in() -> None:
            async for request in listener:
                self._requested(cast("ConnectRequest[Driver]", request))
                self._news.set()

        self._start(take_in(), keep_stop=True)

    async def get_request(self) -> CmId:
        """The next peer that asks, for an identifier without channel. Cancelling loses none. Raises `Closed`."""
        while (request := self._next_request()) is None:
            self._news.clear()
            await self._news.wait()
        return cast("CmId", request)

    def accept(self, param: ConnParam | None = None) -> Step:
        """Accept the peer that asked: ESTABLISHED. Raises `ConnectionLost` if it has left meanwhile."""
        return Step(self._accept(param))

    def disconnect(self) -> Step:
        """End the connection gracefully: DISCONNECTED, when both sides have."""
        return Step(self._disconnect())

    def close(self) -> None:
        """Give the identifier up: stop listening, abort the connection, close the queue pair. Twice does nothing."""
        super().close()
        self._news.set()

    def _start(self, work: Coroutine[Any, Any, None], *, keep_stop: bool = False) -> None:
        self._work = self._loop.create_task(work)
        if not keep_stop:
            self._stop = self._work.cancel

    def _new_id(self) -> CmId:
        return CmId(self.channel, context=self.context)

    def _take(self, request: ConnectRequest[Driver], qp: QueuePair, offer: Offer) -> None:
        request.accept(qp, offer)
