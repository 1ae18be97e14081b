"""Pairs of queue pairs of the stand-in for pyverbs, each with memory and a completion queue of its own."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pyiwarp.pyverbs import core
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.addr import AHAttr, GlobalRoute
from pyiwarp.pyverbs.cq import CQ, WC, CompChannel
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyiwarp.pyverbs.srq import SRQ, SrqAttr, SrqInitAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR
from tests.patience import PATIENCE

SIZE = 64 * 1024
ALL = 15
"""Access flags: everything local and remote."""
OK = e.ibv_wc_status.IBV_WC_SUCCESS


@dataclass
class Side:
    """A queue pair in INIT, with what it needs."""

    ctx: Context
    pd: PD
    cq: CQ
    mr: MR
    qp: QP
    srq: SRQ | None = None
    channel: CompChannel | None = None
    early: list[WC] = field(default_factory=list)

    def sge(self, offset: int = 0, nbytes: int = 64) -> SGE:
        """Octets of its memory."""
        return SGE(self.mr.buf + offset, nbytes, self.mr.lkey)

    def recv(self, wr_id: int = 0, offset: int = 0, nbytes: int = 64) -> None:
        """Post a receive."""
        (self.srq or self.qp).post_recv(RecvWR(wr_id, 1, [self.sge(offset, nbytes)]))

    def send(self, wr_id: int = 0, offset: int = 0, nbytes: int = 64, **fields: Any) -> None:
        """Post a Send, or what `opcode` says."""
        self.qp.post_send(self.request(wr_id, offset, nbytes, **fields))

    def request(
        self,
        wr_id: int = 0,
        offset: int = 0,
        nbytes: int = 64,
        *,
        opcode: int = e.ibv_wr_opcode.IBV_WR_SEND,
        imm: int = 0,
        flags: int = e.ibv_send_flags.IBV_SEND_SIGNALED,
        remote: tuple[int, int] | None = None,
    ) -> SendWR:
        """A work request; `remote` is the key and address of the peer's memory."""
        wr = SendWR(wr_id, opcode, 1, imm, [self.sge(offset, nbytes)], flags)
        if remote is not None:
            wr.set_wr_rdma(*remote)
        return wr

    def completions(self, count: int) -> list[WC]:
        """Wait for so many completions."""
        found, self.early = self.early, []
        deadline = time.monotonic() + PATIENCE
        while len(found) < count:
            found += self.cq.poll(count)[1]
            assert time.monotonic() < deadline, f"{len(found)} completions of {count} came"
        self.early = found[count:]
        return found[:count]

    def statuses(self, count: int) -> list[tuple[int, int]]:
        """Wait for so many completions; what they were of, and how they ended."""
        return [(wc.wr_id, wc.status) for wc in self.completions(count)]

    def attr(self, peer: Side, **fields: Any) -> QPAttr:
        """What connects it to a peer."""
        attr = QPAttr(port_num=1, dest_qp_num=peer.qp.qp_num, qp_access_flags=ALL)
        attr.max_rd_atomic = attr.max_dest_rd_atomic = 4
        attr.ah_attr = AHAttr(is_global=1, gr=GlobalRoute(dgid=peer.ctx.query_gid(1, 0)))
        for name, value in fields.items():
            setattr(attr, name, value)
        return attr

    def connect(self, peer: Side, **fields: Any) -> None:
        """Move it to RTS."""
        self.qp.to_rts(self.attr(peer, **fields))

    def close(self) -> None:
        """Close everything."""
        self.ctx.close()


def side(*, srq: bool = False, channel: bool = False, cqe: int = 1000, depth: int = 64, sig_all: int = 0) -> Side:
    """A queue pair of a context of its own."""
    ctx = Context(name="iw0")
    pd = PD(ctx)
    events = CompChannel(ctx) if channel else None
    cq = CQ(ctx, cqe, None, events)
    shared = SRQ(pd, SrqInitAttr(SrqAttr(depth, 2))) if srq else None
    init = QPInitAttr(e.ibv_qp_type.IBV_QPT_RC, None, cq, cq, shared, cap=QPCap(depth, depth, 4, 4), sq_sig_all=sig_all)
    attr = QPAttr(port_num=1, qp_access_flags=ALL)
    return Side(ctx, pd, cq, MR(pd, SIZE, ALL), QP(pd, init, attr), shared, events)


@contextmanager
def pair(**fields: Any) -> Iterator[tuple[Side, Side]]:
    """Two that are connected."""
    one, other = side(**fields), side(**fields)
    try:
        one.connect(other)
        other.connect(one)
        yield one, other
    finally:
        one.close()
        other.close()


def until(condition: Callable[[], object]) -> None:
    """Wait until the thread of the stand-in, or another, has made it true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.002)


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and what each is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # that of the listing
            continue
    return found


def threads() -> list[threading.Thread]:
    """The threads of the stand-in."""
    return [thread for thread in threading.enumerate() if thread.name == core.__name__.rpartition(".")[0]]


def living(*kinds: type) -> list[object]:
    """The objects of these classes."""
    gc.collect()
    return [found for found in gc.get_objects() if type(found) in kinds]
