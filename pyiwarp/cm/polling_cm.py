"""The connection manager for polled sockets: MPA startup, from a queue pair that is IDLE to one that is RTS.

`Connecting` is the Initiator's side, `Listener` the Responder's. Both go on whenever their poller makes progress;
`connect` and `Listener.get_request` wait for them.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final, NamedTuple

from pyiwarp.capture import Tap
from pyiwarp.cm.handshake import (
    DEFAULT_BACKLOG,
    ConnectRequest,
    Reception,
    check_idle,
    initiate,
    not_established,
)
from pyiwarp.drivers.interrupts import waiting
from pyiwarp.drivers.poller import NEVER, Poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.errors import Closed
from pyiwarp.negotiation import Offer
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.qp import QueuePair
from pyiwarp.startup import Startup

__all__ = ["DEFAULT_BACKLOG", "Connecting", "Listener", "accept", "connect"]

log = logging.getLogger(__name__)

RETRY_ACCEPT: Final = 1.0
"""How long a listener rests, in seconds, when the process has no file descriptor left."""

_IN: Final = 1  # select.POLLIN
_OUT: Final = 4  # select.POLLOUT


class _Address(NamedTuple):
    """One answer of `getaddrinfo`."""

    family: int
    kind: int
    protocol: int
    name: str
    address: tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]


def _addresses(host: str | None, port: int, flags: int = 0) -> deque[_Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return deque(_Address(*each) for each in found)


def _follow(poller: Poller, qp: QueuePair) -> None:
    """Polling the completion queues of `qp` makes the sockets of `poller` progress."""
    for cq in (qp.send_cq, qp.recv_cq):
        if poller.progress not in cq.progress:
            cq.progress.append(poller.progress)


class _Dialer:
    """Tries one address after the other until TCP is established; tells `done` of the socket or of the error."""

    def __init__(
        self,
        poller: Poller,
        target: tuple[str, int],
        local_host: str | None,
        timeout: float,
        done: Callable[[socket.socket | None, Exception | None], None],
    ) -> None:
        self._poller = poller
        self._target = target
        self._local_host = local_host
        self._timeout = timeout
        self._done = done
        self._left = _addresses(*target)
        self._socket: socket.socket | None = None
        self._error: Exception | None = None
        self.deadline = monotonic() + timeout

    def start(self) -> None:
        """Begin with the first address; `done` may be called before this returns."""
        while self._left and self._socket is None:
            self._try(self._left.popleft())
        if self._socket is None:
            self._done(None, self._error)

    def fileno(self) -> int:
        """The file descriptor of the present attempt."""
        assert self._socket is not None, "only an attempt under way is watched"
        return self._socket.fileno()

    def ready(self, happened: int) -> None:
        """The attempt has come to its end."""
        sock = self._socket
        assert sock is not None, "only an attempt under way is watched"
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            self._release()
            self._done(sock, None)
            return
        self._fail(self._refusal(code))
        self.start()

    def expired(self) -> None:
        """No address has answered in time."""
        self.cancel()
        self._done(None, not_established(*self._target, self._timeout))

    def cancel(self) -> None:
        """Stop trying; `done` is not called."""
        self._left.clear()
        if self._socket is not None:
            self._fail(None)

    def _try(self, address: _Address) -> None:
        sock = socket.socket(address.family, address.kind, address.protocol)
        sock.setblocking(False)
        self._socket = sock
        try:
            if self._local_host is not None:
                sock.bind((self._local_host, 0))
            code = sock.connect_ex(address.address)
        except OSError as error:
            code = error.errno or errno.EINVAL
        if code in (0, errno.EINPROGRESS):  # the poller reports it, even if it is established at once
            self._poller.watch(self, _OUT)
            self._poller.look_at_time(self.deadline)
        else:
            self._fail(self._refusal(code))

    def _refusal(self, code: int) -> OSError:
        return OSError(code, f"{os.strerror(code)}: {self._target[0]} port {self._target[1]}")

    def _release(self) -> None:
        self._poller.forget(self)
        self._socket = None

    def _fail(self, error: Exception | None) -> None:
        sock = self._socket
        assert sock is not None, "only an attempt under way can fail"
        self._release()
        sock.close()
        self._error = error


class Connecting:
    """An attempt to connect `qp` to the iWARP peer on `host` and `port` (RFC 5044 §7.1.2, Initiator).

    It goes on whenever `poller` makes progress and is over when `finished`: then `driver` drives the queue pair, or
    `error` says why not, `StartupTimeout` included. `on_finished` is called once, when that is so. Making one looks
    the name up, which may take the resolver's time, and raises `OSError` if it is unknown.
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
        self._dialer = _Dialer(poller, (host, port), local_host, self._offer.timeout, self._dialed)
        self._dialer.start()

    def cancel(self) -> None:
        """Stop the attempt; the queue pair is as it was. Does nothing once the connection is established."""
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
) -> PollingDriver:
    """Connect `qp` to the iWARP peer that listens on `host` and `port`, and wait for it.

    Returns when the accepting Reply has come; its private data is in `qp.stream.agreement`. Raises `OSError` if TCP
    cannot be established, `Rejected`, `StartupTimeout` or another `StartupError`, or `ConnectionLost`. An interrupt
    aborts the attempt; the queue pair is then as it was.
    """
    connecting = Connecting(poller, qp, host, port, offer, local_host=local_host, tap=tap)
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

    def __init__(self, poller: Poller, sock: socket.socket, receive: Callable[[socket.socket], None]) -> None:
        self._poller = poller
        self._receive = receive
        self.sock = sock
        self.deadline = NEVER
        poller.watch(self, _IN)

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self.sock.fileno()

    def ready(self, happened: int) -> None:
        """Accept the TCP connections that wait."""
        while True:
            try:
                sock, _ = self.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # no descriptor is left
                log.error("no connection is accepted for %g s: %s", RETRY_ACCEPT, error)
                self._poller.watch(self, 0)
                self.deadline = monotonic() + RETRY_ACCEPT
                self._poller.look_at_time(self.deadline)
                return
            self._receive(sock)
            if self.sock.fileno() < 0:
                return  # the program has closed it from a callback

    def expired(self) -> None:
        """There may be file descriptors again."""
        self.deadline = NEVER
        self._poller.watch(self, _IN)

    def close(self) -> None:
        """Stop listening."""
        self._poller.forget(self)
        self.sock.close()


class Listener:
    """Waits for Initiators on `host` (None is every address) and `port` (0 lets the system choose).

    At most `backlog` connections are in startup or wait for a decision; more are closed as they come. `offer` gives
    the time limit of the wait for Requests; what a connection offers is said when it is accepted. `make_tap` is called
    for each TCP connection, `on_request` whenever there is a Request to take. Making one raises `OSError` if the
    address cannot be bound.
    """

    def __init__(
        self,
        poller: Poller,
        host: str | None,
        port: int,
        offer: Offer | None = None,
        *,
        backlog: int = DEFAULT_BACKLOG,
        make_tap: Callable[[], Tap | None] = lambda: None,
        on_request: Callable[[], None] = lambda: None,
    ) -> None:
        poller.check_thread()
        self._poller = poller
        self._make_tap = make_tap
        self._on_request = on_request
        self._requests: deque[ConnectRequest[PollingDriver]] = deque()
        self._reception: Reception[PollingDriver] = Reception(offer or Offer(), backlog, self._on_request_received)
        self._sockets: list[_ListeningSocket] = []
        self.port = port
        try:
            for address in _addresses(host, port, socket.AI_PASSIVE):
                self._open(address)
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<Listener port {self.port} {self._reception!r}>"

    @property
    def closed(self) -> bool:
        """Whether the listener is closed."""
        return not self._sockets

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
        """Stop listening; connections whose Request was not taken are aborted. Twice does nothing."""
        self._poller.check_thread()
        sockets, self._sockets = self._sockets, []
        for sock in sockets:
            sock.close()
        self._reception.close()
        self._requests.clear()

    def _open(self, address: _Address) -> None:
        sock = socket.socket(address.family, address.kind, address.protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            host = address.address[0]
            sock.bind((host, self.port))  # every address the same port, once the system has chosen one
            sock.listen(DEFAULT_BACKLOG)  # the system's own queue, of those that TCP has established
        except BaseException:
            sock.close()
            raise
        self.port = sock.getsockname()[1]
        self._sockets.append(_ListeningSocket(self._poller, sock, self._receive))

    def _on_request_received(self, request: ConnectRequest[PollingDriver]) -> None:
        self._requests.append(request)
        self._on_request()

    def _receive(self, sock: socket.socket) -> None:
        tap = self._make_tap()
        driver = self._reception.receive(lambda startup: PollingDriver(self._poller, startup, sock, tap))
        if driver.closed:
            self._reception.decided(driver)  # there were too many
            return
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
