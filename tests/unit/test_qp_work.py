"""Work requests of a queue pair: posting and completing (RFC 5040 §5.5, §6.2)."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, Closed, ConnectionLost, InvalidStag, QueueFull, TerminatedByPeer, WrongState
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.queues.qp import QpCap, QpState
from pyiwarp.queues.work import Read, Recv, Send, SendRequest, Status, WorkOpcode, Write
from tests.harness import Node, RawPeer, agreed, ended, octets_of, response, send, terminate, write
from tests.unit.test_qp import in_state

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


# --- posting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", QpState)
def test_posting_in_every_state(state: QpState) -> None:  # DDP-5041-6.2.1-02
    peer = in_state(state)
    node = peer.node
    if state is QpState.IDLE:
        with pytest.raises(WrongState, match="a send is posted, but <QueuePair"):
            node.send(b"x", "s")
        with pytest.raises(WrongState, match="a send is posted, but <QueuePair"):
            node.qp.post_send_many([Send(wr_id="m"), Write(wr_id="w")])
    else:
        node.send(b"x", "s")
        node.qp.post_send_many([Send(wr_id="m", inline=b"m"), Send(wr_id="n", inval_stag=1)])
    node.receive(8, "r")
    done = [*ended(node.sent()), *ended(node.received())]
    late = state in (QpState.CLOSING, QpState.TERMINATE, QpState.ERROR)
    assert done == ([(name, FLUSHED) for name in "smnr"] if late else [])


def test_receives_may_be_posted_before_the_connection() -> None:
    node = Node()
    node.receive(8, "early")
    RawPeer(node).sends(send(b"hello"))
    assert ended(node.received()) == [("early", OK)]


def test_queues_are_as_deep_as_asked() -> None:  # SEC-5041-8.3.2-06
    node = Node(cap=QpCap(max_send_wr=2, max_recv_wr=3))
    peer = RawPeer(node)
    for number in range(3):
        node.receive(8, number)
    with pytest.raises(QueueFull, match=r"the receive queue of queue pair \d+ holds 3 work requests already"):
        node.receive(8)
    assert node.qp.send_room == 2
    node.send(b"1")
    node.send(b"2")
    assert node.qp.send_room == 0
    with pytest.raises(QueueFull, match=r"the send queue of queue pair \d+ holds 2 work requests already"):
        node.send(b"3")
    assert len(peer.hears()) == 2
    assert node.qp.send_room == 2


@pytest.mark.parametrize("late", [QpState.CLOSING, QpState.TERMINATE, QpState.ERROR])
def test_late_posts_complete_behind_earlier_ones(late: QpState) -> None:  # RDMAP-5040-5.5-12
    peer = RawPeer(Node(cap=QpCap(max_send_wr=3, max_recv_wr=3)))
    node = peer.node
    node.receive(8, "r1")
    node.receive(8, "r2")
    peer.end.clogged = True
    node.send(b"1", 1)
    peer._pump()
    node.send(b"2", 2)
    if late is QpState.CLOSING:
        node.qp.disconnect()
    else:
        peer.sends(write(1, 0, b"x") if late is QpState.TERMINATE else terminate(InvalidStag.term))
    node.send(b"3", 3)
    node.receive(8, "r3")
    with pytest.raises(QueueFull):
        node.send(b"4", 4)
    with pytest.raises(QueueFull):
        node.receive(8, "r4")
    assert [*node.sent(), *node.received()] == []
    if late is QpState.CLOSING:
        peer.sends(send(b"a"), send(b"b"))
    peer.end.clogged = False
    peer._pump()
    one, two = (OK, OK) if late is QpState.CLOSING else (OK, FLUSHED)
    received = OK if late is QpState.CLOSING else FLUSHED
    assert ended(node.sent()) == [(1, one), (2, two), (3, FLUSHED)]
    assert ended(node.received()) == [("r1", received), ("r2", received), ("r3", FLUSHED)]


def bad_requests(node: Node) -> dict[str, tuple[SendRequest | Recv, str]]:
    region = node.region(16)
    read_only = node.region(b"0123", Access.REMOTE_READ)
    foreign = node.context.alloc_pd().register(bytearray(8))
    part = region[:]
    return {
        "another PD": (Send((foreign[:],)), "another protection domain"),
        "recv: another PD": (Recv((foreign[:],)), "another protection domain"),
        "before the region": (Send((part._replace(offset=-1),)), "octets -1..15"),
        "behind the region": (Write((part._replace(offset=9),), SOMEWHERE), "octets 9..25"),
        "negative": (Send((part._replace(nbytes=-1),)), "octets 0..-1"),
        "read into read-only": (Read(read_only[:], SOMEWHERE), "does not grant"),
        "recv into read-only": (Recv((read_only[:],)), "does not grant"),
        "too many SGEs": (Send((part,) * 17), "17 SGEs; this queue pair takes 16"),
        "recv: too many SGEs": (Recv((part,) * 17), "17 SGEs"),
        "too much inline": (Send(inline=bytes(1025)), "1025 octets inline"),
        "inline and SGEs": (Write((part,), SOMEWHERE, inline=b"x"), "1 octets inline and 1 SGEs"),
        "past 2^64": (Write((part,), RemoteRegion((1 << 64) - 1, 1, 16)), "16 octets cannot be named"),
        "a Read past 2^64": (Read(part, RemoteRegion((1 << 64) - 1, 1, 16)), "16 octets cannot be named"),
        "a wide STag": (Write((part,), RemoteRegion(0, 1 << 32, 16)), "cannot be named by STag 0x100000000"),
        "a wide STag to invalidate": (Send(inval_stag=1 << 32), "an STag is a number from 0 to 2"),
    }


def post(node: Node, request: Recv | SendRequest) -> None:
    if isinstance(request, Recv):
        node.qp.post_recv(request)
    else:
        node.qp.post_send(request)


@pytest.mark.parametrize("case", bad_requests(Node()))
def test_bad_work_requests_are_refused_and_change_nothing(case: str) -> None:
    peer = RawPeer()
    request, text = bad_requests(peer.node)[case]
    with pytest.raises(BadWorkRequest, match=text):
        post(peer.node, request)
    assert all(region.pins == 0 for region in peer.node.pd.regions)
    assert peer.node.qp.send_room == 256
    peer.expects_nothing()
    peer.node.send(b"fine", "next")
    peer.expects(Opcode.SEND, msn=1)
    assert ended(peer.node.sent()) == [("next", OK)]


def test_a_message_of_4_gib_is_refused() -> None:  # DDP-5041-5.2-03
    peer = RawPeer()
    memory = mmap.mmap(-1, 1 << 30)
    region = peer.node.pd.register(memory)
    with pytest.raises(BadWorkRequest, match="4294967296 octets; it must be shorter than 2\\^32"):
        peer.node.post(Send((region[:],) * 4))
    assert region.pins == 0
    peer.node.qp.close()
    region.close()
    memory.close()


def test_an_element_of_4_gib_is_refused(tmp_path: Path) -> None:  # DDP-5041-5.2-03
    peer = RawPeer()
    with open(tmp_path / "sparse", "w+b") as file:
        file.truncate(1 << 32)
        memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    region = peer.node.pd.register(memory, Access(0))
    for request in (Send((region[:],)), Write((region[:],), RemoteRegion(0, 5, 1 << 32))):
        with pytest.raises(BadWorkRequest, match="4294967296 octets; it must be shorter than 2\\^32"):
            peer.node.post(request)
    assert region.pins == 0
    region.close()
    memory.close()


def test_closed_regions_and_closed_queue_pairs() -> None:
    peer = RawPeer()
    region = peer.node.region(8)
    part = region[:]
    region.close()
    with pytest.raises(Closed, match=f"STag={region.stag:#010x}"):
        peer.node.post(Send((part,)))
    with pytest.raises(Closed, match=f"STag={region.stag:#010x}"):
        peer.node.qp.post_recv(Recv((part,)))
    for qp in (peer.node.qp, Node().qp):
        qp.close()
        qp.close()
        with pytest.raises(Closed, match="the queue pair is closed: <QueuePair"):
            qp.post_send(Send())
        with pytest.raises(Closed, match="the queue pair is closed: <QueuePair"):
            qp.post_recv(Recv())
        with pytest.raises((Closed, WrongState)):
            qp.connect(agreed())


def test_inline_octets_are_the_caller_s_again_at_once() -> None:
    """Even those of a request that has to wait."""
    peer = RawPeer()
    sink, octets = peer.node.region(4), bytearray(b"now")
    peer.node.post(Read(sink[:], SOMEWHERE), Send(inline=octets, fence=True))
    octets[:] = b"new"
    peer.sends(response(sink.stag, sink.to, b"1234"))
    assert [heard.payload for heard in peer.hears()][1] == b"now"


def test_many_are_posted_with_one_word_to_the_driver() -> None:
    node = Node()
    peer = RawPeer(node)
    kicks: list[int] = []
    node.qp.on_output = lambda: kicks.append(1)
    node.qp.post_send_many([Send(inline=bytes([n])) for n in range(5)])
    assert (len(kicks), len(node.qp._sq)) == (1, 5)
    assert [peer.expects(Opcode.SEND).payload for _ in range(5)] == [b"\0", b"\1", b"\2", b"\3", b"\4"]


def test_of_many_those_before_a_bad_one_are_posted() -> None:
    node = Node(cap=QpCap(max_inline=4))
    RawPeer(node)
    with pytest.raises(BadWorkRequest) as refused:
        node.qp.post_send_many([Send(inline=b"1"), Send(inline=b"12345"), Send(inline=b"3")])
    assert refused.value.__notes__ == ["1 of 3 work requests were posted before it"]
    assert len(node.qp._sq) == 1


def test_of_many_receives_those_before_a_bad_one_are_posted() -> None:
    node = Node(cap=QpCap(max_recv_wr=3))
    good = Recv((node.region(8, Access.LOCAL_WRITE)[:],))
    bad = Recv((node.region(8, Access.REMOTE_READ)[:],))
    with pytest.raises(BadWorkRequest) as refused:
        node.qp.post_recv_many([good, bad, good])
    assert refused.value.__notes__ == ["1 of 3 work requests were posted before it"]
    with pytest.raises(QueueFull) as full:
        node.qp.post_recv_many([good] * 4)
    assert full.value.__notes__ == ["2 of 4 work requests were posted before it"]
    assert len(node.qp._rq) == 3


def test_many_receives_wake_a_stream_that_found_none() -> None:  # RDMAP-5040-5.3-05
    node = Node(pause_when_starved=True)
    peer = RawPeer(node)
    peer.sends(send(b"a"), send(b"b", msn=2))
    assert node.received() == []
    kicks: list[int] = []
    node.qp.on_output = lambda: kicks.append(1)
    region = node.region(16, Access.LOCAL_WRITE)
    node.qp.post_recv_many([Recv((region[at : at + 8],), at) for at in (0, 8)])
    assert kicks == [1]
    node.qp.resume()
    assert [(done.wr_id, done.nbytes) for done in node.received()] == [(0, 1), (8, 1)]


def test_many_receives_that_come_too_late_are_flushed_in_order() -> None:
    node = Node()
    RawPeer(node)
    node.qp.abort(ConnectionLost("gone"))
    region = node.region(16, Access.LOCAL_WRITE)
    node.qp.post_recv_many([Recv((region[:],), number) for number in range(3)])
    assert [(done.wr_id, done.status) for done in node.received()] == [(n, Status.WR_FLUSH_ERR) for n in range(3)]
    node.qp.close()
    with pytest.raises(Closed):
        node.qp.post_recv_many([Recv((region[:],))])


# --- completing ------------------------------------------------------------------------------------------------------


def test_a_send_completes_when_the_kernel_has_it() -> None:  # RDMAP-5040-5.5-11
    peer = RawPeer()
    region = peer.node.region(5000)  # more than is copied
    peer.end.clogged = True
    peer.node.post(Send((region[:],), "s"))
    peer._pump()
    assert peer.node.sent() == []
    assert region.pins == 1
    peer.end.clogged = False
    peer._pump()
    (completion,) = peer.node.sent()
    assert (completion.opcode, completion.nbytes, completion.qp_num) == (WorkOpcode.SEND, 5000, peer.node.qp.qp_num)
    assert region.pins == 0


def test_completions_keep_the_order_of_posting() -> None:  # RDMAP-5040-5.5-12, RDMAP-5040-3.2-02
    peer = RawPeer()
    sink = peer.node.region(4)
    peer.node.post(
        Send(wr_id=1, inline=b"1"),
        Read(sink[:], SOMEWHERE, 2),
        Write((), SOMEWHERE, 3, b"3"),
        Send(wr_id=4, inline=b"4"),
    )
    assert len(peer.hears()) == 4
    assert ended(peer.node.sent()) == [(1, OK)], "those behind the Read have left but wait for it"
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert ended(peer.node.sent()) == [(2, OK), (3, OK), (4, OK)]


def test_unsignaled_requests_are_silent_unless_they_fail() -> None:
    peer = RawPeer()
    sink = peer.node.region(4)
    peer.node.post(
        Send(wr_id=1, inline=b"1", signaled=False),
        Read(sink[:], SOMEWHERE, 2, signaled=False),
        Send(wr_id=3, inline=b"3"),
    )
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert ended(peer.node.sent()) == [(3, OK)]
    assert sink.pins == 0
    peer.node.post(Read(sink[:], SOMEWHERE, 4, signaled=False))
    peer.closes()
    assert ended(peer.node.sent()) == [(4, FLUSHED)]


def test_no_more_reads_than_ord() -> None:  # RDMAP-5040-6.1-03, RDMAP-5040-6.1-05
    peer = RawPeer(ord=2)
    sink = peer.node.region(40)
    peer.node.post(*[Read(sink[4 * n : 4 * n + 4], SOMEWHERE, n) for n in range(5)], Send(wr_id="s"))
    for number in range(5):
        assert len(peer.hears()) == (2 if number == 0 else 1 if number <= 3 else 0) + (1 if number == 3 else 0)
        peer.sends(response(sink.stag, sink.to + 4 * number, bytes([number]) * 4))
    assert ended(peer.node.sent()) == [(0, OK), (1, OK), (2, OK), (3, OK), (4, OK), ("s", OK)]
    assert octets_of(sink)[:20] == b"".join(bytes([n]) * 4 for n in range(5))


def test_without_ord_there_are_no_reads() -> None:  # RDMAP-5040-6.1-05
    peer = RawPeer(ord=0)
    sink = peer.node.region(4)
    with pytest.raises(BadWorkRequest, match="ORD is 0"):
        peer.node.post(Read(sink[:], SOMEWHERE, "r"))
    assert sink.pins == 0
    peer.expects_nothing()


def test_a_fence_waits_for_earlier_reads() -> None:  # RDMAP-5040-5.5-09
    peer = RawPeer()
    sink = peer.node.region(4)
    peer.node.post(
        Read(sink[:], SOMEWHERE, 1),
        Send(wr_id=2),
        Write((), SOMEWHERE, 3, b"w", fence=True),
        Send(wr_id=4),
        Send(wr_id=5),
    )
    assert [heard.opcode for heard in peer.hears()] == [Opcode.READ_REQUEST, Opcode.SEND]
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.WRITE, Opcode.SEND, Opcode.SEND]
    peer.node.post(Send(wr_id=6, fence=True))
    peer.expects(Opcode.SEND)
    assert [wr_id for wr_id, _ in ended(peer.node.sent())] == [1, 2, 3, 4, 5, 6]


def test_every_end_flushes_everything_in_order_with_its_cause() -> None:  # RDMAP-5040-6.2.1-02, RDMAP-5040-5.4-08
    # MPA-5041-3-03, DDP-5041-6.2.2-04
    ends: list[tuple[Callable[[RawPeer], object], type[Exception]]] = [
        (lambda peer: peer.sends(write(1, 0, b"x")), InvalidStag),
        (lambda peer: peer.sends(terminate(InvalidStag.term)), TerminatedByPeer),
        (lambda peer: peer.end.lose(), ConnectionLost),
        (lambda peer: peer.closes(), ConnectionLost),
        (lambda peer: peer.node.qp.close(), Closed),
    ]
    for end, cause in ends:
        peer = RawPeer(ord=1)
        told: list[str] = []
        peer.node.qp.on_ended = partial(told.append, "ended")
        sink = peer.node.region(4)
        for number in range(3):
            peer.node.receive(8, number)
        peer.node.post(Read(sink[:], SOMEWHERE, "a"), Read(sink[:], SOMEWHERE, "b"), Send((sink[:],), "c"))
        peer.hears()
        peer.sends(send(b"half", last=False))
        end(peer)
        peer._pump()
        sent, received = peer.node.sent(), peer.node.received()
        assert ended(sent) == [("a", FLUSHED), ("b", FLUSHED), ("c", FLUSHED)]
        assert ended(received) == [(0, FLUSHED), (1, FLUSHED), (2, FLUSHED)]
        assert {type(done.error) for done in [*sent, *received]} == {cause}
        assert [done.opcode for done in sent] == [WorkOpcode.READ, WorkOpcode.READ, WorkOpcode.SEND]
        assert sink.pins == 0
        assert told == ["ended"]
        assert not peer.node.qp.alive


def test_closing_before_the_connection_flushes_receives() -> None:
    node = Node()
    node.receive(8, "r")
    node.qp.close()
    (completion,) = node.received()
    assert (completion.wr_id, type(completion.error)) == ("r", Closed)


@pytest.mark.parametrize("late", [False, True])
def test_a_receive_that_a_send_s_completion_posts_wakes_the_stream_that_found_none(late: bool) -> None:
    # RDMAP-5040-5.3-05
    node = Node(pause_when_starved=True, judge_receives_late=late)
    peer = RawPeer(node)
    peer.sends(send(b"waits"))
    assert node.qp.stream.starved
    node.send_cq.arm(lambda: (node.receive(8, "late"), None)[1])
    node.send(b"x")
    assert peer.end.pump.next_iov()
    node.qp.flushed()
    assert ended(node.received()) == [("late", Status.SUCCESS)]
    assert node.qp.wants_input
