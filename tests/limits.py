"""What happens to a test that does not end: it fails, and says where each thread and each asyncio task stands.

`timeout` in pyproject.toml is the limit in seconds; `@pytest.mark.timeout(SECONDS)` gives a test another one. The limit
covers the test and the fixtures that are made for it. When it is reached, SIGALRM interrupts the main thread: the
processes that the test started are killed, and the test fails with the stacks. If it still does not end (it catches
everything, or the main thread is within a C call that no signal ends), it is interrupted again after `AGAIN` seconds,
and `LAST` seconds after the first interruption faulthandler writes the stacks of all threads and ends the process.
pytest-xdist then names the test, and runs the rest in a new process.

The same module ends processes that outlive the tests of their module, and fails the test that was the last there.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import pytest

from tests.children import prepared_pid

__all__ = [
    "pytest_configure",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
    "pytest_unconfigure",
]

AGAIN: Final = 5.0
LAST: Final = 60.0
TICKS: Final = os.sysconf("SC_CLK_TCK")
# The helper of `multiprocessing` serves all that comes later in this process, and ends with it.
OF_THE_LIBRARY: Final = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
_hung = pytest.StashKey[str]()  # what is to be said of it
_stderr = pytest.StashKey[int]()  # as it is outside of pytest's capture


class Hung(BaseException):
    """Raised in the test that has reached its limit; no `except Exception` catches it."""


class Process(NamedTuple):
    """A line of /proc: `started` is in clock ticks since the machine was started."""

    pid: int
    parent: int
    started: int
    zombie: bool

    @property
    def command(self) -> str:
        with suppress(OSError):
            return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return "?"


def processes() -> Iterator[Process]:
    """All that /proc shows."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                yield Process(int(entry.name), int(fields[1]), int(fields[19]), fields[0] == "Z")


def descendants(since: int = 0) -> list[Process]:
    """The processes below this one that were started at the tick `since` or later, children before grandchildren."""
    below: dict[int, list[Process]] = {}
    for process in processes():
        below.setdefault(process.parent, []).append(process)
    found = [child for child in below.get(os.getpid(), []) if child.started >= since]
    for process in found:  # which grows
        found += below.get(process.pid, [])
    return found


def now() -> int:
    """Clock ticks since the machine was started."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * TICKS)


def kill(some: list[Process]) -> None:
    for process in some:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signal.SIGKILL)


# --- where everything stands -----------------------------------------------------------------------------------------


def stacks() -> str:
    """The stack of each thread and of each asyncio task that has not ended."""
    out = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        print(f"--- thread {names.get(ident, '?')} ({ident})", file=out)
        traceback.print_stack(frame, file=out)
    for task in unfinished_tasks():
        print(f"--- task {task.get_name()}: {task.get_coro()!r}", file=out)
        out.writelines(awaiting(task.get_coro()))
    return out.getvalue()


def unfinished_tasks() -> list[asyncio.Task[Any]]:
    """Of every loop, also of one that runs in another thread or that nobody runs any more."""
    # by type(), for a proxy may do anything when it is asked for its class
    return [thing for thing in gc.get_objects() if issubclass(type(thing), asyncio.Task) and not thing.done()]


def awaiting(coroutine: Any) -> Iterator[str]:
    """A line for each coroutine that waits for the next one, and for what the last one waits for."""
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "gi_frame", None)
        if frame is None:
            yield f"  waits for {coroutine!r}\n"
            return
        yield from traceback.format_list(traceback.StackSummary.extract([(frame, frame.f_lineno)]))
        coroutine = getattr(coroutine, "cr_await", None) or getattr(coroutine, "gi_yieldfrom", None)


# --- pytest's hooks --------------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_stderr] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    if fd := config.stash.get(_stderr, None):
        faulthandler.cancel_dump_traceback_later()
        os.close(fd)
        del config.stash[_stderr]


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: Any) -> bool:
    """Set both timers: pytest-timeout asks for it before a test's fixtures are made."""
    since, seconds, stderr = now(), settings.timeout, item.config.stash[_stderr]
    struck = False

    def strike(signum: int, frame: FrameType | None) -> None:
        nonlocal struck
        if not struck:
            struck = True
            faulthandler.dump_traceback_later(LAST, exit=True, file=stderr)
        said = f"{item.nodeid} has not ended after {seconds:g} seconds\n{stacks()}"
        os.write(stderr, said.encode(errors="replace"))  # should the report not come through
        item.stash.setdefault(_hung, said)
        kill(descendants(since))
        loop = asyncio._get_running_loop()
        if loop is not None and not isinstance(loop, asyncio.BaseEventLoop):
            loop.call_soon_threadsafe(loop.stop)  # uvloop passes on no exception of a signal handler
        signal.setitimer(signal.ITIMER_REAL, AGAIN)  # and not before: where much is to be told this takes its time
        raise Hung(item.nodeid)

    signal.signal(signal.SIGALRM, strike)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    faulthandler.dump_traceback_later(seconds + LAST, exit=True, file=stderr)
    return True


@pytest.hookimpl(tryfirst=True)
def pytest_timeout_cancel_timer(item: pytest.Item) -> bool:
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.cancel_dump_traceback_later()
    return True


@contextmanager
def _told(item: pytest.Item) -> Iterator[None]:
    """Whatever a part of a test has made of the interruption, it has failed."""
    try:
        yield
    finally:
        if said := item.stash.get(_hung, None):
            del item.stash[_hung]
            raise pytest.fail.Exception(said, pytrace=False) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    with _told(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    with _told(item):
        return (yield)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    """Look for processes that are left when the fixtures of a module have been ended."""
    with _told(item):
        done = yield
    if nextitem is None or nextitem.path != item.path:
        left = [process for process in descendants() if not process.zombie and not _of_all_tests(process)]
        if left:
            said = "\n".join(f"{process.pid}: {process.command}" for process in left)
            kill(left)
            pytest.fail(f"processes outlive the tests of {item.path.name}:\n{said}", pytrace=False)
    return done


def _of_all_tests(process: Process) -> bool:
    return process.pid == prepared_pid() or any(name in process.command for name in OF_THE_LIBRARY)
