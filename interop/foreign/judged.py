"""The runner's side: runs tests in judges, processes of their own. A test that does not end costs itself alone."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from interop.errors import InteropError
from interop.foreign.outcome import Outcome

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 60.0
"""Seconds for one test, and for what comes before the first: long beside what they take on a busy machine."""


@dataclass(frozen=True)
class Told:
    """What became of one test; `counts` are those of the judge's tally."""

    test: str
    outcome: Outcome
    detail: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Judged:
    """The tests that the judge `module` runs with `orders`, and with `done` (ids to leave out) and `tell` added.

    `on_said` gets each line of a judge that is about no single test. `no_tests` is raised if there is nothing to run.
    """

    def __init__(
        self,
        module: str,
        orders: Mapping[str, Any],
        limit: float,
        no_tests: Callable[[str], InteropError],
        on_said: Callable[[dict[str, Any]], None] = lambda said: None,
    ) -> None:
        self._module = module
        self._orders = {**orders, "limit": limit}
        self._limit = limit
        self._no_tests = no_tests
        self._on_said = on_said
        self._done: list[str] = []
        self._fixtures: list[str] = []

    def run(self) -> Iterator[Told]:
        """Every test of it, as each ends."""
        while (yield from self._one_process()):
            pass

    def _one_process(self) -> Generator[Told, None, bool]:
        """Run what is not done yet; returns whether something is left."""
        mine, theirs = os.pipe()
        orders = json.dumps(self._orders | {"done": self._done, "tell": theirs})
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        lines = Lines(mine)
        with tempfile.TemporaryDirectory(prefix="judge-") as directory, tempfile.TemporaryFile("w+") as log:
            judge = subprocess.Popen(
                [sys.executable, "-m", self._module, orders],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs],
                process_group=0,
            )
            os.close(theirs)
            try:
                return (yield from self._follow(lines, log))
            finally:
                os.killpg(judge.pid, signal.SIGKILL)
                judge.wait(LIMIT)
                lines.close()

    def _follow(self, lines: Lines, log: IO[str]) -> Generator[Told, None, bool]:
        ran: str | None = None
        began = time.monotonic()
        waiting: list[str] | None = None
        while True:
            try:
                said = lines.next(LIMIT if waiting is None else self._limit)
                ended = Outcome.DIED
            except TimeoutError:
                said, ended = None, Outcome.HUNG
            if said is None:
                if waiting is None:
                    raise self._no_tests(_tail(log))
                yield from self._broke_off(ran, ended, waiting, log)
                return True
            if "tests" in said:
                waiting = said["tests"]
            elif "begins" in said:
                ran, began = said["begins"], time.monotonic()
            elif "fixture" in said:
                self._fixtures.append(f"{said['fixture']}: {said['detail']}")
            elif "ends" in said:
                self._done.append(said["ends"])
                yield _told(said, time.monotonic() - began)
                ran = None
            elif "over" in said:
                yield from self._never_begun(waiting or [])
                return False
            else:
                self._on_said(said)

    def _broke_off(self, ran: str | None, ended: Outcome, waiting: list[str], log: IO[str]) -> Iterator[Told]:
        """The process has ended, or hangs: the test that it was at has this outcome, and the others are run anew."""
        if ran is None:  # behind a test, in a fixture: nothing can be said to be at fault but what is next
            ran = next((each for each in waiting if each not in self._done), None)
        if ran is not None:
            self._done.append(ran)
            yield Told(ran, ended, _tail(log))

    def _never_begun(self, waiting: list[str]) -> Iterator[Told]:
        for each in waiting:
            if each not in self._done:
                yield Told(each, Outcome.FAILED, "it was never begun: " + "\n".join(self._fixtures))


class Lines:
    """What a judge tells, a value for each line."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._selector = selectors.DefaultSelector()
        self._selector.register(fd, selectors.EVENT_READ)
        self._held = b""

    def next(self, limit: float) -> dict[str, Any] | None:
        """The next value; None if the judge has ended. Raises `TimeoutError` after `limit` seconds."""
        until = time.monotonic() + limit
        while b"\n" not in self._held:
            if not self._selector.select(max(0.0, until - time.monotonic())):
                raise TimeoutError
            octets = os.read(self._fd, 1 << 16)
            if not octets:
                return None
            self._held += octets
        line, _, self._held = self._held.partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        return value

    def close(self) -> None:
        """Give the descriptor back."""
        self._selector.close()
        os.close(self._fd)


def _told(said: dict[str, Any], seconds: float) -> Told:
    counts = {name: value for name, value in said.items() if name not in ("ends", "outcome", "detail")}
    return Told(said["ends"], Outcome(said["outcome"]), said["detail"], counts, seconds)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-6000:]
