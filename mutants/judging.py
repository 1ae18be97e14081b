"""Whether a breakage is noticed: the tests that run the broken function, run in a copy until one fails."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import time
import traceback
from collections import Counter
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryFile

import pytest

from mutants.breakages import Breakage
from mutants.measuring import Measured, functions

__all__ = ["Judge", "Verdict"]

# imported once, before the forks
READY = (
    "asyncio",
    "construct",
    "hypothesis",
    "mypy_extensions",
    "numpy",
    "pytest_asyncio",
    "rich.console",
    "typer",
    "uvloop",
)
AT_MOST = 60.0  # seconds that the tests of one breakage took when they were measured
OPTIONS = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-W", "ignore::pytest.PytestAssertRewriteWarning")
PASSED, FAILED, UNREADABLE, BROKEN, HUNG = 0, 1, 2, 3, -1  # pytest's exit codes, and ours


class Verdict(StrEnum):
    """What the tests said of a breakage."""

    NOTICED = "noticed"
    HUNG = "noticed: the tests ran longer than their limit"
    SURVIVED = "SURVIVED"
    UNTESTED = "SURVIVED: no test runs this"


class Selection:
    """The pytest plugin that runs some tests of the files collected, in the order given, and notes which one fails."""

    def __init__(self, tests: list[str], note: Path) -> None:
        self.note = note
        self.place = {test: number for number, test in enumerate(tests)}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called by pytest when a part of a test has ended."""
        if report.failed:
            self.note.write_text(report.nodeid)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Called by pytest with what it has collected."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )


class Judge:
    """Makes breakages in the copy `tree`, and runs the tests that `measured` names there."""

    def __init__(self, tree: Path, measured: dict[str, Measured]) -> None:
        self.tree = tree
        self.note = tree.parent / "noticed"  # which test failed last
        self.seconds = {test: took for one in measured.values() for test, took in one["seconds"].items()}
        self.runs: dict[str, list[str]] = {}
        self.breadth: Counter[str] = Counter()  # how many functions a test runs
        for one in measured.values():
            for function, tests in one["functions"].items():
                self.runs.setdefault(function, []).extend(tests)
                self.breadth.update(tests)
        for name in READY:
            importlib.import_module(name)

    def tests(self, breakage: Breakage) -> list[str]:
        """The tests that run the function of a breakage, or its module; those that run little else first."""
        module = f"{breakage.path}::"
        inner = [name for name, lines, _ in functions(breakage.text) if breakage.line in lines]
        name = module + inner[-1] if inner else module
        chosen = {
            test
            for key, tests in self.runs.items()
            if key == name or (not inner and key.startswith(name))
            for test in tests
        }
        if not inner and not chosen:  # a module of constants
            chosen = set(self.seconds)
        within: list[str] = []
        total = 0.0
        for test in sorted(chosen, key=lambda test: (self.breadth[test], self.seconds[test])):
            total += self.seconds[test]
            if total <= AT_MOST or not within:
                within.append(test)
        return within

    def check(self, breakage: Breakage) -> None:
        """Tests of what is not broken pass in the copy; otherwise no verdict means anything."""
        tests = self.tests(breakage)[:5]
        if tests and self.run(tests) != PASSED:
            raise RuntimeError(f"these fail without any breakage: {' '.join(tests)}; measure again with --measure")

    def judge(self, breakage: Breakage) -> Verdict:
        """Break the copy, run the tests, mend the copy."""
        tests = self.tests(breakage)
        if not tests:
            return Verdict.UNTESTED
        file = self.tree / breakage.path
        was = file.stat()
        file.write_text(breakage.broken)
        try:
            code = self.run(tests)
        finally:
            file.write_text(breakage.text)
            os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))  # what is compiled of it stays valid
        if code == HUNG:
            return Verdict.HUNG
        if code not in (PASSED, FAILED, UNREADABLE):
            raise RuntimeError(
                f"pytest ended with {code} instead of a verdict on line {breakage.line} of {breakage.path}"
            )
        return Verdict.SURVIVED if code == PASSED else Verdict.NOTICED

    def run(self, tests: list[str]) -> int:
        """Run tests in a forked process and return pytest's exit code."""
        self.note.write_text("none could be read")
        limit = time.monotonic() + 30 + 5 * sum(self.seconds[test] for test in tests)
        child = os.fork()
        if not child:
            self.run_and_exit(tests)
        while time.monotonic() < limit:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                end(child)
                return os.waitstatus_to_exitcode(status) or PASSED
            time.sleep(0.05)
        end(child)
        os.waitpid(child, 0)
        return HUNG

    def run_and_exit(self, tests: list[str]) -> None:
        """The forked process: pytest on the copy, with its output thrown away."""
        os.setsid()
        os.chdir(self.tree)
        sys.path.insert(0, str(self.tree))
        sys.dont_write_bytecode = True
        own = {"PYTHONPATH": str(self.tree), "PYTHONDONTWRITEBYTECODE": "1", "PYIWARP_HYPOTHESIS": "unshrunk"}
        os.environ.update(own)
        with TemporaryFile() as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        files = sorted({test.partition("::")[0] for test in tests})
        code = BROKEN
        try:
            code = pytest.main([*OPTIONS, *files], plugins=[Selection(tests, self.note)])
        except BaseException:  # the parent's stack is not to be unwound here
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)


def end(leader: int) -> None:
    """End what is left of a process group: pytest, and the children of its tests."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
