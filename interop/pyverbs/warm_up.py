"""A connection before the first test: what the stack keeps for good from the first one on is no leak of a test."""

from __future__ import annotations

import time
from typing import Final

from interop.pyverbs.errors import NoTests
from pyiwarp.pyverbs.addr import AHAttr, GlobalRoute
from pyiwarp.pyverbs.core import core
from pyiwarp.pyverbs.cq import CQ
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.libibverbs_enums import ibv_access_flags, ibv_qp_type, ibv_wc_status
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD
from pyiwarp.pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR

_PATIENCE: Final = 30.0  # seconds
_NAP: Final = 0.1  # seconds: a wait that is long enough to sleep
_SIZE: Final = 64


def connect_once(name: str) -> None:
    """Connect a queue pair of the device to itself, send one message, close everything. Raises `NoTests`."""
    with Context(name=name) as context:
        pd, queue = PD(context), CQ(context, 4)
        qp = QP(pd, QPInitAttr(qp_type=ibv_qp_type.IBV_QPT_RC, scq=queue, rcq=queue, cap=QPCap()))
        route = GlobalRoute(dgid=context.query_gid(1, 0), sgid_index=0)
        attributes = QPAttr(port_num=1)
        attributes.dest_qp_num = qp.qp_num
        attributes.ah_attr = AHAttr(gr=route, is_global=1, port_num=1)
        qp.to_rts(attributes)
        region = MR(pd, _SIZE, ibv_access_flags.IBV_ACCESS_LOCAL_WRITE)
        piece = SGE(region.buf, _SIZE, region.lkey)
        qp.post_recv(RecvWR(sg=[piece], num_sge=1))
        qp.post_send(SendWR(sg=[piece], num_sge=1))
        until, done = time.monotonic() + _PATIENCE, 0
        while done < 2:
            number, completions = queue.poll(1)
            done += number
            if time.monotonic() > until or any(each.status != ibv_wc_status.IBV_WC_SUCCESS for each in completions):
                raise NoTests(f"a queue pair of {name} cannot be connected to itself")
    core().poller.wait(lambda: False, _NAP)
