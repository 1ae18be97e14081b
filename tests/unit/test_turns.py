"""What one stream processes in one turn is bounded, whatever it is (RFC 5042 §6.4.4), and nothing of it is lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pyiwarp.codes import Opcode
from pyiwarp.mr import MemoryRegion
from pyiwarp.pump import TURN_FPDUS
from pyiwarp.queues.work import Status
from tests.harness import Node, RawPeer, Segment, octets_of, send, write

MANY = 3 * TURN_FPDUS
PLAIN = TURN_FPDUS // 16 + 1  # in a turn of those that go the plain way

FLOODS: dict[str, tuple[Callable[[MemoryRegion], Segment], int]] = {
    "empty Writes": (lambda memory: write(1, 0), PLAIN),
    "Writes": (lambda memory: write(memory.stag, memory.to, b"ab"), TURN_FPDUS),
    "Sends without end": (lambda memory: send(last=False, msn=1), TURN_FPDUS),
    "segments out of order": (lambda memory: send(last=False, msn=1, mo=5), PLAIN),
}


class Target(Node):
    """A program with one region and one receive, and a driver that shows octets without giving turns."""

    def __init__(self, **qp_options: Any) -> None:
        super().__init__(**qp_options)
        self.memory = self.region(64)

    @property
    def fpdus(self) -> int:
        return self.qp.stream.fpdus_received

    def take(self, octets: bytes) -> bytes:
        """Show what fits into one view; returns the rest."""
        view = self.qp.receive_view()
        nbytes = min(len(view), len(octets))
        view[:nbytes] = octets[:nbytes]
        self.qp.received(nbytes)
        return octets[nbytes:]


@pytest.mark.parametrize("chunk", [100, 1 << 19])
@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("markers", [False, True])
def test_the_input_of_one_turn_is_bounded(flood: str, markers: bool, chunk: int) -> None:
    make, bound = FLOODS[flood]
    node = Target()
    node.receive(40)
    peer = RawPeer(node, receive_markers=markers)
    octets = b"".join(peer.frames(make(node.memory)) for _ in range(MANY))
    seen, turns = 0, 0
    while octets or node.qp.behind:
        if node.qp.behind:
            assert not node.qp.wants_input, "the driver stops reading"
            assert not node.qp.steady, "and looks at this before it goes on"
            assert node.fpdus - seen <= bound
            seen, turns = node.fpdus, turns + 1
            node.qp.proceed()
        else:
            octets = node.take(octets[:chunk]) + octets[chunk:]
    assert node.qp.error is None
    assert node.qp.wants_input
    assert node.fpdus == MANY
    assert turns >= MANY // bound - 1


def test_sends_that_come_one_by_one_count_too() -> None:
    """Each is an ordinary Send for which a receive waits, and all that came at once."""
    node = Target()
    peer = RawPeer(node)
    for number in range(TURN_FPDUS + 1):
        assert node.qp.wants_input, number
        node.receive(8)
        node.take(peer.frames(send(b"x", msn=number + 1)))
        node.received()
        if node.qp.behind:
            break
    assert node.qp.behind
    assert node.fpdus <= TURN_FPDUS
    node.qp.proceed()
    assert node.qp.wants_input


def test_large_fpdus_are_bounded_by_their_octets() -> None:
    node = Target()
    peer = RawPeer(node)
    sink = node.region(64_000)
    octets = b"".join(peer.frames(write(sink.stag, sink.to, bytes(64_000))) for _ in range(100))
    shown = 0
    while not node.qp.behind:
        rest = node.take(octets)
        shown += len(octets) - len(rest)
        octets = rest
    assert 3 << 19 < shown < 5 << 19


def test_a_stream_that_ends_has_processed_all_that_came() -> None:
    for end in ("eof", "lost"):
        node = Target()
        receive = node.receive(40)
        peer = RawPeer(node)
        node.take(b"".join(peer.frames(write(1, 0)) for _ in range(100)) + peer.frames(send(b"the last word")))
        assert node.qp.behind
        node.qp.received_eof() if end == "eof" else node.qp.lost(None)
        assert not node.qp.behind
        assert node.fpdus == 101
        assert [done.status for done in node.received()] == [Status.SUCCESS]
        assert octets_of(receive)[:13] == b"the last word"


def test_a_violation_in_a_later_turn_ends_the_stream() -> None:
    node = Target()
    peer = RawPeer(node)
    peer.sends(*[write(1, 0) for _ in range(100)], send(b"x"), write(1, 0))
    peer.expects(Opcode.TERMINATE)
    assert node.fpdus == 101
    assert not node.qp.behind


def test_a_send_that_waits_for_its_receive_is_not_behind() -> None:
    node = Target(pause_when_starved=True)
    peer = RawPeer(node)
    peer.sends(*[write(1, 0) for _ in range(100)], send(b"waits"), *[write(1, 0) for _ in range(100)])
    assert not node.qp.wants_input
    assert (node.fpdus, node.qp.behind) == (101, False)
    receive = node.receive(40)
    node.qp.resume()
    assert [done.nbytes for done in node.received()] == [5]
    assert octets_of(receive)[:5] == b"waits"
    peer.sends()
    assert node.fpdus == 201
