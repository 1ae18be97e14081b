"""Memory of the stand-in for pyverbs: keys and addresses, re-registration, windows, device memory, what is emulated."""

from __future__ import annotations

import errno
import gc

import pytest

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs import mem_alloc
from pyiwarp.pyverbs.device import DM, AllocDmAttr, Context
from pyiwarp.pyverbs.mr import DMMR, MR, MW, Buf, BufMR, DmaBufMR, MREx, mwtype2str
from pyiwarp.pyverbs.pd import PD, ParentDomain, ParentDomainContext, ParentDomainInitAttr
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.wr import SGE, RecvWR
from tests.integration.verbsrig import ALL, OK, pair, side, until

ACCESS = e.ibv_access_flags
OP, CHANGE = e.ibv_wr_opcode, e.ibv_rereg_mr_flags


def refused(code: int, call: object, *args: object, **fields: object) -> None:
    assert callable(call)
    with pytest.raises(PyverbsRDMAError) as caught:
        call(*args, **fields)
    assert caught.value.error_code == code


def test_memory_of_ones_own_is_zero_and_aligned_to_a_page() -> None:
    one = side()
    assert one.mr.buf % 4096 == 0
    assert one.mr.read(16, 0) == bytes(16)
    assert one.mr.lkey == one.mr.rkey
    one.mr.write("text", 4, 8)
    assert one.mr.read(4, 8) == b"text"
    for wrong in ((-1, 0), (4, -1)):
        with pytest.raises(PyverbsUserError):
            one.mr.read(*wrong)
    one.mr.close()
    with pytest.raises(PyverbsUserError):
        one.mr.write(b"x", 1)
    one.mr.close()
    one.close()


@pytest.mark.parametrize(
    "access",
    [
        ACCESS.IBV_ACCESS_REMOTE_WRITE,
        ACCESS.IBV_ACCESS_REMOTE_ATOMIC,
        ACCESS.IBV_ACCESS_FLUSH_GLOBAL,
        1 << 19,
    ],
    ids=["remote write alone", "remote atomic alone", "flush", "unknown"],
)
def test_access_that_cannot_be(access: int) -> None:
    one = side()
    refused(errno.EINVAL, MR, one.pd, 100, access)
    one.close()


def test_memory_of_the_program() -> None:
    address = mem_alloc.posix_memalign(4096, 4096)
    with pair() as (one, other):
        mr = MR(other.pd, 4096, ALL, address)
        assert mr.buf == address
        one.mr.write(b"by address", 10)
        one.send(1, nbytes=10, opcode=OP.IBV_WR_RDMA_WRITE, remote=(mr.rkey, address + 6))
        assert one.statuses(1) == [(1, OK)]
        assert mem_alloc.read(address, 10, 6) == b"by address"
    mem_alloc.free(address)


def test_re_registration_keeps_the_keys() -> None:
    address = mem_alloc.malloc(4096)
    with pair() as (one, other):
        mr, domain = MR(other.pd, 100, ALL), PD(other.ctx)
        keys = mr.lkey, mr.rkey
        mr.rereg(CHANGE.IBV_REREG_MR_CHANGE_TRANSLATION, other.pd, address, 4096)
        assert (mr.lkey, mr.rkey, mr.buf, mr.length) == (*keys, address, 4096)
        one.mr.write(b"moved", 5)
        one.send(1, nbytes=5, opcode=OP.IBV_WR_RDMA_WRITE, remote=(mr.rkey, address))
        assert one.statuses(1) == [(1, OK)]
        assert mem_alloc.read(address, 5) == b"moved"
        mr.rereg(CHANGE.IBV_REREG_MR_CHANGE_ACCESS, other.pd, access=ACCESS.IBV_ACCESS_LOCAL_WRITE)
        wrong = ACCESS.IBV_ACCESS_REMOTE_WRITE
        refused(errno.EINVAL, mr.rereg, CHANGE.IBV_REREG_MR_CHANGE_ACCESS, other.pd, access=wrong)
        mr.rereg(CHANGE.IBV_REREG_MR_CHANGE_PD, domain)
        assert mr.pd is domain
        domain.close()
        refused(errno.EBUSY, mr.rereg, CHANGE.IBV_REREG_MR_CHANGE_ACCESS, other.pd, access=ALL)
    mem_alloc.free(address)


def test_an_iova_of_the_programs_choice() -> None:
    with pair() as (one, other):
        mr = MREx(other.pd, 4096, ALL, iova=0x10_0000)
        one.send(1, nbytes=5, opcode=OP.IBV_WR_RDMA_WRITE, remote=(mr.rkey, 0x10_0000))
        assert one.statuses(1) == [(1, OK)]
    one = side()
    refused(errno.EINVAL, MREx, one.pd, 4096, ALL, iova=(1 << 64) - 1)
    refused(errno.EOPNOTSUPP, MREx, one.pd, 4096, ALL, fd=3)
    refused(errno.EINVAL, MREx, one.pd, 4096, ALL, fd=3, implicit=True)
    one.close()


def test_a_part_of_a_buffer() -> None:
    one = side()
    buf = Buf(one.pd, 4096)
    part = BufMR(one.pd, buf, 100, ALL, 4)
    whole = MREx(one.pd, 4096, ALL, buf=buf)
    part.write(b"part", 4)
    assert whole.read(4, 4) == b"part"
    refused(errno.EINVAL, BufMR, one.pd, buf, 4096, ALL, 4)
    refused(errno.EINVAL, BufMR, PD(one.ctx), buf, 10, ALL)
    refused(errno.ENODATA, buf.export_dmabuf_fd)
    one.close()


def test_device_memory_is_emulated() -> None:
    with pair() as (one, other):
        dm = DM(other.ctx, AllocDmAttr(1024))
        mr = DMMR(other.pd, 512, ALL | ACCESS.IBV_ACCESS_ZERO_BASED, dm, 256)
        one.mr.write(b"in the device", 13)
        one.send(1, nbytes=13, opcode=OP.IBV_WR_RDMA_WRITE, remote=(mr.rkey, 0))
        assert one.statuses(1) == [(1, OK)]
        assert dm.copy_from_dm(256, 16)[:13] == b"in the device"
        mr.write(b"1234", 4, 4)
        assert mr.read(8, 0) == bytes(4) + b"1234"
        for wrong in ((1, 4), (0, 3), (1020, 8), (-4, 4)):
            refused(errno.EINVAL, dm.copy_from_dm, *wrong)
        refused(errno.EINVAL, DMMR, other.pd, 1024, ALL, dm, 4)
        imported = DM(other.ctx, handle=dm.handle)
        assert imported.copy_from_dm(256, 4) == dm.copy_from_dm(256, 4)
        imported.unimport()
    one = side()
    for size in (0, one.ctx.query_device_ex().max_dm_size + 1):
        refused(errno.EINVAL, DM, one.ctx, AllocDmAttr(size))
    refused(errno.EINVAL, DM, one.ctx, handle=12345)
    one.close()


def test_all_memory_at_once_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    with pair() as (one, other):
        refused(errno.EOPNOTSUPP, MR, one.pd, 0, ALL | ACCESS.IBV_ACCESS_ON_DEMAND, implicit=True)
        caps = e.ibv_odp_general_caps.IBV_ODP_SUPPORT_IMPLICIT
        assert not one.ctx.query_device_ex().odp_caps.general_caps & caps
        monkeypatch.setenv("PYIWARP_VERBS_IMPLICIT", "1")
        assert one.ctx.query_device_ex().odp_caps.general_caps & caps
        everything = MR(one.pd, 0, ALL | ACCESS.IBV_ACCESS_ON_DEMAND, implicit=True)
        address = mem_alloc.malloc(64)
        mem_alloc.write(address, b"anywhere", 8)
        other.recv(1)
        one.qp.post_recv(RecvWR(2, 1, [SGE(address + 32, 16, everything.lkey)]))
        one.mr.write(b"x", 1)
        one.send(3, nbytes=1)
        other.send(4, nbytes=8)
        assert sorted(one.statuses(2)) == [(2, OK), (3, OK)]
        everything.close()
        mem_alloc.free(address)


def test_what_the_process_itself_imports() -> None:
    one = side()
    ctx = Context(cmd_fd=one.ctx.cmd_fd)
    assert ctx.name == "iw0"
    pd = PD(ctx, handle=one.pd.handle)
    mr = MR(pd, handle=one.mr.handle)
    assert (mr.lkey, mr.length) == (one.mr.lkey, one.mr.length)
    refused(errno.EINVAL, MR, pd, handle=one.pd.handle)
    refused(errno.EINVAL, PD, ctx, handle=one.mr.handle)
    mr.unimport()
    pd.unimport()
    ctx.close()
    assert one.mr.region.is_open
    refused(errno.EINVAL, Context, cmd_fd=0)
    one.close()


def test_what_is_dropped_can_be_imported_no_more() -> None:
    """Nor is it held by a device that stays open."""
    one = side()
    handles, regions = one.ctx.opened.handles, one.ctx.opened.regions
    before = len(handles), len(regions)
    for _ in range(3):
        pd = PD(one.ctx)
        MR(pd, 100, ALL)
        MW(pd, 2)
        DM(one.ctx, AllocDmAttr(64))
        ParentDomain(one.ctx, ParentDomainInitAttr(pd))
        del pd
    for make in (lambda: DM(one.ctx, AllocDmAttr(64)), lambda: PD(one.ctx), lambda: MR(one.pd, 1, ALL)):
        with make():
            pass
    gc.collect()
    until(lambda: (len(handles), len(regions)) == before)
    one.close()


def test_a_parent_domain_is_another_name() -> None:
    one = side()
    asked: list[object] = []
    context = ParentDomainContext(one.pd, asked.append, asked.append, "data")
    attr = ParentDomainInitAttr(one.pd, context)
    parent = ParentDomain(one.ctx, attr)
    mr = MR(parent, 100, ALL)
    assert mr.region.pd is one.mr.region.pd
    parent.close()
    assert not mr.region.is_open
    assert one.mr.region.is_open
    assert not asked
    one.close()


def test_windows_and_what_there_is_not() -> None:
    one = side()
    assert MW(one.pd, 1).rkey != MW(one.pd, 2).rkey
    refused(errno.EINVAL, MW, one.pd, 3)
    refused(errno.EOPNOTSUPP, DmaBufMR, one.pd, 100, ALL)
    assert mwtype2str(2) == "IBV_MW_TYPE_2"
    one.pd.advise_mr(0, 0, [one.sge()])
    refused(errno.EINVAL, one.pd.advise_mr, 0, 0, [SGE(0, 1, 5)])
    one.close()
