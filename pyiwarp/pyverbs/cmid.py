"""Identifiers of rdma_cm: synchronous, with a channel of their own, or asynchronous, with one of the program's."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pyiwarp import Context as Stack
from pyiwarp import Device, blockingcm
from pyiwarp.blocking import waiting_module
from pyiwarp.blockingcm import CmEventType, CmId
from pyiwarp.errors import ConnectionLost, IwarpError, Rejected, StartupTimeout, UsageError
from pyiwarp.profile import PeerProfile
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs import librdmacm_enums as ce
from pyiwarp.pyverbs.base import Owner, invalid, unsupported
from pyiwarp.pyverbs.cm_channel import Channel, CMEvent, CMEventChannel
from pyiwarp.pyverbs.cm_values import AddrInfo, ConnParam, JoinMCAttrEx, UDParam
from pyiwarp.pyverbs.core import core
from pyiwarp.pyverbs.cq import CQ, CQEX, WC
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.link import Link
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.opened import hosts, peer_profile
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.qp import MASKS, QP, QPAttr, QPInitAttr
from pyiwarp.pyverbs.rendezvous import numbered
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR

_ALL: Final = 15
"""Access flags of a queue pair of rdma_cm's: everything that its peer could be allowed."""
_INIT: Final = e.ibv_qp_state.IBV_QPS_INIT
_TIMEOUT: Final = int(e.ibv_qp_attr_mask.IBV_QP_TIMEOUT)
_OF_PEER: Final = int(e.ibv_qp_attr_mask.IBV_QP_AV | e.ibv_qp_attr_mask.IBV_QP_DEST_QPN)
"""What rdma_cm finds out itself."""

__all__ = ["CMID", "AddrInfo", "CMEvent", "CMEventChannel", "ConnParam", "JoinMCAttrEx", "UDParam"]

waiting_module(__name__)


@contextmanager
def _refused(what: str) -> Iterator[None]:
    """Raise what the stack refuses as pyverbs' error, with the errno that librdmacm has for it."""
    try:
        yield
    except (OSError, IwarpError) as error:
        raise PyverbsRDMAError(what, _errno_of(error)) from error


def _errno_of(error: Exception) -> int:
    if isinstance(error, Rejected):
        return errno.ECONNREFUSED
    if isinstance(error, StartupTimeout):
        return errno.ETIMEDOUT
    if isinstance(error, ConnectionLost):
        return errno.ECONNRESET
    if isinstance(error, UsageError):
        return errno.EINVAL
    return getattr(error, "errno", None) or errno.EIO


class CMID(Owner):
    """One identifier: it listens, or becomes one connection.

    `creator` is an `AddrInfo` for a synchronous one, an event channel for one whose steps are told there, or the event
    of a peer that asks, which `listen_id` has heard. With `qp_init_attr` it has a queue pair at once, in `pd`.
    """

    rank = 1

    def __init__(
        self,
        creator: AddrInfo | CMEventChannel | CMEvent | None = None,
        qp_init_attr: QPInitAttr | None = None,
        pd: PD | None = None,
        port_space: int = ce.rdma_port_space.RDMA_PS_TCP,
        listen_id: CMID | None = None,
    ) -> None:
        super().__init__()
        self.core = core()
        self.ctx: Context | None = None if pd is None else pd.ctx
        self.pd = pd
        self.event_channel: CMEventChannel | None = None
        self.port_num = 1
        self.qp: QP | None = None
        self._init = qp_init_attr
        self._ack_timeout = 0
        self._below: CmId | None = None
        self._channel: Channel | None = None
        if isinstance(creator, AddrInfo):
            _check_port_space(creator.port_space or port_space)
            self._take(self._new_id(None))
            self._prepare(creator)
        elif isinstance(creator, CMEventChannel):
            _check_port_space(port_space)
            self.event_channel = creator
            self._take(self._new_id(creator.below))
        elif isinstance(creator, CMEvent):
            if listen_id is None:
                raise PyverbsUserError("listen ID not provided")
            self.event_channel, self.ctx, self.pd = listen_id.event_channel, listen_id.ctx, listen_id.pd
            self._take(creator.below.id)
        elif creator is not None:
            raise PyverbsRDMAError(f"Cannot create CM ID from {type(creator)}")

    @property
    def id(self) -> CmId:
        """The identifier of the stack; it is used while the poller is held."""
        if self._below is None:
            invalid("The CM ID is closed")
        return self._below

    @property
    def dev_name(self) -> str:
        """The device that has the address of this side; the first one for an address that none has."""
        names = hosts()
        local = self.id.local_addr
        return next((name for name, host in names.items() if local is not None and host == local[0]), next(iter(names)))

    @property
    def context(self) -> Context | None:
        """The open device, once an address is known."""
        return self.ctx

    @property
    def qpn(self) -> int | None:
        """The number of its queue pair; None without one."""
        return None if self.qp is None else self.qp.qp_num

    # --- addresses ---------------------------------------------------------------------------------------------------

    def bind_addr(self, lai: AddrInfo) -> None:
        """Choose the address of this side."""
        host, port = _known(lai.src, "Failed to Bind ID")
        with _refused("Failed to Bind ID"), self.core.poller:
            self.id.bind_addr(host, port)
        self._open()

    def resolve_addr(self, rai: AddrInfo, timeout_ms: int = 2000) -> None:
        """Find the way to the peer: RDMA_CM_EVENT_ADDR_RESOLVED."""
        host, port = _known(rai.dst, "Failed to Resolve Address")
        with _refused("Failed to Resolve Address"), self.core.poller:
            if rai.src is not None and self.id.local_addr is None:
                self.id.bind_addr(*rai.src)
            self.id.resolve_addr(host, port)

    def resolve_route(self, timeout_ms: int = 2000) -> None:
        """TCP finds its route: RDMA_CM_EVENT_ROUTE_RESOLVED."""
        with _refused("Failed to Resolve Route"), self.core.poller:
            self.id.resolve_route()
        self._open()

    def join_multicast(
        self, addr: AddrInfo | None = None, mc_attr: JoinMCAttrEx | None = None, context: int = 0
    ) -> None:
        """TCP has no multicast."""
        unsupported("Failed to Join multicast")

    def leave_multicast(self, addr: AddrInfo) -> None:
        """TCP has no multicast."""
        unsupported("Failed to leave multicast")

    def set_option(self, level: int, optname: int, optval: int, optlen: int) -> None:
        """Set an option; there is the ACK timeout, which the queue pair shows and TCP has its own of."""
        if optname != ce.RDMA_OPTION_ID_ACK_TIMEOUT:
            raise PyverbsUserError("Currently only RDMA_OPTION_ID_ACK_TIMEOUT is supported in Pyverbs.")
        if level != ce.RDMA_OPTION_ID or optlen != 1:
            invalid("Failed to set option")
        self._ack_timeout = optval
        if self.qp is not None:
            self.qp.modify(_attributes(self.qp.qp_state, optval), _TIMEOUT)

    def set_local_ece(self, ece: object) -> None:
        """MPA startup has no room for vendors' options."""
        unsupported("Failed to set local ECE")

    def get_remote_ece(self) -> object:
        """MPA startup has no room for vendors' options."""
        unsupported("Failed to get remote ECE")

    # --- connections -------------------------------------------------------------------------------------------------

    def listen(self, backlog: int = 0) -> None:
        """Listen for peers."""
        self.core.start()
        with _refused("Listen Failed"), self.core.poller:
            self.id.listen(backlog)

    def get_request(self) -> CMID:
        """Wait for the next peer that asks: an identifier that stands for it."""
        if self._channel is None:
            invalid("Failed to get request, no connection established")
        while (event := self._channel.next()).type is not CmEventType.CONNECT_REQUEST:
            pass
        child = CMID(pd=self.pd)
        with self.core.poller:
            child._take(event.id)
            child._use_own_channel()
        if self.pd is None:
            child._open()
            self.ctx, self.pd = child.ctx, child.pd
        if self._init is not None:
            child._create_qp(self._init)
        return child

    def create_qp(self, qp_init: QPInitAttr) -> None:
        """Make the queue pair that is connected; completion queues that are not given are made."""
        if qp_init.qp_type != e.ibv_qp_type.IBV_QPT_RC:
            unsupported("Failed to Create QP")
        self._create_qp(qp_init)

    def _create_qp(self, qp_init: QPInitAttr) -> None:
        """As `create_qp`; of type RC, whatever the attributes say: `rdma_create_ep` knows it from the port space."""
        if self.pd is None or self.ctx is None or self.qp is not None:
            invalid("Failed to Create QP")
        cap = qp_init.cap
        init = QPInitAttr(
            qp_type=e.ibv_qp_type.IBV_QPT_RC,
            scq=qp_init.send_cq or CQ(self.ctx, max(1, cap.max_send_wr)),
            rcq=qp_init.recv_cq or CQ(self.ctx, max(1, cap.max_recv_wr)),
            srq=qp_init.srq,
            cap=cap,
            sq_sig_all=qp_init.sq_sig_all,
        )
        self.qp = QP(self.pd, init)
        self.qp.modify(_attributes(_INIT, self._ack_timeout), int(MASKS[_INIT]) | _TIMEOUT)
        self.add_ref(self.qp)

    def connect(self, param: ConnParam | None = None) -> None:
        """Connect to the peer: RDMA_CM_EVENT_ESTABLISHED, REJECTED, UNREACHABLE or CONNECT_ERROR."""
        what = "Failed to Connect"
        self.core.start()
        with _refused(what), self.core.poller:
            self._attach(param, what)
            self.id.connect(_param_of(param))
        if self._channel is not None:
            event = self._channel.next()
            if event.error is not None:
                with _refused(what):
                    raise event.error

    def accept(self, param: ConnParam | None = None) -> None:
        """Accept the peer that asked: RDMA_CM_EVENT_ESTABLISHED."""
        what = "Failed to Accept Connection"
        with _refused(what), self.core.poller:
            self._attach(param, what)
            self.id.accept(_param_of(param))

    def reject(self, private_data: bytes | None = None) -> None:
        """Refuse the peer that asked."""
        with _refused("Failed to Reject Connection"), self.core.poller:
            self.id.reject(bytes(private_data or b""))

    def establish(self) -> None:
        """Complete a connection whose queue pair no identifier has made."""
        if self.id not in self._events.external:
            invalid("Failed to Complete an active connection request")

    def disconnect(self) -> None:
        """End the connection: RDMA_CM_EVENT_DISCONNECTED at both ends."""
        if self.qp is not None:
            self.qp.link.settle()
        with _refused("Failed to Disconnect"), self.core.poller:
            self.id.disconnect()

    # --- the queue pair ----------------------------------------------------------------------------------------------

    def query_qp(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """The attributes of the queue pair."""
        return self._own_qp("Failed to query QP").query(attr_mask)

    def init_qp_attr(self, qp_state: int) -> tuple[QPAttr, int]:
        """What to `modify` a queue pair of the program's with, on its way to `qp_state`; and the mask."""
        return _attributes(qp_state, self._ack_timeout), int(MASKS[e.ibv_qp_state(qp_state)]) & ~_OF_PEER

    def reg_msgs(self, size: int) -> MR:
        """Memory for messages."""
        return MR(self, size, e.ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)

    def reg_read(self, size: int = 0) -> MR:
        """Memory that the peer may read."""
        return MR(self, size, e.ibv_access_flags.IBV_ACCESS_REMOTE_READ)

    def reg_write(self, size: int = 0) -> MR:
        """Memory that the peer may write."""
        return MR(self, size, e.ibv_access_flags.IBV_ACCESS_REMOTE_WRITE)

    def post_recv(self, mr: MR, length: int | None = None) -> None:
        """Post a receive into the first octets of `mr`, or into all of them."""
        qp = self._own_qp("Failed to Post Receive")
        qp.post_recv(RecvWR(0, 1, [_sge(mr, length)]))

    def post_send(self, mr: MR, flags: int = e.IBV_SEND_SIGNALED, length: int | None = None) -> None:
        """Post a Send of the first octets of `mr`, or of all."""
        self._post("Failed to Post Send", e.IBV_WR_SEND, mr, length, flags)

    def post_read(self, mr: MR, length: int, remote_addr: int, rkey: int, flags: int = 0) -> None:
        """Post a Read into `mr`."""
        self._post("Failed to Post Read", e.IBV_WR_RDMA_READ, mr, length, flags, (rkey, remote_addr))

    def post_write(self, mr: MR, length: int, remote_addr: int, rkey: int, flags: int = 0) -> None:
        """Post a Write of `mr`."""
        self._post("Failed to Post Write", e.IBV_WR_RDMA_WRITE, mr, length, flags, (rkey, remote_addr))

    def post_ud_send(self, mr: MR, ah: object, rqpn: int = 0, flags: int = 0, length: int | None = None) -> None:
        """There are no datagrams."""
        unsupported("Failed to Post Send")

    def get_recv_comp(self) -> WC | None:
        """Wait for a completion of a receive."""
        what = "Failed to retrieve receive completion"
        return self._completion(self._own_qp(what).rcq, what)

    def get_send_comp(self) -> WC | None:
        """Wait for a completion of the send queue."""
        what = "Failed to retrieve send completion"
        return self._completion(self._own_qp(what).scq, what)

    # --- inside ------------------------------------------------------------------------------------------------------

    @property
    def _events(self) -> Channel:
        channel = self._channel if self.event_channel is None else self.event_channel.below
        assert channel is not None, "an identifier has a channel"
        return channel

    def _new_id(self, channel: Channel | None) -> CmId:
        with self.core.poller:
            if channel is None:
                self._channel = channel = Channel()
            return CmId(channel, context=_offering(peer_profile()))

    def _take(self, below: CmId) -> None:
        self._below = below
        self.on_drop(self.core.soon, below.close)

    def _use_own_channel(self) -> None:
        self._channel = Channel()
        self.id.migrate(self._channel)

    def _prepare(self, info: AddrInfo) -> None:
        """As `rdma_create_ep`: bound for who listens, else resolved and with its queue pair."""
        with _refused("Failed to create CM ID"), self.core.poller:
            if info.src is not None:
                self.id.bind_addr(*info.src)
            if info.flags & ce.RAI_PASSIVE:
                return
            self.id.resolve_addr(*_known(info.dst, "Failed to create CM ID"))
            self._raise_of_event()
            self.id.resolve_route()
            self._raise_of_event()
        self._open()
        if self._init is not None:
            self._create_qp(self._init)

    def _raise_of_event(self) -> None:
        """Take the event of a step that is over at once; raise its error."""
        event = self._events.get_event(timeout=0)
        if event.error is not None:
            raise event.error

    def _open(self) -> None:
        """The device and a protection domain, once an address is known."""
        if self.ctx is None:
            self.ctx = Context(cmid=self)
        if self.pd is None:
            self.pd = PD(self)

    def _attach(self, param: ConnParam | None, what: str) -> None:
        """Give the identifier its queue pair, or the one of the program's that the parameters name."""
        if self.qp is not None:
            link: Link = self.qp.link
        else:
            named = None if param is None else numbered(self.core, param.qpn)
            if not isinstance(named, Link):
                invalid(what)
            link = named
            link.by_cm = True
            self._events.external.add(self.id)
        self.id.use_qp(link.begin())
        self._events.connecting[self.id] = link

    def _own_qp(self, what: str) -> QP:
        if self.qp is None:
            invalid(what)
        return self.qp

    def _post(
        self, what: str, opcode: int, mr: MR, length: int | None, flags: int, remote: tuple[int, int] | None = None
    ) -> None:
        request = SendWR(0, opcode, 1, 0, [_sge(mr, length)], flags)
        if remote is not None:
            request.set_wr_rdma(*remote)
        self._own_qp(what).post_send(request)

    def _completion(self, cq: CQ | CQEX | None, what: str) -> WC:
        if cq is None:
            invalid(what)
        queue, taken = cq.queue, list[WC]()

        def look() -> bool:
            if queue.completions:
                taken.append(queue.completions.popleft())
            return bool(taken)

        self.core.wait(look)
        return taken[0]

    def _let_go(self) -> None:
        below, self._below = self._below, None
        if below is not None and not self.core.left_behind:
            with self.core.poller:
                below.close()
                if self._channel is not None:
                    self._channel.close()
        self.qp = self.ctx = self.pd = None


def _check_port_space(port_space: int) -> None:
    if port_space != ce.rdma_port_space.RDMA_PS_TCP:
        unsupported("Failed to create CM ID")


def _attributes(state: int, timeout: int) -> QPAttr:
    """The attributes of a queue pair that rdma_cm connects: its peer may do whatever regions allow."""
    attr = QPAttr(qp_state=state, qp_access_flags=_ALL, timeout=timeout)
    attr.by_cm = True
    return attr


def _known(address: tuple[str, int] | None, what: str) -> tuple[str, int]:
    if address is None:
        invalid(what)
    return address


def _param_of(param: ConnParam | None) -> blockingcm.ConnParam | None:
    """The parameters for the stack: one Read more than the program asks for, by which Sends are confirmed."""
    if param is None:
        return None
    profile = peer_profile()
    return blockingcm.ConnParam(
        private_data=param.private_data,
        responder_resources=profile.depth(param.resources + 1),
        initiator_depth=profile.depth(param.depth + 1),
    )


def _offering(profile: PeerProfile) -> Stack:
    """A context whose device offers in MPA startup what suits the peer."""
    return Device(crc=profile.crc).open()


def _sge(mr: MR, length: int | None) -> SGE:
    return SGE(mr.buf, length or mr.length, mr.lkey)
