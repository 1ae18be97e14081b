"""Runs tests against broken copies of the project, quickly: each trial is a fork of a process that is warm.

The process has imported pytest, Hypothesis and asyncio, but nothing of pyiwarp; a fork of it goes to a copy of the
project and runs pytest there. One trial at a time works in a copy. A fork that runs for too long is killed with its
children.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

import pytest

from tests.meta.breakages import Mutation
from tests.meta.compliance import ROOT

WARM: Final = ("asyncio", "construct", "crc32c", "hypothesis.strategies", "pytest_asyncio.plugin", "pytest_cov.plugin")
"""What the forks find imported."""
OWN: Final = ("pyiwarp", "tests", "interop", "examples", "benchmarks")  # what each copy has of its own
NOTHING_TESTED: Final = 100


class Trial(NamedTuple):
    """Some tests, and what is broken meanwhile; it stops early when `enough` says so of the tests that have failed.

    `limits` bounds each test, in seconds: one that hangs has failed.
    """

    name: str
    tests: Sequence[str]
    mutation: Mutation | None = None
    enough: Callable[[set[str]], bool] = lambda failed: False
    limits: Mapping[str, float] = MappingProxyType({})


@dataclass
class Verdict:
    """What became of a trial: the tests that failed, and how many seconds each test took that ran."""

    failed: set[str] = field(default_factory=set)
    seconds: dict[str, float] = field(default_factory=dict)
    status: int | None = None
    """pytest's exit status; None if the trial was stopped because its time was over."""
    output: str = ""
    took: float = 0.0

    @property
    def ran(self) -> bool:
        """Whether tests ran at all: the broken package could be imported, and the tests are there."""
        return bool(self.seconds)


def copy_of_the_project(place: Path) -> Path:
    """Everything but what is hidden: tests may look at any of it."""
    hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, place, ignore=hidden)
    return place


def share_bytecode(places: Sequence[Path]) -> None:
    """What was compiled in one of the copies is there in each."""
    for source in places:
        for file in source.rglob("*.pyc"):
            for place in places:
                other = place / file.relative_to(source)
                if not other.exists():
                    other.parent.mkdir(exist_ok=True)
                    shutil.copy2(file, other)


@contextlib.contextmanager
def broken(place: Path, mutation: Mutation | None) -> Iterator[None]:
    """The copy at `place` with the breakage in it; afterwards as before."""
    whole: dict[Path, tuple[str, os.stat_result]] = {}
    try:
        for module, old, new in mutation.replacements if mutation else ():
            file = place / "pyiwarp" / f"{module}.py"
            text = file.read_text(encoding="utf-8")
            whole.setdefault(file, (text, file.stat()))
            if text.count(old) != 1:
                raise ValueError(f"{mutation}: the piece occurs {text.count(old)} times")
            file.write_text(text.replace(old, new), encoding="utf-8")
        yield
    finally:
        for file, (text, stat) in whole.items():
            file.write_text(text, encoding="utf-8")
            os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # so that what was compiled of it serves again


class _Reporter:
    """The plugin in the fork: it tells what each test came to, and stops when that is enough."""

    def __init__(self, trial: Trial, pipe: int) -> None:
        self._trial = trial
        self._pipe = pipe
        self._failed: set[str] = set()
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        self._session = session

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            limit = self._trial.limits.get(item.nodeid.partition("[")[0])
            if limit is not None:
                item.add_marker(pytest.mark.timeout(limit), append=False)

    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        """What a test has noticed with some arguments it need not notice with others, least of all by hanging."""
        return True if item.nodeid.partition("[")[0] in self._failed else None

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._tell(nodeid.partition("[")[0], 0.0, "begun")

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        self._tell(nodeid.partition("[")[0], 0.0, "ended")

    def _tell(self, test: str, seconds: float, what: str) -> None:
        os.write(self._pipe, (json.dumps([test, seconds, what]) + "\n").encode())

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = report.nodeid.partition("[")[0]
        self._tell(test, report.duration, report.outcome)
        if report.failed:
            self._failed.add(test)
            if self._session and self._trial.enough(self._failed):
                self._session.shouldstop = "noticed"


def _run_here(trial: Trial, place: Path, output: Path, pipe: int, remember: bool) -> int:
    """What the fork does: it becomes a pytest of the copy."""
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(place)
    sys.path[:] = [str(place), *(entry for entry in sys.path if entry and Path(entry).resolve() != ROOT)]
    for name in [name for name in sys.modules if name.partition(".")[0] in OWN]:
        del sys.modules[name]
    os.environ |= {"PYTHONPATH": str(place), "PYIWARP_HYPOTHESIS": "unshrunk"}
    if not remember:
        os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
        sys.dont_write_bytecode = True
    warm = "ignore::pytest.PytestAssertRewriteWarning"  # it comes for what was imported before
    arguments = ["-q", "-p", "no:cacheprovider", "--no-header", "--tb=short", "-W", warm, *trial.tests]
    return int(pytest.main(arguments, plugins=[_Reporter(trial, pipe)]))


@dataclass
class _Running:
    trial: Trial
    verdict: Verdict
    place: Path
    output: Path
    child: int
    pipe: int
    began: float
    breakage: contextlib.ExitStack
    unread: bytes = b""
    begun: tuple[str, float] | None = None  # the test that runs, and since when

    def read(self) -> bool:
        """Take in what the fork tells; False when it has ended."""
        data = os.read(self.pipe, 1 << 16)
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            test, seconds, what = json.loads(line)
            self.verdict.seconds[test] = self.verdict.seconds.get(test, 0.0) + seconds
            if what == "failed":
                self.verdict.failed.add(test)
            if what in ("begun", "ended"):
                self.begun = (test, time.monotonic()) if what == "begun" else None
        return bool(data)

    def end(self, *, over: bool) -> Verdict:
        """Its verdict; nothing of the fork is left, and the copy is whole again."""
        with contextlib.suppress(ProcessLookupError):
            if over:
                os.killpg(self.child, signal.SIGKILL)
        _, status = os.waitpid(self.child, 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child, signal.SIGKILL)  # what tests of broken code have left behind
        os.close(self.pipe)
        self.breakage.close()
        self.verdict.status = None if over else os.waitstatus_to_exitcode(status)
        now = time.monotonic()
        self.verdict.took = now - self.began
        if self.begun is not None:
            test, since = self.begun
            if not over or now - since > self.trial.limits.get(test, now):  # it ended the process, or it hung
                self.verdict.failed.add(test)
        self.verdict.output = self.output.read_text(encoding="utf-8", errors="replace")
        return self.verdict


def _start(trial: Trial, place: Path, remember: bool) -> _Running:
    breakage = contextlib.ExitStack()
    breakage.enter_context(broken(place, trial.mutation))
    output = place.with_suffix(".txt")
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = NOTHING_TESTED
        try:
            os.close(reading)
            status = _run_here(trial, place, output, writing, remember)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            sys.stdout.flush()
            os._exit(status)
    os.close(writing)
    return _Running(trial, Verdict(), place, output, child, reading, time.monotonic(), breakage)


def run(
    trials: Iterable[Trial], places: Sequence[Path], seconds: float, *, remember: bool = False
) -> Iterator[tuple[Trial, Verdict]]:
    """Run the trials, one at a time in each copy, none for longer than `seconds`; each verdict comes when it is there.

    `remember` lets Python keep what it compiles, which later trials in the same copies find.
    """
    for name in WARM:
        importlib.import_module(name)
    free = list(places)
    waiting = iter(trials)
    running: dict[int, _Running] = {}
    ahead = next(waiting, None)
    try:
        while ahead or running:
            while ahead and free:
                one = _start(ahead, free.pop(), remember)
                running[one.pipe] = one
                ahead = next(waiting, None)
            first = min(one.began for one in running.values()) + seconds
            ready, _, _ = select.select(list(running), [], [], max(0.0, first - time.monotonic()))
            for pipe, one in list(running.items()):
                over = time.monotonic() >= one.began + seconds
                if over or (pipe in ready and not one.read()):
                    del running[pipe]
                    free.append(one.place)
                    yield one.trial, one.end(over=over)
    finally:
        for one in running.values():
            one.end(over=True)


def failed_lines(verdict: Verdict) -> Mapping[str, str]:
    """pytest's summary line of each test that failed."""
    lines = [line for line in verdict.output.splitlines() if line.startswith(("FAILED ", "ERROR "))]
    return {line.split()[1].partition("[")[0]: line for line in lines}
