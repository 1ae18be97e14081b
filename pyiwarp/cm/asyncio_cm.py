"""The connection manager: MPA startup on sockets, from a queue pair that is IDLE to one that is RTS.

`connect` is the Initiator's side, `listen` the Responder's. Nothing here knows what travels on the connection later.
"""

from __future__ import annotations

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Final

from pyiwarp.capture import Tap
from pyiwarp.cm import handshake
from pyiwarp.cm.addresses import Address
from pyiwarp.cm.asyncio_dialing import dial, resolve
from pyiwarp.cm.handshake import check_idle, initiate, not_established
from pyiwarp.cm.listening import RETRY_ACCEPT, RETRY_AFTER_ROOM, Peer, accept_waiting, listening_sockets, taken_over
from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS, ListenerCounters, Reception, Room
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Closed, IwarpError, WrongProcess
from pyiwarp.forks import left_behind_in_children
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QueuePair
from pyiwarp.queues.waiting import running_loop
from pyiwarp.startup import Startup

__all__ = ["ConnectRequest", "Listener", "connect", "listen"]

LOOK_AGAIN: Final = 0.02
"""How often a listener looks for connections where the event loop does not tell of them, in seconds."""

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
    addresses: Sequence[Address] | None = None,
    sock: socket.socket | None = None,
) -> AsyncioDriver:
    """Connect `qp` to the iWARP peer that listens on `host` and `port` (RFC 5044 §7.1.2, Initiator).

    All addresses of the name are tried, each with a head start over the next (RFC 8305), within `timeout` of the
    offer. `addresses` are those of a name that was looked up before. `sock` is a TCP socket that the program has
    connected; it is the connection's from now on. Returns when the accepting Reply has come; its private data is in
    `qp.stream.agreement`. Raises `OSError` if TCP cannot be established, `Rejected`, `StartupTimeout` or another
    `StartupError`, or `ConnectionLost`. Cancelling aborts the connection; the queue pair is then as it was.
    """
    check_idle(qp)
    offer = offer or Offer()
    loop = running_loop()
    outcome: asyncio.Future[None] = loop.create_future()

    def done(error: IwarpError | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(None)
        else:
            outcome.set_exception(error)

    llp = initiate(qp, offer, lambda startup: AsyncioDriver(startup, loop, tap), done)
    try:
        try:
            async with asyncio.timeout(offer.timeout):
                if sock is None:
                    found = await resolve(host, port) if addresses is None else addresses
                    sock = await dial(host, port, found, local_host)
        except TimeoutError as error:
            if offer.timeout is None:
                raise  # TCP gave up
            raise not_established(host, port, offer.timeout) from error
        await loop.create_connection(lambda: llp, sock=sock)
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

    How many connections are in startup or wait for a decision is bounded by `room`; see `Reception`.
    """

    def __init__(self, offer: Offer, room: Room, make_tap: Callable[[], Tap | None]) -> None:
        self._make_tap = make_tap
        self._loop = running_loop()
        self._room = room
        self._sockets: list[socket.socket] = []
        self._port = 0
        self._resting: dict[socket.socket, asyncio.TimerHandle] = {}
        self._beginning: set[asyncio.Task[object]] = set()  # the loop makes their transports
        self._requests: asyncio.Queue[ConnectRequest | None] = asyncio.Queue()
        self._reception: Reception[AsyncioDriver] = Reception(offer, room, self._requests.put_nowait)
        self._left_behind = False
        left_behind_in_children(self)

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
        return self._port if self._sockets else 0

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The sockets that listen, to look at; none once the listener is closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets)

    @property
    def counters(self) -> ListenerCounters:
        """What has come, and what became of it."""
        return self._reception.counters

    @property
    def is_open(self) -> bool:
        """Whether it listens, and in this process."""
        return bool(self._sockets)

    async def get_request(self) -> ConnectRequest:
        """The next Request; raises `Closed` once the listener is closed. Cancelling loses none."""
        while True:
            if self._left_behind:
                raise WrongProcess(self)
            if not self._sockets and self._requests.empty():
                raise Closed(f"the listener is closed: {self!r}")
            request = await self._requests.get()
            if request is None:
                self._requests.put_nowait(None)  # for the other waiters
                raise Closed(f"the listener is closed: {self!r}")
            if self._reception.take(request):  # else its Initiator has left
                return request

    def descriptors(self) -> list[int]:
        """Those of the sockets that listen."""
        return [sock.fileno() for sock in self._sockets]

    def leave_behind(self) -> None:
        """This process is a forked child: its parent goes on listening."""
        self._left_behind = True
        self._sockets = []

    def close(self) -> None:
        """Stop listening; connections whose Request was not taken are aborted. Twice does nothing."""
        sockets, self._sockets = self._sockets, []
        if not sockets:
            return
        for sock in sockets:
            self._unwatch(sock)
            sock.close()
        self._reception.close()
        self._requests.put_nowait(None)

    async def open(self, host: str | None, port: int, sock: socket.socket | None) -> None:
        """Begin to listen; `listen` calls this. Raises `OSError` if the address cannot be bound."""
        backlog = self._room.backlog
        if sock is not None:
            self._sockets = taken_over(sock, host, port, backlog)
        else:
            self._sockets = listening_sockets(await resolve(host or None, port, socket.AI_PASSIVE), backlog)
        self._port = self._sockets[0].getsockname()[1]
        for sock in self._sockets:
            self._watch(sock)

    def _watch(self, sock: socket.socket) -> None:
        self._resting.pop(sock, None)
        try:
            self._loop.add_reader(sock, self._accept, sock)
        except NotImplementedError:  # Windows' proactor watches no socket: look now and then
            self._rest(sock, LOOK_AGAIN)
            self._accept(sock)

    def _unwatch(self, sock: socket.socket) -> None:
        if (timer := self._resting.pop(sock, None)) is not None:
            timer.cancel()
        else:
            self._loop.remove_reader(sock)

    def _rest(self, sock: socket.socket, seconds: float) -> None:
        self._resting[sock] = self._loop.call_later(seconds, self._watch, sock)

    def _accept(self, sock: socket.socket) -> None:
        """Accept the TCP connections that wait."""
        error = accept_waiting(sock, self._receive)
        if error is not None:
            self._unwatch(sock)
            self._rest(sock, RETRY_AFTER_ROOM if self._reception.make_descriptor_free(error) else RETRY_ACCEPT)

    def _receive(self, sock: socket.socket, peer: Peer) -> None:
        def make(startup: Startup) -> AsyncioDriver:
            return AsyncioDriver(startup, self._loop, self._make_tap(), peer)

        llp = self._reception.receive(make, sock, peer[0])
        llp.closed.add_done_callback(lambda _: self._reception.decided(llp))
        llp.exchanged = lambda: self._reception.decided(llp)

        async def begin() -> None:
            try:
                await self._loop.connect_accepted_socket(lambda: llp, sock)
            except OSError as error:  # the peer has reset the connection
                sock.close()
                llp.connection_lost(error)

        task = self._loop.create_task(begin())
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)


async def listen(
    host: str | None,
    port: int,
    offer: Offer | None = None,
    *,
    sock: socket.socket | None = None,
    backlog: int = DEFAULT_BACKLOG,
    per_address: int = PER_ADDRESS,
    make_tap: Callable[[], Tap | None] = lambda: None,
) -> Listener:
    """Listen for Initiators on `host` (None is every address) and `port` (0 lets the system choose).

    All addresses have one port. At most `backlog` connections are in startup or wait for a decision, `per_address` of
    one address; see `Reception` for which one goes when there are more. `offer` gives the time limit of the wait for
    Requests; what a connection offers is said when it is accepted. `make_tap` is called for each TCP connection.
    With `sock` the listener takes over a TCP socket that the program has bound; see `listening.taken_over`.
    Raises `OSError` if an address cannot be bound.
    """
    listener = Listener(offer or Offer(), Room(backlog, per_address), make_tap)
    await listener.open(host, port, sock)
    return listener
