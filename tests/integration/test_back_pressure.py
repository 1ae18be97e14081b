"""A consumer that is slow, or does not receive at all, stops its producer; what is buffered stays bounded."""

from __future__ import annotations

import asyncio
import tracemalloc

from pyiwarp import Connection, Options, blocking
from tests.integration.loops import hold_little, joined, run_on
from tests.integration.polled import hold_little as hold_little_polled
from tests.integration.polled import pair
from tests.patience import PATIENCE

MESSAGE = bytes(4096)
FEW = Options(recv_depth=4)
KERNEL = 2 << 20
"""More octets than the two kernels hold of one connection, told to hold little."""

GIVEN_UP = 0.3
TOTAL = 2048
"""Messages of 4,096 octets: 8 MiB, much more than may be held at once."""

HELD = 2 << 20
"""More octets than the two ends of a connection need."""


def test_a_producer_waits_for_a_consumer_that_does_not_receive() -> None:
    async def main() -> None:
        async with joined(None, FEW) as (one, other):
            hold_little(one, other)
            sent = 0
            try:
                while True:
                    async with asyncio.timeout(GIVEN_UP):
                        await one.send(MESSAGE)
                    sent += 1
            except TimeoutError:
                assert 4 <= sent <= KERNEL / len(MESSAGE)
            for _ in range(sent + 1):  # the last was posted all the same
                assert await other.recv() == MESSAGE
            await one.send(b"on it goes")
            assert await other.recv() == b"on it goes"

    run_on(asyncio.new_event_loop, main)


def test_a_polled_producer_waits_for_a_consumer_that_does_not_receive() -> None:
    with pair(None, FEW) as (one, other):
        hold_little_polled(one, other)
        sent = 0
        try:
            while True:
                one.send(MESSAGE, timeout=GIVEN_UP)
                sent += 1
        except TimeoutError:
            assert 4 <= sent <= KERNEL / len(MESSAGE)
        for _ in range(sent + 1):
            assert other.recv(timeout=PATIENCE) == MESSAGE
        one.send(b"on it goes")
        assert other.recv(timeout=PATIENCE) == b"on it goes"


def test_many_tasks_that_send_post_no_more_than_the_queue_holds() -> None:
    async def main() -> None:
        async with joined(Options(send_depth=8), FEW) as (one, other):
            hold_little(one, other)
            tasks = [asyncio.ensure_future(one.send(b"%04d" % n + MESSAGE[4:])) for n in range(1000)]
            for n in range(1000):
                assert one.qp.query().sends_posted <= 8
                assert (await other.recv())[:4] == b"%04d" % n
            await asyncio.gather(*tasks)

    run_on(asyncio.new_event_loop, main)


def test_memory_stays_bounded_with_a_slow_consumer() -> None:
    async def main() -> None:
        async with joined(None, FEW) as (one, other):
            hold_little(one, other)
            producing = asyncio.ensure_future(produce(one))
            tracemalloc.start()
            try:
                for n in range(TOTAL):
                    if n % 64 == 0:
                        await asyncio.sleep(0)  # the producer is as far ahead as it gets
                    assert len(await other.recv()) == len(MESSAGE)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            await producing
            assert peak < HELD

    run_on(asyncio.new_event_loop, main)


async def produce(one: Connection) -> None:
    for _ in range(TOTAL):
        await one.send(MESSAGE)


def test_memory_stays_bounded_with_a_slow_polled_consumer() -> None:
    with pair(None, FEW) as (one, other):
        hold_little_polled(one, other)
        tracemalloc.start()
        try:
            received = posted = 0
            while received < TOTAL:
                posted += produce_what_fits(one, TOTAL - posted)
                assert len(other.recv(timeout=PATIENCE)) == len(MESSAGE)
                received += 1
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < HELD


def produce_what_fits(one: blocking.Connection, left: int) -> int:
    """Send until the queue is full; returns how many messages were posted."""
    posted = 0
    while posted < left and one.qp.send_room:
        try:
            one.send(MESSAGE, timeout=0.0)
        except TimeoutError:
            return posted + 1  # it was posted, and waits
        posted += 1
    return posted
