"""The judge's side: a line of JSON when a test begins and one when it ends.

`{"tests": [ids]}` comes first. Then `{"begins": id}` and `{"ends": id, "outcome": ..., "detail": ...}` with the counts
of the tally, and `{"fixture": name, "detail": ...}` for a class or module that cannot be set up. `{"over": true}` comes
last.
"""

from __future__ import annotations

import faulthandler
import json
import os
import unittest
from collections.abc import Iterable, Iterator
from typing import Any, Protocol


class Tally(Protocol):
    """Counts what one test does, beside what it says."""

    def reset(self) -> None:
        """A test begins."""

    def counts(self) -> dict[str, int]:
        """What it has done."""


def say(tell: int, **what: Any) -> None:
    """One line to the runner."""
    os.write(tell, json.dumps(what).encode() + b"\n")


class Teller(unittest.TestResult):
    """Writes a line when a test begins and one when it ends."""

    def __init__(self, tell: int, tally: Tally, limit: float) -> None:
        super().__init__()
        self._tell = tell
        self._tally = tally
        self._limit = limit
        self._outcome: tuple[str, str] = ("passed", "")

    def startTest(self, test: unittest.TestCase) -> None:
        """Overrides: from now on the time counts."""
        super().startTest(test)
        self._outcome = ("passed", "")
        self._tally.reset()
        faulthandler.dump_traceback_later(self._limit * 0.9)
        say(self._tell, begins=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        """Overrides: what became of it."""
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        outcome, detail = self._outcome
        say(self._tell, ends=test.id(), outcome=outcome, detail=detail, **self._tally.counts())

    def _failed(self, test: unittest.TestCase, error: Any) -> None:
        text = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]  # as TestResult does
        if not isinstance(test, unittest.TestCase):  # a fixture of a class or module: no test of it begins
            say(self._tell, fixture=str(test), detail=text)
        self._outcome = ("failed", text)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """Overrides."""
        self._failed(test, err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """Overrides."""
        self._failed(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        """Overrides: a part that fails fails its test."""
        if err is not None:
            self._failed(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """Overrides."""
        if self._outcome[0] != "failed":
            self._outcome = ("skipped", reason)
        if not isinstance(test, unittest.TestCase):
            say(self._tell, fixture=str(test), detail=f"skipped: {reason}")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        """Overrides."""
        self._outcome = ("failed", "it passed although its suite expects it to fail")


def cases(suite: Iterable[Any]) -> Iterator[unittest.TestCase]:
    """The tests of a suite, in its order."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each
