"""Queues of events: by asking, by a callback, by a file descriptor, by `async for`."""

from __future__ import annotations

import asyncio
import gc
import os
import select

import pytest

from pyiwarp.errors import Closed, UsageError
from pyiwarp.queues.event_queues import EventQueue


def test_first_in_first_out_and_a_call_for_each() -> None:
    events, told = EventQueue[int](3), list[int]()
    assert events.get() is None
    events.on_event = lambda: told.append(len(events))
    for number in range(5):
        events.put(number)
    assert told == [1, 2, 3]
    assert (len(events), events.missed) == (3, 2)
    assert repr(events) == "<EventQueue 3 of 3, 2 missed>"
    assert [events.get() for _ in range(4)] == [0, 1, 2, None]
    with pytest.raises(UsageError, match="at least 1 event, not 0"):
        EventQueue[int](0)


def test_the_file_descriptor_is_readable_while_events_wait() -> None:
    events = EventQueue[int](100)
    with select.epoll() as epoll:
        epoll.register(events, select.EPOLLIN)
        assert epoll.poll(0) == []
        for number in range(100):
            events.put(number)
        for number in range(100):
            assert epoll.poll(0) == [(events.fileno(), select.EPOLLIN)]
            assert events.get() == number
        assert epoll.poll(0) == []
        events.put(1)
        assert len(epoll.poll(0)) == 1


def test_the_file_descriptor_goes_with_the_queue() -> None:
    closed, forgotten = EventQueue[int](1), EventQueue[int](1)
    fds = [closed.fileno(), forgotten.fileno()]
    closed.put(1)
    closed.close()
    del forgotten
    gc.collect()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    for call in (closed.get, closed.fileno):
        with pytest.raises(Closed, match="<EventQueue 0 of 1, 0 missed closed>"):
            call()
    closed.put(2)
    assert len(closed) == 0


async def test_iterating_until_the_queue_is_closed() -> None:
    events, seen = EventQueue[int](10), list[int]()

    async def take() -> None:
        async for event in events:
            seen.append(event)

    tasks = [asyncio.create_task(take()) for _ in range(3)]
    await asyncio.sleep(0)
    for number in range(5):
        events.put(number)
    tasks[0].cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    events.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError, type(None), type(None)]
    assert seen == list(range(5))
