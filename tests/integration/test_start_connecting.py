"""Connecting and being asked without waiting: `start_connect_qp`, `on_request` and `take_request`."""

from __future__ import annotations

import pytest

from pyiwarp import blocking
from pyiwarp.blocking import Connecting, Offer
from pyiwarp.errors import Rejected, WrongState
from pyiwarp.verbs import QpState
from tests.hosts import HOST
from tests.integration.polled import nothing_left, queue_pair
from tests.patience import PATIENCE


def test_both_sides_connect_in_callbacks() -> None:
    """Nobody waits: one thread plays both sides, and each is told when it is its turn."""
    here, there = queue_pair(), queue_pair()
    told: list[Connecting] = []

    def on_request() -> None:
        request = listener.take_request()
        assert request is not None
        assert request.private_data == b"hello"
        request.accept_qp(there)

    with nothing_left():
        with blocking.listen(HOST, on_request=on_request) as listener:
            assert listener.take_request() is None
            connecting = blocking.start_connect_qp(
                here, HOST, listener.port, Offer(private_data=b"hello"), on_finished=told.append
            )
            assert isinstance(connecting, Connecting)
            assert not connecting.finished
            assert blocking.wait_until(lambda: told and there.state is QpState.RTS, PATIENCE)
            assert told == [connecting]
            assert connecting.error is None
            assert connecting.driver is not None
            assert here.state is QpState.RTS
        here.close()
        there.close()


def test_an_attempt_that_fails_says_why_and_may_be_followed_by_another() -> None:
    qp = queue_pair()
    told: list[Exception | None] = []

    def on_finished(connecting: Connecting) -> None:
        told.append(connecting.error)
        if len(told) == 1:
            blocking.start_connect_qp(qp, HOST, listener.port, on_finished=on_finished)

    def on_request() -> None:
        while (request := listener.take_request()) is not None:
            if not told:
                request.reject(b"not yet")
            else:
                request.accept_qp(other)

    other = queue_pair()
    with nothing_left():
        with blocking.listen(HOST, on_request=on_request) as listener:
            blocking.start_connect_qp(qp, HOST, listener.port, on_finished=on_finished)
            assert blocking.wait_until(lambda: len(told) == 2, PATIENCE)
        assert isinstance(told[0], Rejected)
        assert told[0].private_data == b"not yet"
        assert told[1] is None
        qp.close()
        other.close()


def test_one_that_is_cancelled_leaves_the_queue_pair_as_it_was() -> None:
    qp = queue_pair()
    with nothing_left(), blocking.listen(HOST) as listener:
        connecting = blocking.start_connect_qp(qp, HOST, listener.port)
        connecting.cancel()
        assert qp.state is QpState.IDLE
        qp.close()


def test_what_cannot_be_connected_is_refused_at_once() -> None:
    here, there = queue_pair(), queue_pair()
    with nothing_left():
        with blocking.listen(HOST) as listener:
            connecting = blocking.start_connect_qp(here, HOST, listener.port)
            listener.get_request(timeout=PATIENCE).accept_qp(there)
            assert blocking.wait_until(lambda: connecting.finished, PATIENCE)
            with pytest.raises(WrongState):
                blocking.start_connect_qp(here, HOST, listener.port)
        here.close()
        there.close()
