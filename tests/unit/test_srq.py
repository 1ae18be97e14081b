"""Shared receive queues: who takes what, what a queue pair that ends flushes, and when the limit is told."""

from __future__ import annotations

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, Closed, InvalidStag, NoBufferForMsn, QueueFull, RegionInUse, UsageError
from pyiwarp.mr import Access
from pyiwarp.queues.qp import QpCap, QpState
from pyiwarp.queues.work import Recv, Status
from pyiwarp.verbs import AsyncEventType, Device, SharedReceiveQueue
from tests.harness import Node, RawPeer, ended, octets_of, send, terminate

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR


class Served:
    """Queue pairs of one protection domain that share their receives, each with a peer."""

    def __init__(self, count: int = 2, *, max_wr: int = 8, pause: bool = False) -> None:
        first = Node()  # its context keeps events
        self.context, self.pd = first.context, first.pd
        first.qp.close()
        self.srq = self.pd.create_srq(max_wr)
        self.region = self.pd.register(bytearray(16 * max_wr), Access.LOCAL_WRITE)
        self.nodes, self.peers = list[Node](), list[RawPeer]()
        for _ in range(count):
            node = Node.__new__(Node)
            node.context, node.pd = self.context, self.pd
            node.send_cq, node.recv_cq = self.context.create_cq(16), self.context.create_cq(16)
            node.qp = self.pd.create_qp(node.send_cq, node.recv_cq, srq=self.srq, pause_when_starved=pause)
            self.nodes.append(node)
            self.peers.append(RawPeer(node))

    def post(self, *slots: int) -> None:
        for slot in slots:
            self.srq.post_recv(Recv((self.region[16 * slot : 16 * slot + 16],), slot))

    def events(self) -> list[AsyncEventType]:
        found = []
        while (event := self.context.async_events.get()) is not None:
            found.append(event.type)
        return found


def test_whoever_has_a_send_takes_the_oldest_receive() -> None:
    served = Served()
    served.post(0, 1, 2)
    one, two = served.peers
    two.sends(send(b"to two"))
    one.sends(send(b"to one"))
    two.sends(send(b"again"))
    assert ended(served.nodes[0].received()) == [(1, OK)]
    assert ended(served.nodes[1].received()) == [(0, OK), (2, OK)]
    memory = octets_of(served.region)
    assert (memory[:6], memory[16:22], memory[32:37]) == (b"to two", b"to one", b"again")
    assert served.srq.query() == (8, 16, 0, 0)
    assert served.region.pins == 0


def test_a_receive_that_was_taken_is_flushed_by_its_queue_pair_and_no_other() -> None:
    served = Served()
    served.post(0, 1, 2)
    one, two = served.peers
    one.sends(send(b"be", last=False))
    two.sends(send(b"whole"))
    one.sends(terminate(InvalidStag.term))
    assert ended(served.nodes[0].received()) == [(0, FLUSHED)]
    assert served.events() == [AsyncEventType.QP_FATAL, AsyncEventType.QP_LAST_WQE_REACHED]
    assert len(served.srq) == 1, "what nobody took stays"
    two.sends(send(b"more"))
    assert ended(served.nodes[1].received()) == [(1, OK), (2, OK)]
    assert served.events() == []


def test_a_send_that_finds_no_receive_ends_its_stream_alone() -> None:  # DDP-5041-7.1-02
    served = Served()
    served.peers[0].sends(send(b"too early"))
    served.peers[0].expects_terminate(NoBufferForMsn.term)
    assert [node.qp.state for node in served.nodes] == [QpState.TERMINATE, QpState.RTS]
    served.post(0)
    served.peers[1].sends(send(b"in time"))
    assert ended(served.nodes[1].received()) == [(0, OK)]


def test_a_send_waits_for_a_receive_where_the_queue_pair_was_asked_to() -> None:
    served = Served(pause=True)
    kicked: list[int] = []
    for number, node in enumerate(served.nodes):
        node.qp.on_output = lambda number=number: kicked.append(number)  # type: ignore[misc]
    for peer in served.peers:
        peer.sends(send(b"waits"))
    assert [node.qp.stream.starved for node in served.nodes] == [True, True]
    served.post(0)
    assert kicked == [0, 1], "both are told that there is one"
    for peer in served.peers:
        peer.hears()
    assert [node.qp.stream.starved for node in served.nodes] == [False, True]
    served.post(1)
    assert kicked == [0, 1, 1]
    served.peers[1].hears()
    assert [ended(node.received()) for node in served.nodes] == [[(0, OK)], [(1, OK)]]


def test_a_queue_pair_that_has_ended_is_not_told_of_receives() -> None:
    served = Served(pause=True)
    for peer in served.peers:
        peer.sends(send(b"waits"))
    served.nodes[0].qp.close()
    kicked: list[int] = []
    for number, node in enumerate(served.nodes):
        node.qp.on_output = lambda number=number: kicked.append(number)  # type: ignore[misc]
    served.post(0)
    assert kicked == [1]


def test_the_limit_is_told_once_and_armed_again() -> None:  # SEC-5041-8.3.2-07, SEC-5042-6.4.3.1-01, SEC-5040-8.1.2-08
    served = Served(1)
    (peer,) = served.peers
    served.post(0, 1, 2, 3)
    served.srq.modify(limit=3)
    peer.sends(send(b"leaves three"))
    assert served.events() == []
    peer.sends(send(b"leaves two"), send(b"leaves one"))
    assert served.events() == [AsyncEventType.SRQ_LIMIT_REACHED]
    assert served.srq.query().limit == 0
    served.srq.modify(limit=2)
    assert served.events() == [AsyncEventType.SRQ_LIMIT_REACHED], "it is so already"
    served.srq.modify(limit=1)
    peer.sends(send(b"the last"))
    assert served.events() == [AsyncEventType.SRQ_LIMIT_REACHED]


def test_resizing() -> None:
    served = Served(0, max_wr=2)
    served.post(0, 1)
    with pytest.raises(QueueFull, match="the shared receive queue holds 2 work requests already"):
        served.post(0)
    served.srq.modify(max_wr=3)
    served.post(0)
    with pytest.raises(RegionInUse, match="3 receives do not fit into 2"):
        served.srq.modify(max_wr=2)
    for wrong in ({"max_wr": 1 << 20}, {"limit": 4}, {"limit": -1}):
        with pytest.raises(UsageError):
            served.srq.modify(**wrong)
    assert served.srq.query() == (3, 16, 0, 3)


def test_closing_lets_go_of_what_nobody_took() -> None:
    served = Served(1)
    served.post(0, 1)
    with pytest.raises(RegionInUse, match="1 queue pairs take receives from it"):
        served.srq.close()
    served.nodes[0].qp.close()
    assert served.region.pins == 2
    with pytest.raises(RegionInUse, match="1 shared receive queues"):
        served.pd.close()
    with served.srq:
        pass
    served.srq.close()
    assert served.region.pins == 0
    assert repr(served.srq) == "<SharedReceiveQueue 0 of 8, 0 queue pairs closed>"


def test_a_protection_domain_that_is_forced_closes_them() -> None:
    served = Served()
    served.post(0)
    served.pd.close(force=True)
    assert not served.srq.is_open
    assert not served.region.is_open


def test_limits_and_strangers() -> None:  # SEC-5042-6.4.1-01
    node = Node(Device("small", max_qp_wr=4, max_sge=2).open(), cap=QpCap(4, 4, 2))
    with pytest.raises(UsageError, match="3 SGEs; small offers 2"):
        node.pd.create_srq(1, 3)
    for max_wr in (0, 5):
        with pytest.raises(UsageError, match=f"{max_wr} receives; the device offers 1 to 4"):
            node.pd.create_srq(max_wr, 1)
    other = node.context.alloc_pd().create_srq(1, 1)
    with pytest.raises(BadWorkRequest, match="the shared receive queue belongs to another protection domain"):
        node.pd.create_qp(node.send_cq, node.recv_cq, node.qp.cap, srq=other)
    other.close()
    own = node.pd.create_srq(1, 1)
    own.close()
    closed = node.context.create_cq(1)
    closed.close()
    with pytest.raises(Closed, match="the shared receive queue is closed"):
        node.pd.create_qp(node.send_cq, node.recv_cq, node.qp.cap, srq=own)
    with pytest.raises(Closed, match="the completion queue is closed"):
        node.pd.create_qp(node.send_cq, closed, node.qp.cap)
    for call in (own.query, own.modify):
        with pytest.raises(Closed, match="the shared receive queue is closed"):
            call()
    assert (node.send_cq.users, other.users, own.users) == (1, 0, 0)


def test_a_queue_pair_with_shared_receives_takes_none_of_its_own() -> None:
    served = Served(1)
    assert isinstance(served.srq, SharedReceiveQueue)
    with pytest.raises(BadWorkRequest, match=r"takes its receives from <SharedReceiveQueue 0 of 8.*: post them there"):
        served.nodes[0].qp.post_recv(Recv())
    assert served.nodes[0].qp.query().cap.max_recv_wr == 0
    served.nodes[0].send(b"sends as ever")
    served.peers[0].expects(Opcode.SEND)
