"""The wait for the end of a connection begins anew with each work request that completes: slow is not stuck."""

from __future__ import annotations

import pytest

from pyiwarp.verbs import QpState, Send, Status
from tests.harness import Pair, ended

MESSAGES = 20


@pytest.mark.parametrize("closing", ["sender", "receiver"])
def test_a_slow_end_is_waited_for(closing: str) -> None:
    pair = Pair(chunk=400, linger=0.5)
    for number in range(MESSAGES):
        pair.right.receive(1000, number)
        pair.left.post(Send(inline=bytes(1000), wr_id=number))
    end = pair.left_end if closing == "sender" else pair.right_end
    qp = (pair.left if closing == "sender" else pair.right).qp
    qp.disconnect()
    limits = set()
    limit = end.pump.time_limit()
    moved = 0
    while pair.step():
        now = end.pump.time_limit()
        if now is not None and limit is not None and now != limit:
            moved += 1
            end.pump.timed_out(limit)  # a timer of before: the stream has moved since
            limits.add(limit)
        limit = now
        assert not end.closed or qp.error is None
    # the sender frames all of it at once; what comes to the receiver does not extend its wait
    assert moved > 0 if closing == "sender" else moved == 0
    assert all(each.seconds == 0.5 for each in limits)
    assert [status for _, status in ended(pair.right.received())][:MESSAGES].count(Status.SUCCESS) == MESSAGES
    assert {completion.status for completion in pair.left.sent()} == {Status.SUCCESS}
    assert qp.error is None


def test_a_stuck_end_is_not() -> None:
    pair = Pair(linger=0.5)
    pair.right.receive(10)
    pair.left_end.clogged = True
    pair.left.send(b"stuck", 1)
    pair.left.qp.disconnect()
    pair.run()
    limit = pair.left_end.pump.time_limit()
    assert limit is not None
    assert limit.seconds == 0.5
    pair.left_end.pump.timed_out(limit)
    assert pair.left.qp.state is QpState.ERROR
    assert pair.left.qp.over
