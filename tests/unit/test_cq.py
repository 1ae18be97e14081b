"""Completion queues alone: order, bounds, and the one call when something comes."""

from __future__ import annotations

import pytest

from pyiwarp.cq import CompletionQueue
from pyiwarp.errors import Closed, RegionInUse, UsageError
from pyiwarp.work import Completion, Status, WorkOpcode


def completion(wr_id: object = None, *, solicited: bool = False, status: Status = Status.SUCCESS) -> Completion:
    return Completion(wr_id, status, WorkOpcode.RECV, solicited=solicited)


def ids(completions: list[Completion]) -> list[object]:
    return [completion.wr_id for completion in completions]


def test_first_in_first_out_as_many_as_wanted() -> None:
    cq = CompletionQueue(8)
    for number in range(5):
        cq.push(completion(number))
    assert repr(cq) == "<CompletionQueue 5 of 8>"
    assert ids(cq.poll(2)) == [0, 1]
    assert len(cq) == 3
    assert ids(cq.poll(0)) == []
    assert ids(cq.poll()) == [2, 3, 4]
    assert cq.poll(4) == cq.poll() == []


def test_arming_is_for_one_call() -> None:
    cq, calls = CompletionQueue(8), list[str]()
    cq.push(completion())
    cq.arm(lambda: calls.append("called"))
    assert calls == [], "what is there does not count"
    cq.push(completion())
    cq.push(completion())
    assert calls == ["called"]


def test_arming_for_solicited_completions() -> None:  # RDMAP-5040-5.3-06
    for special in (completion(solicited=True), completion(status=Status.WR_FLUSH_ERR)):
        cq, calls = CompletionQueue(8), list[str]()
        cq.arm(lambda calls=calls: calls.append("called"), solicited_only=True)  # type: ignore[misc]
        cq.push(completion())
        assert calls == []
        cq.push(special)
        assert calls == ["called"]


def test_the_callback_may_poll_and_arm_again() -> None:
    cq, seen = CompletionQueue(2), list[object]()

    def take() -> None:
        seen.extend(ids(cq.poll()))
        cq.arm(take)

    cq.arm(take)
    for number in range(10):
        cq.push(completion(number))
    assert seen == list(range(10))


def test_an_overflow_is_told_once() -> None:
    told = list[CompletionQueue]()
    cq = CompletionQueue(2, told.append)
    for number in range(5):
        cq.push(completion(number))
    assert told == [cq]
    assert cq.overflowed
    assert ids(cq.poll()) == [0, 1], "what was there is kept"


def test_an_overflow_that_nobody_listens_to() -> None:
    cq = CompletionQueue(1)
    cq.push(completion())
    cq.push(completion())
    assert cq.overflowed


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_queue_holds_something(capacity: int) -> None:
    with pytest.raises(UsageError, match=str(capacity)):
        CompletionQueue(capacity)


def test_closing() -> None:
    with CompletionQueue(1) as cq:
        cq.users = 2
        with pytest.raises(RegionInUse, match="2 queue pairs"):
            cq.close()
        cq.users = 0
    for call in (cq.poll, lambda: cq.arm(lambda: None)):
        with pytest.raises(Closed, match="closed"):
            call()
