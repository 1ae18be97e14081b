"""How queue pairs of the stand-in for pyverbs find each other by (GID, QPN), and what their states allow."""

from __future__ import annotations

import errno
import socket
import time

import pytest

from pyiwarp import blocking
from pyiwarp.errors import Rejected, WrongState
from pyiwarp.pyverbs import connecting, rendezvous
from pyiwarp.pyverbs import libibverbs_enums as e
from pyiwarp.pyverbs.core import core
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError
from pyiwarp.pyverbs.qp import QP, QPAttr, QPCap, QPInitAttr
from pyiwarp.pyverbs.rendezvous import End, Hello, gid_of, host_of, port_of
from pyiwarp.verbs import Context
from tests.hosts import HOST
from tests.integration.socketrig import within
from tests.integration.verbsrig import ALL, OK, pair, side, until
from tests.patience import PATIENCE

STATE, MASK, STATUS = e.ibv_qp_state, e.ibv_qp_attr_mask, e.ibv_wc_status


@pytest.mark.parametrize("smaller_first", [True, False])
def test_either_may_be_late(smaller_first: bool) -> None:
    """Receives are posted in INIT, sends before the peer is there; the smaller (GID, QPN) connects."""
    first, second = sorted((side(), side()), key=lambda each: each.qp.qp_num, reverse=not smaller_first)
    first.recv(1)
    second.recv(2)
    first.connect(second)
    first.send(3)
    assert first.cq.poll(1)[0] == 0
    second.connect(first)
    second.send(4)
    assert sorted(first.statuses(2)) == [(1, OK), (3, OK)]
    assert sorted(second.statuses(2)) == [(2, OK), (4, OK)]
    first.close()
    second.close()


def test_a_queue_pair_is_connected_to_itself() -> None:
    one = side()
    one.connect(one)
    one.recv(1, offset=1000)
    one.mr.write(b"myself", 6)
    one.send(2, nbytes=6)
    one.send(3, 2000, 6, opcode=e.ibv_wr_opcode.IBV_WR_RDMA_READ, remote=(one.mr.rkey, one.mr.buf))
    assert sorted(one.statuses(3)) == [(1, OK), (2, OK), (3, OK)]
    assert one.mr.read(6, 1000) == one.mr.read(6, 2000) == b"myself"
    one.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_ERR), MASK.IBV_QP_STATE)
    one.recv(4)
    one.send(5)
    assert sorted(one.statuses(2)) == [(4, STATUS.IBV_WC_WR_FLUSH_ERR), (5, STATUS.IBV_WC_WR_FLUSH_ERR)]
    one.close()


def test_a_peer_that_never_comes_is_told_by_the_first_send(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connecting, "_LEAST_PATIENCE", 0.3)
    one, other = side(), side()
    one.recv(1)
    one.connect(other, timeout=1, retry_cnt=1)
    one.send(2)
    one.send(3)
    flushed = STATUS.IBV_WC_WR_FLUSH_ERR
    assert sorted(one.statuses(3)) == [(1, flushed), (2, STATUS.IBV_WC_RETRY_EXC_ERR), (3, flushed)]
    assert one.qp.qp_state == STATE.IBV_QPS_ERR
    one.close()
    other.close()


def test_a_peer_that_goes_is_told_by_the_first_send_on_its_way() -> None:
    with pair() as (one, other):
        one.send(1)
        one.send(2)
        until(lambda: one.cq.poll(1)[0] == 0 and one.qp.link.is_up and other.qp.link.is_up)
        other.qp.close()
        expected = [(1, STATUS.IBV_WC_RETRY_EXC_ERR), (2, STATUS.IBV_WC_WR_FLUSH_ERR)]
        assert one.statuses(2) == expected


def test_patience_is_that_of_the_attributes() -> None:
    assert connecting.patience(0, 7) is None
    assert connecting.patience(1, 0) == connecting._LEAST_PATIENCE
    assert connecting.patience(31, 7) == pytest.approx(4.096e-6 * 2**31 * 8)


def test_reset_forgets_and_a_queue_pair_may_be_connected_again() -> None:
    with pair() as (one, other):
        one.recv(1)
        other.send(2)
        assert other.statuses(1) == [(2, OK)]
        for each in (one, other):
            each.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_RESET), MASK.IBV_QP_STATE)
            assert each.qp.qp_state == STATE.IBV_QPS_RESET
            assert each.cq.poll(1)[0] == 0
        other.connect(one)
        one.connect(other)
        one.recv(3)
        other.send(4)
        assert one.statuses(1) == [(3, OK)]
        assert other.statuses(1) == [(4, OK)]


def test_sqd_holds_what_is_posted_and_tells_when_all_else_is_done() -> None:
    with pair() as (one, other):
        until(lambda: one.qp.link.is_up)
        one.send(1)
        attr = QPAttr(qp_state=STATE.IBV_QPS_SQD, en_sqd_async_notify=1)
        one.qp.modify(attr, MASK.IBV_QP_STATE | MASK.IBV_QP_EN_SQD_ASYNC_NOTIFY)
        one.send(2)
        assert one.qp.query(MASK.IBV_QP_STATE)[0].sq_draining == 1
        other.recv(3)
        other.recv(4)
        assert one.statuses(1) == [(1, OK)]
        assert within(one.ctx.get_async_event).event_type == e.ibv_event_type.IBV_EVENT_SQ_DRAINED
        assert one.qp.query(MASK.IBV_QP_STATE)[0].sq_draining == 0
        assert one.cq.poll(1)[0] == 0
        one.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_RTS), MASK.IBV_QP_STATE)
        assert one.statuses(1) == [(2, OK)]


def test_what_the_states_do_not_allow() -> None:
    one, other = side(), side()
    for state in (STATE.IBV_QPS_RTS, STATE.IBV_QPS_SQD, STATE.IBV_QPS_SQE):
        with pytest.raises(PyverbsRDMAError) as caught:
            one.qp.modify(QPAttr(qp_state=state), MASK.IBV_QP_STATE)
        assert caught.value.error_code == errno.EINVAL
    with pytest.raises(PyverbsRDMAError):
        one.send(1)  # in INIT
    for wrong in ({"port_num": 2}, {"max_rd_atomic": 1000}, {"max_dest_rd_atomic": -1}):
        one.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_RESET), MASK.IBV_QP_STATE)
        with pytest.raises(PyverbsRDMAError):
            one.connect(other, **wrong)
    one.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_RESET), MASK.IBV_QP_STATE)
    with pytest.raises(PyverbsRDMAError):
        one.recv(1)  # in RESET
    one.close()
    other.close()


def test_error_flushes_before_there_is_a_connection() -> None:
    one, other = side(), side()
    one.recv(1)
    one.connect(other)
    one.send(2)
    one.qp.modify(QPAttr(qp_state=STATE.IBV_QPS_ERR), MASK.IBV_QP_STATE)
    flushed = STATUS.IBV_WC_WR_FLUSH_ERR
    assert sorted(one.statuses(2)) == [(1, flushed), (2, flushed)]
    one.close()
    other.close()


def test_more_queue_pairs_than_one_listener_counts() -> None:
    """255 share a listener; its numbers are free again when they are gone."""
    one = side()
    made = [QP(one.pd, QPInitAttr(e.ibv_qp_type.IBV_QPT_RC, None, one.cq, one.cq, cap=QPCap())) for _ in range(300)]
    numbers = {each.qp_num for each in made}
    assert len(numbers) == 300
    assert len({port_of(number) for number in numbers}) == 2
    assert all(number < 1 << 24 for number in numbers)
    for each in made:
        each.close()
    assert len(rendezvous._doors[core()]) <= 2
    one.close()
    assert not rendezvous._doors.get(core())


def test_gids_are_addresses() -> None:
    assert gid_of("10.1.2.3") == bytes(10) + b"\xff\xff\x0a\x01\x02\x03"
    assert host_of(gid_of("10.1.2.3")) == "10.1.2.3"
    assert host_of(gid_of("fe80::1")) == "fe80::1"


@pytest.mark.parametrize("octets", [b"", b"pyv1", b"rping" * 20, bytes(44)])
def test_what_is_no_hello_is_none(octets: bytes) -> None:
    assert Hello.parse(octets) is None
    hello = Hello(End(bytes(16), 1), End(bytes(range(16)), 0xFF_FFFF))
    assert Hello.parse(bytes(hello)) == hello


def ask(port: int, private_data: bytes) -> Exception | None:
    """Connect to a listener of the stand-in as a stranger; returns why it refuses."""
    pd = Context().alloc_pd()
    cq = pd.context.create_cq(8)
    qp = pd.create_qp(cq, cq)
    with core().poller:
        attempt = blocking.start_connect_qp(qp, "127.0.0.1", port, blocking.Offer(private_data=private_data))
    core().wait(lambda: attempt.finished, PATIENCE)
    with core().poller:
        attempt.cancel()
        qp.close()
    return attempt.error


def test_strangers_are_refused() -> None:
    """Whoever is no peer of a queue pair: a stranger, one for a number that is free, another than the peer."""
    with pair() as (one, other):
        one.recv(1)
        other.send(2)
        assert one.statuses(1) == [(1, OK)]
        port, gid = port_of(one.qp.qp_num), gid_of("127.0.0.1")
        free = one.qp.qp_num ^ 0x80
        for private_data in (
            b"stranger",
            bytes(Hello(End(gid, 5), End(gid, free))),
            bytes(Hello(End(gid, 5), End(gid, one.qp.qp_num))),
        ):
            assert isinstance(ask(port, private_data), Rejected)
        other.recv(3)
        one.send(4)
        assert other.statuses(2) == [(2, OK), (3, OK)]


def test_so_many_may_ask_for_a_queue_pair_that_is_not_ready() -> None:
    """In INIT it is not known who its peer is: some requests wait, and no more."""
    one = side()
    port, gid = port_of(one.qp.qp_num), gid_of("127.0.0.1")
    socks, pd = [], Context().alloc_pd()
    attempts = []
    with core().poller:
        for number in range(rendezvous._MOST_UNDECIDED + 4):
            cq = pd.context.create_cq(8)
            hello = bytes(Hello(End(gid, number), one.qp.link.end))
            sock = socket.create_connection(("127.0.0.1", port), PATIENCE)
            socks.append(sock)
            offer = blocking.Offer(private_data=hello, timeout=None)
            attempts.append(blocking.start_connect_qp(pd.create_qp(cq, cq), "127.0.0.1", port, offer, sock=sock))
    assert core().wait(lambda: sum(each.finished for each in attempts) >= 4, PATIENCE)
    time.sleep(0.05)
    assert sum(each.finished for each in attempts) == 4
    assert all(isinstance(each.error, Rejected) for each in attempts if each.finished)
    with core().poller:
        for each in attempts:
            each.cancel()
        pd.close(force=True)
    one.close()


def test_access_flags_bound_what_the_peer_may_do() -> None:
    with pair() as (one, other):
        other.qp.modify(QPAttr(qp_access_flags=e.ibv_access_flags.IBV_ACCESS_REMOTE_READ), MASK.IBV_QP_ACCESS_FLAGS)
        remote = other.mr.rkey, other.mr.buf
        one.send(1, opcode=e.ibv_wr_opcode.IBV_WR_RDMA_READ, remote=remote)
        assert one.statuses(1) == [(1, OK)]
        one.send(2, opcode=e.ibv_wr_opcode.IBV_WR_RDMA_WRITE, remote=remote)
        assert one.statuses(1) == [(2, STATUS.IBV_WC_REM_ACCESS_ERR)]
        assert ALL & e.ibv_access_flags.IBV_ACCESS_REMOTE_WRITE


def test_a_peer_whose_queue_pair_cannot_take_it_is_rejected() -> None:
    """It must not wait for a decision that nobody will make."""

    class Unfit:
        """A queue pair that was connected otherwise meanwhile."""

        def take_request(self, request: blocking.Request, caller: End) -> bool:
            raise WrongState("it is connected")

    caller = Context().alloc_pd()
    cq = caller.context.create_cq(1)
    with core().poller:
        qpn, door = rendezvous.number(core(), Unfit(), HOST)
        words = Hello(End(gid_of(HOST), 1), End(gid_of(HOST), qpn))
        offered = blocking.Offer(private_data=bytes(words), timeout=None)
        attempt = blocking.start_connect_qp(caller.create_qp(cq, cq), HOST, port_of(qpn), offered)
    assert core().wait(lambda: attempt.finished, PATIENCE)
    assert isinstance(attempt.error, Rejected)
    with core().poller:
        door.forget(qpn)
