"""The values of the stand-in for pyverbs: names, defaults, texts, and what is refused."""

from __future__ import annotations

import errno
import importlib
from pathlib import Path

import pytest

import pyiwarp.pyverbs
from pyiwarp.pyverbs import device, enums, flow, fork, mem_alloc, utils
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.base import Owner, Record, inc_rkey
from pyiwarp.pyverbs.cq import CQ, CQEX, WC, CqInitAttrEx, PollCqAttr, cqe_opcode_to_str, cqe_status_to_str
from pyiwarp.pyverbs.device import Context, FdArr, get_device_list, rdma_get_devices
from pyiwarp.pyverbs.dmabuf import DmaBuf
from pyiwarp.pyverbs.opened import hosts, peer_profile
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.qp import ECE, QP, QPAttr, QPCap, QPInitAttr, QPInitAttrEx, QPRateLimitAttr
from pyiwarp.pyverbs.refusals import refusing
from pyiwarp.pyverbs.srq import SRQ, OpsWr, SrqInitAttrEx
from pyiwarp.pyverbs.wr import SendWR
from pyiwarp.pyverbs.xrcd import XRCD, XRCDInitAttr
from tests.integration.verbsrig import side

FOLDER = Path(pyiwarp.pyverbs.__file__).parent
MODULES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.mark.parametrize("name", MODULES)
def test_each_module_has_what_it_exports(name: str) -> None:
    module = importlib.import_module(f"pyiwarp.pyverbs.{name}")
    assert all(hasattr(module, each) for each in getattr(module, "__all__", ()))


def test_members_of_enumerations_are_names_of_the_module() -> None:
    assert e.IBV_WR_SEND is e.ibv_wr_opcode.IBV_WR_SEND
    assert e.IBV_WQT_RQ == e.ibv_wq_type.IBV_WQT_RQ
    assert e._IBV_ADVISE_MR_FLAG_FLUSH == e.IBV_ADVISE_MR_FLAG_FLUSH
    assert enums.RDMA_PS_TCP == 0x106
    assert "IBV_WR_SEND" in dir(enums)
    with pytest.raises(AttributeError):
        enums.IBV_NOTHING  # noqa: B018 - it is asked for


def test_what_a_record_takes() -> None:
    class Pair(Record):
        FIELDS = {"first": 1, "second": 2}  # noqa: RUF012 - the base says what it is

    assert (Pair(5).first, Pair(second=7).second) == (5, 7)
    assert "second" in str(Pair())
    for wrong in ((1, 2, 3), ()):
        with pytest.raises(TypeError):
            Pair(*wrong, **({} if wrong else {"third": 3}))


def test_what_depends_closes_first_and_once() -> None:
    closed: list[str] = []

    class Thing(Owner):
        def __init__(self, name: str, rank: int = 0) -> None:
            super().__init__()
            self.name = name
            self.rank_of = rank

        def _let_go(self) -> None:
            closed.append(self.name)

    class Late(Thing):
        rank = 9

    owner, late, early, gone = Thing("owner"), Late("late"), Thing("early"), Thing("gone")
    for each in (late, early, gone):
        owner.add_ref(each)
    owner.remove_ref(gone)
    with owner:
        pass
    owner.close()
    assert closed == ["early", "late", "owner"]


def test_the_devices_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYIWARP_VERBS", "left=127.0.0.1,right=::1")
    assert hosts() == {"left": "127.0.0.1", "right": "::1"}
    assert [each.name for each in get_device_list()] == [b"left", b"right"]
    assert "RNIC" in str(rdma_get_devices()[0])
    with Context(name="right") as ctx:
        assert ctx.query_gid(1, 0).raw == bytes(15) + b"\1"
    with pytest.raises(PyverbsRDMAError):
        Context(name="iw0")
    with pytest.raises(PyverbsUserError):
        Context()
    with pytest.raises(PyverbsRDMAError):
        Context(name="left", attr=object())
    monkeypatch.setenv("PYIWARP_VERBS_PEER", "siw")
    assert peer_profile().name == "siw"


def test_what_the_device_says() -> None:
    with Context(name="iw0") as ctx:
        attr, port = ctx.query_device_ex().orig_attr, ctx.query_port(1)
        assert attr.phys_port_cnt == 1
        assert attr.max_sge_rd == 1
        assert port.state == e.IBV_PORT_ACTIVE
        assert ctx.query_port_speed(1) == 400
        assert ctx.query_gid(1, 1).raw == bytes(16)
        assert ctx.query_gid_ex(1, 0).gid_str() == str(ctx.query_gid(1, 0))
        assert len(ctx.query_gid_table(10)) == 1
        assert ctx.num_comp_vectors >= 1
        refusals = {
            errno.EINVAL: (
                *(lambda: ctx.query_port(2), lambda: ctx.query_gid(1, 2), lambda: ctx.query_gid_ex(1, 7)),
                *(lambda: ctx.query_port_speed(0), lambda: ctx.query_gid_type(1, 9)),
            ),
            errno.EOPNOTSUPP: (ctx.query_rt_values_ex, ctx.query_comp_cntr_caps),
            errno.ENODATA: (lambda: ctx.query_gid_ex(1, 1),),
            -errno.EINVAL: (lambda: ctx.query_gid_table(0),),
            -1: (lambda: ctx.query_pkey(1, 0), lambda: ctx.get_pkey_index(1, 0)),
        }
        for code, calls in refusals.items():
            for call in calls:
                with pytest.raises(PyverbsRDMAError) as caught:
                    call()
                assert caught.value.error_code == code


def test_texts() -> None:
    assert device.translate_mtu(5) == "4096 (5)"
    assert device.translate_mtu(9) == "Invalid MTU (9)"
    assert device.translate_link_layer(2) == "Ethernet"
    assert device.translate_event_type(999) == "Unknown event_type (999)"
    assert device.translate_gid_type(e.ibv_gid_type.IBV_GID_TYPE_IB) == "IB"
    assert "IBV_DEVICE_MEM_WINDOW" in device.translate_device_caps(e.IBV_DEVICE_MEM_WINDOW)
    assert "IBV_PORT_SM" in device.translate_port_cap_flags(2)
    assert device.translate_port_cap_flags2(0).strip() == ""
    assert device.phys_state_to_str(5) == "Link up (5)"
    assert device.port_state_to_str(4) == "Active (4)"
    assert device.width_to_str(2) == "4X (2)"
    assert "Gbps" in device.speed_to_str(4, 0)
    assert utils.qp_type_to_str(2) == "RC"
    assert utils.qp_state_to_str(3) == "RTS"
    assert utils.mtu_to_str(4) == 2048
    assert utils.access_flags_to_str(3) == "Local write Remote write "
    assert utils.mig_state_to_str(1) == "Re-arm"
    assert utils.rereg_error_to_str(77) == "Unknown error (77)"
    assert cqe_status_to_str(0) == "success"
    assert cqe_opcode_to_str(128) == "Receive"
    assert inc_rkey(0x1FF) == 0x100
    assert fork.is_fork_initialized() is e.ibv_fork_status.IBV_FORK_UNNEEDED
    assert FdArr([1, 2, 3], 2).arr == [1, 2]
    for wrong in ("1:2", "0000:0000:0000:0000:0000:0000:0000:00"):
        with pytest.raises(PyverbsUserError):
            utils.gid_str_to_array(wrong)


def test_numbers_in_memory() -> None:
    address = mem_alloc.malloc(16)
    mem_alloc.writebe32(address, 0x0102_0304)
    mem_alloc.writebe64(address, 0x0102_0304_0506_0708, 1)
    assert mem_alloc.read(address, 4) == b"\1\2\3\4"
    assert mem_alloc.read32(address) == 0x0403_0201
    assert mem_alloc.read64(address, 1) == 0x0807_0605_0403_0201
    mem_alloc.free(address)
    mapped = mem_alloc.mmap(length=4096)
    mem_alloc.madvise(mapped, 4096)
    mem_alloc.munmap(mapped, 4096)
    with pytest.raises(MemoryError):
        mem_alloc.mmap(length=0)
    with pytest.raises(PyverbsRDMAError):
        mem_alloc.madvise(1, 4096)


def test_what_iwarp_has_not_can_be_named_and_cannot_be_made() -> None:
    assert refusing("somewhere")("FlowAttr")(num_of_specs=1).num_of_specs == 1
    assert flow.Flow | 2 == 1
    assert int(flow.Flow.ANY_FLAG) == 1
    module = importlib.import_module("pyiwarp.pyverbs.providers.mlx5.mlx5dv")
    for make in (lambda: flow.Flow(None), lambda: module.Mlx5Context(), lambda: DmaBuf(1)):
        with pytest.raises(PyverbsRDMAError) as caught:
            make()
        assert caught.value.error_code == errno.EOPNOTSUPP
    with pytest.raises(AttributeError):
        flow.__nothing__  # noqa: B018 - it is asked for


def test_what_a_queue_pair_is_refused() -> None:
    one = side()
    kinds, operations = e.ibv_qp_type, e.ibv_qp_create_send_ops_flags
    unsupported = [QPInitAttr(kind, scq=one.cq, rcq=one.cq) for kind in (kinds.IBV_QPT_UD, kinds.IBV_QPT_UC)]
    unsupported.append(QPInitAttrEx(kinds.IBV_QPT_RC, pd=one.pd, send_ops_flags=operations.IBV_QP_EX_WITH_FLUSH))
    too_much = [
        QPInitAttr(kinds.IBV_QPT_RC, cap=QPCap(1 << 20)),
        QPInitAttr(kinds.IBV_QPT_RC, cap=QPCap(max_send_sge=1000)),
        QPInitAttrEx(kinds.IBV_QPT_RC, pd=one.pd, create_flags=1),
    ]
    for code, asked in ((errno.EOPNOTSUPP, unsupported), (errno.EINVAL, too_much)):
        for init in asked:
            with pytest.raises(PyverbsRDMAError) as caught:
                QP(one.pd, init)
            assert caught.value.error_code == code
    for call in (
        *(lambda: one.qp.set_ece(ECE(1)), one.qp.query_ece, one.qp.attach_comp_cntr),
        *(lambda: one.qp.modify_rate_limit(QPRateLimitAttr()), lambda: XRCD(one.ctx, XRCDInitAttr())),
        lambda: SRQ(one.ctx, SrqInitAttrEx(pd=one.pd, max_wr=1)).post_srq_ops(OpsWr()),
        lambda: SRQ(one.ctx, SrqInitAttrEx(pd=one.pd, max_wr=1)).get_srq_num(),
        lambda: CQEX(one.ctx, CqInitAttrEx(flags=8)),
    ):
        with pytest.raises(PyverbsRDMAError) as caught:
            call()
        assert caught.value.error_code == errno.EOPNOTSUPP
    one.qp.set_ece(ECE())
    assert one.qp.query_data_in_order(0) == 0
    one.close()


def test_what_queues_are_refused() -> None:
    one = side()
    for call in (
        *(lambda: CQ(one.ctx, 0), lambda: CQ(one.ctx, 1 << 30), lambda: CQ(one.ctx, 1, comp_vector=1 << 20)),
        *(lambda: one.cq.resize(0), lambda: SRQ(one.ctx, SrqInitAttrEx(pd=one.pd, max_wr=0))),
    ):
        with pytest.raises(PyverbsRDMAError) as caught:
            call()
        assert caught.value.error_code == errno.EINVAL
    one.cq.resize(5)
    assert one.cq.cqe == 5
    extended = CQEX(one.ctx)
    assert extended.start_poll(PollCqAttr()) == errno.ENOENT
    assert extended.start_poll(PollCqAttr(comp_mask=1)) == errno.EINVAL
    extended.end_poll()
    with pytest.raises(PyverbsUserError):
        SendWR(1, e.IBV_WR_SEND)
    assert "WR ID" in str(WC(7))
    assert "RC" in str(one.qp)
    assert "lkey" in str(one.mr)
    attr = QPAttr()
    attr.max_send_wr = 3
    assert attr.cap.max_send_wr == 3
    one.close()
