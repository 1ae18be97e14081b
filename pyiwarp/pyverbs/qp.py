"""Queue pairs. Those of type RC are served; UD, UC, XRC and raw packets are no part of iWARP."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import GID, AHAttr, GlobalRoute
from pyiwarp.pyverbs.base import Owner, invalid, unsupported
from pyiwarp.pyverbs.core import Core
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.link import ERR, INIT, LEAST_INLINE, RESET, RTR, RTS, SQD, Link
from pyiwarp.pyverbs.mr import MW, MWBind, MWBindInfo
from pyiwarp.pyverbs.opened import LIMITS
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.qp_attr import (
    BY_MASK,
    ECE,
    DataBuffer,
    QPAttachCompCntrAttr,
    QPAttr,
    QPCap,
    QPInitAttr,
    QPInitAttrEx,
    QPRateLimitAttr,
)
from pyiwarp.pyverbs.rendezvous import End
from pyiwarp.pyverbs.translating import Work, bind_request, receive, requests_of
from pyiwarp.pyverbs.utils import qp_state_to_str, qp_type_to_str
from pyiwarp.pyverbs.wr import SGE, Element, RecvWR, SendWR

__all__ = [
    "ECE",
    "QP",
    "DataBuffer",
    "QPAttachCompCntrAttr",
    "QPAttr",
    "QPCap",
    "QPEx",
    "QPInitAttr",
    "QPInitAttrEx",
    "QPRateLimitAttr",
]

_MASK, _OP = e.ibv_qp_attr_mask, e.ibv_wr_opcode
_MOVES: Final = {
    *((RESET, INIT), (INIT, INIT), (INIT, RTR), (RTR, RTS), (RTS, RTS)),
    *((RTS, SQD), (SQD, SQD), (SQD, RTS)),
}
"""The moves that a program may ask for, beside those to RESET and to ERROR."""

MASKS: Final = {
    INIT: _MASK.IBV_QP_STATE | _MASK.IBV_QP_PKEY_INDEX | _MASK.IBV_QP_PORT | _MASK.IBV_QP_ACCESS_FLAGS,
    RTR: _MASK.IBV_QP_STATE
    | _MASK.IBV_QP_AV
    | _MASK.IBV_QP_PATH_MTU
    | _MASK.IBV_QP_DEST_QPN
    | _MASK.IBV_QP_RQ_PSN
    | _MASK.IBV_QP_MAX_DEST_RD_ATOMIC
    | _MASK.IBV_QP_MIN_RNR_TIMER,
    RTS: _MASK.IBV_QP_STATE
    | _MASK.IBV_QP_TIMEOUT
    | _MASK.IBV_QP_RETRY_CNT
    | _MASK.IBV_QP_RNR_RETRY
    | _MASK.IBV_QP_SQ_PSN
    | _MASK.IBV_QP_MAX_QP_RD_ATOMIC,
}
"""The attributes that `to_init`, `to_rtr` and `to_rts` set."""

_PORT: Final = 1


class QP(Owner):
    """A queue pair, made in a protection domain, or in a context with extended attributes.

    With `qp_attr` it is moved to INIT.
    """

    rank = 0

    def __init__(self, creator: Context | PD, init_attr: QPInitAttr, qp_attr: QPAttr | None = None) -> None:
        super().__init__()
        pd = init_attr.pd if isinstance(creator, Context) else creator
        self.pd: PD = _checked(pd, init_attr)
        self.context: Context = self.pd.ctx
        self.init_attr = init_attr
        self.qp_type = init_attr.qp_type
        self.scq, self.rcq, self.srq = init_attr.send_cq, init_attr.recv_cq, init_attr.srq
        self.cap: QPCap = copy.copy(init_attr.cap)
        self.cap.max_inline_data = max(self.cap.max_inline_data, LEAST_INLINE)
        self._all_signaled = bool(init_attr.sq_sig_all)
        self._attr = QPAttr(qp_state=RESET)
        self._attr.ah_attr = AHAttr(gr=GlobalRoute(dgid=GID()))
        self._was_modified = False
        recv_cq = self.rcq or self.scq
        with self.core.poller:
            self.link = Link(
                self.pd.domain,
                self.cap,
                None if self.scq is None else self.scq.queue,
                None if recv_cq is None else recv_cq.queue,
                None if self.srq is None else self.srq.below,
            )
        self.qp_num: int = self.link.qpn
        self.on_drop(self.core.soon, self.link.close)
        for owner in (self.pd, self.context, self.scq, self.rcq, self.srq):
            if owner is not None:
                owner.add_ref(self)
        if qp_attr is not None:
            self.to_init(qp_attr)

    @property
    def core(self) -> Core:
        """The progress of the process."""
        return self.pd.core

    @property
    def qp(self) -> int:
        """A number for the queue pair, as an address would be."""
        return id(self)

    # --- states ------------------------------------------------------------------------------------------------------

    @property
    def qp_state(self) -> int:
        """Its state."""
        return self.link.state

    def to_init(self, qp_attr: QPAttr) -> None:
        """Move it to INIT."""
        self._to(INIT, qp_attr, "init")

    def to_rtr(self, qp_attr: QPAttr) -> None:
        """Move it to RTR: from now on it looks for its peer."""
        if self.link.state is not INIT:
            self.to_init(qp_attr)
        self._to(RTR, qp_attr, "RTR")

    def to_rts(self, qp_attr: QPAttr) -> None:
        """Move it to RTS: it may send. What is posted before the peer is there waits."""
        if self.link.state is not RTR:
            self.to_rtr(qp_attr)
        self._to(RTS, qp_attr, "RTS")

    def modify(self, qp_attr: QPAttr, comp_mask: int) -> None:
        """Change the attributes whose bits are set."""
        self._modify(qp_attr, int(comp_mask), "Failed to modify QP")

    def query(self, attr_mask: int) -> tuple[QPAttr, QPInitAttr]:
        """The attributes. As with RNICs the state is INIT right after creation."""
        attr = copy.copy(self._attr)
        state = self.link.state if self._was_modified or self.link.by_cm else INIT
        attr.qp_state = attr.cur_qp_state = state
        attr.sq_draining = int(self.link.is_draining)
        attr.cap = copy.copy(self.cap)
        init = QPInitAttr(self.qp_type, None, self.scq, self.rcq, self.srq, self.cap, int(self._all_signaled))
        return attr, init

    def _to(self, state: e.ibv_qp_state, attr: QPAttr, name: str) -> None:
        attr.qp_state = state
        self._modify(attr, int(MASKS[state]), f"Failed to modify QP state to {name}")

    def _modify(self, attr: QPAttr, mask: int, failed: str) -> None:
        link = self.link
        with self.core.poller:
            new = e.ibv_qp_state(attr.qp_state) if mask & _MASK.IBV_QP_STATE else link.state
            if new not in (RESET, ERR) and (link.state, new) not in _MOVES:
                invalid(failed)
            if mask & _MASK.IBV_QP_PORT and attr.port_num != _PORT:
                invalid(failed)
            if mask & _MASK.IBV_QP_MAX_QP_RD_ATOMIC and not 0 <= attr.max_rd_atomic <= LIMITS.max_ord:
                invalid(failed)
            if mask & _MASK.IBV_QP_MAX_DEST_RD_ATOMIC and not 0 <= attr.max_dest_rd_atomic <= LIMITS.max_ird:
                invalid(failed)
            names_peer = bool(mask & _MASK.IBV_QP_AV) and attr.ah_attr is not None
            if new is RTR and not (names_peer or link.peer or link.by_cm or attr.by_cm):
                invalid(failed)
            for bit, name in BY_MASK.items():
                if mask & bit:
                    setattr(self._attr, name, getattr(attr, name))
            self._was_modified = True
            self._tell_link(attr, mask)
            if new is not link.state or new in (RESET, ERR):
                link.move(new)

    def _tell_link(self, attr: QPAttr, mask: int) -> None:
        link, mine = self.link, self._attr
        link.by_cm = link.by_cm or attr.by_cm
        link.ird, link.ord = mine.max_dest_rd_atomic, mine.max_rd_atomic
        link.timeout, link.retry_cnt = mine.timeout, mine.retry_cnt
        link.notifies_drained = bool(mine.en_sqd_async_notify)
        if mask & _MASK.IBV_QP_ACCESS_FLAGS:
            link.set_access(int(attr.qp_access_flags))
        if mask & (_MASK.IBV_QP_AV | _MASK.IBV_QP_DEST_QPN) and mine.ah_attr is not None:
            link.peer = End(mine.ah_attr.raw, mine.dest_qp_num)

    def _let_go(self) -> None:
        self.link.settle()
        self.link.close()

    def __str__(self) -> str:
        return (
            f"{'QP type':22}: {qp_type_to_str(self.qp_type):<20}\n"
            f"{'  number':22}: {self.qp_num:<20}\n"
            f"{'  state':22}: {qp_state_to_str(self.qp_state):<20}\n"
        )

    # --- work --------------------------------------------------------------------------------------------------------

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive, and those behind it; memory is judged when a message comes."""
        each: RecvWR | None = wr
        with self.core.poller:
            while each is not None:
                self.link.post_recv(receive(each))
                each = each.next_wr

    def post_send(self, wr: SendWR, bad_wr: SendWR | None = None) -> None:
        """Post a work request, and those behind it."""
        each: SendWR | None = wr
        with self.core.poller:
            while each is not None:
                self._post_send(each)
                each = each.next_wr

    def _post_send(self, wr: SendWR) -> None:
        cap = self.cap
        work, requests = requests_of(
            wr, self.pd.domain, max(1, cap.max_send_sge), cap.max_inline_data, all_signaled=self._all_signaled
        )
        self.link.post(work, requests, "Failed to post send")

    def bind_mw(self, mw: MW, mw_bind: MWBind) -> None:
        """Bind a window of type 1."""
        signaled = self._all_signaled or bool(mw_bind.send_flags & e.ibv_send_flags.IBV_SEND_SIGNALED)
        work = Work(mw_bind.wr_id, e.ibv_wc_opcode.IBV_WC_BIND_MW, 0, signaled=signaled)
        with self.core.poller:
            self.link.post(work, [bind_request(work, mw, mw_bind.info, None)], "Failed to Bind MW")

    # --- what there is not -------------------------------------------------------------------------------------------

    def set_ece(self, ece: ECE) -> None:
        """There are no options of a vendor."""
        if ece.vendor_id:
            unsupported("Failed to set ECE")

    def query_ece(self) -> ECE:
        """There are no options of a vendor."""
        unsupported("Failed to query ECE")

    def query_data_in_order(self, op: int, flags: int = 0) -> int:
        """Nothing is promised of the order in which octets are placed (RFC 5040 §5.5)."""
        return 0

    def modify_rate_limit(self, attr: QPRateLimitAttr) -> None:
        """There is no pacing."""
        unsupported("Failed to modify QP rate limit")

    def attach_comp_cntr(self, *args: object) -> None:
        """There are no completion counters."""
        unsupported("Failed to attach comp cntr to QP")


def _checked(pd: PD | None, init_attr: QPInitAttr) -> PD:
    """The protection domain of a queue pair that may be made; raises for what is no part of iWARP, or too much."""
    failed, cap = "Failed to create QP", init_attr.cap
    operations = e.ibv_qp_create_send_ops_flags
    if init_attr.qp_type != e.ibv_qp_type.IBV_QPT_RC:
        unsupported(failed)
    if init_attr.send_ops_flags & (operations.IBV_QP_EX_WITH_TSO | operations.IBV_QP_EX_WITH_FLUSH):
        unsupported(failed)
    if pd is None or init_attr.create_flags:
        invalid(failed)
    if max(cap.max_send_wr, cap.max_recv_wr) > LIMITS.max_qp_wr:
        invalid(failed)
    if max(cap.max_send_sge, cap.max_recv_sge) > LIMITS.max_sge or cap.max_inline_data > LIMITS.max_inline:
        invalid(failed)
    return pd


class QPEx(QP):
    """A queue pair whose work requests are built call by call, from `wr_start` to `wr_complete`."""

    def __init__(self, creator: Context | PD, init_attr: QPInitAttr, qp_attr: QPAttr | None = None) -> None:
        super().__init__(creator, init_attr, qp_attr)
        self.comp_mask = 0
        self.ind_table = None
        self.wr_id = 0
        self.wr_flags = 0
        self._batch: list[SendWR] = []

    def wr_start(self) -> None:
        """Begin."""
        self._batch = []

    def wr_complete(self) -> None:
        """Post what was built."""
        batch, self._batch = self._batch, []
        with self.core.poller:
            for wr in batch:
                self._post_send(wr)

    def wr_abort(self) -> None:
        """Forget what was built."""
        self._batch = []

    def _add(self, opcode: int, **fields: Any) -> None:
        wr = SendWR(self.wr_id, _OP.IBV_WR_LOCAL_INV, send_flags=self.wr_flags)
        wr.opcode = opcode
        for name, value in fields.items():
            setattr(wr, name, value)
        self._batch.append(wr)

    def wr_send(self) -> None:
        """Send."""
        self._add(_OP.IBV_WR_SEND)

    def wr_send_imm(self, data: int) -> None:
        """Send with immediate data, a number in the order of this host."""
        self._add(_OP.IBV_WR_SEND_WITH_IMM, imm_data=_in_network_order(data))

    def wr_send_inv(self, invalidate_rkey: int) -> None:
        """Send and let the peer invalidate a key of its own."""
        self._add(_OP.IBV_WR_SEND_WITH_INV, imm_data=invalidate_rkey)

    def wr_rdma_write(self, rkey: int, remote_addr: int) -> None:
        """Write."""
        self._add(_OP.IBV_WR_RDMA_WRITE, rkey=rkey, remote_addr=remote_addr)

    def wr_rdma_write_imm(self, rkey: int, remote_addr: int, data: int) -> None:
        """Write with immediate data, a number in the order of this host."""
        imm = _in_network_order(data)
        self._add(_OP.IBV_WR_RDMA_WRITE_WITH_IMM, rkey=rkey, remote_addr=remote_addr, imm_data=imm)

    def wr_rdma_read(self, rkey: int, remote_addr: int) -> None:
        """Read."""
        self._add(_OP.IBV_WR_RDMA_READ, rkey=rkey, remote_addr=remote_addr)

    def wr_atomic_cmp_swp(self, rkey: int, remote_addr: int, compare: int, swap: int) -> None:
        """Compare and swap."""
        self._add(_OP.IBV_WR_ATOMIC_CMP_AND_SWP, rkey=rkey, remote_addr=remote_addr, compare_add=compare, swap=swap)

    def wr_atomic_fetch_add(self, rkey: int, remote_addr: int, add: int) -> None:
        """Fetch and add."""
        self._add(_OP.IBV_WR_ATOMIC_FETCH_AND_ADD, rkey=rkey, remote_addr=remote_addr, compare_add=add)

    def wr_atomic_write(self, rkey: int, remote_addr: int, atomic_wr: bytes) -> None:
        """Write eight octets at once."""
        self._add(_OP.IBV_WR_ATOMIC_WRITE, rkey=rkey, remote_addr=remote_addr, octets=bytes(atomic_wr[:8]))

    def wr_bind_mw(self, mw: MW, rkey: int, bind_info: MWBindInfo) -> None:
        """Bind a window of type 2."""
        self._add(_OP.IBV_WR_BIND_MW, window=(mw, rkey, bind_info))

    def wr_local_inv(self, invalidate_rkey: int) -> None:
        """Invalidate a key of this side."""
        self._add(_OP.IBV_WR_LOCAL_INV, imm_data=invalidate_rkey)

    def wr_flush(self, rkey: int, remote_addr: int, length: int, type: int, level: int) -> None:
        """There is no FLUSH in iWARP."""
        unsupported("Failed to flush")

    def wr_set_ud_addr(self, ah: object, remote_qpn: int, remote_rkey: int) -> None:
        """For UD, which is refused when the queue pair is made."""

    def wr_set_sge(self, sge: SGE) -> None:
        """Of the memory of one element."""
        self._batch[-1].elements = [(sge.addr, sge.length, sge.lkey)]

    def wr_set_sge_list(self, num_sge: int, sg_list: Sequence[SGE]) -> None:
        """Of the memory of several elements."""
        self._batch[-1].elements = [(each.addr, each.length, each.lkey) for each in sg_list[:num_sge]]

    def wr_set_inline_data(self, addr: int, length: int) -> None:
        """Of octets that are copied when the work request is posted."""
        self._set_inline([(addr, length, 0)])

    def wr_set_inline_data_list(self, num_buf: int, buf_list: Sequence[DataBuffer]) -> None:
        """Of octets of several buffers, copied when the work request is posted."""
        self._set_inline([(each.addr, each.length, 0) for each in buf_list[:num_buf]])

    def _set_inline(self, elements: list[Element]) -> None:
        wr = self._batch[-1]
        wr.elements = elements
        wr.send_flags = int(wr.send_flags) | e.ibv_send_flags.IBV_SEND_INLINE


def _in_network_order(data: int) -> int:
    """Four octets as a number that lies in memory as the network has them."""
    return int.from_bytes(data.to_bytes(4, "big"), "little")
