"""The stack without asyncio: connections that one calls and that answer, progressed by polling.

`connect` and `listen` give connections with the operations of the awaitable ones, each with a `timeout`. Underneath are
the verbs: `connect_qp` and `Request.accept_qp` connect queue pairs that the program has made, `post_send` and
`post_recv` fill them, and `cq.poll()` makes progress and takes completions.

Everything belongs to the thread that made it, or to a `SharedPoller`, which threads hold in turns. What a thread has
connected shares one `Poller`: whenever one of the connections waits or one of the completion queues is polled, all of
them make progress. While a program does neither, nothing moves, and a peer that wants an answer waits.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator

from pyiwarp.cm import polling_cm
from pyiwarp.cm.polling_cm import Connecting
from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS, ListenerCounters
from pyiwarp.cm.unclosed import warn_unclosed
from pyiwarp.connections.blocking import Connection, Region
from pyiwarp.connections.endpoint import Message, PeerRequest, new_connection
from pyiwarp.connections.options import Options, options_for
from pyiwarp.drivers.interrupts import waiting_module
from pyiwarp.drivers.poller import poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.drivers.shared_poller import SharedPoller
from pyiwarp.errors import Closed, ConnectionLost, UsageError
from pyiwarp.negotiation import Offer
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.qp import QueuePair
from pyiwarp.queues.work import Completion
from pyiwarp.verbs import ProtectionDomain

__all__ = [
    "Connecting",
    "Connection",
    "Listener",
    "Message",
    "Offer",
    "Options",
    "Region",
    "Request",
    "SharedPoller",
    "connect",
    "connect_qp",
    "listen",
    "poller",
    "progress",
    "start_connect_qp",
    "wait",
    "wait_until",
    "waiting_module",
]


waiting_module(__name__)


def progress() -> int:
    """Let all connections of the calling thread make progress; never waits. Returns how many sockets had news."""
    return poller().progress()


def wait_until(done: Callable[[], object], timeout: float | None = None) -> bool:
    """Make progress until `done()` is true or `timeout` seconds have passed; returns whether it is true.

    `done` is asked after whatever happened on a connection; it may look at several, or try to receive with
    `timeout=0`. A change by another thread does not wake it.
    """
    return poller().wait(done, timeout)


def wait(cq: CompletionQueue, count: int = 1, timeout: float | None = None) -> list[Completion]:
    """Wait until `cq` holds `count` completions, and take all of them; fewer if `timeout` seconds have passed.

    Raises `UsageError` for more than the queue holds.
    """
    if count > cq.capacity:
        raise UsageError(f"{count} completions are waited for; the queue holds {cq.capacity}: {cq!r}")
    poller().wait(lambda: len(cq) >= count or cq.overflowed, timeout)
    return cq.poll()


def connect(
    host: str,
    port: int,
    *,
    private_data: bytes = b"",
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
) -> Connection:
    """Connect to the iWARP peer on `host` and `port`; use the result with `with`, or `close` it.

    `private_data` goes along with the MPA Request: at most 508 octets, or 512 in revision 1. `pd` shares a
    protection domain between connections. Waits for TCP and for MPA's Reply for `options.timeout` seconds each. Raises
    `OSError` if TCP cannot be established, `Rejected`, `StartupTimeout` or another `StartupError` if startup fails,
    `ConnectionLost`. Ctrl-C leaves nothing behind.
    """
    options = options_for(pd, options)
    with new_connection(Connection, pd, options) as connection:

        def attempt(options: Options) -> PollingDriver:
            offer, tap = options.offer(private_data), options.tap(initiator=True)
            return polling_cm.connect(connection.poller, connection.qp, host, port, offer, tap=tap)

        try:
            llp = attempt(options)
        except ConnectionLost:
            second = options.second_try()
            if second is None:
                raise
            llp = attempt(second)
        connection.attach(llp)
    return connection


def connect_qp(
    qp: QueuePair,
    host: str,
    port: int,
    offer: Offer | None = None,
    *,
    local_host: str | None = None,
    sock: socket.socket | None = None,
) -> PollingDriver:
    """Connect a queue pair that the program has made; from then on polling its completion queues makes it progress.

    `sock` is a TCP socket that the program has connected; it is the connection's from now on. Returns what drives it:
    `abort()` ends TCP at once, `closed` says whether it has ended. Otherwise as `connect`.
    """
    return polling_cm.connect(poller(), qp, host, port, offer, local_host=local_host, sock=sock)


def start_connect_qp(
    qp: QueuePair,
    host: str,
    port: int,
    offer: Offer | None = None,
    *,
    local_host: str | None = None,
    sock: socket.socket | None = None,
    on_finished: Callable[[Connecting], None] = lambda connecting: None,
) -> Connecting:
    """Begin to connect a queue pair that the program has made, and do not wait for it.

    The attempt goes on whenever progress is made. `on_finished` is called once when it is over: a callback of the
    stack, which must not wait. Raises `OSError` if `host` is unknown; what else `connect_qp` raises is the attempt's
    `error`. A callback may begin the next attempt. Otherwise as `connect_qp`.
    """
    return Connecting(poller(), qp, host, port, offer, local_host=local_host, sock=sock, on_finished=on_finished)


class Request(PeerRequest[PollingDriver]):
    """A peer that wants to connect; accept it or reject it."""

    def accept(self, private_data: bytes = b"", *, options: Options | None = None) -> Connection:
        """Accept, with `private_data` for the peer. Raises `ConnectionLost` if it has left meanwhile."""
        options = options or self._options
        with new_connection(Connection, self._pd, options) as connection:
            connection.attach(polling_cm.accept(self._request, connection.qp, options.offer(private_data)))
        return connection

    def accept_qp(self, qp: QueuePair, offer: Offer | None = None) -> PollingDriver:
        """Accept with a queue pair that the program has made; post the receives that the peer relies on before."""
        return polling_cm.accept(self._request, qp, offer)

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse; the peer's `connect` raises `Rejected` with `private_data`."""
        self._request.driver.poller.check_thread()
        self._request.reject(private_data)


class Listener:
    """Waits for peers; `for request in listener` gives them. `with` closes it."""

    def __init__(self, listener: polling_cm.Listener, pd: ProtectionDomain | None, options: Options) -> None:
        self._listener = listener
        self._pd = pd
        self._options = options

    def __repr__(self) -> str:
        return repr(self._listener)

    def __del__(self) -> None:
        if self._listener.is_open:
            warn_unclosed(self)

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Request]:
        while True:
            try:
                request = self.get_request()
            except Closed:
                return
            yield request

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._listener.port

    @property
    def counters(self) -> ListenerCounters:
        """What has come, and what became of it."""
        return self._listener.counters

    def get_request(self, *, timeout: float | None = None) -> Request:
        """Wait for the next peer; raises `TimeoutError` if none comes in `timeout` seconds, `Closed` when closed."""
        request = self._listener.get_request(timeout)
        if request is None:
            raise TimeoutError(f"no peer asked to connect within {timeout:g} s: {self!r}")
        return Request(request, self._pd, self._options)

    def take_request(self) -> Request | None:
        """The next peer that is here, or None; never waits, so that `on_request` may call it."""
        request = self._listener.take_request()
        return None if request is None else Request(request, self._pd, self._options)

    def close(self) -> None:
        """Stop listening; accepted connections go on. Twice does nothing."""
        self._listener.close()


def listen(
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
    backlog: int = DEFAULT_BACKLOG,
    per_address: int = PER_ADDRESS,
    on_request: Callable[[], None] = lambda: None,
) -> Listener:
    """Listen for peers on `host` (None is every address) and `port` (0 lets the system choose, one for all addresses).

    At most `backlog` connections are in startup or wait for a decision, `per_address` of them from one address. When
    there are more, the oldest that owes its MPA Request is closed (RFC 5042 §6.4); `Listener.counters` counts them.
    With `sock` the listener takes over a TCP socket that the program has bound, as systemd does for its services, and
    closes it at its end; `host` and `port` are not given then. `on_request` is called whenever there is a peer for
    `Listener.take_request`: a callback of the stack, which must not wait, but may accept or reject.
    Raises `OSError` if an address cannot be bound, `UsageError` for a bound below 1 or a `sock` that is none.
    """
    options = options_for(pd, options)
    listener = polling_cm.Listener(
        poller(),
        host,
        port,
        options.offer(b""),
        sock=sock,
        backlog=backlog,
        per_address=per_address,
        make_tap=lambda: options.tap(initiator=False),
        on_request=on_request,
    )
    return Listener(listener, pd, options)
