"""Runs one module of tests in processes of its own: a test that does not end costs itself and nothing else."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Final

from interop.cpython.errors import NoTests
from interop.cpython.expected import Outcome, Ran

ROOT: Final = Path(__file__).parents[2]
LIMIT: Final = 60.0
"""Seconds for one test, and for what comes before the first: long beside what they take on a busy machine."""


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


class Module:
    """One module of CPython's tests, over TCP or over iWARP."""

    def __init__(
        self, module: str, classes: Sequence[str], over: str, beside: Path | None = None, limit: float = LIMIT
    ) -> None:
        self._orders = {
            "module": module,
            "classes": list(classes),
            "over": over,
            "beside": None if beside is None else str(beside),
            "limit": limit,
        }
        self._limit = limit
        self._done: list[str] = []
        self._fixtures: list[str] = []

    def run(self) -> Iterator[Ran]:
        """Every test of it, as each ends."""
        while (yield from self._one_process()):
            pass

    def _one_process(self) -> Generator[Ran, None, bool]:
        """Run what is not done yet; returns whether something is left."""
        mine, theirs = os.pipe()
        orders = json.dumps(self._orders | {"done": self._done, "tell": theirs})
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
        lines = Lines(mine)
        with tempfile.TemporaryDirectory(prefix="cpython-") as directory, tempfile.TemporaryFile("w+") as log:
            judge = subprocess.Popen(
                [sys.executable, "-m", "interop.cpython.judge", orders],
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

    def _follow(self, lines: Lines, log: IO[str]) -> Generator[Ran, None, bool]:
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
                    raise NoTests(f"{self._orders['module']} cannot be loaded:\n{_tail(log)}")
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
                yield _ran(said, time.monotonic() - began)
                ran = None
            else:
                assert waiting is not None
                yield from self._never_begun(waiting)
                return False

    def _broke_off(self, ran: str | None, ended: Outcome, waiting: list[str], log: IO[str]) -> Iterator[Ran]:
        """The process has ended, or hangs: the test that it was at has this outcome, and the others are run anew."""
        if ran is None:  # behind a test, in a fixture: nothing can be said to be at fault but what is next
            ran = next((each for each in waiting if each not in self._done), None)
        if ran is not None:
            self._done.append(ran)
            yield Ran(ran, ended, _tail(log))

    def _never_begun(self, waiting: list[str]) -> Iterator[Ran]:
        for each in waiting:
            if each not in self._done:
                yield Ran(each, Outcome.FAILED, "it was never begun: " + "\n".join(self._fixtures))


def _ran(said: dict[str, Any], seconds: float) -> Ran:
    counts = {name: said[name] for name in ("plain", "accepted", "streams")}
    return Ran(said["ends"], Outcome(said["outcome"]), said["detail"], **counts, seconds=seconds)


def _tail(log: IO[str]) -> str:
    log.seek(0)
    return log.read()[-6000:]
