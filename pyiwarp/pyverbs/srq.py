"""Shared receive queues."""

from __future__ import annotations

import errno
from functools import partial
from typing import Any, ClassVar

from pyiwarp.errors import Closed, QueueFull, RegionInUse, UsageError
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import Owner, PyverbsObject, Record, invalid, unsupported
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.opened import LIMITS, Opened
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.translating import receive
from pyiwarp.pyverbs.wr import RecvWR
from pyiwarp.verbs import SharedReceiveQueue

__all__ = ["SRQ", "OpsWr", "SrqAttr", "SrqInitAttr", "SrqInitAttrEx"]


class SrqAttr(Record):
    """What a shared receive queue holds, and when it tells that it runs low."""

    FIELDS: ClassVar[dict[str, Any]] = {"max_wr": 100, "max_sge": 1, "srq_limit": 0}


class SrqInitAttr(PyverbsObject):
    """What a shared receive queue is made of."""

    def __init__(self, attr: SrqAttr | None = None) -> None:
        super().__init__()
        self.attr = attr or SrqAttr(0, 0, 0)

    @property
    def max_wr(self) -> int:
        """Receives that it holds."""
        found: int = self.attr.max_wr
        return found

    @property
    def max_sge(self) -> int:
        """Elements of a receive."""
        found: int = self.attr.max_sge
        return found

    @property
    def srq_limit(self) -> int:
        """When it runs low."""
        found: int = self.attr.srq_limit
        return found


class SrqInitAttrEx(Record):
    """What a shared receive queue of a context is made of."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "max_wr": 100,
        "max_sge": 1,
        "srq_limit": 0,
        "comp_mask": 0,
        "srq_type": e.ibv_srq_type.IBV_SRQT_BASIC,
        "pd": None,
        "xrcd": None,
        "cq": None,
        "max_num_tags": 0,
        "max_ops": 0,
    }


class OpsWr(Record):
    """A work request of tag matching, which there is not."""

    FIELDS: ClassVar[dict[str, Any]] = {
        "wr_id": 0,
        "opcode": e.ibv_ops_wr_opcode.IBV_WR_TAG_ADD,
        "flags": e.ibv_ops_flags.IBV_OPS_SIGNALED,
        "next_wr": None,
        "unexpected_cnt": 0,
        "recv_wr_id": 0,
        "num_sge": None,
        "tag": 0,
        "mask": 0,
        "sg_list": None,
    }


class SRQ(Owner):
    """A shared receive queue of a protection domain, or of a context."""

    rank = 1

    def __init__(self, creator: PD | Context, attr: SrqInitAttr | SrqInitAttrEx) -> None:
        super().__init__()
        if isinstance(creator, Context):
            if not isinstance(attr, SrqInitAttrEx) or attr.srq_type != e.ibv_srq_type.IBV_SRQT_BASIC:
                unsupported("Failed to create SRQ")
            pd = attr.pd
        else:
            pd = creator
        failed = f"Failed to create SRQ (errno is {errno.EINVAL})"
        if (
            not isinstance(pd, PD)
            or not 1 <= attr.max_wr <= LIMITS.max_qp_wr
            or not 0 <= attr.max_sge <= LIMITS.max_sge
        ):
            invalid(failed)
        self.pd = pd
        with pd.core.poller:
            self.below: SharedReceiveQueue = pd.domain.verbs.create_srq(
                attr.max_wr, max(1, attr.max_sge), judge_receives_late=True
            )
        self.on_drop(pd.core.soon, partial(_close, pd.ctx.opened, self.below))
        pd.add_ref(self)

    @property
    def srq(self) -> int:
        """A number for the queue, as an address would be."""
        return id(self)

    def get_srq_num(self) -> int:
        """Queues of XRC have one."""
        unsupported("Failed to retrieve SRQ number")

    def modify(self, attr: SrqAttr, comp_mask: int) -> None:
        """Hold more or fewer receives; tell when it runs low."""
        bits = e.ibv_srq_attr_mask
        with self.pd.core.poller:
            try:
                self.below.modify(
                    max_wr=attr.max_wr if comp_mask & bits.IBV_SRQ_MAX_WR else None,
                    limit=attr.srq_limit if comp_mask & bits.IBV_SRQ_LIMIT else None,
                )
            except UsageError as error:
                raise PyverbsRDMAError("Failed to modify SRQ", errno.EINVAL) from error

    def query(self) -> SrqAttr:
        """Its figures now."""
        with self.pd.core.poller:
            found = self.below.query()
        return SrqAttr(found.max_wr, found.max_sge, found.limit)

    def post_recv(self, wr: RecvWR, bad_wr: RecvWR | None = None) -> None:
        """Post a receive, and those behind it."""
        failed = "Failed to post receive to SRQ."
        each: RecvWR | None = wr
        with self.pd.core.poller:
            while each is not None:
                try:
                    self.below.post_recv(receive(each))
                except QueueFull as error:
                    raise PyverbsRDMAError(failed, errno.ENOMEM) from error
                except UsageError as error:
                    raise PyverbsRDMAError(failed, errno.EINVAL) from error
                each = each.next_wr

    def post_srq_ops(self, wr: OpsWr, bad_wr: OpsWr | None = None) -> None:
        """There is no tag matching."""
        unsupported("post SRQ ops failed.")

    def _let_go(self) -> None:
        _close(self.pd.ctx.opened, self.below)


def _close(opened: Opened, below: SharedReceiveQueue) -> None:
    if opened.core.left_behind:
        return
    with opened.core.poller:
        try:
            below.close()
        except (RegionInUse, Closed):
            return  # its queue pairs close it with their protection domain
