"""An FPDU that the peer has begun has a time limit: who sends half of one holds its memory and slot no longer."""

from __future__ import annotations

import pytest

from pyiwarp.errors import ConnectionLost, FpduTimeout
from pyiwarp.queues.qp import QpState
from tests.harness import Node, RawPeer, send, write

EMPTY = write(1, 0)


def halves(peer: RawPeer) -> tuple[bytes, bytes]:
    """The next FPDU in two parts."""
    octets = peer.frames(EMPTY)
    return octets[:9], octets[9:]


@pytest.mark.parametrize("markers", [False, True])
def test_an_fpdu_that_is_not_completed_ends_the_connection(markers: bool) -> None:
    peer = RawPeer(Node(fpdu_timeout=7.0), receive_markers=markers)
    peer.sends(EMPTY)
    assert peer.node.qp.time_limit() is None, "nothing is owed between two FPDUs"
    peer.sends(halves(peer)[0])
    limit = peer.node.qp.time_limit()
    assert limit is not None
    assert limit.seconds == 7.0
    peer.end.expire()
    error = peer.node.qp.error
    assert isinstance(error, FpduTimeout)
    assert isinstance(error, ConnectionLost)
    assert "began an FPDU, and its rest did not come within 7 s" in str(error)
    assert peer.node.qp.over
    assert peer.node.qp.broken, "TCP is reset: neither side has said anything of an end"
    assert "losses=1 fpdu_timeouts=1" in str(peer.node.qp.counters())


def test_octets_of_the_fpdu_are_no_progress_and_its_end_is() -> None:
    peer = RawPeer(Node())
    first, rest = halves(peer)
    peer.sends(first)
    limit = peer.node.qp.time_limit()
    assert limit is not None
    peer.sends(rest[:1])
    assert peer.node.qp.time_limit() == limit, "a trickle of octets begins no new wait"
    peer.sends(rest[1:] + halves(peer)[0])
    assert peer.node.qp.time_limit() not in (None, limit), "the next FPDU has the whole time"
    peer.node.qp.timed_out(limit)  # an old timer
    assert peer.node.qp.state is QpState.RTS


def test_a_send_that_waits_for_its_receive_is_nothing_that_the_peer_owes() -> None:
    peer = RawPeer(Node(pause_when_starved=True))
    message = peer.frames(send(b"waits"))
    peer.sends(message + halves(peer)[0])
    assert peer.node.qp.stream.starved
    assert peer.node.qp.time_limit() is None
    peer.node.receive()
    peer.end.pump.resume()
    assert peer.node.qp.time_limit() is not None, "what is behind it is unfinished"


def test_without_a_limit_the_wait_has_no_end() -> None:
    peer = RawPeer(Node(fpdu_timeout=None))
    peer.sends(halves(peer)[0])
    assert peer.node.qp.time_limit() is None
