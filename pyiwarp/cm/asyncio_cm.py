"""The connection manager: MPA startup on sockets, from a queue pair that is IDLE to one that is RTS.

`connect` is the Initiator's side, `listen` the Responder's. Nothing here knows what travels on the connection later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import TracebackType

from pyiwarp.capture import Tap
from pyiwarp.cm import handshake
from pyiwarp.cm.handshake import DEFAULT_BACKLOG, Reception, check_idle, initiate, not_established
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Closed, IwarpError
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QueuePair
from pyiwarp.startup import Startup

__all__ = ["DEFAULT_BACKLOG", "ConnectRequest", "Listener", "connect", "listen"]

ConnectRequest = handshake.ConnectRequest[AsyncioDriver]
"""An MPA Request that waits for this side's decision."""


async def connect(
    qp: QueuePair,
    host: str,
    port: int,
    offer: Offer | None = None,
    *,
    local_host: str | None = None,
    tap: Tap | None = None,
) -> AsyncioDriver:
    """Connect `qp` to the iWARP peer that listens on `host` and `port` (RFC 5044 §7.1.2, Initiator).

    Returns when the accepting Reply has come; its private data is in `qp.stream.agreement`. Raises `OSError` if TCP
    cannot be established, `Rejected`, `StartupTimeout` or another `StartupError`, or `ConnectionLost`. Cancelling
    aborts the connection; the queue pair is then as it was.
    """
    check_idle(qp)
    offer = offer or Offer()
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[None] = loop.create_future()

    def done(error: IwarpError | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    llp = initiate(qp, offer, lambda startup: AsyncioDriver(startup, loop, tap), done)
    local = None if local_host is None else (local_host, 0)
    try:
        try:
            async with asyncio.timeout(offer.timeout):
                await loop.create_connection(lambda: llp, host, port, local_addr=local)
        except TimeoutError as error:
            raise not_established(host, port, offer.timeout) from error
        await outcome
    except BaseException:
        if isinstance(llp.pump, Startup):  # else a queue pair has taken over and ends the connection in order
            llp.abort()
        raise
    finally:
        if not outcome.cancel() and not outcome.cancelled():
            outcome.exception()  # else the loop would log an exception that was never retrieved
    return llp


class Listener:
    """Waits for Initiators; an asynchronous iterator of their Requests.

    At most `backlog` connections are in startup or wait for a decision; more are closed as they come.
    """

    def __init__(self, offer: Offer, backlog: int, make_tap: Callable[[], Tap | None]) -> None:
        self._make_tap = make_tap
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._requests: asyncio.Queue[ConnectRequest | None] = asyncio.Queue()
        self._reception: Reception[AsyncioDriver] = Reception(offer, backlog, self._requests.put_nowait)

    def __repr__(self) -> str:
        return f"<Listener port {self.port} {self._reception!r}>"

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[ConnectRequest]:
        return self

    async def __anext__(self) -> ConnectRequest:
        try:
            return await self.get_request()
        except Closed:
            raise StopAsyncIteration from None

    @property
    def port(self) -> int:
        """The TCP port; the one that the system chose if 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return 0
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def get_request(self) -> ConnectRequest:
        """The next Request; raises `Closed` once the listener is closed. Cancelling loses none."""
        while True:
            if self._server is None and self._requests.empty():
                raise Closed(f"the listener is closed: {self!r}")
            request = await self._requests.get()
            if request is None:
                self._requests.put_nowait(None)  # for the other waiters
                raise Closed(f"the listener is closed: {self!r}")
            if self._reception.take(request):  # else its Initiator has left
                return request

    def close(self) -> None:
        """Stop listening; connections whose Request was not taken are aborted. Twice does nothing."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._reception.close()
        self._requests.put_nowait(None)

    async def open(self, host: str | None, port: int) -> None:
        """Begin to listen; `listen` calls this. Raises `OSError` if the address cannot be bound."""
        self._server = await self._loop.create_server(
            self._make_protocol, host, port, backlog=DEFAULT_BACKLOG, reuse_address=True
        )

    def _make_protocol(self) -> AsyncioDriver:
        llp = self._reception.receive(lambda startup: AsyncioDriver(startup, self._loop, self._make_tap()))
        llp.closed.add_done_callback(lambda _: self._reception.decided(llp))
        llp.exchanged = lambda: self._reception.decided(llp)
        return llp


async def listen(
    host: str | None,
    port: int,
    offer: Offer | None = None,
    *,
    backlog: int = DEFAULT_BACKLOG,
    make_tap: Callable[[], Tap | None] = lambda: None,
) -> Listener:
    """Listen for Initiators on `host` (None is every address) and `port` (0 lets the system choose).

    `offer` gives the time limit of the wait for Requests; what a connection offers is said when it is accepted.
    `make_tap` is called for each TCP connection.
    Raises `OSError` if the address cannot be bound.
    """
    listener = Listener(offer or Offer(), backlog, make_tap)
    await listener.open(host, port)
    return listener
