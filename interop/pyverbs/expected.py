"""What each of rdma-core's tests does on the stand-in, as data; and what is at fault in a run beside it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from interop.errors import InteropError
from interop.foreign.judged import Told
from interop.foreign.outcome import Outcome

FILE: Final = Path(__file__).with_name("expected.toml")
AT_LEAST: Final = 110
"""Generic tests that pass, of version 59.0: the list may grow, and may not shrink below it."""

BAD: Final = frozenset({Outcome.FAILED, Outcome.HUNG, Outcome.DIED})


class What(StrEnum):
    """What a test that passes shows."""

    PROTOCOL = "protocol"
    OBJECTS = "objects"
    EMULATION = "emulation"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Passed:
    """Tests that pass, by their ids."""

    what: What
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Skipped:
    """Tests that are skipped, by patterns of ids; `said` are patterns of what they say. `may_pass` on other machines.

    Those of a `vendor` are about calls of one driver, and are not counted among the generic ones.
    """

    reason: str
    said: tuple[str, ...]
    tests: tuple[str, ...]
    may_pass: bool = False
    vendor: bool = False


Entry = Passed | Skipped


@dataclass(frozen=True)
class Table:
    """What each test of `version` does."""

    version: str
    entries: tuple[Entry, ...]

    def entry(self, test: str) -> Entry | None:
        """The one that is about this test, an id without `tests.`."""
        return next((each for each in self.entries if any(fnmatchcase(test, one) for one in each.tests)), None)

    def counts(self) -> Counter[What]:
        """How many tests pass, for each thing that they show."""
        return Counter({each.what: len(each.tests) for each in self.entries if isinstance(each, Passed)})


def load(file: Path = FILE) -> Table:
    """All that `file` has; raises `InteropError` for an entry that is not complete, or a test that is listed twice."""
    read = tomllib.loads(file.read_text())
    try:
        passed = [Passed(What(each["what"]), tuple(each["tests"])) for each in read["passed"]]
        skipped = [_skipped(each) for each in read["skipped"]]
        version = read["version"]
    except (KeyError, ValueError, TypeError) as error:
        raise InteropError(f"{file} is not complete: {error!r}") from error
    entries: tuple[Entry, ...] = (*passed, *skipped)
    counts = Counter(test for each in entries for test in each.tests)
    if twice := [test for test, count in counts.items() if count > 1]:
        raise InteropError(f"{file} lists twice: {', '.join(twice)}")
    return Table(version, entries)


def _skipped(entry: dict[str, Any]) -> Skipped:
    said, tests = tuple(entry.pop("said")), tuple(entry.pop("tests"))
    return Skipped(said=said, tests=tests, **entry)


def short(told: Told) -> str:
    """The id without the package."""
    return told.test.removeprefix("tests.")


def faults(ran: Sequence[Told], table: Table, *, whole: bool = False) -> list[str]:
    """A text for each outcome that is not that of the table; with `whole`, also for tests that were not there."""
    found = [fault for told in ran if (fault := _fault(told, table.entry(short(told)))) is not None]
    if whole:
        names = {short(told) for told in ran}
        found += [
            f"there is no test {one}, which the table has"
            for each in table.entries
            for one in each.tests
            if not any(fnmatchcase(name, one) for name in names)
        ]
    return found


def _fault(told: Told, entry: Entry | None) -> str | None:
    name, outcome = short(told), told.outcome
    if outcome in BAD:
        return f"{name} {outcome.value}\n{told.detail}".rstrip()
    if entry is None:
        return f"{name} {outcome.value}, and the table does not have it: {told.detail}".rstrip(": ")
    if isinstance(entry, Skipped):
        if outcome is Outcome.PASSED:
            return None if entry.may_pass else f"{name} passed; in the table it is skipped: {entry.reason}"
        if not any(fnmatchcase(told.detail, said) for said in entry.said):
            return f"{name} is skipped for another reason than {' or '.join(entry.said)}: {told.detail}"
        return None
    if outcome is Outcome.SKIPPED:
        return f"{name} is skipped, and passed before: {told.detail}"
    if entry.what is What.PROTOCOL and not told.counts.get("startups", 0):
        return f"{name} passed without MPA; in the table it shows the protocol"
    return None


def differences(ran: Iterable[Told], table: Table) -> list[str]:
    """A text for each test of another version whose outcome is not that of the table: no fault."""
    found = []
    for told in ran:
        entry = table.entry(short(told))
        said = f": {told.detail}" if told.detail and told.outcome is Outcome.SKIPPED else ""
        if entry is None:
            found.append(f"{short(told)}, which {table.version} has not: {told.outcome.value}{said}")
        elif isinstance(entry, Passed) != (told.outcome is Outcome.PASSED):
            found.append(f"{short(told)}, {_usual(entry)} in {table.version}: {told.outcome.value}{said}")
    return found


def _usual(entry: Entry) -> str:
    return Outcome.PASSED.value if isinstance(entry, Passed) else Outcome.SKIPPED.value
