"""Child processes of tests: each gets the signals that tests send it, reads nothing, and ends with its test."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from tests.patience import PATIENCE

__all__ = ["ENVIRONMENT", "finished", "first_line", "kill", "start", "started"]

SENT: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals with which tests end children."""

ENVIRONMENT: Final[Mapping[str, str]] = {
    **{name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "PYIWARP_DEBUG")},
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
}
"""That of the tests, without what changes how the programs of this repository write."""

_RESTORE: Final = f"""
import os, signal, sys
numbers = {[int(number) for number in SENT]}
for number in numbers:
    signal.signal(number, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)
os.execvp(sys.argv[1], sys.argv[1:])
"""


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """Start `command`; whoever calls this calls `kill` in the end. `options` are those of `subprocess.Popen`.

    A child inherits which signals are ignored and blocked: a shell ignores SIGINT for the jobs in its background.
    """
    if _deaf():
        command = [sys.executable, "-I", "-S", "-c", _RESTORE, *command]
    return subprocess.Popen(command, **_with_defaults(options))


def _deaf() -> bool:
    """Whether a child that is started now would not get one of the signals that tests send."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return any(number in blocked or signal.getsignal(number) is signal.SIG_IGN for number in SENT)


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    usual = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, "text": True, "process_group": 0}
    return usual | options


@contextmanager
def started(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """`command` while the block runs, and no longer."""
    child = start(command, **options)
    try:
        yield child
    finally:
        kill(child)


def first_line(child: subprocess.Popen[str]) -> str:
    """The first line that `child` writes into its pipe, which it must do within `PATIENCE`."""
    assert child.stdout is not None, "it was started with a pipe"
    readable, _, _ = select.select([child.stdout], [], [], PATIENCE)
    assert readable, "it says nothing"
    return child.stdout.readline()


def kill(child: subprocess.Popen[str]) -> None:
    """End `child` and what it has started, whatever they are at, and close its pipes."""
    if child.returncode is None:  # its number is still its own
        os.killpg(child.pid, signal.SIGKILL)
    child.wait(PATIENCE)
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def finished(command: Sequence[str], *, timeout: float = PATIENCE, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `command` to its end, which it must come to within `timeout` seconds; its output is captured."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with started(command, **pipes | options) as child:
        output, errors = child.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, child.returncode, output, errors)
