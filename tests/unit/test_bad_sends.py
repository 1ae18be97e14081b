"""Send requests whose memory may not be used: raised where they are posted, or completed with LOC_PROT_ERR."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import BadMemory, BadWorkRequest, Closed, QueueFull, Term
from pyiwarp.mr import Access, RegionSlice, RemoteRegion
from pyiwarp.queues.qp import QpState
from pyiwarp.verbs import FetchAdd, QpCap, Read, Send, SendRequest, Sge, Status, Write
from tests.harness import Node, Pair, RawPeer, ended, write

OK, FLUSHED, PROTECTION = Status.SUCCESS, Status.WR_FLUSH_ERR, Status.LOC_PROT_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


def closed(node: Node) -> Sge:
    region = node.region(8)
    region.close()
    return RegionSlice(region, 0, 8)


def outside(node: Node) -> Sge:
    return RegionSlice(node.region(8), 4, 8)


def foreign(node: Node) -> Sge:
    return node.context.alloc_pd().register(bytearray(8))[:]


def unwritable(node: Node) -> Sge:
    return node.region(8, Access.REMOTE_READ)[:]


BAD = [
    (closed, lambda sge: Send((sge,), "bad")),
    (outside, lambda sge: Send((sge,), "bad")),
    (foreign, lambda sge: Write((sge,), SOMEWHERE, "bad")),
    (outside, lambda sge: Write((sge, sge), SOMEWHERE, "bad")),
    (unwritable, lambda sge: Read(sge, SOMEWHERE, "bad")),
    (closed, lambda sge: Read(sge, SOMEWHERE, "bad")),
    (unwritable, lambda sge: FetchAdd(SOMEWHERE, 1, 0, sge, "bad")),
]


@pytest.mark.parametrize(("memory", "request_of"), BAD)
def test_it_completes_in_its_turn(memory: Callable[[Node], Sge], request_of: Callable[[Sge], SendRequest]) -> None:
    pair = Pair(complete_bad_sends=True)
    left, right = pair.nodes
    right.receive(8, "received")
    left.send(b"sound", "before")
    left.post(request_of(memory(left)), Send(wr_id="behind", inline=b"never sent"))
    pair.run()
    done = left.sent()
    assert ended(done) == [("before", OK), ("bad", PROTECTION), ("behind", FLUSHED)]
    assert isinstance(done[1].error, BadMemory | Closed)
    assert left.qp.error is done[1].error
    assert left.qp.state is QpState.ERROR
    assert ended(right.received())[:1] == [("received", OK)], "what was before it has arrived"
    assert left.qp.query().sends_posted == 0


@pytest.mark.parametrize("confirm", [False, True])
def test_it_waits_for_all_that_was_posted_before(confirm: bool) -> None:
    pair = Pair(complete_bad_sends=True, confirm=confirm)
    left, right = pair.nodes
    source, sink = right.region(8), left.region(8)
    right.receive(8)
    left.post(Read(sink[:], source[:].remote(), 1), Send(wr_id=2, inline=b"x"))
    left.post(Send((closed(left),), "bad"), Read(sink[:], source[:].remote(), 4))
    assert left.qp.state is QpState.RTS
    pair.run()
    assert ended(left.sent()) == [(1, OK), (2, OK), ("bad", PROTECTION), (4, FLUSHED)]
    assert sink.pins == 0


def test_one_of_many_that_are_posted_together() -> None:
    pair = Pair(complete_bad_sends=True)
    left = pair.left
    left.qp.post_send_many([Write((), SOMEWHERE, 1, b""), Send((closed(left),), 2), Send((), 3)])
    pair.run()
    assert ended(left.sent()) == [(1, OK), (2, PROTECTION), (3, FLUSHED)]


def test_an_unsignaled_one_is_told_of() -> None:
    pair = Pair(complete_bad_sends=True)
    pair.left.post(Send((closed(pair.left),), "bad", signaled=False))
    pair.run()
    assert ended(pair.left.sent()) == [("bad", PROTECTION)]


def test_what_is_not_about_memory_is_raised() -> None:
    pair = Pair(nodes=(Node(complete_bad_sends=True, cap=QpCap(max_send_wr=1, max_sge=1)), Node()))
    left = pair.left
    region = left.region(8)
    for request in (
        Send((region[:4], region[4:])),
        Send(inline=bytes(5000)),
        Send((region[:],), inval_stag=1 << 32),
        Write((region[:],), RemoteRegion(1 << 64, 1, 8)),
    ):
        with pytest.raises(BadWorkRequest) as raised:
            left.post(request)
        assert not isinstance(raised.value, BadMemory)
    pair.left_end.clogged = True
    left.post(Write((region[:],), SOMEWHERE))
    with pytest.raises(QueueFull):
        left.post(Send((closed(left),)))


@pytest.mark.parametrize(("memory", "request_of"), BAD)
def test_by_default_it_is_raised_and_nothing_is_posted(
    memory: Callable[[Node], Sge], request_of: Callable[[Sge], SendRequest]
) -> None:
    left = Pair().left
    with pytest.raises(Closed if memory is closed else BadMemory):
        left.post(request_of(memory(left)))
    assert (left.sent(), left.qp.state) == ([], QpState.RTS)


def test_of_several_only_the_one_whose_turn_has_come_is_told_of() -> None:
    pair = Pair(complete_bad_sends=True)
    left, right = pair.nodes
    source, sink = right.region(8), left.region(8)
    left.post(Read(sink[:], source[:].remote(), 1), Send((closed(left),), 2), Send((outside(left),), 3))
    pair.run()
    done = left.sent()
    assert ended(done) == [(1, OK), (2, PROTECTION), (3, FLUSHED)]
    assert done[2].error is done[1].error is left.qp.error


def test_one_whose_turn_never_comes_is_flushed() -> None:
    left = Pair(complete_bad_sends=True).left
    sink = left.region(8)
    left.post(Read(sink[:], SOMEWHERE, 1), Send((closed(left),), 2))
    error = ConnectionError("the program ended it")
    left.qp.abort(error)
    done = left.sent()
    assert ended(done) == [(1, FLUSHED), (2, FLUSHED)]
    assert [each.error for each in done] == [error, error]


def test_it_does_not_take_the_terminate_that_waits_from_the_peer() -> None:  # RDMAP-5040-7.1-05
    node = Node(complete_bad_sends=True)
    peer = RawPeer(node)
    node.receive()
    peer.end.clogged = True
    node.send(b"on its way", 1)
    peer._pump()
    node.post(Send((closed(node),), 2))
    peer.sends(write(0x77, 0, b"nowhere"))
    peer.end.clogged = False
    peer.expects(Opcode.SEND)
    peer.expects_terminate(Term(1, 1, 0x00))
    assert ended(node.sent()) == [(1, OK), (2, FLUSHED)]
