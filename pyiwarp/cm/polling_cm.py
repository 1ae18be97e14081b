"""The connection manager for polled sockets: MPA startup, from a queue pair that is IDLE to one that is RTS.

`Connecting` is the Initiator's side, `Listener` the Responder's. Both go on whenever their poller makes progress;
`connect` and `Listener.get_request` wait for them.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic

from pyiwarp.capture import Tap
from pyiwarp.cm.addresses import Address
from pyiwarp.cm.handshake import ConnectRequest, check_idle, initiate
from pyiwarp.cm.listening import RETRY_ACCEPT, RETRY_AFTER_ROOM, Peer, accept_waiting, listening_sockets, taken_over
from pyiwarp.cm.polled_dialing import Dialer, resolve
from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS, ListenerCounters, Reception, Room
from pyiwarp.drivers.interrupts import waiting
from pyiwarp.drivers.poller import NEVER, Poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.drivers.readiness import READABLE
from pyiwarp.errors import Closed
from pyiwarp.negotiation import Offer
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.qp import QueuePair
from pyiwarp.startup import Startup

__all__ = ["Connecting", "Listener", "accept", "connect"]


def _follow(poller: Poller, qp: QueuePair) -> None:
    """Polling the queues of `qp`, those of events included, makes the sockets of `poller` progress."""
    for cq in (qp.send_cq, qp.recv_cq):
        if poller.progress not in cq.progress:
            cq.progress.append(poller.progress)
        if cq.channel is not None:
            cq.channel.driven_by(poller)
    qp.pd.driven_by(poller)


class Connecting:
    """An attempt to connect `qp` to the iWARP peer on `host` and `port` (RFC 5044 §7.1.2, Initiator).

    It goes on whenever `poller` makes progress and is over when `finished`: then `driver` drives the queue pair, or
    `error` says why not, `StartupTimeout` included. `on_finished` is called once, when that is so. Making one looks
    the name up, which may take the resolver's time, and raises `OSError` if it is unknown. All addresses of the name
    are tried, each with a head start over the next (RFC 8305), within `timeout` of the offer. `addresses` are those of
    a name that was looked up before. `sock` is a TCP socket that the program has connected; it is the attempt's from
    now on.
    """

    def __init__(
        self,
        poller: Poller,
        qp: QueuePair,
        host: str,
        port: int,
        offer: Offer | None = None,
        *,
        local_host: str | None = None,
        tap: Tap | None = None,
        addresses: Sequence[Address] | None = None,
        sock: socket.socket | None = None,
        on_finished: Callable[[Connecting], None] = lambda connecting: None,
    ) -> None:
        poller.check_thread()
        check_idle(qp)
        self.finished = False
        self.driver: PollingDriver | None = None
        self.error: Exception | None = None
        self._poller = poller
        self._qp = qp
        self._offer = offer or Offer()
        self._tap = tap
        self._on_finished = on_finished
        self._dialer: Dialer | None = None
        if sock is not None:
            sock.setblocking(False)
            self._dialed(sock, None)
            return
        found = resolve(host, port) if addresses is None else addresses
        self._dialer = Dialer(poller, (host, port), found, local_host, self._offer.timeout, self._dialed)
        self._dialer.next()

    def cancel(self) -> None:
        """Stop the attempt; the queue pair is as it was. Does nothing once the connection is established."""
        if self._dialer is not None:
            self._dialer.cancel()
        if self.driver is not None and isinstance(self.driver.pump, Startup):
            self.driver.abort()  # else a queue pair has taken over and ends the connection in order

    def _dialed(self, sock: socket.socket | None, error: Exception | None) -> None:
        if sock is None:
            self._finish(error)
            return
        _follow(self._poller, self._qp)
        self.driver = initiate(
            self._qp, self._offer, lambda startup: PollingDriver(self._poller, startup, sock, self._tap), self._finish
        )
        self.driver.kick()

    def _finish(self, error: Exception | None) -> None:
        if self.finished:
            return
        self.finished = True
        self.error = error
        if error is not None:
            self.cancel()
        self._on_finished(self)


def connect(
    poller: Poller,
    qp: QueuePair,
    host: str,
    port: int,
    offer: Offer | None = None,
    *,
    local_host: str | None = None,
    tap: Tap | None = None,
    sock: socket.socket | None = None,
) -> PollingDriver:
    """Connect `qp` to the iWARP peer that listens on `host` and `port`, and wait for it.

    `sock` is a TCP socket that the program has connected; it is the connection's from now on. Returns when the
    accepting Reply has come; its private data is in `qp.stream.agreement`. Raises `OSError` if TCP cannot be
    established, `Rejected`, `StartupTimeout` or another `StartupError`, or `ConnectionLost`. An interrupt aborts the
    attempt; the queue pair is then as it was.
    """
    connecting = Connecting(poller, qp, host, port, offer, local_host=local_host, tap=tap, sock=sock)
    try:
        poller.wait(lambda: connecting.finished)
    except BaseException:
        connecting.cancel()
        raise
    if connecting.error is not None:
        raise connecting.error
    assert connecting.driver is not None, "an attempt that succeeded has its driver"
    return connecting.driver


class _ListeningSocket:
    """One listening socket."""

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        receive: Callable[[socket.socket, Peer], None],
        make_descriptor_free: Callable[[OSError], bool],
    ) -> None:
        self._poller = poller
        self._receive = receive
        self._make_descriptor_free = make_descriptor_free
        self.sock = sock
        self.deadline = NEVER
        poller.watch(self, READABLE)

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self.sock.fileno()

    def ready(self, happened: int) -> None:
        """Accept the TCP connections that wait."""
        error = accept_waiting(self.sock, self._receive)
        if error is not None:
            rest = RETRY_AFTER_ROOM if self._make_descriptor_free(error) else RETRY_ACCEPT
            self._poller.watch(self, 0)
            self.deadline = monotonic() + rest
            self._poller.look_at_time(self.deadline)

    def expired(self) -> None:
        """There may be file descriptors again."""
        self.deadline = NEVER
        self._poller.watch(self, READABLE)

    def close(self) -> None:
        """Stop listening."""
        self._poller.forget(self)
        self.sock.close()


class Listener:
    """Waits for Initiators on `host` (None is every address) and `port` (0 lets the system choose).

    At most `backlog` connections are in startup or wait for a decision, `per_address` of one address; see `Reception`
    for which one goes when there are more. All addresses have one port. `offer` gives the time limit of the wait for
    Requests; what a connection offers is said when it is accepted. `make_tap` is called for each TCP connection,
    `on_request` whenever there is a Request to take. With `sock` it takes over a TCP socket that the program has bound;
    see `listening.taken_over`. Making one raises `OSError` if an address cannot be bound.
    """

    def __init__(
        self,
        poller: Poller,
        host: str | None,
        port: int,
        offer: Offer | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = DEFAULT_BACKLOG,
        per_address: int = PER_ADDRESS,
        make_tap: Callable[[], Tap | None] = lambda: None,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        poller.check_thread()
        self._poller = poller
        self._make_tap = make_tap
        self._on_request = on_request
        self._requests: deque[ConnectRequest[PollingDriver]] = deque()
        room = Room(backlog, per_address)
        self._reception: Reception[PollingDriver] = Reception(offer or Offer(), room, self._on_request_received)
        if sock is not None:
            sockets = taken_over(sock, host, port, backlog)
        else:
            sockets = listening_sockets(resolve(host or None, port, socket.AI_PASSIVE), backlog)
        self.port: int = sockets[0].getsockname()[1]
        free = self._reception.make_descriptor_free
        self._sockets = [_ListeningSocket(poller, sock, self._receive, free) for sock in sockets]

    def __repr__(self) -> str:
        return f"<Listener port {self.port} {self._reception!r}>"

    @property
    def is_open(self) -> bool:
        """Whether it listens, and in this process."""
        return bool(self._sockets) and not self._poller.left_behind

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return not self._sockets

    @property
    def counters(self) -> ListenerCounters:
        """What has come, and what became of it."""
        return self._reception.counters

    def take_request(self) -> ConnectRequest[PollingDriver] | None:
        """The next Request that is here, or None."""
        while self._requests:
            request = self._requests.popleft()
            if self._reception.take(request):  # else its Initiator has left
                return request
        return None

    def get_request(self, timeout: float | None = None) -> ConnectRequest[PollingDriver] | None:
        """Wait for the next Request, for `timeout` seconds at most; None if none came. Raises `Closed`."""
        taken: list[ConnectRequest[PollingDriver]] = []

        def look() -> bool:
            request = self.take_request()
            if request is not None:
                taken.append(request)
            return bool(taken) or self.closed

        self._poller.wait(look, timeout)
        if not taken and self.closed:
            raise Closed(f"the listener is closed: {self!r}")
        return taken[0] if taken else None

    def close(self) -> None:
        """Stop listening; connections whose Request was not taken are aborted. Twice, or in a child, does nothing."""
        if self._poller.left_behind:
            return
        self._poller.check_thread()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()
        self._reception.close()
        self._requests.clear()

    def _on_request_received(self, request: ConnectRequest[PollingDriver]) -> None:
        self._requests.append(request)
        self._on_request()

    def _receive(self, sock: socket.socket, peer: Peer) -> None:
        def make(startup: Startup) -> PollingDriver:
            return PollingDriver(self._poller, startup, sock, self._make_tap(), peer)

        driver = self._reception.receive(make, sock, peer[0])
        if driver.closed:
            return  # there were too many
        driver.on_closed = driver.on_exchanged = lambda: self._reception.decided(driver)
        driver.kick()


def accept(request: ConnectRequest[PollingDriver], qp: QueuePair, offer: Offer | None = None) -> PollingDriver:
    """Accept a Request with `qp`, whose completion queues make progress from now on; see `ConnectRequest.accept`."""
    request.driver.poller.check_thread()
    _follow(request.driver.poller, qp)
    return request.accept(qp, offer)


waiting(connect)
waiting(Listener.get_request)
waiting(CompletionQueue.poll)  # which lets the poller progress
