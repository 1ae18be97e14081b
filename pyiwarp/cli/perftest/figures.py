"""Figures in perftest's columns, computed as perftest computes them.

MB is 2**20 octets. Latency is half of the time between two posts, except for Reads, where it is all of it; the two
slowest rounds are left out of all but the maximum and the percentiles, which look one past what is left.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar, Final

__all__ = ["Bandwidth", "Latency", "peak_interval"]

MIB: Final = 1 << 20
TAIL: Final = 2
PEAK_EFFORT: Final = 5_000_000
"""So many pairs of a post and a completion are looked at for the peak at most; beyond, there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bandwidth:
    """Messages of `size` octets in one direction: MB/s at best and on average, millions of messages per second."""

    size: int
    iterations: int
    peak: float
    average: float
    rate: float

    HEADER: ClassVar[str] = " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]"

    @classmethod
    def of(cls, size: int, iterations: int, nanoseconds: int, best: float = math.inf) -> Bandwidth:
        """From the time that all took; `best` is the shortest time per message, in nanoseconds."""
        per_second = iterations * 1e9 / max(nanoseconds, 1)
        return cls(
            size=size,
            iterations=iterations,
            peak=size * 1e9 / best / MIB,
            average=per_second * size / MIB,
            rate=per_second / 1e6,
        )

    def __add__(self, other: Bandwidth) -> Bandwidth:
        """Both directions together; each counted the messages that it sent."""
        return replace(
            self, peak=self.peak + other.peak, average=self.average + other.average, rate=self.rate + other.rate
        )

    def __str__(self) -> str:
        return (
            f" {self.size:<7}    {self.iterations:<10}       {self.peak:<7.2f}            {self.average:<7.2f}"
            f"              {self.rate:<7.6f}"
        )

    def data(self) -> dict[str, float]:
        """The same as JSON takes it."""
        return asdict(self)


def peak_interval(posted: Sequence[int], completed: Sequence[tuple[int, int]]) -> float:
    """The shortest time per message between any post and any later completion, in nanoseconds.

    `posted` holds the time of each post; a pair in `completed` says how many messages were complete, and when.
    Infinity if that would take too long to find.
    """
    if len(posted) * len(completed) > PEAK_EFFORT:
        return math.inf
    best = math.inf
    for count, at in completed:
        for first in range(count):
            best = min(best, (at - posted[first]) / (count - first))
    return max(best, 1e-3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Times of one way of a message of `size` octets, or of a whole Read, in microseconds; `typical` is the median."""

    size: int
    iterations: int
    t_min: float
    t_max: float
    t_typical: float
    t_avg: float
    t_stdev: float
    p99: float
    p99_9: float

    HEADER: ClassVar[str] = " #bytes  #iterations   t_min   t_max t_typical   t_avg t_stdev     99%   99.9%"

    @classmethod
    def of(cls, size: int, posted: Sequence[int], ways: int) -> Latency:
        """From the times of all posts, in nanoseconds; `ways` is how often a message crosses between two of them."""
        gaps = sorted((after - before) / (1e3 * ways) for before, after in itertools.pairwise(posted))
        count = len(gaps) - TAIL
        kept = gaps[:count]
        average = sum(kept) / count
        return cls(
            size=size,
            iterations=len(posted),
            t_min=gaps[0],
            t_max=gaps[count],
            t_typical=(kept[count // 2] + kept[(count - 1) // 2]) / 2,
            t_avg=average,
            t_stdev=math.sqrt(sum((gap - average) ** 2 for gap in kept) / count),
            p99=gaps[math.ceil(count * 0.99)],
            p99_9=gaps[math.ceil(count * 0.999)],
        )

    def __str__(self) -> str:
        return (
            f" {self.size:<7} {self.iterations:<11} {_narrow(self.t_min)} {_narrow(self.t_max)} "
            f"  {_narrow(self.t_typical)} {_narrow(self.t_avg)} {_narrow(self.t_stdev)} "
            f"{_narrow(self.p99)} {_narrow(self.p99_9)}"
        )

    def data(self) -> dict[str, float]:
        """The same as JSON takes it."""
        return asdict(self)


def _narrow(microseconds: float) -> str:
    """In seven characters, with two decimals if there is room for them."""
    texts = [f"{microseconds:>7.{decimals}f}" for decimals in (2, 1, 0)]
    return next((text for text in texts if len(text) == 7), texts[-1])
