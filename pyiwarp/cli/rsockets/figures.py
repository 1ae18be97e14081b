"""rstream's tests and its table: which sizes, how often, and the columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

__all__ = ["HEADING", "Trial", "both_series", "count_text", "size_text"]

Units = tuple[tuple[int, str], ...]

HEADING: Final = f"{'name':10}{'bytes':8}{'xfers':8}{'iters':8}{'total':8}{'time':>8} {'Gb/sec':>10}{'usec/xfer':>13}"

_FEW: Final = (1 << 6, 1 << 12, 1 << 16, 1 << 20)
_SMALLEST, _LARGEST = 6, 22  # powers of two, with one and a half times as much behind each
_UNITS: Final[Units] = ((1 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"), (1, ""))
_COUNTS: Final[Units] = ((1_000_000_000, "b"), (1_000_000, "m"), (1000, "k"), (1, ""))


class Trial(NamedTuple):
    """`iterations` times: so many `messages` of `size` octets to the server, then as many back."""

    size: int = 1000
    messages: int = 1000
    iterations: int = 1
    name: str = "custom"

    @property
    def octets(self) -> int:
        """Octets in both directions together."""
        return 2 * self.iterations * self.messages * self.size

    def row(self, seconds: float) -> str:
        """Its line of the table."""
        cells = size_text(self.size), count_text(self.messages), count_text(self.iterations), size_text(self.octets)
        gigabits, usec = self.figures(seconds)
        return (
            f"{self.name:10}" + "".join(f"{cell:8}" for cell in cells) + f"{seconds:8.2f}s{gigabits:10.2f}{usec:11.2f}"
        )

    def figures(self, seconds: float) -> tuple[float, float]:
        """10⁹ bits in a second, and microseconds for each message."""
        seconds = max(seconds, 1e-9)
        return self.octets * 8 / seconds / 1e9, seconds * 1e6 / (2 * self.iterations * self.messages)


def both_series(*, every_size: bool) -> list[list[Trial]]:
    """What is played if nothing is chosen: latency on the first connection, bandwidth on the second."""
    return [list(_latency_series(every_size=every_size)), list(_bandwidth_series(every_size=every_size))]


def _latency_series(*, every_size: bool) -> Iterator[Trial]:
    """One message there and one back, again and again, for each size."""
    for size in _sizes(every_size):
        yield Trial(size, 1, _how_many(size), f"{_short(size)}_lat")


def _bandwidth_series(*, every_size: bool) -> Iterator[Trial]:
    """Many messages there and then as many back, once for each size."""
    for size in _sizes(every_size):
        yield Trial(size, _how_many(size), 1, f"{_short(size)}_bw")


def _sizes(every_size: bool) -> Iterator[int]:
    if not every_size:
        yield from _FEW
        return
    for power in range(_SMALLEST, _LARGEST + 1):
        yield 1 << power
        if power > _SMALLEST:
            yield 3 << power - 1


def _how_many(size: int) -> int:
    """How many messages a test has: the fewer the larger they are."""
    return 100 if size >= 1 << 20 else 1000 if size >= 1 << 16 else 10_000 if size >= 1 << 10 else 100_000


def size_text(octets: int) -> str:
    """As 64, 1.5k, 512k, 2m: with one digit behind the point below 10 of a unit."""
    unit, letter = next(each for each in _UNITS if octets >= each[0] or each[0] == 1)
    whole, rest = divmod(octets, unit)
    tenths = rest * 10 // unit if whole < 10 else 0
    return f"{whole}.{tenths}{letter}" if tenths else f"{whole}{letter}"


def count_text(count: int) -> str:
    """As 999, 1k, 100k, 2m, 1b: rounded down."""
    unit, letter = next(each for each in _COUNTS if count >= each[0] or each[0] == 1)
    return f"{count // unit}{letter}"


def _short(size: int) -> str:
    """A size as the name of a test has it: four characters at most."""
    return size_text(size)[:4]
