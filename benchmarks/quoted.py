"""The table of the README: which rows it quotes, and how a line of it reads."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.spread import Ratios
from benchmarks.table import figure

__all__ = ["QUOTED", "Quoted", "markdown"]


@dataclass(frozen=True, slots=True)
class Quoted:
    """One line: the row, what it is called, whose figures stand in the column of pyiwarp, and what they are.

    With `absolute` they are the figures themselves, else they are in proportion to the row's first candidate.
    """

    row: str
    what: str
    ours: tuple[str, ...]
    of: str
    absolute: bool = False


_RATE: Final = "of a bare socket's rate"

QUOTED: Final = (
    Quoted("write-1m", "Write of 1 MiB, 16 outstanding", ("pyiwarp",), _RATE),
    Quoted("read-1m", "Read of 1 MiB, 16 outstanding", ("pyiwarp",), _RATE),
    Quoted("nocrc-1m", "Write and Read without CRC", ("pyiwarp Write", "pyiwarp Read"), _RATE),
    Quoted("write-64k", "Write of 64 KiB", ("pyiwarp",), _RATE),
    Quoted("write-1442", "Write of 1 MiB, MULPDU 1,442", ("pyiwarp",), _RATE),
    Quoted(
        "latency-polling", "Send of 64 octets and back, polled", ("pyiwarp, polling",), "times a spinning socket's time"
    ),
    Quoted("latency-uvloop", "the same, awaited", ("pyiwarp, awaited",), "times a bare uvloop protocol's time"),
    Quoted("rate-64", "Writes of 64 octets, batches of 64", ("pyiwarp",), "messages/s", absolute=True),
    Quoted("setup-cost", "a connection made, agreed on and closed", ("pyiwarp",), "ms of both ends", absolute=True),
    Quoted("markers-1m", "Write of 1 MiB with markers", ("with markers",), "of the rate without"),
    Quoted("get", "`get` of a file of 1 GiB", ("pyiwarp",), "times the rate of asyncio streams"),
    Quoted("put", "`put` of a file of 1 GiB", ("pyiwarp",), "times the rate of asyncio streams"),
    Quoted("flood-64", "63 clients beside one that floods", ("one floods",), "of their rate without it"),
    Quoted("qps-64", "Write of 1 MiB on 64 queue pairs", ("64 queue pairs",), "of the rate of one"),
    Quoted("idle-memory", "an idle connection", ("pyiwarp",), "KiB", absolute=True),
    Quoted("busy-memory", "a connection on which 4 KiB go back and forth", ("pyiwarp",), "KiB", absolute=True),
)


def markdown(runs: Sequence[Mapping[str, Ratios]]) -> str:
    """The table in Markdown: of all runs the median, and where they differ the lowest and the highest.

    A run has for each row the medians of its candidates, the first of them first; 0 for one that has none.
    """
    lines = ["| What | pyiwarp | Beside it |", "|---|---|---|"]
    for quoted in QUOTED:
        rows = [run[quoted.row] for run in runs if quoted.row in run]
        if rows:
            lines.append(f"| {quoted.what} | {_ours(quoted, rows)} | {_others(quoted, rows)} |")
    return "\n".join(lines)


def _ours(quoted: Quoted, rows: Sequence[Ratios]) -> str:
    told = [_told(quoted, name, rows) for name in quoted.ours]
    return f"{', '.join(told)} {quoted.of}" if all(told) else "no figure"


def _others(quoted: Quoted, rows: Sequence[Ratios]) -> str:
    first = None if quoted.absolute else next(iter(rows[0]), None)
    names = [name for name in rows[0] if name != first and name not in quoted.ours]
    return ", ".join(f"{name} {told}" for name in names if (told := _told(quoted, name, rows)))


def _told(quoted: Quoted, name: str, rows: Sequence[Ratios]) -> str:
    """The median with the spread; empty if the candidate has no figure in some run."""
    values = []
    for row in rows:
        first = next(iter(row.values()), 0.0)
        if not row[name] or not (first or quoted.absolute):
            return ""
        values.append(row[name] if quoted.absolute else row[name] / first)
    shown = figure if quoted.absolute else "{:.2f}".format
    median, low, high = (shown(each) for each in (statistics.median(values), min(values), max(values)))
    return median if low == high else f"{median} ({low} to {high})"
