"""rdma_cm's model, awaited or polled: identifiers that go from an address to a connection, and their events.

Every step answers with one event, which goes to the identifier's channel if it has one. `rdmacm` awaits them on
asyncio, `blockingcm` polls. Names and order of the steps are librdmacm's; on the wire they are MPA startup.
"""

from __future__ import annotations

import errno
import socket
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final, cast

from pyiwarp.cm.addresses import Address, check_port, local_end
from pyiwarp.cm.cm_events import BaseChannel, CmEvent, CmEventType, ConnParam, Pending, asks_at
from pyiwarp.cm.handshake import ConnectRequest, check_idle
from pyiwarp.codes import UNNEGOTIATED
from pyiwarp.errors import Closed, Rejected, StartupTimeout, UsageError, WrongState
from pyiwarp.negotiation import Agreement, Offer
from pyiwarp.pump import Driver, no_callback, socket_name
from pyiwarp.queues.qp import QpCap, QueuePair
from pyiwarp.verbs import Context, ProtectionDomain

if TYPE_CHECKING:
    from pyiwarp.queues.cq import CompletionQueue

__all__ = [
    "CONNECT_TIMEOUT",
    "RESOLVE_TIMEOUT",
    "BaseId",
    "CmState",
    "SocketName",
]

RESOLVE_TIMEOUT: Final = 2.0
CONNECT_TIMEOUT: Final = 10.0


class CmState(Enum):
    """How far an identifier has come."""

    IDLE = "idle"
    BOUND = "bound"
    RESOLVING = "resolving"
    ADDR_RESOLVED = "address resolved"
    ROUTE_RESOLVED = "route resolved"
    CONNECTING = "connecting"
    LISTENING = "listening"
    REQUESTED = "requested"
    CONNECTED = "connected"
    ENDED = "ended"


NEXT: Final[dict[tuple[CmState, str], CmState]] = {
    (CmState.IDLE, "bind_addr"): CmState.BOUND,
    (CmState.IDLE, "resolve_addr"): CmState.RESOLVING,
    (CmState.BOUND, "resolve_addr"): CmState.RESOLVING,
    (CmState.RESOLVING, "address"): CmState.ADDR_RESOLVED,
    (CmState.RESOLVING, "failure"): CmState.IDLE,
    (CmState.ADDR_RESOLVED, "resolve_route"): CmState.ROUTE_RESOLVED,
    (CmState.ROUTE_RESOLVED, "connect"): CmState.CONNECTING,
    (CmState.CONNECTING, "success"): CmState.CONNECTED,
    (CmState.CONNECTING, "failure"): CmState.ENDED,
    (CmState.IDLE, "listen"): CmState.LISTENING,
    (CmState.BOUND, "listen"): CmState.LISTENING,
    (CmState.REQUESTED, "accept"): CmState.CONNECTED,
    (CmState.REQUESTED, "reject"): CmState.ENDED,
    (CmState.CONNECTED, "end"): CmState.ENDED,
}
"""Every step there is; another raises `WrongState`."""

SocketName = tuple[str, int]


class BaseId(ABC):
    """One identifier: it listens, or becomes one connection; `rdmacm` and `blockingcm` say how it waits.

    `context` chooses the device, an unconstrained one by default. Without a channel each step is waited for.
    """

    _closed = True  # until it is whole

    def __init__(self, channel: BaseChannel | None, context: Context | None) -> None:
        self.channel = channel
        self.context: Context = context or Context()
        self.state: CmState = CmState.IDLE
        """How far it is."""
        self.local_addr: SocketName | None = None
        """Host and port of this side, once they are known."""
        self.peer_addr: SocketName | None = None
        """Host and port of the peer, once they are known."""
        self.driver: Driver | None = None
        """What moves the octets of the connection, once there is one."""
        self._qp: QueuePair | None = None
        self._qp_is_own = True  # made by `create_qp`
        self._pd: ProtectionDomain | None = None  # its own, which closes with it
        self._requests: deque[BaseId] = deque()
        self._peers: list[Address] = []  # what the name stands for
        self._bound = False
        self._given = ConnParam()  # to connect
        self._request: ConnectRequest[Driver] | None = None
        self._listen_id: BaseId | None = None
        self._stop: Callable[[], object] = no_callback  # ends what is under way
        self._disconnected = Pending()
        self._closed = False

    def __repr__(self) -> str:
        where = f" {self.local_addr} to {self.peer_addr}" if self.peer_addr else f" at {self.local_addr}"
        return f"<{type(self).__name__} {self.state.value}{where if self.local_addr else ''}>"

    @property
    def qp(self) -> QueuePair:
        """The queue pair, once there is one."""
        if self._qp is None:
            raise WrongState(f"no queue pair was made: {self!r}")
        return self._qp

    @property
    def pd(self) -> ProtectionDomain:
        """That of the queue pair, in which its memory is registered; raises `WrongState` without a queue pair."""
        return cast("ProtectionDomain", self.qp.pd)

    @property
    def _local_host(self) -> str | None:
        """The address that `connect` leaves from, if the program has bound one."""
        return self.local_addr[0] if self._bound and self.local_addr is not None else None

    @property
    def agreement(self) -> Agreement:
        """What startup settled, once connected."""
        return self.qp.stream.agreement

    @property
    def _is_connected(self) -> bool:
        """Whether the identifier has a connection that lasts, and in this process."""
        driver, qp = self.driver, self._qp
        return driver is not None and qp is not None and qp.alive and not driver.left_behind

    def create_qp(
        self,
        pd: ProtectionDomain | None = None,
        cap: QpCap | None = None,
        *,
        send_cq: CompletionQueue | None = None,
        recv_cq: CompletionQueue | None = None,
        pause_when_starved: bool = False,
    ) -> QueuePair:
        """Make the queue pair that `connect` or `accept` will connect; what is not given is made to suit."""
        self._check_no_qp()
        if pd is None:
            pd = self._pd = self.context.alloc_pd()
        cap = cap or pd.context.device.default_cap
        send_cq = send_cq or pd.context.create_cq(cap.max_send_wr + 1)
        recv_cq = recv_cq or pd.context.create_cq(cap.max_recv_wr + 1)
        self._qp = pd.create_qp(send_cq, recv_cq, cap, pause_when_starved=pause_when_starved)
        return self._qp

    def use_qp(self, qp: QueuePair) -> None:
        """Let `connect` or `accept` connect a queue pair that the program has made, in a context of the same device.

        It stays the program's: `close` ends its connection, and does not close it. Raises `WrongState` if there is a
        queue pair already, or if `qp` is not IDLE.
        """
        self._check_no_qp()
        check_idle(qp)
        self._qp = qp
        self._qp_is_own = False

    def bind_addr(self, host: str, port: int = 0) -> None:
        """Choose this side's address and, for `listen`, its port; 0 lets the system choose."""
        check_port(port)
        self._move("bind_addr")
        self.local_addr = (host, port)
        self._bound = True

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse the peer that asked; its `connect` ends in REJECTED with `private_data`.

        Raises `ConnectionLost` if it has left meanwhile.
        """
        self._check("reject")
        assert self._request is not None, "who was requested has a request"
        self._request.reject(private_data)
        self._move("reject")

    def migrate(self, channel: BaseChannel | None) -> None:
        """Send what happens from now on to `channel`, and what has happened and was not taken.

        Peers that ask at an identifier that listens go along: with None they wait for `get_request`.
        """
        before = [] if self.channel is None else self.channel.take_of(self)
        self.channel = channel
        while channel is not None and self._requests:
            child = self._requests.popleft()
            child.channel = channel
            self._tell_of_request(child)
        for event in before:
            if asks_at(event, self):
                event.id.channel = channel
                self._tell_of_request(event.id)
            elif channel is not None:
                channel.post(event)

    def close(self) -> None:
        """Give the identifier up: stop listening, abort the connection, close the queue pair. Twice does nothing.

        A peer whose CONNECT_REQUEST nobody has taken is reset. Connections that were accepted go on.
        """
        if self._closed:
            return
        self._closed = True
        self._stop()
        if self._request is not None and self.state is CmState.REQUESTED:
            self._request.driver.abort()
        if self._qp is not None and self._qp_is_own:
            self._qp.close()
        if self.driver is not None:
            self.driver.abort()
        if self._pd is not None:
            self._pd.close(force=True)
        untaken = [] if self.channel is None else self.channel.take_of(self)
        self._requests += [event.id for event in untaken if event.id is not self]
        while self._requests:
            self._requests.popleft().close()

    # --- steps -------------------------------------------------------------------------------------------------------

    def _begin_resolve(self, host: str, port: int) -> Pending:
        check_port(port)
        self._move("resolve_addr")
        self.peer_addr = (host, port)
        return Pending()

    def _resolved(self, pending: Pending, found: Sequence[Address], error: Exception | None) -> None:
        """The name stands for these addresses, or for none because of `error`.

        All to which there is a way are tried by `connect`; the first is told of.
        """
        local: SocketName | None = None
        for address in found:
            try:
                way = _local_address(address, self.local_addr)
            except OSError as failed:
                error = error or failed
                continue
            self._peers.append(address)
            local = local or way
        if local is not None:
            self.local_addr, self.peer_addr = local, socket_name(self._peers[0].address)
            self._move("address")
            self._tell(pending, CmEventType.ADDR_RESOLVED)
            return
        self._move("failure")
        self._tell(pending, CmEventType.ADDR_ERROR, error=error)

    def _resolve_route(self) -> Pending:
        """TCP finds its way by itself; `resolve_addr` has seen that there is one."""
        self._move("resolve_route")
        pending = Pending()
        self._tell(pending, CmEventType.ROUTE_RESOLVED)
        return pending

    def _begin_connect(self, param: ConnParam | None, timeout: float) -> tuple[QueuePair, Offer]:
        self._check("connect")
        qp = self.qp
        self._given = param or ConnParam()
        offer = self._offer(self._given, timeout)
        self._move("connect")
        return qp, offer

    def _connected(self, pending: Pending, driver: Driver | None, error: Exception | None) -> None:
        self._stop = no_callback
        self.driver = driver
        if error is not None:
            param = ConnParam(private_data=error.private_data) if isinstance(error, Rejected) else None
            self._move("failure")
            self._tell(pending, _failure_of(error), param, error=error)
            return
        self._move("success")
        if driver is not None:  # which of several addresses has answered
            self.local_addr, self.peer_addr = _name(driver.sockname), _name(driver.peername)
            driver.limit_silence(self._given.keepalive, self._given.user_timeout)
        self._watch_end()
        agreement = self.agreement
        self._tell(
            pending,
            CmEventType.ESTABLISHED,
            _param(agreement.private_data, ird=agreement.peer_ird, order=agreement.peer_ord),
        )
        self._look_for_end()

    def _begin_listen(self) -> tuple[str | None, int, Offer]:
        self._move("listen")
        host, port = self.local_addr or (None, 0)
        return host or None, port, self._offer(ConnParam(), CONNECT_TIMEOUT)

    def _requested(self, request: ConnectRequest[Driver]) -> None:
        """A peer asks to connect: a new identifier stands for it, unless nobody will ever hear of it."""
        if self._closed:
            request.driver.abort()
            return
        child = self._new_id()
        child.state = CmState.REQUESTED
        child._request = request
        child._listen_id = self
        child.driver = request.driver
        child.local_addr, child.peer_addr = _name(request.driver.sockname), _name(request.driver.peername)
        self._tell_of_request(child)

    def _tell_of_request(self, child: BaseId) -> None:
        if self.channel is None:
            self._requests.append(child)
        elif self.channel.open:
            self.channel.post(CmEvent(CmEventType.CONNECT_REQUEST, child, child._asked, self))
        else:
            child.close()

    @property
    def _asked(self) -> ConnParam:
        """The parameters of the peer's MPA Request."""
        assert self._request is not None, "who was requested has a request"
        frame = self._request.frame
        return _param(frame.private_data, ird=frame.ird, order=frame.ord)

    @property
    def request_param(self) -> ConnParam:
        """The parameters of the peer's MPA Request, while it waits for a decision."""
        self._check("accept")
        return self._asked

    def _next_request(self) -> BaseId | None:
        """The next peer that asks, for an identifier without channel; None if there is none yet."""
        if self.channel is not None:
            raise WrongState(f"the channel gives the requests: {self!r}")
        if self._closed:
            raise Closed(f"the identifier is closed: {self!r}")
        return self._requests.popleft() if self._requests else None

    def _accept(self, param: ConnParam | None) -> Pending:
        self._check("accept")
        assert self._request is not None, "who was requested has a request"
        qp = self.qp
        given = param or ConnParam()
        offer = self._offer(given, CONNECT_TIMEOUT, self._asked)
        self._take(self._request, qp, offer)
        self._request.driver.limit_silence(given.keepalive, given.user_timeout)
        self._move("accept")
        pending = Pending()
        self._watch_end()
        self._tell(pending, CmEventType.ESTABLISHED, self._asked)
        self._look_for_end()
        return pending

    def _disconnect(self) -> Pending:
        if self.state is CmState.CONNECTED:
            self.qp.disconnect()
        elif self.state is not CmState.ENDED or self._qp is None:
            raise WrongState(f"there is no connection to end: {self!r}")
        return self._disconnected

    # --- what the ways of waiting add --------------------------------------------------------------------------------

    @abstractmethod
    def _new_id(self) -> BaseId:
        """An identifier of the same kind, channel and context."""

    @abstractmethod
    def _take(self, request: ConnectRequest[Driver], qp: QueuePair, offer: Offer) -> None:
        """Accept a Request."""

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self, step: str) -> None:
        if self._closed:
            raise Closed(f"the identifier is closed: {self!r}")
        if (self.state, step) not in NEXT:
            raise WrongState(f"{step} in state {self.state.value!r}: {self!r}")

    def _check_no_qp(self) -> None:
        if self._qp is not None:
            raise WrongState(f"there is a queue pair already: {self!r}")

    def _move(self, step: str) -> None:
        if not self._closed:
            self._check(step)
            self.state = NEXT[self.state, step]

    def _tell(
        self, pending: Pending, kind: CmEventType, param: ConnParam | None = None, *, error: Exception | None = None
    ) -> None:
        event = CmEvent(kind, self, param, self._listen_id, error)
        if self.channel is not None and not self._closed:
            self.channel.post(event)
        pending.finish(event)

    def _watch_end(self) -> None:
        qp, before = self.qp, self.qp.on_ended

        def ended() -> None:
            before()
            self._on_ended()

        qp.on_ended = ended

    def _look_for_end(self) -> None:
        """Report the end of a stream that ended before ESTABLISHED was reported."""
        if not self.qp.alive and self.qp.error is not None:
            self._on_ended()

    def _on_ended(self) -> None:
        if self.state is CmState.CONNECTED:
            self._move("end")
            self._tell(self._disconnected, CmEventType.DISCONNECTED)

    def _offer(self, param: ConnParam, timeout: float, asked: ConnParam | None = None) -> Offer:
        device = self.context.device

        def depth(wanted: int | None, limit: int, asked: int | None, name: str) -> int:
            if wanted is None:
                return limit if asked is None else min(limit, asked)
            if wanted > limit:
                raise UsageError(f"{name} {wanted}; {device.name} offers {limit}")
            return wanted

        of_peer = asked or ConnParam()
        return Offer(
            revision=device.revision,
            crc=device.crc is not False,
            markers=device.markers,
            refuse_markers=device.refuse_markers,
            private_data=param.private_data,
            ird=depth(param.responder_resources, device.max_ird, of_peer.responder_resources, "responder resources"),
            ord=depth(param.initiator_depth, device.max_ord, of_peer.initiator_depth, "initiator depth"),
            rtr=device.rtr if device.revision > 1 else type(device.rtr)(0),
            open_at_once=True,
            timeout=timeout,
        )


def _param(private_data: bytes, *, ird: int | None, order: int | None) -> ConnParam:
    """The peer's depths from this side's view: its ORD is this side's IRD, and the reverse."""
    return ConnParam(
        private_data=private_data,
        responder_resources=None if order == UNNEGOTIATED else order,
        initiator_depth=None if ird == UNNEGOTIATED else ird,
    )


def _failure_of(error: Exception) -> CmEventType:
    """Which event tells of an error; as with kernel iWARP, a refusal of TCP's is a rejection too."""
    if isinstance(error, Rejected | ConnectionRefusedError):
        return CmEventType.REJECTED
    unreachable = isinstance(error, OSError) and error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    if isinstance(error, StartupTimeout | TimeoutError) or unreachable:
        return CmEventType.UNREACHABLE
    return CmEventType.CONNECT_ERROR


def _local_address(address: Address, bound: SocketName | None) -> SocketName:
    """The address that packets to `address` leave from; nothing is sent. Raises `OSError` without a route."""
    with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
        if bound is not None:
            found = socket.getaddrinfo(bound[0] or None, 0, type=socket.SOCK_DGRAM, flags=socket.AI_PASSIVE)
            probe.bind(local_end(Address.each_of(found), address.family))
        probe.connect(address.at_port(address.port or 1))
        host, _ = socket_name(probe.getsockname())
    return host, 0


def _name(word: str) -> SocketName:
    """Host and port of an address that is one word."""
    host, _, port = word.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0
