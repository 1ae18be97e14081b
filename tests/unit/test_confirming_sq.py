"""Confirmed completions: a Write or Send completes when the peer has processed it (RFC 5040 §5.5)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import BadWorkRequest, ConnectionLost, InvalidStag, Term, TerminatedByPeer, WrongState
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.negotiation import Offer
from pyiwarp.queues.qp import QpState
from pyiwarp.queues.work import FetchAdd, Immediate, Read, Send, SendRequest, Status, Write
from tests.harness import Node, Pair, RawPeer, ended, octets_of, response, send, terminate

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
SOMEWHERE = RemoteRegion(0x1000, 0x77, 1 << 20)
ANSWER = response(1, 0, b"")


def confirming(ord: int = 4, **options: Any) -> RawPeer:
    return RawPeer(Node(confirm=True, **options), ord=ord)


def test_one_read_confirms_many() -> None:  # RDMAP-5040-5.5-07, -10
    peer = confirming()
    for number in range(3):
        peer.node.send(b"", number)
    assert [heard.opcode for heard in peer.hears()] == [Opcode.SEND] * 3 + [Opcode.READ_REQUEST]
    assert peer.node.sent() == []
    peer.node.post(Write((), SOMEWHERE, "later", b"x"))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.WRITE], "one Read is under way at a time"
    peer.sends(ANSWER)
    assert ended(peer.node.sent()) == [(0, OK), (1, OK), (2, OK)]
    assert peer.expects(Opcode.READ_REQUEST).read_request == (1, 0, 0, 1, 0)
    peer.sends(ANSWER)
    assert ended(peer.node.sent()) == [("later", OK)]
    peer.expects_nothing()


def test_memory_stays_pinned_until_the_peer_has_the_octets() -> None:
    peer = confirming()
    region = peer.node.region(8)
    peer.node.post(Write((region[:],), SOMEWHERE))
    peer.hears()
    assert region.pins == 1
    peer.sends(ANSWER)
    assert region.pins == 0


def test_an_answer_that_comes_before_the_kernel_has_everything_confirms_nothing_yet() -> None:  # RDMAP-5040-5.5-11
    """A peer can answer what it was not asked yet; the octets still are the transport's."""
    peer = confirming()
    peer.end.clogged = True
    peer.node.send(b"1", 1)
    peer._pump()
    peer.sends(ANSWER)
    assert peer.node.sent() == []
    peer.end.clogged = False
    peer._pump()
    assert ended(peer.node.sent()) == [(1, OK)]


def test_the_programs_own_reads_confirm_too() -> None:
    peer = confirming()
    sink = peer.node.region(4)
    peer.node.post(Write((), SOMEWHERE, 1, b"x"), Read(sink[:], SOMEWHERE, 2), FetchAdd(SOMEWHERE, 1, wr_id=3))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.WRITE, Opcode.READ_REQUEST, Opcode.ATOMIC_REQUEST]
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert ended(peer.node.sent()) == [(1, OK), (2, OK)]
    peer.node.post(Immediate(b"12345678", 4))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.IMMEDIATE, Opcode.READ_REQUEST]


def test_it_keeps_to_ord() -> None:  # RDMAP-5040-6.1-05
    peer = confirming(ord=1)
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], SOMEWHERE, 1), Write((), SOMEWHERE, 2, b"x"))
    assert [heard.opcode for heard in peer.hears()] == [Opcode.READ_REQUEST, Opcode.WRITE]
    peer.sends(response(sink.stag, sink.to, b"data"))
    assert ended(peer.node.sent()) == [(1, OK)]
    peer.expects(Opcode.READ_REQUEST, msn=2)
    peer.node.post(Read(sink[:], SOMEWHERE, 3))
    peer.expects_nothing()
    peer.sends(ANSWER)
    assert ended(peer.node.sent()) == [(2, OK)]
    peer.expects(Opcode.READ_REQUEST, msn=3)


def test_a_fence_does_not_wait_for_confirmations() -> None:
    peer = confirming()
    peer.node.post(Write((), SOMEWHERE, 1, b"x"))
    peer.hears()
    peer.node.post(Send(wr_id=2, fence=True))
    peer.expects(Opcode.SEND)


def test_without_ord_nothing_can_be_confirmed() -> None:
    peer = confirming(ord=0)
    with pytest.raises(BadWorkRequest, match="ORD is 0"):
        peer.node.send(b"x")
    peer.expects_nothing()


@pytest.mark.parametrize(
    ("term", "status"),
    [(Term(0, 0, 0), Status.REM_OP_ERR), (Term(1, 0, 0), Status.REM_OP_ERR), (Term(2, 0, 2), Status.FATAL_ERR)],
)
def test_a_terminate_without_a_header_is_about_the_oldest_that_is_not_confirmed(term: Term, status: Status) -> None:
    # RDMAP-5040-4.8-12, RDMAP-5040-5.5-07
    peer = confirming()
    sink = peer.node.region(4)
    peer.node.send(b"", 1)
    peer.hears()
    peer.node.post(Write((), SOMEWHERE, 2, b"x"), Read(sink[:], SOMEWHERE, 3), Send(wr_id=4))
    peer.hears()
    peer.sends(ANSWER)
    peer.hears()
    assert ended(peer.node.sent()) == [(1, OK)]
    peer.sends(terminate(term))
    assert ended(peer.node.sent()) == [(2, status), (3, FLUSHED), (4, FLUSHED)]


def test_a_terminate_without_a_header_and_nothing_unconfirmed() -> None:
    peer = confirming()
    peer.sends(terminate(Term(0, 0, 0)))
    assert peer.node.sent() == []
    assert isinstance(peer.node.qp.error, TerminatedByPeer)


def test_without_confirmation_nobody_is_blamed_for_a_terminate_without_a_header() -> None:
    peer = RawPeer(Node())
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], SOMEWHERE, 1), Read(sink[:], SOMEWHERE, 2))
    peer.sends(terminate(Term(0, 0, 0)))
    assert ended(peer.node.sent()) == [(1, FLUSHED), (2, FLUSHED)]


def test_the_receive_that_the_peer_could_not_use_fails_the_send() -> None:
    pair = Pair(nodes=(Node(confirm=True), Node(judge_receives_late=True)))
    for _ in range(2):
        pair.right.receive(4)
    pair.left.send(b"a", 1)
    pair.run()
    assert ended(pair.left.sent()) == [(1, OK)]
    for region in pair.right.pd.regions:
        region.close()
    pair.left.send(b"b", 2)
    pair.left.send(b"c", 3)
    pair.run()
    assert ended(pair.left.sent()) == [(2, Status.REM_OP_ERR), (3, FLUSHED)]


def test_errors_are_laid_on_the_write_that_caused_them() -> None:
    pair = Pair(confirm=True)
    good, bad = pair.right.region(8), pair.right.region(8, Access.LOCAL_WRITE | Access.REMOTE_READ)
    pair.left.post(Write((), good[:].remote(), 1, b"12345678"))
    pair.run()
    pair.left.post(
        Write((), good[:].remote(), 2, b"abcdefgh"),
        Write((), bad[:].remote(), 3, b"abcdefgh"),
        Write((), good[:].remote(), 4, b"ABCDEFGH"),
    )
    pair.run()
    done = pair.left.sent()
    assert ended(done) == [(1, OK), (2, FLUSHED), (3, Status.REM_ACCESS_ERR), (4, FLUSHED)]
    assert type(done[2].error) is TerminatedByPeer
    assert octets_of(good) == b"abcdefgh"


def test_a_question_of_the_programs_is_found_among_those_that_confirm() -> None:
    peer = confirming()
    sink = peer.node.region(4)
    peer.node.post(Read(sink[:], SOMEWHERE, 1), Write((), SOMEWHERE, 2, b"x"))
    peer.hears()  # MSN 1, and 2 for the Write
    peer.node.post(Read(sink[:], SOMEWHERE, 3))
    asked = peer.expects(Opcode.READ_REQUEST, msn=3)
    peer.sends(terminate(InvalidStag.term, 46, asked.ulpdu[:18]))
    assert ended(peer.node.sent()) == [(1, FLUSHED), (2, FLUSHED), (3, Status.REM_ACCESS_ERR)]


def test_a_peer_that_closes_without_confirming_leaves_it_open_what_became_of_it() -> None:
    peer = confirming()
    peer.end.clogged = True
    peer.node.post(Write((), SOMEWHERE, 1, b"x"))
    peer.closes()
    assert [(done.wr_id, done.status, type(done.error)) for done in peer.node.sent()] == [(1, FLUSHED, ConnectionLost)]
    assert peer.node.qp.state is QpState.ERROR


def test_when_the_peer_has_closed_its_half_nothing_more_is_taken() -> None:
    peer = confirming(half_close=True)
    peer.closes()
    assert peer.node.qp.state is QpState.RTS
    with pytest.raises(WrongState, match="the peer has closed its half and can answer nothing"):
        peer.node.send(b"x")


def test_a_graceful_end_waits_for_confirmations() -> None:
    peer = confirming()
    peer.node.send(b"bye", 1)
    peer.node.qp.disconnect()
    assert [heard.opcode for heard in peer.hears()] == [Opcode.SEND, Opcode.READ_REQUEST]
    assert not peer.end.sent_fin
    peer.sends(ANSWER)
    assert ended(peer.node.sent()) == [(1, OK)]
    peer.expects_end_of_stream()
    peer.closes()
    assert peer.node.qp.state is QpState.IDLE


def test_a_second_connection_begins_anew() -> None:
    peer = confirming()
    peer.node.send(b"", 1)
    peer.hears()
    peer.end.lose()
    assert ended(peer.node.sent()) == [(1, FLUSHED)]
    peer.node.qp.modify(QpState.IDLE)
    again = RawPeer(peer.node)
    peer.node.send(b"", 2)
    assert [heard.opcode for heard in again.hears()] == [Opcode.SEND, Opcode.READ_REQUEST]
    again.sends(ANSWER)
    assert ended(peer.node.sent()) == [(2, OK)]


@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_completes_once_in_order(seed: int) -> None:  # RDMAP-5040-5.5-12
    chance = random.Random(seed)
    pair = Pair(
        confirm=True,
        chunk=lambda: chance.randrange(1, 3000),
        initiator=Offer(ord=chance.randrange(1, 4)),
        responder=Offer(ird=chance.randrange(1, 4)),
    )
    sink, there = pair.left.region(4000), pair.right.region(4000)
    for _ in range(200):
        pair.right.receive(4000)
    posted = list[int]()
    for number in range(100):
        size = chance.choice([0, 1, 100, 4000])
        remote = there[:size].remote()
        fence, signaled = chance.random() < 0.2, chance.random() < 0.8
        kinds: list[SendRequest] = [
            Send((sink[:size],), number, fence=fence, signaled=signaled),
            Write((sink[:size],), remote, number, fence=fence, signaled=signaled),
            Read(sink[:size], remote, number, fence=fence, signaled=signaled),
        ]
        pair.left.post(chance.choice(kinds))
        if signaled:
            posted.append(number)
        for _ in range(chance.choice([0, 0, 1, 5])):
            pair.step()
    pair.run()
    assert ended(pair.left.sent()) == [(number, OK) for number in posted]
    assert len(pair.left.qp.stream.reads) == 0
    assert sink.pins == there.pins == 0


def test_what_the_peer_sends_is_not_held_up() -> None:
    peer = confirming()
    peer.node.receive(8, "r")
    peer.node.send(b"", 1)
    peer.sends(send(b"hello"))
    assert ended(peer.node.received()) == [("r", OK)]
