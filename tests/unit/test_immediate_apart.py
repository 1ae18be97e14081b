"""Immediate Data that takes no receive, where both sides have agreed on it (RFC 7306 §6.3)."""

from __future__ import annotations

from typing import Any

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.errors import MalformedMessage, NoBufferForMsn, UsageError
from pyiwarp.verbs import Immediate, QpOptions, Recv, Send, Status
from tests.harness import Node, Pair, RawPeer, cut, ended, octets_of, send
from tests.rfc.scene import immediate

OK, FLUSHED = Status.SUCCESS, Status.WR_FLUSH_ERR
TOP = 1 << 63
APART, TAKING = b"\x80" + bytes(6) + b"\x07", b"\x7f" + bytes(6) + b"\x07"


def apart(**options: Any) -> RawPeer:
    return RawPeer(Node(immediate_apart=TOP, **options))


@pytest.mark.parametrize("opcode", [Opcode.IMMEDIATE, Opcode.IMMEDIATE_SE])
def test_it_completes_in_its_place_without_a_receive(opcode: Opcode) -> None:  # EXT-7306-6.3-03
    peer = apart()
    region = peer.node.receive(8, "first")
    peer.node.receive(8, "second")
    peer.sends(immediate(APART, opcode=opcode), send(b"behind"), immediate(TAKING), immediate(APART))
    done = peer.node.received()
    assert [(each.wr_id, each.immediate, each.status) for each in done] == [
        (None, APART, OK),
        ("first", None, OK),
        ("second", TAKING, OK),
        (None, APART, OK),
    ]
    assert done[0].solicited is (opcode is Opcode.IMMEDIATE_SE)
    assert octets_of(region)[:6] == b"behind"


def test_without_the_option_it_takes_one() -> None:  # EXT-7306-6.3-02
    peer = RawPeer(Node())
    peer.node.receive(8, "first")
    peer.sends(immediate(APART), immediate(APART))
    assert ended(peer.node.received()) == [("first", OK)]
    assert isinstance(peer.node.qp.error, NoBufferForMsn)


def test_what_has_no_such_bit_needs_a_receive() -> None:  # EXT-7306-6.3-02
    peer = apart()
    peer.sends(immediate(TAKING))
    assert isinstance(peer.node.qp.error, NoBufferForMsn)


def test_it_does_not_wait_for_a_receive() -> None:
    peer = apart(pause_when_starved=True)
    peer.sends(immediate(APART), send(b"waits"))
    assert ended(peer.node.received()) == [(None, OK)]
    assert peer.node.qp.stream.starved
    peer.node.receive(8, "late")
    peer.node.qp.resume()
    assert ended(peer.node.received()) == [("late", OK)]


def test_it_leaves_shared_receives_alone() -> None:
    node = Node()
    srq = node.pd.create_srq(2)
    node.qp = node.pd.create_qp(node.send_cq, node.recv_cq, srq=srq, immediate_apart=TOP)
    srq.post_recv(Recv((node.region(8)[:],), "shared"))
    peer = RawPeer(node)
    peer.sends(immediate(APART))
    assert (ended(node.received()), len(srq)) == ([(None, OK)], 1)
    peer.sends(send(b"x"))
    assert (ended(node.received()), len(srq)) == ([("shared", OK)], 0)


@pytest.mark.parametrize(
    "bad",
    [
        lambda: immediate(APART + b"9"),  # EXT-7306-6.3-07
        lambda: immediate(APART, msn=7),
        lambda: immediate(APART, mo=1),
        lambda: immediate(APART[:7]),
    ],
)
def test_one_that_is_wrong_ends_the_stream_and_flushes_receives_alone(bad: Any) -> None:
    peer = apart()
    peer.node.receive(8, "posted")
    peer.sends(bad())
    assert peer.node.qp.error is not None
    assert [wr_id for wr_id, status in ended(peer.node.received()) if status is not OK] == ["posted"]


def test_one_in_the_middle_of_a_send_is_refused() -> None:
    peer = apart()
    peer.node.receive(16, "posted")
    first, _ = cut(send(b"abcdefgh"), 4)
    peer.sends(first, immediate(APART, msn=1))
    assert peer.node.qp.error is not None
    assert [wr_id for wr_id, _ in ended(peer.node.received())] == ["posted"]


def test_what_a_wrong_length_is_called() -> None:  # EXT-7306-6.3-07
    peer = apart()
    peer.sends(immediate(APART[:7]))
    assert isinstance(peer.node.qp.error, MalformedMessage)


def test_between_two_of_this_stack() -> None:
    pair = Pair(immediate_apart=0xFF)
    pair.right.receive(8, "receive")
    pair.left.post(Immediate(bytes(7) + b"\x01"), Send(inline=b"x"), Immediate(b"\x01" + bytes(7)))
    pair.right.receive(8, "another")
    pair.run()
    assert [(each.wr_id, each.immediate) for each in pair.right.received()] == [
        (None, bytes(7) + b"\x01"),
        ("receive", None),
        ("another", b"\x01" + bytes(7)),
    ]


@pytest.mark.parametrize("mask", [-1, 1 << 64, 1.0])
def test_a_mask_that_cannot_be(mask: Any) -> None:
    with pytest.raises(UsageError, match=r"immediate_apart.*\(RFC 7306 §6.3\)"):
        QpOptions(immediate_apart=mask)
