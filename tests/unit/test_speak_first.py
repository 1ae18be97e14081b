"""The one departure from RFC 5044 §7.1.2: a Responder that sends first because its program knows that it may."""

from __future__ import annotations

import pytest

from pyiwarp.errors import WrongState
from tests.harness import Node, Pair


def test_a_responder_is_mute_until_its_program_knows_better() -> None:
    pair = Pair(opened=False)
    pair.left.receive(10)
    pair.right.send(b"early")
    pair.run()
    assert pair.right.qp.stream.muted
    assert pair.left.received() == []
    pair.right.qp.speak_first()
    pair.run()
    assert not pair.right.qp.stream.muted
    assert [done.nbytes for done in pair.left.received()] == [5]


def test_no_first_fpdu_is_waited_for_any_more() -> None:
    pair = Pair(opened=False)
    assert pair.right.qp.time_limit() is not None
    pair.right.qp.speak_first()
    assert pair.right.qp.time_limit() is None


def test_to_an_initiator_it_is_nothing() -> None:
    pair = Pair()
    pair.left.qp.speak_first()
    pair.run()
    assert pair.left.qp.alive


def test_it_needs_a_connection() -> None:
    with pytest.raises(WrongState):
        Node().qp.speak_first()
