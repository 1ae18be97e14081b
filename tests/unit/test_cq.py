"""Completion queues alone: order, bounds, and the one call when something comes."""

from __future__ import annotations

import asyncio
import os
import select
from typing import Any

import pytest

from pyiwarp import blocking
from pyiwarp.drivers.poller import Poller
from pyiwarp.errors import Closed, QueueFull, RegionInUse, UsageError
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.work import Completion, Status, WorkOpcode
from pyiwarp.verbs import Context
from tests.patience import PATIENCE


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


def test_a_taker_has_each_completion_as_it_comes() -> None:
    cq, seen = CompletionQueue(1), list[object]()
    cq.push(completion("before"))
    cq.taker = lambda taken: seen.append(taken.wr_id)
    cq.arm(lambda: seen.append("armed"))
    for number in range(3):
        cq.push(completion(number))
    assert seen == [0, 1, 2], "nothing is queued, so that nothing overflows and nobody is called"
    assert ids(cq.poll()) == ["before"]
    assert not cq.overflowed


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
    for call in (cq.poll, lambda: cq.arm(lambda: None), lambda: cq.resize(2)):
        with pytest.raises(Closed, match="closed"):
            call()


def test_several_may_be_armed_and_the_wider_wish_counts() -> None:
    cq, calls = CompletionQueue(8), list[str]()

    def next_one() -> None:
        calls.append("next")

    def solicited() -> None:
        calls.append("solicited")

    def both() -> None:
        calls.append("both")

    cq.arm(solicited, solicited_only=True)
    cq.arm(next_one)
    cq.arm(both, solicited_only=True)
    cq.arm(both)
    cq.arm(both, solicited_only=True)
    cq.push(completion())
    assert calls == ["next", "both"]
    cq.push(completion())
    assert calls == ["next", "both"]
    cq.arm(next_one)
    cq.push(completion(solicited=True))
    assert calls == ["next", "both", "solicited", "next"]
    cq.push(completion(solicited=True))
    assert len(calls) == 4


def test_a_callback_may_arm_another_one_that_is_due_as_well() -> None:
    cq, calls = CompletionQueue(8), list[str]()

    def second() -> None:
        calls.append("second")

    def first() -> None:
        calls.append("first")
        cq.arm(second)

    cq.arm(first)
    cq.arm(second)
    cq.push(completion())
    assert calls == ["first", "second"]
    cq.push(completion())
    assert calls == ["first", "second", "second"], "it was armed anew"


def test_resizing_keeps_what_is_there() -> None:  # SEC-5042-6.4.3.2-01, SEC-5040-8.1.2-05
    cq = CompletionQueue(4, max_cqe=6)
    for number in range(3):
        cq.push(completion(number))
    with pytest.raises(RegionInUse, match="3 completions do not fit into 2: <CompletionQueue 3 of 4>"):
        cq.resize(2)
    for capacity in (0, 7):
        if not capacity:
            cq.poll()
        with pytest.raises(UsageError, match=r"at least 1 completion, not 0|7 completions; the device offers 6"):
            cq.resize(capacity)
    for number in range(6):
        if number == 4:
            cq.resize(6)
        cq.push(completion(number))
    assert not cq.overflowed
    assert ids(cq.poll()) == [0, 1, 2, 3, 4, 5]
    cq.resize(1)
    cq.push(completion("a"))
    cq.push(completion("b"))
    assert cq.overflowed
    assert repr(cq) == "<CompletionQueue 1 of 1 overflowed>"


def test_polls_that_find_nothing_are_counted() -> None:
    cq = CompletionQueue(4)
    cq.poll()
    cq.poll(3)
    cq.push(completion())
    cq.poll()
    assert cq.empty_polls == 2


# --- channels --------------------------------------------------------------------------------------------------------


def test_a_channel_tells_of_many_queues() -> None:
    context = Context()
    channel = context.create_comp_channel()
    one, two = (context.create_cq(8, channel=channel) for _ in range(2))
    assert channel.get_cq_event() is None
    two.request_notify()
    two.request_notify()
    one.request_notify(solicited_only=True)
    for cq in (one, two, two):
        cq.push(completion())
    assert channel.get_cq_event() is two
    assert channel.get_cq_event() is None
    one.push(completion(solicited=True))
    assert channel.get_cq_event() is one
    with pytest.raises(RegionInUse, match="1 events are not acknowledged"):
        one.close()
    with pytest.raises(UsageError, match="2 events acknowledged, 1 were taken"):
        one.ack_events(2)
    one.ack_events()
    one.close()
    with pytest.raises(UsageError, match="without a completion channel"):
        context.create_cq(1).request_notify()


def test_a_channel_in_select() -> None:
    context = Context()
    channel = context.create_comp_channel()
    cq = context.create_cq(8, channel=channel)

    def readable() -> bool:
        return bool(select.select([channel], [], [], 0)[0])

    cq.request_notify()
    cq.push(completion())
    assert readable(), "also when the event came before the file descriptor"
    cq.request_notify()
    cq.push(completion())
    assert channel.get_cq_event() is cq
    assert readable(), "there is a second event"
    assert channel.get_cq_event() is cq
    assert not readable()
    cq.request_notify()
    cq.push(completion())
    assert readable()
    fd = channel.fileno()
    channel.close()
    channel.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(Closed, match="CompletionChannel 0 of 65536, 0 missed closed"):
        channel.get_cq_event()
    cq.request_notify()
    cq.push(completion())  # nobody hears of it


# --- async for -------------------------------------------------------------------------------------------------------


async def test_completions_are_iterated_until_the_queue_is_closed() -> None:
    cq, seen = CompletionQueue(8), list[object]()

    async def take() -> None:
        async for done in cq:
            seen.append(done.wr_id)

    task = asyncio.create_task(take())
    for number in range(3):
        cq.push(completion(number))
        if number == 1:
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    cq.push(completion(3))
    cq.close()
    await task
    assert seen == [0, 1, 2, 3]


async def test_cancelling_an_iteration_loses_nothing() -> None:
    cq, seen = CompletionQueue(100), list[object]()

    async def take(count: int) -> None:
        for _ in range(count):
            seen.append((await anext(cq)).wr_id)

    for number in range(50):
        tasks = [asyncio.create_task(take(2)), asyncio.create_task(take(1))]
        await asyncio.sleep(0)
        cq.push(completion(number))
        tasks[number % 2].cancel()  # in the moment in which there is news for it
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert [*seen, *ids(cq.poll())] == list(range(50))


async def test_two_tasks_share_what_comes() -> None:
    cq, seen = CompletionQueue(100), list[tuple[str, Any]]()

    async def take(name: str) -> None:
        async for done in cq:
            seen.append((name, done.wr_id))
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(take(name)) for name in "ab"]
    await asyncio.sleep(0)
    for number in range(10):
        cq.push(completion(number))
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 10:  # noqa: ASYNC110 - they take turns
            await asyncio.sleep(0)
        cq.close()
        await asyncio.gather(*tasks)
    assert sorted(number for _, number in seen) == list(range(10))
    assert {name for name, _ in seen} == {"a", "b"}


async def test_an_iteration_over_a_queue_that_overflows_ends() -> None:
    cq = CompletionQueue(1)
    waiting = asyncio.ensure_future(anext(cq))
    await asyncio.sleep(0)
    cq.push(completion(1))
    cq.push(completion(2))
    assert (await waiting).wr_id == 1
    with pytest.raises(QueueFull, match="overflowed, nothing more will come: <CompletionQueue 0 of 1 overflowed>"):
        await anext(cq)


def test_nobody_waits_for_more_from_a_queue_that_overflowed(monkeypatch: pytest.MonkeyPatch) -> None:
    cq = Context().create_cq(2)
    for _ in range(3):
        cq.push(Completion(None, Status.SUCCESS, WorkOpcode.SEND, 0, 1))
    assert cq.overflowed
    assert len(cq.poll(1)) == 1

    def wait(poller: Poller, done: Any, timeout: float | None) -> bool:
        assert done(), "nothing that it waits for will come"
        return True

    monkeypatch.setattr(Poller, "wait", wait)
    assert len(blocking.wait(cq, 2)) == 1
