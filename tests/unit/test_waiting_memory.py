"""What waits for a receive or for its turn holds memory for what was received, and no buffer that streams share."""

from __future__ import annotations

import pytest

from pyiwarp import buffers
from pyiwarp.buffers import BUFFER_SIZE, give_buffer
from pyiwarp.pump import TURN_FPDUS
from pyiwarp.queues.work import Status
from tests.harness import Node, RawPeer, ended, octets_of, send, write

BULK = 60_000


class Pool:
    """How many of the shared buffers that are kept are taken; also by compiled code, which no patch reaches."""

    def __init__(self) -> None:
        while len(buffers._free) < buffers._KEPT:
            give_buffer(memoryview(bytearray(BUFFER_SIZE)))
        self.most = 0

    @property
    def taken(self) -> int:
        return buffers._KEPT - len(buffers._free)

    def look(self) -> None:
        self.most = max(self.most, self.taken)

    def spoil(self) -> None:
        """Others use what is free."""
        for buffer in buffers._free:
            buffer[:] = b"\xee" * BUFFER_SIZE


@pytest.fixture
def pool() -> Pool:
    return Pool()


def take(pool: Pool, node: Node, octets: bytes) -> bytes:
    """Show octets to a node as a driver does, as long as it wants some and its turn lasts; returns the rest."""
    while octets and node.qp.wants_input:
        view = node.qp.receive_view()
        pool.look()
        nbytes = min(len(view), len(octets))
        view[:nbytes] = octets[:nbytes]
        node.qp.received(nbytes)
        octets = octets[nbytes:]
    return octets


def take_all(pool: Pool, node: Node, octets: bytes) -> None:
    """The same, turn after turn."""
    while octets or node.qp.behind:
        octets = take(pool, node, octets)
        if node.qp.behind:
            node.qp.proceed()


def bulk(peer: RawPeer, number: int = 30) -> bytes:
    """So much at once that the stream receives into a shared buffer."""
    sink = peer.node.region(BULK)
    return b"".join(peer.frames(write(sink.stag, sink.to, bytes(BULK))) for _ in range(number))


@pytest.mark.parametrize("markers", [False, True])
@pytest.mark.parametrize("behind_it", [0, 2000, 50_000])
def test_who_waits_holds_no_shared_buffer(pool: Pool, behind_it: int, markers: bool) -> None:  # DDP-5041-7.1-06
    node = Node(pause_when_starved=True)
    peer = RawPeer(node, receive_markers=markers)
    octets = bytes(range(250)) * 8
    sink = node.region(behind_it)
    take_all(pool, node, bulk(peer))
    assert pool.most, "it had one"
    held = peer.frames(send(octets))
    pieces = [write(sink.stag, sink.to + at, b"z" * 500) for at in range(0, behind_it, 500)]
    left = take(pool, node, held + b"".join(map(peer.frames, pieces)))
    assert node.qp.stream.starved
    assert pool.taken == 0
    pool.spoil()
    receive = node.receive(len(octets), "late")
    node.qp.resume()
    take_all(pool, node, left)
    assert ended(node.received()) == [("late", Status.SUCCESS)]
    assert (octets_of(receive), octets_of(sink)) == (octets, b"z" * behind_it)
    assert pool.taken == 0
    assert node.qp.error is None


@pytest.mark.parametrize("markers", [False, True])
def test_who_takes_little_in_a_turn_receives_little_at_once(pool: Pool, markers: bool) -> None:
    """Empty Writes, of which a turn takes some dozens: what waits is what some turns take, not all that TCP has."""
    node = Node()
    peer = RawPeer(node, receive_markers=markers)
    take_all(pool, node, bulk(peer))
    flood = b"".join(peer.frames(write(1, 0)) for _ in range(40 * TURN_FPDUS))
    number, seen = 40 * TURN_FPDUS, node.qp.stream.fpdus_received
    turns = 0
    while flood or node.qp.behind:
        flood = take(pool, node, flood)
        assert pool.taken == 0 or not turns, "while others have their turn"
        turns += 1
        node.qp.proceed()
        if turns > 40 * 16:  # what came at once before is processed by now
            assert len(node.qp.receive_view()) < BUFFER_SIZE // 32
    assert node.qp.stream.fpdus_received == seen + number
    assert node.qp.error is None


def test_who_takes_much_in_a_turn_goes_on_with_shared_buffers(pool: Pool) -> None:
    node = Node()
    peer = RawPeer(node)
    octets = bulk(peer, 200)
    turns, pool.most = 0, 0
    while octets or node.qp.behind:
        octets = take(pool, node, octets)
        assert pool.taken <= 1
        turns += node.qp.behind
        node.qp.proceed()
    assert turns >= 2
    assert pool.most == 1
    assert len(node.qp.receive_view()) == BUFFER_SIZE


def test_a_small_send_behind_bulk_leaves_the_shared_buffer() -> None:
    pool = Pool()
    node = Node()
    peer = RawPeer(node)
    take_all(pool, node, bulk(peer))
    assert len(node.qp.receive_view()) == BUFFER_SIZE, "the next octets land in a shared one"
    receive = node.receive(5, "small")
    take_all(pool, node, peer.frames(send(b"small")))
    assert ended(node.received()) == [("small", Status.SUCCESS)]
    assert octets_of(receive) == b"small"
    assert pool.taken == 0
