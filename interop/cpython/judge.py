"""The process that runs one module of CPython's tests, and tells each outcome as it comes.

`python -m interop.cpython.judge ORDERS` with a JSON object: module, classes, done (ids to leave out), beside (a
directory to add to the package `test`), over ("tcp" or "iwarp"), limit (seconds for a test) and tell (the descriptor to
write to).
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import socket
import sys
import threading
import unittest
from collections.abc import Iterator
from typing import Any, Final

from interop.cpython import iwarp
from interop.cpython.tally import Tally


class Teller(unittest.TestResult):
    """Writes a line when a test begins and one when it ends."""

    def __init__(self, tell: int, tally: Tally, limit: float) -> None:
        super().__init__()
        self._tell = tell
        self._tally = tally
        self._limit = limit
        self._outcome: tuple[str, str] = ("passed", "")

    def _say(self, **what: Any) -> None:
        os.write(self._tell, json.dumps(what).encode() + b"\n")

    def startTest(self, test: unittest.TestCase) -> None:
        """Overrides: from now on the time counts."""
        super().startTest(test)
        self._outcome = ("passed", "")
        self._tally.reset()
        faulthandler.dump_traceback_later(self._limit * 0.9)
        self._say(begins=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        """Overrides: what became of it."""
        super().stopTest(test)
        faulthandler.cancel_dump_traceback_later()
        outcome, detail = self._outcome
        self._say(ends=test.id(), outcome=outcome, detail=detail, **self._tally.counts())

    def _failed(self, test: unittest.TestCase, error: Any) -> None:
        text = self._exc_info_to_string(error, test)  # type: ignore[attr-defined]  # as TestResult does
        if not isinstance(test, unittest.TestCase):  # a fixture of a class or module: no test of it begins
            self._say(fixture=str(test), detail=text)
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
        self._outcome = ("skipped", reason)
        if not isinstance(test, unittest.TestCase):
            self._say(fixture=str(test), detail=f"skipped: {reason}")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        """Overrides."""
        self._outcome = ("failed", "it passed although CPython expects it to fail")


def cases(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests of a suite, in its order."""
    for each in suite:
        if isinstance(each, unittest.TestSuite):
            yield from cases(each)
        else:
            yield each


def load(module: str, classes: list[str]) -> list[unittest.TestCase]:
    """The tests of `classes`; those of the whole module if there are none."""
    loaded = importlib.import_module(f"test.{module}")
    loader = unittest.defaultTestLoader
    if not classes:
        return list(cases(loader.loadTestsFromModule(loaded)))
    found = [getattr(loaded, name) for name in classes if hasattr(loaded, name)]
    return [each for kind in found for each in cases(loader.loadTestsFromTestCase(kind))]


def main() -> None:
    """Run what the orders say."""
    orders: Final = json.loads(sys.argv[1])
    if orders["over"] == "iwarp":
        iwarp.install()
    tally = Tally(socket.socket)
    if orders["beside"] is not None:
        importlib.import_module("test").__path__.append(orders["beside"])
    done = set(orders["done"])
    tests = [each for each in load(orders["module"], orders["classes"]) if each.id() not in done]
    os.write(orders["tell"], json.dumps({"tests": [each.id() for each in tests]}).encode() + b"\n")
    suite = unittest.TestSuite(tests)
    suite.run(Teller(orders["tell"], tally, orders["limit"]))
    os.write(orders["tell"], b'{"over": true}\n')
    left = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    print("threads at the end:", ", ".join(left) or "none", file=sys.stderr, flush=True)
    os._exit(0)  # a thread that a test has left behind must not keep this process


if __name__ == "__main__":
    main()
