"""Work requests of the stand-in for pyverbs: each kind arrives, completes once, and carries what it should."""

from __future__ import annotations

import errno
import socket
from functools import partial

import pytest

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.device_attr import MAX_MESSAGE
from pyiwarp.pyverbs.mr import MR, MW, MWBind, MWBindInfo
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.qp import DataBuffer, QPAttr, QPEx, QPInitAttrEx
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR
from tests.integration.verbsrig import ALL, OK, Side, pair, side, until

OP, WC, FLAG = e.ibv_wr_opcode, e.ibv_wc_opcode, e.ibv_send_flags


def test_a_send_fills_the_receive_and_both_complete() -> None:
    with pair() as (one, other):
        one.mr.write(b"hello", 5)
        other.recv(7, nbytes=100)
        one.send(9, nbytes=5)
        (sent,), (received,) = one.completions(1), other.completions(1)
        assert (sent.wr_id, sent.status, sent.opcode, sent.qp_num) == (9, OK, WC.IBV_WC_SEND, one.qp.qp_num)
        assert (received.wr_id, received.status, received.opcode) == (7, OK, WC.IBV_WC_RECV)
        assert (received.byte_len, received.src_qp) == (5, one.qp.qp_num)
        assert other.mr.read(5, 0) == b"hello"


def test_a_send_that_finds_no_receive_waits_for_one() -> None:
    """As on InfiniBand with endless RNR retries."""
    with pair() as (one, other):
        one.send(1)
        assert one.cq.poll(1)[0] == 0
        other.recv(2)
        assert one.statuses(1) == [(1, OK)]
        assert other.statuses(1) == [(2, OK)]


def test_a_write_and_a_read_take_addresses() -> None:
    with pair() as (one, other):
        one.mr.write(b"there and back", 14)
        one.send(1, nbytes=14, opcode=OP.IBV_WR_RDMA_WRITE, remote=(other.mr.rkey, other.mr.buf + 100))
        one.send(2, 500, 14, opcode=OP.IBV_WR_RDMA_READ, remote=(other.mr.rkey, other.mr.buf + 100))
        assert one.statuses(2) == [(1, OK), (2, OK)]
        assert other.mr.read(14, 100) == one.mr.read(14, 500) == b"there and back"


def test_immediate_data_of_a_write_and_of_a_send() -> None:
    with pair() as (one, other):
        for wr_id in range(3):
            other.recv(wr_id)
        remote = other.mr.rkey, other.mr.buf
        imm = socket.htonl(0x1234_5678)
        one.send(1, nbytes=10, opcode=OP.IBV_WR_RDMA_WRITE_WITH_IMM, imm=imm, remote=remote)
        one.send(2, nbytes=20, opcode=OP.IBV_WR_SEND_WITH_IMM, imm=imm)
        one.send(3, nbytes=30)
        assert one.statuses(3) == [(1, OK), (2, OK), (3, OK)]
        written, sent, plain = other.completions(3)
        flag = e.ibv_wc_flags.IBV_WC_WITH_IMM
        assert (written.opcode, written.byte_len) == (WC.IBV_WC_RECV_RDMA_WITH_IMM, 10)
        assert (sent.opcode, sent.byte_len) == (WC.IBV_WC_RECV, 20)
        assert written.imm_data == sent.imm_data == imm
        assert (written.wc_flags, sent.wc_flags, plain.wc_flags) == (flag, flag, 0)


def test_atomics_give_back_what_was_there() -> None:
    with pair() as (one, other):
        other.mr.write((40).to_bytes(8, "little"), 8)
        add = SendWR(1, OP.IBV_WR_ATOMIC_FETCH_AND_ADD, 1, 0, [one.sge(0, 8)])
        add.set_wr_atomic(other.mr.rkey, other.mr.buf, 2)
        swap = SendWR(2, OP.IBV_WR_ATOMIC_CMP_AND_SWP, 1, 0, [one.sge(8, 8)])
        swap.set_wr_atomic(other.mr.rkey, other.mr.buf, 42, 7)
        add.next_wr = swap
        one.qp.post_send(add)
        assert one.statuses(2) == [(1, OK), (2, OK)]
        assert int.from_bytes(one.mr.read(8, 0), "little") == 40
        assert int.from_bytes(one.mr.read(8, 8), "little") == 42
        assert int.from_bytes(other.mr.read(8, 0), "little") == 7


def test_an_unsignaled_request_has_no_completion_unless_all_have() -> None:
    with pair() as (one, other):
        other.recv(1)
        other.recv(2)
        one.send(1, flags=0)
        one.send(2)
        assert one.statuses(1) == [(2, OK)]
    with pair(sig_all=1) as (one, other):
        other.recv(1)
        one.send(1, flags=0)
        assert one.statuses(1) == [(1, OK)]


def test_inline_octets_are_taken_when_they_are_posted() -> None:
    with pair() as (one, other):
        one.mr.write(b"before", 6)
        one.send(1, nbytes=6, flags=FLAG.IBV_SEND_INLINE | FLAG.IBV_SEND_SIGNALED)
        one.mr.write(b"behind", 6)
        other.recv(2)
        assert one.statuses(1) == [(1, OK)]
        assert other.completions(1)[0].byte_len == 6
        assert other.mr.read(6, 0) == b"before"
        with pytest.raises(PyverbsRDMAError):
            one.send(2, nbytes=one.qp.cap.max_inline_data + 1, flags=FLAG.IBV_SEND_INLINE)


def test_a_send_with_invalidate_names_the_key() -> None:
    with pair() as (one, other):
        window = MW(other.pd, e.ibv_mw_type.IBV_MW_TYPE_2)
        bind = SendWR(5, OP.IBV_WR_BIND_MW)
        region = MR(other.pd, 4096, ALL | e.ibv_access_flags.IBV_ACCESS_MW_BIND)
        bind.set_bind_wr(window, MWBindInfo(region, region.buf, 100, e.ibv_access_flags.IBV_ACCESS_REMOTE_WRITE))
        other.qp.post_send(bind)
        assert other.statuses(1) == [(5, OK)]
        assert window.rkey == bind.rkey
        one.send(1, nbytes=4, opcode=OP.IBV_WR_RDMA_WRITE, remote=(window.rkey, region.buf))
        assert one.statuses(1) == [(1, OK)]
        other.recv(6)
        one.send(2, opcode=OP.IBV_WR_SEND_WITH_INV, imm=bind.rkey)
        assert one.statuses(1) == [(2, OK)]
        (received,) = other.completions(1)
        assert received.wc_flags == e.ibv_wc_flags.IBV_WC_WITH_INV
        assert received.imm_data == bind.rkey
        one.send(3, nbytes=4, opcode=OP.IBV_WR_RDMA_WRITE, remote=(bind.rkey, region.buf))
        assert one.statuses(1) == [(3, e.ibv_wc_status.IBV_WC_REM_ACCESS_ERR)]


def test_a_window_of_type_1_is_bound_by_a_call() -> None:
    with pair() as (one, other):
        window, before = MW(other.pd, e.ibv_mw_type.IBV_MW_TYPE_1), 0
        before = window.rkey
        region = MR(other.pd, 4096, ALL | e.ibv_access_flags.IBV_ACCESS_MW_BIND)
        info = MWBindInfo(region, region.buf + 8, 16, e.ibv_access_flags.IBV_ACCESS_REMOTE_WRITE)
        other.qp.bind_mw(window, MWBind(info, FLAG.IBV_SEND_SIGNALED, 4))
        assert other.statuses(1) == [(4, OK)]
        assert window.rkey != before
        one.mr.write(b"in it", 5)
        one.send(1, nbytes=5, opcode=OP.IBV_WR_RDMA_WRITE, remote=(window.rkey, region.buf + 8))
        assert one.statuses(1) == [(1, OK)]
        assert region.read(5, 8) == b"in it"


def extended(like: Side) -> QPEx:
    """A queue pair of the same context whose requests are built call by call."""
    operations = e.ibv_qp_create_send_ops_flags
    init = QPInitAttrEx(
        e.ibv_qp_type.IBV_QPT_RC,
        scq=like.cq,
        rcq=like.cq,
        cap=like.qp.cap,
        pd=like.pd,
        sq_sig_all=1,
        send_ops_flags=operations.IBV_QP_EX_WITH_SEND | operations.IBV_QP_EX_WITH_RDMA_WRITE_WITH_IMM,
    )
    return QPEx(like.ctx, init, QPAttr(port_num=1, qp_access_flags=ALL))


def test_requests_are_built_call_by_call() -> None:
    one, other = side(), side()
    one.qp = built = extended(one)
    one.connect(other)
    other.connect(one)
    for wr_id in range(3):
        other.recv(wr_id)
    one.mr.write(b"0123456789", 10)
    built.wr_start()
    built.wr_id = 11
    built.wr_send()
    built.wr_set_sge_list(2, [one.sge(0, 2), one.sge(8, 2)])
    built.wr_id = 12
    built.wr_rdma_write_imm(other.mr.rkey, other.mr.buf + 1000, 0x0102_0304)
    built.wr_set_sge(one.sge(0, 10))
    built.wr_id = 13
    built.wr_send()
    built.wr_set_inline_data_list(2, [DataBuffer(one.mr.buf, 1), DataBuffer(one.mr.buf + 9, 1)])
    built.wr_complete()
    assert one.statuses(3) == [(11, OK), (12, OK), (13, OK)]
    first, second, third = other.completions(3)
    assert (first.byte_len, second.byte_len, third.byte_len) == (4, 10, 2)
    assert socket.ntohl(second.imm_data) == 0x0102_0304
    assert other.mr.read(10, 1000) == b"0123456789"
    built.wr_start()
    built.wr_send()
    built.wr_abort()
    built.wr_complete()
    assert one.cq.poll(1)[0] == 0
    one.close()
    other.close()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"opcode": OP.IBV_WR_TSO}, errno.EINVAL),
        ({"nbytes": MAX_MESSAGE + 1}, errno.EINVAL),
    ],
    ids=["no part of iWARP", "too long"],
)
def test_what_cannot_be_is_refused_when_it_is_posted(change: dict[str, int], code: int) -> None:
    with pair() as (one, _):
        with pytest.raises(PyverbsRDMAError) as caught:
            one.send(1, **change)
        assert caught.value.error_code == code
        with pytest.raises(PyverbsRDMAError):
            one.qp.post_send(SendWR(1, OP.IBV_WR_SEND, 5, 0, [one.sge()] * 5))


def test_a_queue_that_is_full_is_enomem() -> None:
    with pair(depth=2) as (one, other):
        other.recv(1)
        other.recv(2)
        with pytest.raises(PyverbsRDMAError) as caught:
            other.recv(3)
        assert caught.value.error_code == errno.ENOMEM
        for each in (one, other):
            until(partial(getattr, each.qp.link, "is_up"))
        other.send(1)
        other.send(2)
        with pytest.raises(PyverbsRDMAError) as caught:
            other.send(3)
        assert caught.value.error_code == errno.ENOMEM
        one.recv(4)
        one.recv(5)
        assert other.statuses(2) == [(1, OK), (2, OK)]
        other.send(3)


def test_a_receive_may_have_several_elements_of_several_regions() -> None:
    with pair() as (one, other):
        region = MR(other.pd, 4096, ALL)
        elements = [SGE(region.buf, 2, region.lkey), other.sge(0, 0), other.sge(10, 50)]
        other.qp.post_recv(RecvWR(3, 3, elements))
        one.mr.write(b"abcdef", 6)
        one.send(1, nbytes=6)
        assert other.completions(1)[0].byte_len == 6
        assert (region.read(2, 0), other.mr.read(4, 10)) == (b"ab", b"cdef")
        assert one.statuses(1) == [(1, OK)]
