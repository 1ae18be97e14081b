"""What the verbs offer around a queue pair: modify, query, drain, counters, asynchronous events, log records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from pyiwarp import errors
from pyiwarp.codes import Opcode
from pyiwarp.errors import Closed, ConnectionLost, InvalidStag, LocalCatastrophe, UsageError, WrongState
from pyiwarp.mr import RemoteRegion
from pyiwarp.queues.qp import QpCap, QpState
from pyiwarp.queues.work import Read, Send, Status
from pyiwarp.verbs import AsyncEvent, AsyncEventType, Context
from tests.harness import Node, Pair, RawPeer, agreed, ended, response, send, terminate, write
from tests.patience import PATIENCE
from tests.unit.test_qp import in_state

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


def events(node: Node) -> list[AsyncEvent]:
    found = []
    while (event := node.context.async_events.get()) is not None:
        found.append(event)
    return found


def kinds(node: Node) -> list[str]:
    return [event.type.name for event in events(node)]


# --- modify ----------------------------------------------------------------------------------------------------------

MODIFY = """
              IDLE       RTS  CLOSING    TERMINATE  ERROR
IDLE          IDLE       -    -          -          -
RTS           -          -    CLOSING    TERMINATE  ERROR
CLOSING       -          -    CLOSING    TERMINATE  ERROR
TERMINATE     -          -    TERMINATE  TERMINATE  ERROR
ERROR         -          -    -          -          -
"""
ROWS = [line.split() for line in MODIFY.strip().splitlines()]
PLANE = [(QpState[row[0]], QpState[to], end) for row in ROWS[1:] for to, end in zip(ROWS[0], row[1:], strict=True)]


@pytest.mark.parametrize(("state", "wanted", "end"), PLANE)
def test_modify_in_every_state(state: QpState, wanted: QpState, end: str) -> None:
    peer = in_state(state)
    qp = peer.node.qp
    if end == "-":
        with pytest.raises(WrongState, match=f"<QueuePair {qp.qp_num}"):
            qp.modify(wanted)
        assert qp.state is state
    else:
        qp.modify(wanted)
        assert qp.state is QpState[end]


def test_terminate_tells_the_peer_and_flushes() -> None:  # RDMAP-5040-7.1-02
    peer = RawPeer()
    sink = peer.node.region(4)
    peer.node.receive(8, "r")
    peer.node.post(Read(sink[:], SOMEWHERE, 1))
    peer.expects(Opcode.READ_REQUEST)
    peer.node.qp.modify(QpState.TERMINATE)
    assert peer.expects_terminate(LocalCatastrophe.term).mdr == "000"
    peer.expects_end_of_stream()
    assert ended([*peer.node.sent(), *peer.node.received()]) == [(1, FLUSHED), ("r", FLUSHED)]
    assert type(peer.node.qp.error) is LocalCatastrophe


def test_error_ends_without_a_word() -> None:
    peer = RawPeer()
    peer.node.receive(8, "r")
    peer.node.qp.modify(QpState.ERROR)
    peer.expects_nothing()
    (done,) = peer.node.received()
    assert (done.status, type(done.error)) == (FLUSHED, Closed)
    assert kinds(peer.node) == [], "the program knows what it did"


def test_a_wait_that_was_too_long_is_not_the_end_of_tcp() -> None:
    """The queue pair is of no more use then, but its driver still has the TCP connection, and closes it."""
    peer = RawPeer()
    qp = peer.node.qp
    qp.disconnect()
    peer.end.expire()
    assert (qp.state, qp.over, qp.broken) == (QpState.ERROR, True, True)
    with pytest.raises(WrongState, match="its TCP connection has not ended yet"):
        qp.modify(QpState.IDLE)
    peer.end.lose()
    qp.modify(QpState.IDLE)
    assert qp.alive


def test_a_queue_pair_in_error_is_reset_when_tcp_has_ended() -> None:
    peer = RawPeer()
    node = peer.node
    peer.sends(send(b"", last=False, qn=9))
    peer.hears()
    node.qp.modify(QpState.ERROR)
    with pytest.raises(WrongState, match="its TCP connection has not ended yet"):
        node.qp.modify(QpState.IDLE)
    peer.end.lose()
    with pytest.raises(WrongState, match="connected, but"):
        node.qp.connect(agreed())
    node.qp.modify(QpState.IDLE)
    assert (node.qp.state, node.qp.error, node.qp.alive) == (QpState.IDLE, None, True)
    node.receive(8, "r")
    assert node.received() == []
    again = RawPeer(node)
    again.sends(send(b"hello"))
    node.send(b"there", 1)
    again.expects(Opcode.SEND, msn=1)
    assert ended([*node.received(), *node.sent()]) == [("r", OK), (1, OK)]


def test_linger_may_be_changed() -> None:
    peer = RawPeer()
    peer.node.qp.modify(linger=7.5)
    peer.node.qp.disconnect()
    limit = peer.node.qp.time_limit()
    assert limit is not None
    assert limit.seconds == 7.5
    with pytest.raises(UsageError, match="a wait of -1 seconds"):
        peer.node.qp.modify(linger=-1)
    peer.node.qp.close()
    with pytest.raises(Closed):
        peer.node.qp.modify(linger=1)


# --- query, counters -------------------------------------------------------------------------------------------------


def test_query_says_what_it_is() -> None:
    node = Node(cap=QpCap(max_send_wr=5, max_recv_wr=6), sq_sig_all=True, linger=2.0)
    before = node.qp.query()
    assert (before.state, before.agreement, before.mulpdu) == (QpState.IDLE, None, 0)
    peer = RawPeer(node, ord=3)
    sink = node.region(4)
    node.post(Read(sink[:], SOMEWHERE))
    for _ in range(2):
        node.receive(8)
    peer.sends(send(b"half", last=False))
    now = node.qp.query()
    assert now.agreement is peer.agreement
    assert (now.state, now.error, now.qp_num) == (QpState.RTS, None, node.qp.qp_num)
    assert (now.cap, now.linger, now.sq_sig_all, now.confirm) == (QpCap(5, 6), 2.0, True, False)
    assert (now.sends_posted, now.receives_posted, now.send_room) == (1, 2, 4)
    assert (now.reads_outstanding, now.mulpdu) == (1, node.qp.stream.mulpdu)
    peer.sends(send(b"", last=False, qn=9))
    assert type(node.qp.query().error) is errors.InvalidQn


def test_counters_add_up_on_both_sides_and_over_connections() -> None:
    pair = Pair(opened=False)
    left, right = pair.nodes
    source = right.region(10_000)
    for number in range(3):
        right.receive(64, number)
    left.send(b"one")
    left.send(b"two")
    left.post(Read(left.region(10_000)[:], source[:].remote()))
    pair.run()
    right.qp.disconnect()
    pair.run()
    one, two = left.qp.counters(), right.qp.counters()
    assert (one.sends_sent, one.reads_sent, one.sends_received) == (2, 1, 0)
    assert (two.sends_received, two.reads_received, two.sends_sent) == (2, 1, 0)
    assert (one.fpdus_sent, two.fpdus_sent) == (two.fpdus_received, one.fpdus_received)
    assert (one.octets_sent, two.octets_sent) == (two.octets_received, one.octets_received)
    assert two.octets_sent > 10_000
    assert (one.flushed, two.flushed) == (0, 1)
    again = RawPeer(left)
    left.send(b"three")
    again.sends(send(b"no receive"))
    again.hears()
    total = left.qp.counters()
    assert (total.sends_sent, total.violations, total.terminates_sent, total.losses) == (3, 1, 1, 0)
    again.end.lose()
    left.qp.modify(QpState.IDLE)
    assert left.qp.counters() == total
    left.qp.close()
    assert left.context.counters().total == total
    assert left.context.counters()[:4] == (0, 1, 1, 0)
    assert str(total).startswith(f"octets_sent={total.octets_sent} ")


def test_flushes_of_both_queues_are_counted() -> None:
    pair = Pair()
    node = pair.left
    source = pair.right.region(8)
    for number in range(3):
        node.receive(64, number)
    for _ in range(2):
        node.post(Read(node.region(8)[:], source[:].remote()))
    pair.left_end.lose()
    assert node.qp.counters().flushed == 5
    node.post(Send(inline=b"late"))
    node.receive(64, "late")
    assert node.qp.counters().flushed == 7


def test_how_it_ended_is_counted() -> None:
    ends: list[tuple[Callable[[RawPeer], object], str]] = [
        (lambda peer: peer.sends(terminate(InvalidStag.term)), "terminates_received=1"),
        (lambda peer: peer.end.lose(), "losses=1"),
        (lambda peer: peer.node.qp.modify(QpState.TERMINATE), "terminates_sent=1"),
    ]
    for end, expected in ends:
        peer = RawPeer()
        end(peer)
        peer.hears()
        words = str(peer.node.qp.counters()).split()
        assert [word for word in words if word.startswith(("term", "viol", "loss"))] == [expected]


# --- drain -----------------------------------------------------------------------------------------------------------


def test_draining_by_callback() -> None:
    peer = RawPeer()
    node, told = peer.node, list[str]()
    for name, call in (("sq", node.qp.drain_sq), ("rq", node.qp.drain_rq), ("both", node.qp.drain)):
        call(lambda name=name: told.append(name))  # type: ignore[misc]
        assert told.pop() == name, "nothing is posted"
    sink = node.region(4)
    node.receive(8, "r")
    node.post(Read(sink[:], SOMEWHERE, 1), Send(wr_id=2))
    node.qp.drain(lambda: told.append("both"))
    node.qp.drain_sq(lambda: told.append("sq"))
    node.qp.drain_rq(lambda: told.append("rq"))
    peer.hears()
    assert told == []
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert told == ["sq"]
    assert ended(node.sent()) == [(1, OK), (2, OK)]
    peer.sends(send(b"x"))
    assert told == ["sq", "both", "rq"]


def test_what_waits_takes_no_room() -> None:
    node = Node(cap=QpCap(max_send_wr=2, max_recv_wr=1))
    peer = RawPeer(node)
    sink = node.region(4)
    node.post(Read(sink[:], SOMEWHERE, 1))
    for _ in range(3):
        node.qp.drain()
    node.post(Read(sink[:], SOMEWHERE, 2))
    node.receive(8)
    with pytest.raises(errors.QueueFull):
        node.send(b"")
    with pytest.raises(errors.QueueFull):
        node.receive(8)
    peer.hears()


async def test_draining_awaited() -> None:
    peer = RawPeer()
    node = peer.node
    await node.qp.drain()
    sink = node.region(4)
    node.receive(8, "r")
    node.post(Read(sink[:], SOMEWHERE, 1))
    given_up = asyncio.ensure_future(node.qp.drain_sq())
    waiting = [asyncio.ensure_future(call()) for call in (node.qp.drain_sq, node.qp.drain_rq, node.qp.drain)]
    await asyncio.sleep(0)
    given_up.cancel()
    peer.hears()
    peer.sends(response(sink.stag, sink.to, b"data"))
    await asyncio.wait_for(waiting[0], PATIENCE)
    assert [task.done() for task in waiting] == [True, False, False]
    node.qp.modify(QpState.ERROR)
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert ended(node.received()) == [("r", FLUSHED)]
    assert given_up.cancelled()


# --- sq_sig_all ------------------------------------------------------------------------------------------------------


def test_with_sq_sig_all_every_request_has_a_completion() -> None:
    peer = RawPeer(Node(sq_sig_all=True))
    peer.node.send(b"1", 1, signaled=False)
    peer.node.send(b"2", 2)
    peer.hears()
    assert ended(peer.node.sent()) == [(1, OK), (2, OK)]


# --- asynchronous events ---------------------------------------------------------------------------------------------

TOLD: dict[str, tuple[Callable[[RawPeer], object], list[str], type[Exception] | None]] = {
    "a Write without right": (lambda peer: peer.sends(write(1, 0, b"x")), ["QP_ACCESS_ERR"], InvalidStag),
    "a Read of nothing": (
        lambda peer: peer.sends(send(bytes(28), opcode=Opcode.READ_REQUEST, qn=1)),
        [],
        None,
    ),
    "a queue that is none": (lambda peer: peer.sends(send(b"", qn=9)), ["QP_REQ_ERR"], errors.InvalidQn),
    "a DDP version": (lambda peer: peer.sends(write(1, 0, b"", dv=0)), ["QP_REQ_ERR"], errors.TaggedVersion),
    "no receive": (lambda peer: peer.sends(send(b"x")), ["QP_REQ_ERR"], errors.NoBufferForMsn),
    "a CRC": (lambda peer: peer.sends(b"\0\4abcd\0\0bad!"), ["QP_FATAL"], errors.CrcMismatch),
    "a Terminate": (
        lambda peer: peer.sends(terminate(InvalidStag.term)),
        ["QP_FATAL"],
        errors.TerminatedByPeer,
    ),
    "TCP lost": (lambda peer: peer.end.lose(), ["QP_FATAL"], ConnectionLost),
    "a graceful end": (lambda peer: peer.node.qp.disconnect(), ["SQ_DRAINED"], None),
    "closed here": (lambda peer: peer.node.qp.close(), [], None),
}


@pytest.mark.parametrize("case", TOLD)
def test_the_program_is_told_once(case: str) -> None:  # RDMAP-5040-7.1-01
    peer = RawPeer()
    end, expected, cause = TOLD[case]
    end(peer)
    peer.hears()
    told = events(peer.node)
    assert [event.type.name for event in told] == expected
    assert [event.source for event in told] == [peer.node.qp] * len(told)
    assert [type(event.error) for event in told if event.error is not None] == ([cause] if cause else [])
    peer.end.lose()
    assert kinds(peer.node) == (["QP_FATAL"] if case in ("a Read of nothing", "a graceful end") else [])


def test_a_send_queue_is_drained_when_the_last_work_request_is_complete() -> None:
    peer = RawPeer()
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], SOMEWHERE))
    peer.node.qp.disconnect()
    peer.hears()
    assert kinds(peer.node) == []
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert kinds(peer.node) == ["SQ_DRAINED"]
    lost = RawPeer()
    lost.node.post(Read(lost.node.region(4)[:], SOMEWHERE))
    lost.node.qp.disconnect()
    lost.end.lose()
    assert kinds(lost.node) == ["QP_FATAL"], "flushed is not drained"


def test_an_overflow_is_told_of_the_queue_and_of_its_queue_pairs() -> None:  # SEC-5042-6.4.6-01
    node = Node(depth=1)
    peer = RawPeer(node)
    idle = node.pd.create_qp(node.send_cq, node.recv_cq)
    for number in range(2):
        node.receive(8, number)
    peer.sends(send(b"1"), send(b"2"))
    told = events(node)
    assert [(event.type, event.source) for event in told] == [
        (AsyncEventType.CQ_ERR, node.recv_cq),
        (AsyncEventType.QP_FATAL, node.qp),
    ]
    assert {type(event.error) for event in told} == {errors.QueueFull}
    assert (node.qp.state, idle.state) == (QpState.ERROR, QpState.IDLE)


def test_a_context_that_closes_ends_its_events() -> None:
    context, node = Context(), Node()
    for each in (context, node.context):
        each.close()
    for closed in (context, node.context):
        with pytest.raises(Closed, match="<AsyncEventQueue 0 of 4096, 0 missed closed>"):
            closed.async_events.get()


def test_events_are_kept_for_programs_that_look_at_them() -> None:
    context = Context()
    pd = context.alloc_pd()
    cq = context.create_cq(1)
    for number in range(3):
        node = Node.__new__(Node)
        node.qp = pd.create_qp(cq, cq)
        RawPeer(node).end.lose()
        node.qp.close()
        if number == 1:
            assert context.counters().async_events == 0
            assert len(context.async_events) == 0
    assert [event.source for event in context.async_events._events] == [node.qp]
    assert context.counters().async_events == 1


# --- log records -----------------------------------------------------------------------------------------------------


def test_one_record_for_each_event(caplog: pytest.LogCaptureFixture) -> None:
    peer = RawPeer()
    number = peer.node.qp.qp_num
    with caplog.at_level(logging.DEBUG, "pyiwarp"):
        peer.sends(write(1, 0, b"x"))
    assert [(record.name, record.levelname, record.getMessage()) for record in caplog.records] == [
        (
            "pyiwarp.queues.qp_pump",
            "DEBUG",
            f"queue pair {number}: this side found an error; terminating, was ready to send",
        ),
        ("pyiwarp.queues.qp_pump", "INFO", f"queue pair {number}: peer violated access rights: {peer.node.qp.error}"),
    ]
    caplog.clear()
    with caplog.at_level(logging.WARNING, "pyiwarp"):
        overflowing = RawPeer(Node(depth=1))
        for _ in range(2):
            overflowing.node.receive(8)
        overflowing.sends(send(b"1"), send(b"2"))
    assert [record.getMessage() for record in caplog.records] == ["<CompletionQueue 1 of 1 overflowed>"]
