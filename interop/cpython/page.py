"""docs/cpython.md: what a run has shown, for readers."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from interop.cpython.expected import Expected, Ran
from interop.foreign.outcome import Outcome

PAGE: Final = Path(__file__).parents[2] / "docs" / "cpython.md"

_HEAD: Final = """\
# CPython's socket tests over iWARP

This page is written by `python -m interop.cpython` from a whole run; a change by hand is lost with the next.

CPython {version} tests its own `socket` and `asyncio` modules. Here the tests of TCP run twice, unchanged: over TCP,
where all must pass, and after `pyiwarp.sockets.install(all=True)`, where each TCP socket is a stream over iWARP
([the protocol](sockets.md)). Each test has a minute. "Over MPA" counts the tests in which a stream was established. A
test that asks for a TCP connection then, or accepts a socket without MPA, fails the run.

| tests | cases | pass over TCP | pass over iWARP | over MPA | as expected below |
| --- | --- | --- | --- | --- | --- |
"""

_TAIL: Final = """
## What does not pass, and why

The list is [`interop/cpython/expected.toml`](../interop/cpython/expected.toml). A test of it that passes fails the run.

| tests | outcome | over | reason |
| --- | --- | --- | --- |
"""


def text(runs: Mapping[str, Sequence[Ran]], expected: Iterable[Expected]) -> str:
    """The page of a run over both, by "tcp" and "iwarp"."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lines = [_HEAD.format(version=version).rstrip("\n")]
    groups = list(dict.fromkeys(map(_group, (ran.test for ran in runs["iwarp"]))))
    rows = {group: _row([_of(runs[over], group) for over in ("tcp", "iwarp")]) for group in groups}
    lines += [f"| {group} | {' | '.join(map(str, row))} |" for group, row in rows.items()]
    totals = [sum(column) for column in zip(*rows.values(), strict=True)]
    lines.append(f"| all | {' | '.join(map(str, totals))} |")
    lines.append(_TAIL.rstrip("\n"))
    for each in expected:
        names = ", ".join(f"`{pattern}`" for pattern in each.tests)
        lines.append(
            f"| {names} | {each.outcome.value} | {' and '.join(_NAMES[o] for o in each.over)} | {each.reason} |"
        )
    return "\n".join(lines) + "\n"


_NAMES: Final = {"tcp": "TCP", "iwarp": "iWARP"}


def _group(test: str) -> str:
    """The module of a test; of test_socket, which is long, the class."""
    names = test.removeprefix("test.").split(".")
    return ".".join(names[:2])


def _of(ran: Sequence[Ran], group: str) -> list[Ran]:
    return [each for each in ran if _group(each.test) == group]


def _row(columns: Sequence[Sequence[Ran]]) -> list[int]:
    _, iwarp = columns
    passed = [sum(each.outcome is Outcome.PASSED for each in column) for column in columns]
    return [len(iwarp), *passed, sum(each.streams > 0 for each in iwarp), len(iwarp) - passed[1]]
