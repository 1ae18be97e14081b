"""Which tests are known not to pass, as data with a reason; and what an outcome means beside them."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from interop.errors import InteropError
from interop.foreign.outcome import Outcome

FILE: Final = Path(__file__).with_name("expected.toml")
_KEYS: Final = {"tests", "outcome", "reason"}
_OPTIONAL: Final = {"over", "pythons"}


OVER: Final = ("tcp", "iwarp")


@dataclass(frozen=True)
class Expected:
    """Tests that do not pass, by patterns of their ids as a shell has them, and why."""

    tests: tuple[str, ...]
    outcome: Outcome
    reason: str
    over: tuple[str, ...]
    pythons: str | None = None

    def concerns(self, test: str, over: str) -> bool:
        """Whether it is about this test in this run."""
        return over in self.over and any(fnmatchcase(test, f"test.{pattern}") for pattern in self.tests)

    @property
    def here(self) -> bool:
        """Whether it is about the Python that runs."""
        return self.pythons is None or _fits(self.pythons, sys.version_info[:2])


def _fits(pythons: str, version: tuple[int, int]) -> bool:
    match = re.fullmatch(r"(>=|<)3\.(\d+)", pythons)
    if match is None:
        raise InteropError(f"pythons is {pythons!r}; write <3.12 or >=3.12")
    return (version >= (3, int(match[2]))) == (match[1] == ">=")


def load(file: Path = FILE) -> list[Expected]:
    """All that `file` has for this Python; raises `InteropError` for an entry that is not complete."""
    entries: list[dict[str, Any]] = tomllib.loads(file.read_text()).get("expected", [])
    return [each for each in map(_expected, entries) if each.here]


def _expected(entry: dict[str, Any]) -> Expected:
    if missing := _KEYS - entry.keys():
        raise InteropError(f"an expected outcome lacks {', '.join(sorted(missing))}: {entry}")
    if unknown := entry.keys() - _KEYS - _OPTIONAL:
        raise InteropError(f"an expected outcome has {', '.join(sorted(unknown))}, which mean nothing: {entry}")
    if (outcome := Outcome(entry["outcome"])) is Outcome.PASSED:
        raise InteropError(f"a test that passes needs no entry: {entry}")
    over = tuple(entry.get("over", OVER))
    if not set(over) <= set(OVER):
        raise InteropError(f"over is {over}; it may be {' and '.join(OVER)}")
    return Expected(tuple(entry["tests"]), outcome, entry["reason"], over, entry.get("pythons"))


@dataclass(frozen=True)
class Ran:
    """One test that was run."""

    test: str
    outcome: Outcome
    detail: str = ""
    plain: int = 0  # TCP connections that were asked for outside of the engine
    accepted: int = 0  # sockets that the test accepted
    streams: int = 0  # ends of streams over MPA
    seconds: float = 0.0


def faults(ran: Sequence[Ran], expected: Iterable[Expected], over: str, *, whole: bool = False) -> list[str]:
    """A text for each fault: an outcome that nobody expects, one that did not come, TCP instead of MPA.

    With `whole` all tests were run, and an entry that is about none of them is a fault.
    """
    found = []
    entries = list(expected)
    seen: set[Expected] = set()
    for each in ran:
        entry = next((one for one in entries if one.concerns(each.test, over)), None)
        if entry is not None:
            seen.add(entry)
        wanted = Outcome.PASSED if entry is None else entry.outcome
        if each.outcome is not wanted:
            said = f"; expected: {wanted.value}" + (f", {entry.reason}" if entry else "")
            found.append(f"{each.test} {each.outcome.value}{said}\n{each.detail}".rstrip())
        if over == "iwarp" and each.plain:
            found.append(f"{each.test} asked for {each.plain} TCP connections, and not for streams over MPA")
        if over == "iwarp" and each.accepted and not each.streams:
            found.append(f"{each.test} accepted {each.accepted} sockets, and no MPA was spoken")
    if whole:
        found += [
            f"no test is {', '.join(each.tests)}, which is expected: {each.outcome.value}, {each.reason}"
            for each in entries
            if over in each.over and each not in seen
        ]
    return found
