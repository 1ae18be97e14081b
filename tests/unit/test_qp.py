"""Queue pairs: the state table, how a connection ends, and two that talk (RFC 5040 §5.5, §6.2)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, get_type_hints

import pytest

from pyiwarp.codes import Opcode, Rtr
from pyiwarp.errors import ConnectionLost, InvalidStag, StartupTimeout, TerminatedByPeer, WrongState
from pyiwarp.mr import RemoteRegion
from pyiwarp.negotiation import Offer, Role
from pyiwarp.queues.qp import QpInput, QpOptions, QpState
from pyiwarp.queues.qp_options import QpKeywords
from pyiwarp.queues.qp_states import NEXT, NEXT_TCP, TCP_OVER, TcpInput, TcpState
from pyiwarp.queues.work import Read, Send, SendRequest, Status, Write
from pyiwarp.verbs import Context
from tests.harness import (
    REMOTE,
    Node,
    Pair,
    RawPeer,
    Segment,
    agreed,
    ended,
    octets_of,
    response,
    send,
    terminate,
    write,
)

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)


# --- the table -------------------------------------------------------------------------------------------------------


def in_state(state: QpState) -> RawPeer:
    """A queue pair in that state, and its peer."""
    peer = RawPeer()
    match state:
        case QpState.RTS:
            pass
        case QpState.IDLE:
            peer.node.qp.disconnect()
            peer.closes()
        case QpState.CLOSING:
            peer.node.qp.disconnect()
        case QpState.TERMINATE:
            peer.sends(write(1, 0, b"x"))
        case QpState.ERROR:
            peer.sends(terminate(InvalidStag.term))
    assert peer.node.qp.state is state
    return peer


FEED: dict[QpInput, Callable[[RawPeer], object]] = {
    QpInput.CONNECTED: lambda peer: peer.node.qp.connect(agreed()),
    QpInput.CLOSE: lambda peer: peer.node.qp.disconnect(),
    QpInput.PEER_FIN: lambda peer: peer.node.qp.received_eof(),
    QpInput.LOCAL_FAULT: lambda peer: peer.sends(write(1, 0, b"x")),
    QpInput.PEER_TERMINATE: lambda peer: peer.sends(terminate(InvalidStag.term)),
    QpInput.LLP_LOST: lambda peer: peer.node.qp.lost(ConnectionResetError("cut")),
}

STATES = """
              connected close    fin      fault     peer's    lost
IDLE          RTS       IDLE     -        -         -         IDLE
RTS           -         CLOSING  CLOSING  TERMINATE ERROR     ERROR
CLOSING       -         CLOSING  CLOSING  TERMINATE ERROR     ERROR
TERMINATE     -         TERMINATE TERMINATE TERMINATE TERMINATE ERROR
ERROR         -         ERROR    ERROR    ERROR     ERROR     ERROR
"""
ROWS = [line.split() for line in STATES.strip().splitlines()[1:]]
PLANE = [(QpState[row[0]], fed, row[column]) for row in ROWS for column, fed in enumerate(FEED, 1)]


@pytest.mark.parametrize(("state", "fed", "expected"), PLANE)
def test_every_state_and_every_input(state: QpState, fed: QpInput, expected: str) -> None:
    peer = in_state(state)
    if expected == "-":
        if fed is QpInput.CONNECTED:
            with pytest.raises(WrongState, match="connected, but <QueuePair"):
                FEED[fed](peer)
        assert peer.node.qp.state is state
        return
    FEED[fed](peer)
    assert peer.node.qp.state is QpState[expected]


def test_the_table_says_the_same() -> None:
    for state, fed, expected in PLANE:
        if expected != "-" and (state, fed) != (
            QpState.IDLE,
            QpInput.LLP_LOST,
        ):  # not there: `lost` after the end is inert
            assert NEXT[state, fed] is QpState[expected]
    assert {state for state, _ in NEXT} == set(QpState)
    assert {fed for _, fed in NEXT} == set(QpInput)
    reachable, before = {QpState.IDLE}, set[QpState]()
    while reachable != before:
        before, reachable = reachable, reachable | {end for (start, _), end in NEXT.items() if start in reachable}
    assert reachable == set(QpState)


def test_tcp_ends_once_whatever_happens_to_it() -> None:
    """From each state its driver may let go of TCP, once there is one; only then may it begin anew."""
    with_tcp = set(TcpState) - {TcpState.NONE}
    assert {state for state, fed in NEXT_TCP if fed is TcpInput.LET_GO} == with_tcp
    assert {NEXT_TCP[state, TcpInput.LET_GO] for state in with_tcp} == {TcpState.ENDED}
    again = {state for state, fed in NEXT_TCP if fed in (TcpInput.ESTABLISHED, TcpInput.RESET)}
    assert again == {TcpState.NONE, TcpState.ENDED}
    for state in TCP_OVER:
        kept = {end for (start, fed), end in NEXT_TCP.items() if start is state and fed is not TcpInput.RESET}
        assert kept - {TcpState.SETTLING} <= TCP_OVER
    assert set(NEXT_TCP.values()) == set(TcpState)


def test_the_keywords_of_create_qp_are_the_options_of_a_queue_pair() -> None:
    assert get_type_hints(QpKeywords) == get_type_hints(QpOptions)
    pd = Context().alloc_pd()
    cq = pd.context.create_cq()
    assert pd.create_qp(cq, cq, confirm=True, linger=2.0).options == QpOptions(confirm=True, linger=2.0)
    assert pd.create_qp(cq, cq, None, QpOptions(confirm=True), linger=2.0).options == QpOptions(
        confirm=True, linger=2.0
    )
    with pytest.raises(TypeError, match="mulpud"):
        pd.create_qp(cq, cq, mulpud=128)  # type: ignore[call-arg]


def test_a_queue_pair_that_was_never_connected() -> None:
    qp = Node().qp
    for call in (lambda: qp.stream, qp.receive_view):
        with pytest.raises(WrongState, match="never connected"):
            call()
    qp.disconnect()
    qp.abort(ConnectionLost("nothing to abort"))
    assert (qp.state, qp.error) == (QpState.IDLE, None)


def test_a_queue_pair_can_be_connected_again_after_a_graceful_end() -> None:
    peer = in_state(QpState.IDLE)
    assert not peer.node.qp.alive
    again = RawPeer(peer.node)
    assert peer.node.qp.alive
    peer.node.receive(8, "r")
    again.sends(send(b"hello"))
    assert ended(peer.node.received()) == [("r", OK)]
    assert not peer.node.qp.over


# --- how it ends -----------------------------------------------------------------------------------------------------


def test_a_graceful_end_sends_everything_first() -> None:  # DDP-5041-6.2.1-01, DDP-5041-6.2.1-06, -07
    peer = RawPeer()
    for number in range(3):
        peer.node.send(bytes([number]), number)
    peer.node.receive(8, "r")
    peer.node.qp.disconnect()
    peer.node.qp.disconnect()
    assert not peer.node.qp.output_ended
    assert len(peer.hears()) == 3
    peer.expects_end_of_stream()
    peer.sends(send(b"bye"))
    assert ended(peer.node.received()) == [("r", OK)], "the other half is still open"
    peer.closes()
    assert peer.node.qp.state is QpState.IDLE
    assert peer.node.qp.error is None
    assert peer.end.closed


@pytest.mark.parametrize("last", [send(b"x", msn=9), terminate(InvalidStag.term)], ids=["violation", "terminate"])
@pytest.mark.parametrize("waiting", ["read", "fenced"])
def test_nothing_begins_on_a_stream_that_failed_right_behind_an_answer(waiting: str, last: Segment) -> None:
    """Its memory would stay in use until TCP ends, though the request was flushed."""
    node = Node()
    peer = RawPeer(node, ord=1)
    buffer = bytearray(5000)
    first, second = node.region(8), node.pd.register(buffer)
    behind: SendRequest = Read(second[:], SOMEWHERE, 2)
    if waiting == "fenced":
        behind = Write((second[:],), SOMEWHERE, 2, fence=True)
    node.post(Read(first[:], SOMEWHERE, 1), behind)
    peer.hears()
    peer.sends(peer.frames(response(first.stag, first.to, bytes(8))) + peer.frames(last))
    assert ended(node.sent()) == [(1, OK), (2, FLUSHED)]
    assert len(node.qp.stream.reads) == 0
    second.close()
    buffer.append(1)


def test_a_graceful_end_waits_for_reads_and_what_waits_behind_them() -> None:
    peer = RawPeer(ord=1)
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], SOMEWHERE, 1), Read(sink[:], SOMEWHERE, 2), Send(wr_id=3, inline=b"last", fence=True))
    peer.node.qp.disconnect()
    peer.expects(Opcode.READ_REQUEST)
    for _ in range(2):
        assert not peer.end.sent_fin
        peer.sends(response(sink.stag, sink.to, b"data"))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.READ_REQUEST, Opcode.SEND]
    peer.expects_end_of_stream()
    assert ended(peer.node.sent()) == [(1, OK), (2, OK), (3, OK)]


def test_time_limits() -> None:  # MPA-5044-7.1.2-28
    responder = RawPeer(role=Role.RESPONDER, first_fpdu_timeout=3.0)
    limit = responder.node.qp.time_limit()
    assert limit is not None
    assert (limit.waiting_for, limit.seconds) == ("the first FPDU", 3.0)
    responder.end.expire()
    assert isinstance(responder.node.qp.error, StartupTimeout)
    assert responder.node.qp.over

    patient = RawPeer(role=Role.RESPONDER)
    assert patient.node.qp.time_limit() is None

    opened = RawPeer(role=Role.RESPONDER, first_fpdu_timeout=3.0)
    opened.sends(write(1, 0))
    assert opened.node.qp.time_limit() is None
    opened.node.qp.timed_out(limit)  # an old timer
    assert opened.node.qp.error is None


def test_a_peer_that_never_closes_is_left_after_a_while() -> None:
    for state in (QpState.CLOSING, QpState.TERMINATE):
        peer = RawPeer(Node(linger=2.5))
        if state is QpState.CLOSING:
            peer.node.qp.disconnect()
        else:
            peer.sends(write(1, 0, b"x"))
        peer.hears()
        limit = peer.node.qp.time_limit()
        assert limit is not None
        assert limit.seconds == 2.5
        peer.end.expire()
        assert peer.node.qp.over
        assert peer.node.qp.time_limit() is None
        assert peer.node.qp.state is QpState.ERROR


def test_octets_that_leave_begin_the_wait_anew() -> None:
    peer = RawPeer()
    peer.node.post(Send((peer.node.region(2000)[:],)))
    peer.node.qp.disconnect()
    first = peer.node.qp.time_limit()
    peer.hears()
    second = peer.node.qp.time_limit()
    assert first is not None
    assert second is not None
    assert first.progress != second.progress


def test_tcp_that_ends_without_a_word() -> None:
    peer = RawPeer()
    peer.node.qp.lost(None)
    peer.node.qp.lost(OSError("again"))
    assert str(peer.node.qp.error) == "the connection was lost: TCP ended without a graceful close"


def test_an_abort_says_nothing() -> None:
    peer = RawPeer()
    peer.node.send(b"x", "s")
    peer.node.qp.abort(ConnectionLost("mine"))
    peer.node.qp.abort(ConnectionLost("again"))
    peer.expects_end_of_stream()
    assert str(peer.node.qp.error) == "mine"
    assert ended(peer.node.sent()) == [("s", FLUSHED)]


def test_with_closes() -> None:
    with RawPeer().node.qp as qp:
        assert repr(qp) == f"<QueuePair {qp.qp_num} ready to send SQ 0 RQ 0>"
    assert not qp.alive


# --- two of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 1 << 20])
@pytest.mark.parametrize(("markers", "crc"), list(itertools.product([False, True], repeat=2)))
def test_a_conversation(chunk: int, markers: bool, crc: bool) -> None:
    offer = Offer(markers=markers, crc=crc)
    pair = Pair(initiator=offer, responder=offer, chunk=chunk, emss=300)
    memory, sink = pair.right.region(bytes(range(200)) * 5), pair.left.region(1000)
    regions = [pair.right.receive(500, number) for number in range(3)]
    pair.left.post(
        Write((), memory[100:].remote(), "w", b"WRITTEN"),
        Send((sink[:0], sink[:300]), "s1"),
        Read(sink[:], memory[:].remote(), "r"),
        Send(wr_id="s2", inline=b"bye", inval_stag=memory.stag, solicited=True),
    )
    pair.run()
    assert ended(pair.left.sent()) == [("w", OK), ("s1", OK), ("r", OK), ("s2", OK)]
    done = pair.right.received()
    assert [(d.wr_id, d.nbytes, d.solicited, d.inval_stag) for d in done] == [
        (0, 300, False, None),
        (1, 3, True, memory.stag),
    ]
    assert octets_of(sink)[98:110] == bytes([98, 99]) + b"WRITTEN" + bytes([107, 108, 109])
    assert octets_of(regions[1])[:3] == b"bye"
    assert pair.left_end.said.count(b"WRITTEN") == 1
    pair.left.qp.disconnect()
    pair.run()
    assert all(end.closed for end in pair.ends)
    assert [node.qp.state for node in pair.nodes] == [QpState.IDLE] * 2
    assert ended(pair.right.received()) == [(2, FLUSHED)]


@pytest.mark.parametrize("rtr", Rtr)
def test_peer_to_peer(rtr: Rtr) -> None:
    pair = Pair(initiator=Offer(rtr=rtr), responder=Offer(rtr=rtr), opened=False, pause_when_starved=True)
    pair.right.receive(8, "opening")
    pair.run()
    assert not pair.right.qp.stream.muted
    if rtr is Rtr.SEND:  # ambiguity 28: RFC 5040 §5.3 lets it take a receive
        assert ended(pair.right.received()) == [("opening", OK)]
    pair.left.receive(8, "r")
    pair.right.send(b"hello")
    pair.run()
    assert ended(pair.left.received()) == [("r", OK)]


def test_peers_that_cannot_agree_are_told() -> None:
    pair = Pair(initiator=Offer(rtr=Rtr.SEND), responder=Offer(rtr=Rtr.WRITE), opened=False)
    pair.run()
    assert isinstance(pair.right.qp.error, TerminatedByPeer)
    assert str(pair.right.qp.error.term) == "2/0/07"
    assert all(end.closed for end in pair.ends)


def test_both_close_at_once() -> None:
    pair = Pair()
    for node in pair.nodes:
        node.send(b"")
        node.receive(8)
        node.qp.disconnect()
    pair.run()
    assert [node.qp.state for node in pair.nodes] == [QpState.IDLE] * 2
    assert [node.qp.error for node in pair.nodes] == [None] * 2


def test_both_find_an_error_at_once() -> None:  # at most one Terminate per direction
    pair = Pair()
    for node in pair.nodes:
        node.post(Write((), RemoteRegion(0, 5, 9), "w", b"x"))
    pair.run()
    assert [type(node.qp.error) for node in pair.nodes] == [InvalidStag] * 2
    assert [node.qp.state for node in pair.nodes] == [QpState.ERROR] * 2
    assert all(end.closed for end in pair.ends)


def test_memory_of_one_protection_domain_serves_several_queue_pairs() -> None:
    node = Node()
    region = node.region(8, REMOTE)
    second: Any = node.pd.create_qp(node.send_cq, node.recv_cq)
    for qp in (node.qp, second):
        peer = RawPeer(type("N", (), {"qp": qp})())
        peer.sends(write(region.stag, region.to, b"hello"))
        assert qp.error is None
    assert octets_of(region) == b"hello\0\0\0"
