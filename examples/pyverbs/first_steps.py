"""The first steps of rdma-core's documentation of pyverbs: devices, what they can, and the objects to begin with.

    pyiwarp run --pyverbs examples/pyverbs/first_steps.py

Objects close by `with`, by `close`, or with what they depend on.
"""

from __future__ import annotations

from pyverbs.cq import CQ, CQEX, CompChannel, CqInitAttrEx
from pyverbs.device import DM, AllocDmAttr, Context, get_device_list, guid_to_hex, translate_node_type
from pyverbs.libibverbs_enums import (
    IBV_ACCESS_LOCAL_WRITE,
    IBV_ACCESS_ZERO_BASED,
    IBV_MW_TYPE_1,
    IBV_QP_INIT_ATTR_PD,
    IBV_QP_INIT_ATTR_SEND_OPS_FLAGS,
    IBV_QPT_RC,
    IBV_QPT_UD,
)
from pyverbs.mr import DMMR, MR, MW
from pyverbs.pd import PD
from pyverbs.pyverbs_error import PyverbsRDMAError
from pyverbs.qp import QP, QPAttr, QPCap, QPEx, QPInitAttr, QPInitAttrEx


def show_devices() -> None:
    for device in get_device_list():
        print(device.name.decode(), translate_node_type(device.node_type), guid_to_hex(device.guid))


def show_limits(ctx: Context) -> None:
    attr, port = ctx.query_device(), ctx.query_port(1)
    print(attr)
    print(port)
    print("GID 0 is", ctx.query_gid(port_num=1, index=0))
    print("device memory:", ctx.query_device_ex().max_dm_size, "octets")


def make_objects(ctx: Context) -> None:
    with PD(ctx) as pd:
        mr = MR(pd, 1000, IBV_ACCESS_LOCAL_WRITE)
        mr.write(b"octets", 6)
        assert mr.read(6, 0) == b"octets"
        with MW(pd, IBV_MW_TYPE_1) as window:
            print(f"a window with key {window.rkey:#x} beside a region with keys {mr.lkey:#x} and {mr.rkey:#x}")
        with DM(ctx, AllocDmAttr(64)) as dm, DMMR(pd, 64, IBV_ACCESS_ZERO_BASED, dm=dm, offset=0):
            dm.copy_to_dm(0, b"word", 4)
            assert dm.copy_from_dm(0, 4) == b"word"
        with CompChannel(ctx) as channel, CQ(ctx, 100, None, channel, 0) as cq, CQEX(ctx, CqInitAttrEx(cqe=10)):
            make_queue_pairs(ctx, pd, cq)
        mr.close()


def make_queue_pairs(ctx: Context, pd: PD, cq: CQ) -> None:
    cap = QPCap(100, 10, 1, 1, 0)
    with QP(pd, QPInitAttr(cap=cap, qp_type=IBV_QPT_RC, scq=cq, rcq=cq), QPAttr(port_num=1)) as qp:
        print(qp)
    mask = IBV_QP_INIT_ATTR_SEND_OPS_FLAGS | IBV_QP_INIT_ATTR_PD
    with QPEx(ctx, QPInitAttrEx(qp_type=IBV_QPT_RC, scq=cq, rcq=cq, cap=cap, pd=pd, comp_mask=mask)) as extended:
        print("an extended queue pair:", extended.qp_num)
    try:
        QP(pd, QPInitAttr(cap=cap, qp_type=IBV_QPT_UD, scq=cq, rcq=cq))
    except PyverbsRDMAError as error:
        print("datagrams:", error)  # iWARP has none


if __name__ == "__main__":
    show_devices()
    with Context(name=get_device_list()[0].name.decode()) as context:
        show_limits(context)
        make_objects(context)
