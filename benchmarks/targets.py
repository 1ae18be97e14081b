"""What pyiwarp should reach in a row, and whether it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from benchmarks.table import figure
from pyiwarp.cli.info import is_compiled

__all__ = ["SIEGE", "TARGETS", "Ahead", "AtLeast", "AtMost", "Siege", "Target", "Verdict"]

Medians = Mapping[str, Mapping[str, float]]
"""By candidate and figure; those that are absent are not in it."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was wanted, what was seen, and whether that is enough; `met` is None when it cannot be known."""

    wanted: str
    seen: str
    met: bool | None


class Target(Protocol):
    """Something to reach."""

    def judge(self, medians: Medians, name: str, *, more_is_better: bool) -> Verdict:
        """Look at the medians of the figure of that name."""


@dataclass(frozen=True, slots=True)
class AtLeast:
    """`candidate` reaches `value`, or `value` times that of candidate `of`, or `or_value` if that is less.

    `key` names another figure of the sample than the row's.
    """

    candidate: str
    value: float
    of: str = ""
    or_value: float | None = None
    key: str = ""

    def judge(self, medians: Medians, name: str, *, more_is_better: bool) -> Verdict:
        """See `Target`."""
        key = self.key or name
        wanted = f"{self.candidate}: {self.key or 'at least'} {'≥ ' if self.key else ''}{figure(self.value)}"
        wanted += f" of {self.of}" if self.of else "" if self.key else f" {name}"
        if self.or_value is not None:
            wanted += f", or {figure(self.or_value)} {name}"
        if self.candidate not in medians or (self.of and self.of not in medians):
            return Verdict(wanted, "absent", None)
        got = medians[self.candidate][key]
        share = got / medians[self.of][key] if self.of else got
        met = share >= self.value or (self.or_value is not None and got >= self.or_value)
        return Verdict(wanted, figure(share), met)


@dataclass(frozen=True, slots=True)
class AtMost:
    """`candidate` costs no more than `value`, or `value` times `of`, or `value` more than `beyond`."""

    candidate: str
    value: float
    of: str = ""
    beyond: str = ""

    def judge(self, medians: Medians, name: str, *, more_is_better: bool) -> Verdict:
        """See `Target`."""
        wanted = f"{self.candidate}: at most {figure(self.value)} "
        wanted += f"times {self.of}" if self.of else name + (f" beyond {self.beyond}" if self.beyond else "")
        if not {self.candidate, self.of or self.candidate, self.beyond or self.candidate} <= set(medians):
            return Verdict(wanted, "absent", None)
        got = medians[self.candidate][name]
        if self.of:
            got /= medians[self.of][name]
        if self.beyond:
            got -= medians[self.beyond][name]
        return Verdict(wanted, figure(got), got <= self.value)


@dataclass(frozen=True, slots=True)
class Ahead:
    """`candidate` is better than every one of the `others` that is there."""

    candidate: str
    others: tuple[str, ...]

    def __init__(self, candidate: str, *others: str) -> None:
        object.__setattr__(self, "candidate", candidate)
        object.__setattr__(self, "others", others)

    def judge(self, medians: Medians, name: str, *, more_is_better: bool) -> Verdict:
        """See `Target`."""
        wanted = f"{self.candidate}: ahead of {', '.join(self.others)}"
        there = [other for other in self.others if other in medians]
        if self.candidate not in medians or not there:
            return Verdict(wanted, "absent", None)
        sign = 1 if more_is_better else -1
        got = medians[self.candidate][name]
        behind = [other for other in there if sign * got <= sign * medians[other][name]]
        missing = [other for other in self.others if other not in there]
        seen = f"behind {', '.join(behind)}" if behind else "ahead"
        return Verdict(wanted, seen + (f" ({', '.join(missing)} absent)" if missing else ""), not behind)


@dataclass(frozen=True, slots=True)
class Siege:
    """What a server keeps to while thousands of bad clients are there (`benchmarks.siege`).

    A good client's request takes at most `slower` times what it takes on a quiet server and `delay` seconds more, at
    the median. The server's memory grows by at most `growth` MB. It ends within `ending` seconds after SIGTERM.
    """

    slower: float
    delay: float
    growth: float
    ending: float


SIEGE = Siege(slower=2, delay=0.05, growth=100, ending=2)

_COMPILED: Final = is_compiled()
_BARE: Final = "bare socket, unpaced"
_WRITE, _READ = (0.55, 0.45) if _COMPILED else (0.50, 0.42)
_NO_CRC_WRITE, _NO_CRC_READ = 0.55, 0.45
_POLLED, _AWAITED = (2.1, 1.6) if _COMPILED else (2.5, 1.8)

_STREAMS: Final = (
    AtLeast("pyiwarp.sockets", 0.8, of="asyncio streams"),
    AtLeast("pyiwarp.sockets, no CRC", 1.0, of="asyncio streams"),
    AtLeast("pyiwarp.sockets, asyncio", 0.8, of="asyncio streams, asyncio"),
    AtLeast("pyiwarp.sockets, no CRC, asyncio", 1.0, of="asyncio streams, asyncio"),
)

TARGETS: Final[Mapping[str, tuple[Target, ...]]] = {
    "write-1m": (AtLeast("pyiwarp", _WRITE, of=_BARE), Ahead("pyiwarp", "asyncio streams", "ucxx", "UCX put")),
    "read-1m": (AtLeast("pyiwarp", _READ, of=_BARE), Ahead("pyiwarp", "asyncio streams", "ucxx", "UCX get")),
    "nocrc-1m": (
        AtLeast("pyiwarp Write", _NO_CRC_WRITE, of=_BARE),
        AtLeast("pyiwarp Read", _NO_CRC_READ, of=_BARE),
    ),
    "write-64k": (AtLeast("pyiwarp", 0.55, of=_BARE),),
    "latency-polling": (
        AtMost("pyiwarp, polling", _POLLED, of="bare socket, busy-polled"),
        Ahead("pyiwarp, polling", "pyzmq"),
    ),
    "latency-uvloop": (AtMost("pyiwarp, awaited", _AWAITED, of="bare uvloop protocol"),),
    "rate-64": (AtLeast("pyiwarp", 250_000),),
    "setup-cost": (AtMost("pyiwarp", 0.7),),
    "get": (Ahead("pyiwarp", "asyncio streams"),),
    "put": (Ahead("pyiwarp", "asyncio streams"),),
    "flood-64": (AtLeast("one floods", 0.8, of="nobody floods"),),
    "idle-memory": (AtMost("pyiwarp", 40, beyond="bare sockets"),),
    "streams-64k": _STREAMS,
    "streams-1m": _STREAMS,
    "streams-64": (
        AtMost("pyiwarp.sockets", 2.5, of="asyncio streams"),
        AtMost("pyiwarp.sockets, asyncio", 2.5, of="asyncio streams, asyncio"),
    ),
    "pyverbs-send": (AtMost("stand-in for pyverbs", 1.5, of="pyiwarp.blocking, confirmed"),),
    "pyverbs-read": (AtMost("the peer sleeps", 3.0, of="the peer polls"),),
    "qps-64": (
        AtLeast("64 queue pairs", 0.85, of="1 queue pair"),
        AtLeast("64 queue pairs", 0.5, key="slowest / fastest"),
    ),
}
"""By row. They were set for two processors that nobody else used, and hold for no other machine."""
