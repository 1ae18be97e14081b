"""Timing of what all candidates do alike: going back and forth."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks.pairs import Job, Sample

__all__ = ["again_and_again", "back_and_forth", "back_and_forth_awaited", "now", "one_way", "whole"]

now = time.perf_counter


def back_and_forth(job: Job, there_and_back: Callable[[], None]) -> Sample:
    """Call `there_and_back` for as long as the job says; the time of one way, in µs."""
    return one_way(_stamps(job, there_and_back))


def whole(job: Job, call: Callable[[], None]) -> Sample:
    """The same of `call`, whose whole time counts."""
    return _spread(_stamps(job, call), 1e6)


def _stamps(job: Job, call: Callable[[], None]) -> list[float]:
    until = now() + job.warmup
    while now() < until:
        call()
    stamps = [now()]
    until = stamps[0] + job.seconds
    while stamps[-1] < until:
        call()
        stamps.append(now())
    return stamps


async def back_and_forth_awaited(job: Job, there_and_back: Callable[[], Awaitable[None]]) -> Sample:
    """The same for what is awaited."""
    until = now() + job.warmup
    while now() < until:
        await there_and_back()
    stamps = [now()]
    until = stamps[0] + job.seconds
    while stamps[-1] < until:
        await there_and_back()
        stamps.append(now())
    return one_way(stamps)


def one_way(stamps: list[float]) -> Sample:
    """Half the times between `stamps`, in µs: median, 99th percentile, least."""
    return _spread(stamps, 5e5)


def _spread(stamps: list[float], scale: float) -> Sample:
    times = sorted((after - before) * scale for before, after in itertools.pairwise(stamps))
    return {
        "µs": statistics.median(times),
        "p99 µs": times[int(0.99 * (len(times) - 1))],
        "least µs": times[0],
    }


async def again_and_again(job: Job, once: Callable[[], Awaitable[None]]) -> Sample:
    """Call until the time is over: how often in a second, and the processor time of one call."""
    until = now() + job.warmup
    while now() < until:
        await once()
    began, spent, count = now(), time.process_time(), 0
    while not count or now() < began + job.seconds:
        await once()
        count += 1
    return {"connections/s": count / (now() - began), "ms": (time.process_time() - spent) / count * 1e3}
