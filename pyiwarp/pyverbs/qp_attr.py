"""The attributes of queue pairs; `qp` publishes them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import PyverbsObject, Record

if TYPE_CHECKING:
    from pyiwarp.pyverbs.cq import CQ, CQEX
    from pyiwarp.pyverbs.pd import PD
    from pyiwarp.pyverbs.srq import SRQ

__all__ = [
    "ECE",
    "DataBuffer",
    "QPAttachCompCntrAttr",
    "QPAttr",
    "QPCap",
    "QPInitAttr",
    "QPInitAttrEx",
    "QPRateLimitAttr",
]

_MASK = e.ibv_qp_attr_mask
BY_MASK: Final[Mapping[int, str]] = {
    _MASK.IBV_QP_CUR_STATE: "cur_qp_state",
    _MASK.IBV_QP_EN_SQD_ASYNC_NOTIFY: "en_sqd_async_notify",
    _MASK.IBV_QP_ACCESS_FLAGS: "qp_access_flags",
    _MASK.IBV_QP_PKEY_INDEX: "pkey_index",
    _MASK.IBV_QP_PORT: "port_num",
    _MASK.IBV_QP_QKEY: "qkey",
    _MASK.IBV_QP_AV: "ah_attr",
    _MASK.IBV_QP_PATH_MTU: "path_mtu",
    _MASK.IBV_QP_TIMEOUT: "timeout",
    _MASK.IBV_QP_RETRY_CNT: "retry_cnt",
    _MASK.IBV_QP_RNR_RETRY: "rnr_retry",
    _MASK.IBV_QP_RQ_PSN: "rq_psn",
    _MASK.IBV_QP_MAX_QP_RD_ATOMIC: "max_rd_atomic",
    _MASK.IBV_QP_MIN_RNR_TIMER: "min_rnr_timer",
    _MASK.IBV_QP_SQ_PSN: "sq_psn",
    _MASK.IBV_QP_MAX_DEST_RD_ATOMIC: "max_dest_rd_atomic",
    _MASK.IBV_QP_DEST_QPN: "dest_qp_num",
}
"""The attribute that a bit of a mask stands for."""


class QPCap(Record):
    """What the queues of a queue pair hold."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "max_send_wr": 1,
        "max_recv_wr": 10,
        "max_send_sge": 1,
        "max_recv_sge": 1,
        "max_inline_data": 0,
    }


class _WithCap:
    """Attributes that pyverbs has of `cap`, too."""

    cap: QPCap

    @property
    def max_send_wr(self) -> int:
        """Work requests that the send queue holds."""
        found: int = self.cap.max_send_wr
        return found

    @max_send_wr.setter
    def max_send_wr(self, val: int) -> None:
        self.cap.max_send_wr = val

    @property
    def max_recv_wr(self) -> int:
        """Receives that the receive queue holds."""
        found: int = self.cap.max_recv_wr
        return found

    @max_recv_wr.setter
    def max_recv_wr(self, val: int) -> None:
        self.cap.max_recv_wr = val

    @property
    def max_send_sge(self) -> int:
        """Elements of a work request of the send queue."""
        found: int = self.cap.max_send_sge
        return found

    @max_send_sge.setter
    def max_send_sge(self, val: int) -> None:
        self.cap.max_send_sge = val

    @property
    def max_recv_sge(self) -> int:
        """Elements of a receive."""
        found: int = self.cap.max_recv_sge
        return found

    @max_recv_sge.setter
    def max_recv_sge(self, val: int) -> None:
        self.cap.max_recv_sge = val

    @property
    def max_inline_data(self) -> int:
        """Octets that a work request carries itself."""
        found: int = self.cap.max_inline_data
        return found

    @max_inline_data.setter
    def max_inline_data(self, val: int) -> None:
        self.cap.max_inline_data = val


class QPInitAttr(_WithCap, PyverbsObject):
    """What a queue pair is made of."""

    def __init__(
        self,
        qp_type: int = e.ibv_qp_type.IBV_QPT_UD,
        qp_context: object = None,
        scq: CQ | CQEX | None = None,
        rcq: CQ | CQEX | None = None,
        srq: SRQ | None = None,
        cap: QPCap | None = None,
        sq_sig_all: int = 1,
    ) -> None:
        super().__init__()
        self.qp_type = qp_type
        self.qp_context = qp_context
        self.send_cq = scq
        self.recv_cq = rcq
        self.srq = srq
        self.sq_sig_all = sq_sig_all
        self.cap = QPCap(0, 0, 0, 0, 0) if cap is None else copy.copy(cap)
        self.comp_mask = 0
        self.pd: PD | None = None
        self.xrcd: object = None
        self.ind_table: object = None
        self.create_flags = 0
        self.send_ops_flags = 0


class QPInitAttrEx(QPInitAttr):
    """What a queue pair of a context is made of."""

    def __init__(
        self,
        qp_type: int = e.ibv_qp_type.IBV_QPT_UD,
        qp_context: object = None,
        scq: CQ | CQEX | None = None,
        rcq: CQ | CQEX | None = None,
        srq: SRQ | None = None,
        cap: QPCap | None = None,
        sq_sig_all: int = 0,
        comp_mask: int = 0,
        pd: PD | None = None,
        xrcd: object = None,
        create_flags: int = 0,
        max_tso_header: int = 0,
        source_qpn: int = 0,
        hash_conf: object = None,
        ind_table: object = None,
        send_ops_flags: int = 0,
    ) -> None:
        super().__init__(qp_type, qp_context, scq, rcq, srq, cap, sq_sig_all)
        self.comp_mask = comp_mask
        self.pd = pd
        self.xrcd = xrcd
        self.create_flags = create_flags
        self.max_tso_header = max_tso_header
        self.source_qpn = source_qpn
        self.ind_table = ind_table
        self.send_ops_flags = send_ops_flags


class QPAttr(_WithCap, Record):
    """What `modify` changes and `query` tells. `by_cm` says that rdma_cm connects the queue pair."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "qp_state": e.ibv_qp_state.IBV_QPS_INIT,
        "cur_qp_state": e.ibv_qp_state.IBV_QPS_RESET,
        "port_num": 1,
        "path_mtu": e.ibv_mtu.IBV_MTU_1024,
        "path_mig_state": 0,
        "qkey": 0,
        "rq_psn": 0,
        "sq_psn": 0,
        "dest_qp_num": 0,
        "qp_access_flags": 0,
        "ah_attr": None,
        "alt_ah_attr": None,
        "pkey_index": 0,
        "alt_pkey_index": 0,
        "en_sqd_async_notify": 0,
        "sq_draining": 0,
        "max_rd_atomic": 1,
        "max_dest_rd_atomic": 1,
        "min_rnr_timer": 0,
        "timeout": 0,
        "retry_cnt": 0,
        "rnr_retry": 0,
        "alt_port_num": 0,
        "alt_timeout": 0,
        "rate_limit": 0,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cap = QPCap(0, 0, 0, 0, 0)
        self.by_cm = False


class ECE(Record):
    """Enhanced connection establishment: there are no options."""

    FIELDS: ClassVar[dict[str, Any]] = {"vendor_id": 0, "options": 0, "comp_mask": 0}


class QPRateLimitAttr(Record):
    """A limit of the rate: there is none."""

    FIELDS: ClassVar[dict[str, Any]] = {"rate_limit": 0, "max_burst_sz": 0, "typical_pkt_sz": 0, "comp_mask": 0}


class QPAttachCompCntrAttr(Record):
    """A completion counter: there is none."""

    FIELDS: ClassVar[dict[str, Any]] = {"comp_mask": 0, "op_mask": 0}


class DataBuffer(Record):
    """Octets that a work request carries itself."""

    FIELDS: ClassVar[dict[str, Any]] = {"addr": 0, "length": 0}
