"""`linger` bounds the whole wait for the end, whatever the peer sends; only what this side has posted extends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyiwarp.mr import RemoteRegion
from pyiwarp.pump import TimeLimit
from pyiwarp.queues.qp import QpState
from pyiwarp.verbs import Read
from tests.harness import Node, RawPeer, Segment, octets_of, read, response, send, write

TALK: dict[str, Callable[[Node], Segment]] = {
    "empty Writes": lambda node: write(1, 0),
    "Sends": lambda node: send(b"more"),
    "Reads of nothing": lambda node: Segment(opcode=1, qn=1, payload=bytes(28)),
}


def limit_of(node: Node) -> TimeLimit:
    limit = node.qp.time_limit()
    assert limit is not None
    return limit


@pytest.mark.parametrize("talk", TALK)
def test_what_the_peer_sends_does_not_extend_the_wait(talk: str) -> None:
    peer = RawPeer(Node(linger=2.5))
    for _ in range(4):
        peer.node.receive(40)
    peer.node.qp.disconnect()
    peer.hears()
    first = limit_of(peer.node)
    for _ in range(3):
        peer.sends(TALK[talk](peer.node))
        peer.hears()
        assert limit_of(peer.node) == first, "the driver's timer goes on"
    peer.end.expire()
    assert peer.node.qp.over


def test_after_a_violation_nothing_extends_it() -> None:
    peer = RawPeer(Node(linger=2.5))
    peer.sends(write(5, 0, b"x"))
    peer.hears()
    first = limit_of(peer.node)
    peer.sends(*[write(1, 0)] * 3)
    assert limit_of(peer.node) == first


def test_reads_of_the_peer_that_are_answered_do_not_extend_it() -> None:
    peer = RawPeer(Node(linger=2.5))
    memory = peer.node.region(1 << 18)
    peer.node.qp.disconnect()
    peer.hears()
    first = limit_of(peer.node)
    peer.sends(read(memory, size=1 << 18))
    peer.hears()
    assert limit_of(peer.node) == first


def test_the_answer_to_a_read_extends_it_by_its_parts() -> None:
    node = Node(linger=2.5)
    peer, size = RawPeer(node), 1 << 18
    sink = node.region(size)
    node.post(Read(sink[:], RemoteRegion(0, 5, size), "read"))
    peer.hears()
    node.qp.disconnect()
    limits = {limit_of(node)}
    for at in range(0, size, 1 << 12):
        peer.sends(response(sink.stag, sink.to + at, b"a" * (1 << 12), last=at + (1 << 12) == size))
        limits.add(limit_of(node))
    assert 3 <= len(limits) <= 6, "64 KiB are progress, and the end of the Read"
    assert octets_of(sink) == b"a" * size
    assert node.qp.state is QpState.CLOSING
