"""Timing of what all candidates do alike: going back and forth."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Awaitable, Callable

from benchmarks.pairs import Job, Sample

__all__ = ["back_and_forth", "back_and_forth_awaited", "now", "one_way"]

now = time.perf_counter


def back_and_forth(job: Job, there_and_back: Callable[[], None]) -> Sample:
    """Call `there_and_back` for as long as the job says; the time of one way, in µs."""
    until = now() + job.warmup
    while now() < until:
        there_and_back()
    stamps = [now()]
    until = stamps[0] + job.seconds
    while stamps[-1] < until:
        there_and_back()
        stamps.append(now())
    return one_way(stamps)


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
    halves = sorted((after - before) * 5e5 for before, after in itertools.pairwise(stamps))
    return {
        "µs": statistics.median(halves),
        "p99 µs": halves[int(0.99 * (len(halves) - 1))],
        "least µs": halves[0],
    }
