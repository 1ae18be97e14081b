"""Values of the stand-in for pyverbs that newer versions of pyverbs have grown."""

from __future__ import annotations

import errno

import pytest

from pyiwarp.pyverbs.cmid import AddrInfo
from pyiwarp.pyverbs.cq import CQ, WC, cqe_flags_to_str, cqe_opcode_to_str, cqe_status_to_str
from pyiwarp.pyverbs.device import Context
from pyiwarp.pyverbs.libibverbs_enums import IBV_QPT_RC, ibv_access_flags, ibv_wc_opcode, ibv_wc_status
from pyiwarp.pyverbs.libibverbs_enums import ibv_parent_domain_init_attr_mask as mask
from pyiwarp.pyverbs.librdmacm_enums import RAI_PASSIVE
from pyiwarp.pyverbs.mr import MR
from pyiwarp.pyverbs.pd import PD, ParentDomain, ParentDomainContext, ParentDomainInitAttr
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.qp import QP, QPInitAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR


def test_addresses_are_looked_up_in_the_place_of_others() -> None:
    info = AddrInfo(src="127.0.0.1", src_service="7471", flags=RAI_PASSIVE)
    assert (info.src, info.dst) == (("127.0.0.1", 7471), None)
    info.get_addrinfo(src="127.0.0.2", dst="127.0.0.3", dst_service="7472")
    assert info.src is not None
    assert (info.src[0], info.dst, info.flags) == ("127.0.0.2", ("127.0.0.3", 7472), 0)
    with pytest.raises(PyverbsRDMAError, match="Failed to get Address Info"):
        info.get_addrinfo(dst="no such host", dst_service="1")


def test_an_implicit_region_has_memory_of_its_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reaches all memory of the process, so it is opt-in; `buf` is where the program may put something."""
    reaches = ibv_access_flags.IBV_ACCESS_LOCAL_WRITE | ibv_access_flags.IBV_ACCESS_ON_DEMAND
    with Context(name="iw0") as context:
        pd = PD(context)
        monkeypatch.delenv("PYIWARP_VERBS_IMPLICIT", raising=False)
        with pytest.raises(PyverbsRDMAError) as caught:
            MR(pd, 16, reaches, implicit=True)
        assert caught.value.error_code == errno.EOPNOTSUPP
        monkeypatch.setenv("PYIWARP_VERBS_IMPLICIT", "1")
        region = MR(pd, 16, reaches, implicit=True)
        region.write(b"sixteen octets..", 16)
        assert region.read(16, 0) == b"sixteen octets.."


def test_what_a_parent_domain_is_made_of_says_what_it_has() -> None:
    allowed = mask.IBV_PARENT_DOMAIN_INIT_ATTR_ALLOW_CC_UNPROTECTED_ALLOC
    both = mask.IBV_PARENT_DOMAIN_INIT_ATTR_PD_CONTEXT | mask.IBV_PARENT_DOMAIN_INIT_ATTR_ALLOCATORS
    with Context(name="iw0") as context:
        pd = PD(context)
        attr = ParentDomainInitAttr(pd=pd, comp_mask=allowed)
        assert attr.comp_mask == allowed
        assert ParentDomainInitAttr(pd).comp_mask == 0
        inside = ParentDomainContext(pd, lambda *_: 0, lambda *_: None, None)
        assert ParentDomainInitAttr(pd, inside, allowed).comp_mask == allowed | both
        ParentDomain(context, attr).close()


def test_a_completion_is_printed_in_the_words_of_pyverbs() -> None:
    wc = WC(wr_id=7, status=ibv_wc_status.IBV_WC_REM_ACCESS_ERR, opcode=ibv_wc_opcode.IBV_WC_RDMA_WRITE, wc_flags=10)
    lines = [line.split(":") for line in str(wc).splitlines()]
    assert [(len(name), name.strip(), value.strip()) for name, value in lines] == [
        (22, "WR ID", "7"),
        (22, "status", "remote access error"),
        (22, "opcode", "RDMA write"),
        (22, "vendor error", "0"),
        (22, "byte length", "0"),
        (22, "QP num", "0"),
        (22, "source QP", "0"),
        (22, "WC flags", "With immediate With invalidate"),
        (22, "pkey index", "0"),
        (22, "slid", "0"),
        (22, "sl", "0"),
        (22, "imm_data", "0"),
        (22, "dlid path bits", "0"),
    ]


def test_a_number_that_no_completion_has_is_told_as_unknown() -> None:
    assert cqe_status_to_str(99) == "Unknown CQE status"
    assert cqe_opcode_to_str(99) == "Unknown CQE opcode 99"
    assert cqe_flags_to_str(0) == ""


def test_every_status_has_words() -> None:
    assert not [each for each in ibv_wc_status if each < 22 and cqe_status_to_str(each).startswith("Unknown")]


def test_a_queue_pair_is_printed_as_by_pyverbs() -> None:
    with Context(name="iw0") as context:
        cq = CQ(context, 4)
        qp = QP(PD(context), QPInitAttr(qp_type=IBV_QPT_RC, scq=cq, rcq=cq))
        names, values = zip(*(line.split(": ") for line in str(qp).splitlines()), strict=True)
        assert names == (f"{'QP type':22}", f"{'  number':22}", f"{'  state':22}")
        assert [value.strip() for value in values] == ["RC", str(qp.qp_num), "Reset"]


def test_work_requests_are_printed_as_by_pyverbs() -> None:
    """Pyverbs has `Imm Data` in the line of the flags; here each field has its own."""
    sge = SGE(0x1000, 8, 0xAB)
    for printed, expected in (
        (sge, [("Address", "0x1000"), ("Length", "8"), ("Key", "0xab")]),
        (RecvWR(3, 1, [sge]), [("WR ID", "3"), ("Num SGE", "1")]),
        (
            SendWR(4, num_sge=1, sg=[sge], send_flags=6),
            [
                *(("WR ID", "4"), ("Num SGE", "1"), ("Opcode", "2")),
                *(("Send flags", "IBV_SEND_SIGNALED IBV_SEND_SOLICITED"), ("Imm Data", "0")),
            ],
        ),
    ):
        lines = [line.split(": ") for line in str(printed).splitlines()]
        assert [(name.strip(), value.strip()) for name, value in lines] == expected
