"""rdma_cm's model for scripts: `CmId`, whose steps are waited for, and shorthands for the usual orders of them.

Without a channel each step returns when it is over, as librdmacm's synchronous identifiers do. With an `EventChannel`
it returns at once and the channel tells, whenever the thread makes progress. Everything belongs to one thread.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple, cast

from pyiwarp.cm import polling_cm
from pyiwarp.cm.cm_events import BaseChannel, CmEvent, CmEventType, ConnParam, Pending
from pyiwarp.cm.handshake import ConnectRequest
from pyiwarp.cm.identifiers import CONNECT_TIMEOUT, BaseId, CmState
from pyiwarp.cm.polled_dialing import resolve
from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cm.unclosed import warn_unclosed
from pyiwarp.drivers.descriptors import Bell
from pyiwarp.drivers.interrupts import waiting_module
from pyiwarp.drivers.poller import poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.errors import Closed, IwarpError
from pyiwarp.negotiation import Offer
from pyiwarp.pump import Driver, socket_name
from pyiwarp.queues.qp import QpCap, QueuePair
from pyiwarp.verbs import Context, ProtectionDomain

__all__ = [
    "AddrInfo",
    "CmEvent",
    "CmEventType",
    "CmId",
    "CmState",
    "ConnParam",
    "EventChannel",
    "create_ep",
    "getaddrinfo",
]

waiting_module(__name__)


class EventChannel(BaseChannel):
    """Events of many identifiers of one thread; `for` gives them until `close`."""

    def __init__(self) -> None:
        super().__init__()
        self._poller = poller()
        self._bell: Bell | None = None

    def fileno(self) -> int:
        """A file descriptor that is readable while events wait, or while sockets of this thread have news.

        It is only for waiting: `get_event(timeout=0)` makes progress and takes the next event, if there is one yet.
        Where the system has no epoll the descriptor cannot tell of news: wait for some milliseconds at a time.
        `close` closes it. Raises `Closed`.
        """
        if not self._open:
            raise Closed(f"the channel is closed: {self!r}")
        if self._bell is None:
            self._bell = Bell()
            self._bell.follow(self._poller)
            self._tell()
        return self._bell.fd

    def post(self, event: CmEvent[CmId]) -> None:
        """Add an event; for identifiers."""
        super().post(event)
        self._tell()

    def take_of(self, cm_id: object) -> list[CmEvent[CmId]]:
        """Take out the events of one identifier; see `BaseChannel.take_of`."""
        taken = super().take_of(cm_id)
        self._tell()
        return taken

    def close(self) -> None:
        """Take no more events, and close the file descriptor; see `BaseChannel.close`."""
        super().close()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _tell(self) -> None:
        if self._bell is not None:
            if self._events:
                self._bell.ring()
            else:
                self._bell.silence()

    def get_event(self, *, timeout: float | None = None) -> CmEvent[CmId]:
        """Wait for the next event.

        Raises `TimeoutError` if none comes in `timeout` seconds, `Closed` when the channel is closed and empty.
        """
        if not self._poller.wait(lambda: self._events or not self._open, timeout):
            raise TimeoutError(f"no event came within {timeout:g} s: {self!r}")
        self._check_more_to_come()
        event = self._events.popleft()
        self._tell()
        return event

    def __iter__(self) -> Iterator[CmEvent[CmId]]:
        while True:
            try:
                event = self.get_event()
            except Closed:
                return
            yield event


class CmId(BaseId):
    """An identifier that blocks, or with a channel does not; see `BaseId`. `with` closes it.

    A step that fails raises the cause when it is waited for. Time limits are in seconds.
    """

    channel: EventChannel | None
    """Where its events go; None if steps block."""

    _listener: polling_cm.Listener | None = None

    def __init__(self, channel: EventChannel | None = None, *, context: Context | None = None) -> None:
        super().__init__(channel, context)
        self._poller = poller()

    def __del__(self) -> None:
        listens = self._listener is not None and self._listener.is_open
        if not self._closed and (listens or self._is_connected):
            warn_unclosed(self)

    def __enter__(self) -> CmId:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def resolve_addr(self, host: str, port: int) -> CmEvent[CmId] | None:
        """Resolve `host` and its route: ADDR_RESOLVED or ADDR_ERROR. The system's resolver sets the time limit."""
        pending = self._begin_resolve(host, port)
        try:
            self._resolved(pending, resolve(host, port), None)
        except OSError as error:
            self._resolved(pending, (), error)
        return self._wait(pending)

    def resolve_route(self) -> CmEvent[CmId] | None:
        """Find the route: ROUTE_RESOLVED, since that is TCP's business."""
        return self._wait(self._resolve_route())

    def connect(self, param: ConnParam | None = None, *, timeout: float = CONNECT_TIMEOUT) -> CmEvent[CmId] | None:
        """Connect the queue pair: ESTABLISHED, REJECTED, UNREACHABLE or CONNECT_ERROR."""
        qp, offer = self._begin_connect(param, timeout)
        pending = Pending()
        assert self.peer_addr is not None, "it was resolved"
        host, port = self.peer_addr
        try:
            connecting = polling_cm.Connecting(
                self._poller,
                qp,
                host,
                port,
                offer,
                local_host=self._local_host,
                addresses=self._peers,
                on_finished=lambda over: self._connected(pending, over.driver, over.error),
            )
        except (OSError, IwarpError) as error:
            self._connected(pending, None, error)
        else:
            if not connecting.finished:
                self._stop = connecting.cancel
        return self._wait(pending)

    def listen(
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
        listener = self._listener = polling_cm.Listener(
            self._poller,
            host,
            port,
            offer,
            sock=sock,
            backlog=backlog or DEFAULT_BACKLOG,
            per_address=per_address,
            on_request=self._look_for_requests,
        )
        self.local_addr = (host or "", listener.port) if sock is None else socket_name(sock.getsockname())
        self._stop = listener.close

    def get_request(self, *, timeout: float | None = None) -> CmId:
        """Wait for the next peer that asks, for an identifier without channel.

        Raises `TimeoutError` if none does in `timeout` seconds, `Closed` when the identifier is closed.
        """
        request = self._next_request()
        if request is None and not self._poller.wait(lambda: self._requests or self._closed, timeout):
            raise TimeoutError(f"no peer asked to connect within {timeout:g} s: {self!r}")
        return cast("CmId", request or self._next_request())

    def accept(self, param: ConnParam | None = None) -> CmEvent[CmId] | None:
        """Accept the peer that asked: ESTABLISHED. Raises `ConnectionLost` if it has left meanwhile."""
        return self._wait(self._accept(param))

    def disconnect(self) -> CmEvent[CmId] | None:
        """End the connection gracefully: DISCONNECTED, when both sides have."""
        return self._wait(self._disconnect())

    def _look_for_requests(self) -> None:
        assert self._listener is not None, "it listens"
        while (request := self._listener.take_request()) is not None:
            self._requested(cast("ConnectRequest[Driver]", request))

    def _wait(self, pending: Pending) -> CmEvent[CmId] | None:
        if self.channel is not None:
            return None
        self._poller.wait(lambda: pending.event)
        return pending.result()

    def _new_id(self) -> CmId:
        return CmId(self.channel, context=self.context)

    def _take(self, request: ConnectRequest[Driver], qp: QueuePair, offer: Offer) -> None:
        polling_cm.accept(cast("ConnectRequest[PollingDriver]", request), qp, offer)


class AddrInfo(NamedTuple):
    """The address of one end, and whether it listens there; as `rdma_addrinfo`."""

    host: str | None
    """An address, or a host's name; None is every address of this host."""
    port: int
    """A TCP port."""
    passive: bool = False
    """Whether it is meant for `listen`."""


def getaddrinfo(host: str | None, port: int, *, passive: bool = False) -> AddrInfo:
    """Look up where to connect to or, with `passive`, to listen; as `rdma_getaddrinfo`. Raises `OSError`."""
    flags = socket.AI_PASSIVE if passive else 0
    return AddrInfo(*socket_name(resolve(host, port, flags)[0].address), passive)


def create_ep(
    info: AddrInfo,
    pd: ProtectionDomain | None = None,
    cap: QpCap | None = None,
    *,
    context: Context | None = None,
) -> CmId:
    """An identifier for `info`, as `rdma_create_ep`: ready to `listen`, or resolved and with a queue pair to `connect`.

    `pd` brings its context along. Raises `OSError` if there is no way to the peer.
    """
    cm_id = CmId(context=context if pd is None else pd.context)
    try:
        if info.passive:
            cm_id.bind_addr(info.host or "", info.port)
        else:
            assert info.host is not None, "only a passive end may have no host"
            cm_id.resolve_addr(info.host, info.port)
            cm_id.resolve_route()
            cm_id.create_qp(pd, cap)
    except BaseException:
        cm_id.close()
        raise
    return cm_id
