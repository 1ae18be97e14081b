"""The verbs objects: who owns whom, limits, and what closes first."""

from __future__ import annotations

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, Closed, RegionInUse, UsageError
from pyiwarp.mr import Access
from pyiwarp.negotiation import Agreement
from pyiwarp.verbs import Context, Device, MemoryRegion, QpCap, QpState, QueuePair, Read, Recv, Status
from tests.harness import Node, Pair, RawPeer, ended, send


def test_a_device_opens_contexts_that_share_nothing() -> None:
    device = Device("soft")
    first, second = device.open(), device.open(lambda: 5)
    with first.alloc_pd() as one, second.alloc_pd() as two:
        with one.register(bytearray(4)) as region, two.register(bytearray(4)) as other:
            assert other.stag >> 8 == 5
            assert second.stags.get(region.stag) is None
        assert repr(first) == "<Context soft 1 PDs 0 regions>"
    first.close()
    first.close()
    for call in (first.alloc_pd, first.create_cq):
        with pytest.raises(Closed, match="soft"):
            call()


def test_a_context_closes_everything_in_it() -> None:
    node = Node()
    region = node.region(8)
    with node.context:
        node.receive(wr_id="r")
    assert not region.is_open
    assert node.pd.queue_pairs == []
    assert [wr_id for wr_id, _ in ended(node.received())] == ["r"]
    with pytest.raises(Closed):
        node.qp.post_recv(Recv())
    with pytest.raises(Closed):
        node.region(1)


def test_a_protection_domain_in_use_stays_open() -> None:
    node = Node()
    with pytest.raises(RegionInUse, match="1 queue pairs"):
        node.pd.close()
    region = node.region(8)
    node.qp.close()
    node.qp.close()
    with pytest.raises(RegionInUse, match="1 regions"):
        node.pd.close()
    region.close()
    node.pd.close()
    node.pd.close()
    assert node.send_cq.users == node.recv_cq.users == 0


def test_a_queue_pair_with_a_response_in_transit_lets_go_of_it() -> None:
    pair = Pair()
    sink, source = pair.left.region(50_000), pair.right.region(50_000)
    pair.right_end.clogged = True
    pair.left.post(Read(sink[:], source[:].remote()))
    pair.run()
    assert source.pins == 1
    with pytest.raises(RegionInUse):
        source.close()
    pair.right.pd.close(force=True)
    assert source.pins == 0
    assert pair.right.qp.state is QpState.ERROR


@pytest.mark.parametrize(
    ("cap", "what"),
    [
        (QpCap(max_send_wr=9), "9 send work requests; small offers 8"),
        (QpCap(max_send_wr=8, max_recv_wr=9), "9 receive work requests"),
        (QpCap(max_send_wr=8, max_recv_wr=8, max_sge=3), "3 SGEs"),
        (QpCap(max_send_wr=8, max_recv_wr=8, max_sge=2, max_inline=5), "5 inline octets"),
    ],
)
def test_the_limits_of_a_device_for_queue_pairs(cap: QpCap, what: str) -> None:
    # SEC-5042-3-02, SEC-5041-8.3.2-03, SEC-5040-8.1.2-02
    context = Device("small", max_qp_wr=8, max_sge=2, max_inline=4).open()
    cq = context.create_cq(4)
    with pytest.raises(UsageError, match=what):
        context.alloc_pd().create_qp(cq, cq, cap)
    assert cq.users == 0


def test_the_limits_of_a_device_for_queues_and_memory() -> None:
    # SEC-5042-6.4.1-01, SEC-5042-6.4.3.2-01, SEC-5040-8.1.2-05
    context = Device("small", max_cqe=4, max_mr=2).open()
    with pytest.raises(UsageError, match="5 completions; small offers 4"):
        context.create_cq(5)
    pd = context.alloc_pd()
    regions = [pd.register(bytearray(1)) for _ in range(2)]
    with pytest.raises(UsageError, match="2 regions are registered"):
        pd.register(bytearray(1))
    regions[0].close()
    pd.register(bytearray(1))


def test_a_wrong_mulpdu() -> None:
    for mulpdu in (127, 64_769):
        with pytest.raises(UsageError, match=f"mulpdu is {mulpdu}"):  # MPA-5044-3-04
            Node(mulpdu=mulpdu)


def test_closed_regions_are_forgotten_now_and_then() -> None:
    pd = Context().alloc_pd()
    keep = pd.register(bytearray(1), Access(0))
    for _ in range(1000):
        pd.register(bytearray(1)).close()
    assert pd.regions == [keep]
    assert len(pd._regions) < 200
    assert repr(pd) == "<ProtectionDomain 1 regions 0 queue pairs>"


def test_a_region_of_a_class_of_one_s_own() -> None:
    class Mine(MemoryRegion):
        __slots__ = ()

    assert isinstance(Context().alloc_pd().register_as(Mine, bytearray(3), Access(0)), Mine)
    with pytest.raises(BadWorkRequest):
        Context().alloc_pd().register(b"read-only")


@pytest.mark.parametrize("debug", [False, True])
def test_a_queue_pair_of_a_class_of_one_s_own(debug: bool) -> None:
    class Counting(QueuePair):
        connects = 0

        def connect(self, agreement: Agreement, prologue: bytes = b"") -> None:
            self.connects += 1
            super().connect(agreement, prologue)

    node = Node(Context(Device(debug=debug)))
    made = node.pd.create_qp_as(Counting, node.send_cq, node.recv_cq, confirm=True)
    node.qp = made
    pair = Pair(nodes=(node, Node()))
    pair.right.receive(8)
    node.send(b"x", "confirmed")
    pair.run()
    assert ended(node.sent()) == [("confirmed", Status.SUCCESS)]
    assert (made.connects, made.query().confirm, made in node.pd.queue_pairs) == (1, True, True)
    with pytest.raises(UsageError, match="SGEs"):
        node.pd.create_qp_as(Counting, node.send_cq, node.recv_cq, QpCap(max_sge=1 << 20))


def test_an_overflowing_completion_queue_ends_its_queue_pairs_and_no_others() -> None:  # SEC-5042-6.4.6-01
    # SEC-5040-8.1.1-11
    node = Node(depth=2)
    peer = RawPeer(node)
    other = RawPeer(Node(node.context))
    for number in range(4):
        node.receive(wr_id=number)
    other.node.receive(wr_id="other")
    peer.sends(*[send(b"x")] * 3)
    assert node.recv_cq.overflowed
    assert node.qp.state is QpState.ERROR
    assert "overflowed" in str(node.qp.error)
    assert peer.end.closed
    other.sends(send(b"x"))
    assert [wr_id for wr_id, _ in ended(other.node.received())] == ["other"]
    other.node.send(b"still there")
    other.expects(Opcode.SEND, payload=b"still there")
