"""What goes wrong with work of the stand-in for pyverbs: the status on the right request, and the events."""

from __future__ import annotations

import errno
import select
from functools import partial

import pytest

from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.cq import CQ
from pyiwarp.pyverbs.device import AsyncEvent
from pyiwarp.pyverbs.pyverbs_error import PyverbsError, PyverbsRDMAError, PyverbsUserError
from pyiwarp.pyverbs.qp import QPAttr
from pyiwarp.pyverbs.srq import SrqAttr
from pyiwarp.pyverbs.wr import SGE, RecvWR, SendWR
from tests.integration.socketrig import within
from tests.integration.verbsrig import OK, Side, pair, side, until
from tests.patience import PATIENCE

OP, STATUS, EVENT = e.ibv_wr_opcode, e.ibv_wc_status, e.ibv_event_type
FLUSHED = STATUS.IBV_WC_WR_FLUSH_ERR


def events(of: Side, count: int) -> list[int]:
    """The next asynchronous events."""
    return [within(of.ctx.get_async_event).event_type for _ in range(count)]


def test_a_bad_key_of_a_send_fails_when_its_turn_comes() -> None:
    """As hardware does it: posting succeeds, and what was before it completes."""
    with pair() as (one, other):
        other.recv(1)
        one.send(1)
        one.qp.post_send(SendWR(2, OP.IBV_WR_SEND, 1, 0, [SGE(one.mr.buf, 8, one.mr.lkey + 1)]))
        one.send(3)
        assert one.statuses(3) == [(1, OK), (2, STATUS.IBV_WC_LOC_PROT_ERR), (3, FLUSHED)]
        assert one.qp.qp_state == e.ibv_qp_state.IBV_QPS_ERR


def test_octets_outside_of_a_region_fail_as_a_bad_key_does() -> None:
    with pair() as (one, _):
        one.send(1, offset=-8)
        assert one.statuses(1) == [(1, STATUS.IBV_WC_LOC_PROT_ERR)]


def test_a_bad_key_of_a_receive_fails_when_a_message_takes_it() -> None:
    with pair() as (one, other):
        other.qp.post_recv(RecvWR(1, 1, [SGE(other.mr.buf, 64, other.mr.lkey + 1)]))
        other.recv(2)
        one.send(3)
        assert other.statuses(2) == [(1, STATUS.IBV_WC_LOC_PROT_ERR), (2, FLUSHED)]
        assert one.statuses(1) == [(3, STATUS.IBV_WC_REM_OP_ERR)]


@pytest.mark.parametrize("opcode", [OP.IBV_WR_RDMA_READ, OP.IBV_WR_RDMA_WRITE])
def test_what_the_peer_refuses_is_told_by_the_request_that_asked(opcode: int) -> None:
    with pair() as (one, other):
        remote = other.mr.rkey, other.mr.buf
        for each in range(3):
            other.recv(each)
        before = one.request(1, opcode=OP.IBV_WR_RDMA_WRITE, remote=remote)
        before.next_wr = one.request(2, opcode=OP.IBV_WR_SEND_WITH_IMM)
        refused = one.request(3, opcode=opcode, remote=(other.mr.rkey + 1, other.mr.buf))
        before.next_wr.next_wr = refused
        refused.next_wr = one.request(4, opcode=OP.IBV_WR_RDMA_WRITE, remote=remote)
        one.qp.post_send(before)
        expected = [(1, OK), (2, OK), (3, STATUS.IBV_WC_REM_ACCESS_ERR), (4, FLUSHED)]
        assert one.statuses(4) == expected
        assert EVENT.IBV_EVENT_QP_ACCESS_ERR in events(other, 1)


def test_a_write_with_immediate_data_that_is_refused_is_one_request() -> None:
    with pair() as (one, other):
        other.recv(1)
        one.send(2)
        one.send(3, opcode=OP.IBV_WR_RDMA_WRITE_WITH_IMM, remote=(0, 0))
        one.send(4)
        assert one.statuses(3) == [(2, OK), (3, STATUS.IBV_WC_REM_ACCESS_ERR), (4, FLUSHED)]


def test_a_message_that_is_too_long_for_its_receive() -> None:
    with pair() as (one, other):
        other.recv(1, nbytes=10)
        one.send(2, nbytes=11)
        assert other.statuses(1) == [(1, STATUS.IBV_WC_LOC_LEN_ERR)]
        assert one.statuses(1) == [(2, STATUS.IBV_WC_REM_INV_REQ_ERR)]


def test_an_unsignaled_request_that_fails_has_a_completion() -> None:
    with pair() as (one, other):
        one.send(1, flags=0, opcode=OP.IBV_WR_RDMA_WRITE, remote=(0, 0))
        assert one.statuses(1) == [(1, STATUS.IBV_WC_REM_ACCESS_ERR)]
        until(lambda: other.qp.qp_state == e.ibv_qp_state.IBV_QPS_ERR)


def test_a_completion_queue_that_overflows_ends_its_queue_pairs() -> None:
    one, other = side(cqe=2), side()
    one.connect(other)
    other.connect(one)
    for wr_id in range(4):
        one.recv(wr_id)
        other.send(wr_id)
    assert events(one, 2) == [EVENT.IBV_EVENT_CQ_ERR, EVENT.IBV_EVENT_QP_FATAL]
    assert one.qp.qp_state == e.ibv_qp_state.IBV_QPS_ERR
    one.close()
    other.close()


def test_a_shared_receive_queue_tells_that_it_runs_low_and_that_a_queue_pair_has_left() -> None:
    with pair(srq=True) as (one, other):
        assert one.srq is not None
        for wr_id in range(3):
            one.recv(wr_id)
        one.srq.modify(SrqAttr(srq_limit=3), e.ibv_srq_attr_mask.IBV_SRQ_LIMIT)
        assert one.srq.query().srq_limit == 3
        other.send(9)
        assert events(one, 1) == [EVENT.IBV_EVENT_SRQ_LIMIT_REACHED]
        one.qp.modify(QPAttr(qp_state=e.ibv_qp_state.IBV_QPS_ERR), e.ibv_qp_attr_mask.IBV_QP_STATE)
        assert events(one, 1) == [EVENT.IBV_EVENT_QP_LAST_WQE_REACHED]
        one.srq.modify(SrqAttr(max_wr=2), e.ibv_srq_attr_mask.IBV_SRQ_MAX_WR)
        with pytest.raises(PyverbsRDMAError) as caught:
            one.srq.modify(SrqAttr(max_wr=1), e.ibv_srq_attr_mask.IBV_SRQ_MAX_WR)
        assert caught.value.error_code == errno.EINVAL
        with pytest.raises(PyverbsRDMAError) as caught:
            one.recv(3)
        assert caught.value.error_code == errno.ENOMEM


def test_a_channel_tells_once_of_each_request() -> None:
    with pair(channel=True) as (one, other):
        assert one.channel is not None
        one.cq.req_notify()
        assert not select.select([one.channel.fd], [], [], 0)[0]
        one.recv(1)
        other.send(2)
        within(partial(one.channel.get_cq_event, one.cq))
        assert one.statuses(1) == [(1, OK)]
        one.cq.ack_events(1)
        one.cq.req_notify(solicited_only=True)
        one.recv(3)
        one.recv(5)
        other.send(4)
        assert one.statuses(1) == [(3, OK)]
        assert not select.select([one.channel.fd], [], [], 0)[0]
        other.send(6, flags=e.ibv_send_flags.IBV_SEND_SOLICITED | e.ibv_send_flags.IBV_SEND_SIGNALED)
        assert select.select([one.channel.fd], [], [], PATIENCE)[0]
        with pytest.raises(PyverbsRDMAError, match="unexpected CQ"):
            one.channel.get_cq_event(CQ(one.ctx, 1))


def test_the_text_of_an_error_tells_the_errno() -> None:
    error = PyverbsRDMAError("Failed", errno.EINVAL)
    assert str(error) == "Failed. Errno: 22, Invalid argument"
    assert error.error_code == errno.EINVAL
    assert str(PyverbsError("Failed")) == str(PyverbsUserError("Failed")) == "Failed"
    assert "IBV_EVENT_CQ_ERR" in str(AsyncEvent(EVENT.IBV_EVENT_CQ_ERR))


def test_a_queue_pair_does_not_look_for_a_peer_that_is_not_named() -> None:
    one = side()
    attr = QPAttr(qp_state=e.ibv_qp_state.IBV_QPS_RTR)
    for mask in (e.ibv_qp_attr_mask.IBV_QP_STATE, e.ibv_qp_attr_mask.IBV_QP_STATE | e.ibv_qp_attr_mask.IBV_QP_AV):
        attr.ah_attr = None
        with pytest.raises(PyverbsRDMAError) as caught:
            one.qp.modify(attr, mask)
        assert caught.value.error_code == errno.EINVAL
        assert one.qp.qp_state == e.ibv_qp_state.IBV_QPS_INIT
    one.close()
