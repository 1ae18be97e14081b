"""Receives whose memory is judged when a message takes them, and elements that name memory by STag and TO."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp.errors import BadWorkRequest, LocalCatastrophe, Term, TerminatedByPeer
from pyiwarp.mr import Access
from pyiwarp.queues.qp import QpState
from pyiwarp.verbs import LocalSge, MemoryRegion, ProtectionDomain, QpCap, Recv, Sge, SharedReceiveQueue, Status
from tests.harness import Node, Pair, ended, octets_of

NO_NUMBER: Any = "here"
OK, FLUSHED, PROTECTION = Status.SUCCESS, Status.WR_FLUSH_ERR, Status.LOC_PROT_ERR


class Late:
    """Two sides, of which the right one judges its receives late, in a queue of its own or in a shared one."""

    def __init__(self, *, shared: bool, pause: bool = False) -> None:
        right = Node(judge_receives_late=not shared, pause_when_starved=pause)
        self.srq: SharedReceiveQueue | None = None
        if shared:
            right.qp.close()
            self.srq = right.pd.create_srq(4, 2, judge_receives_late=True)
            cap = QpCap(max_sge=1)
            right.qp = right.pd.create_qp(right.send_cq, right.recv_cq, cap, srq=self.srq, pause_when_starved=pause)
        self.pair = Pair(nodes=(Node(), right))
        self.left, self.right = self.pair.nodes

    def post(self, *sges: Sge | LocalSge, wr_id: object = None) -> None:
        request = Recv(sges, wr_id)
        if self.srq is None:
            self.right.qp.post_recv(request)
        else:
            self.srq.post_recv(request)

    def send(self, octets: bytes) -> None:
        self.left.send(octets)
        self.pair.run()

    def must_fail_at(self, wr_id: object, text: str) -> None:
        """The receive ended the stream, with a local catastrophe that the peer is told of."""
        qp = self.right.qp
        assert isinstance(qp.error, LocalCatastrophe)
        assert text in str(qp.error)
        (failed, *others) = self.right.received()
        assert ended([failed]) == [(wr_id, PROTECTION)]
        assert failed.error is qp.error
        assert {done.status for done in others} <= {FLUSHED}
        assert isinstance(self.left.qp.error, TerminatedByPeer)
        assert (self.left.qp.error.term, self.left.qp.error.header) == (Term(0, 0, 0), b"")  # RDMAP-5040-4.8-12


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def shared(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_memory_is_the_stacks_from_the_taking_on(shared: bool) -> None:
    late = Late(shared=shared)
    region = late.right.region(8)
    late.post(region[:4], region[4:6], wr_id=1)
    assert region.pins == 0
    region.reregister(bytearray(6), keep_stag=True)
    late.send(b"abcd")
    assert (ended(late.right.received()), octets_of(region)) == ([(1, OK)], b"abcd\0\0")
    assert region.pins == 0
    region.close()


def gone(region: MemoryRegion) -> None:
    region.close()


def moved(region: MemoryRegion) -> None:
    region.reregister(bytearray(8), keep_stag=True, to=region.to + 4)


def shortened(region: MemoryRegion) -> None:
    region.reregister(bytearray(2), keep_stag=True, to=region.to)


def read_only(region: MemoryRegion) -> None:
    region.reregister(access=Access.REMOTE_READ, keep_stag=True)


def another_domain(region: MemoryRegion) -> None:
    assert isinstance(region.pd, ProtectionDomain)
    region.reregister(pd=region.pd.context.alloc_pd(), keep_stag=True)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (gone, "names no region here"),
        (moved, "octets -4..0 lie outside"),
        (shortened, "octets 0..4 lie outside"),
        (read_only, "does not grant LOCAL_WRITE"),
        (another_domain, "another protection domain"),
    ],
)
def test_memory_that_changed_since_it_was_posted(
    shared: bool, change: Callable[[MemoryRegion], None], text: str
) -> None:
    late = Late(shared=shared)
    first, region = late.right.region(4), late.right.region(8)
    late.post(first[:], wr_id="sound")
    late.post(LocalSge(region.to, 4, region.stag), wr_id="bad")
    if not shared:
        late.post(first[:], wr_id="behind it")
    change(region)
    late.send(b"abcd")
    assert ended(late.right.received()) == [("sound", OK)]
    late.send(b"efgh")
    late.must_fail_at("bad", text)
    assert first.pins == region.pins == 0
    assert octets_of(first) == b"abcd"


def test_a_region_that_was_closed(shared: bool) -> None:
    late = Late(shared=shared)
    region = late.right.region(4)
    late.post(region[:], wr_id="bad")
    region.close()
    late.send(b"x")
    late.must_fail_at("bad", "the region was closed")


def test_a_message_that_waited_for_its_receive(shared: bool) -> None:
    late = Late(shared=shared, pause=True)
    late.send(b"abcd")
    assert late.right.qp.stream.starved
    late.post(LocalSge(0x4000, 4, 0x500), wr_id="bad")
    late.pair.run()
    late.must_fail_at("bad", "STag 0x500 names no region here")


def test_what_nobody_took_lets_go_of_nothing(shared: bool) -> None:
    late = Late(shared=shared)
    region = late.right.region(4)
    late.post(region[:], wr_id=1)
    late.right.qp.close()
    if late.srq is not None:
        late.srq.close()
    assert region.pins == 0
    assert ended(late.right.received()) == ([] if shared else [(1, FLUSHED)])
    region.close()


def test_how_many_elements_there_are_is_judged_at_once(shared: bool) -> None:
    late = Late(shared=shared)
    with pytest.raises(BadWorkRequest, match="SGEs; this queue pair takes"):
        late.post(*[LocalSge(0, 1, 1)] * 17)


def test_elements_by_stag_and_to_where_receives_are_judged_when_posted() -> None:
    pair = Pair()
    region = pair.right.region(8)
    srq = pair.right.pd.create_srq()
    for post in (pair.right.qp.post_recv, srq.post_recv):
        post(Recv((LocalSge(region.to + 2, 4, region.stag), LocalSge(0, 0, 0)), 1))
        for bad, text in [
            (LocalSge(region.to, 4, region.stag ^ 1), "names no region here"),
            (LocalSge(region.to + 5, 4, region.stag), "octets 5..9 lie outside"),
            (LocalSge(region.to - 1, 4, region.stag), "octets -1..3 lie outside"),
        ]:
            with pytest.raises(BadWorkRequest, match=text):
                post(Recv((bad,)))
    assert region.pins == 2
    pair.left.send(b"abcd")
    pair.run()
    assert (ended(pair.right.received()), octets_of(region)) == ([(1, OK)], b"\0\0abcd\0\0")
    srq.close()
    assert region.pins == 0


@pytest.mark.parametrize("sge", [None, 7, LocalSge(NO_NUMBER, 8, 1), (b"octets", 0, 6)])
def test_what_is_no_memory_at_all(shared: bool, sge: Any) -> None:
    late = Late(shared=shared)
    if isinstance(sge, LocalSge):
        sge = sge._replace(lkey=late.right.region(8).stag)
    late.post(sge, wr_id="bad")
    late.send(b"octets")
    late.must_fail_at("bad", "names memory that may not be written")


def test_a_bad_receive_is_no_fault_of_the_next_connection(shared: bool) -> None:
    late = Late(shared=shared)
    closed = late.right.region(8)
    part = closed[:]
    closed.close()
    late.post(part, wr_id="bad")
    late.send(b"abcd")
    late.must_fail_at("bad", "may not be written")
    for node in late.pair.nodes:
        node.qp.modify(QpState.IDLE)
        node.sent()
    late.pair = Pair(nodes=late.pair.nodes)
    region = late.right.region(8)
    late.post(region[:], wr_id="good")
    late.send(b"efgh")
    assert ended(late.right.received()) == [("good", OK)]
    assert octets_of(region) == b"efgh" + bytes(4)
