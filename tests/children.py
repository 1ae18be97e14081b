"""Child processes of tests: each gets the signals that tests send it, reads nothing, and ends with its test."""

from __future__ import annotations

import atexit
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests import prepared
from tests.patience import PATIENCE

__all__ = [
    "COMMAND",
    "ENVIRONMENT",
    "end_prepared",
    "finished",
    "first_line",
    "kill",
    "prepared_fd",
    "prepared_pid",
    "python_path",
    "start",
    "started",
    "status_of",
]

COMMAND: Final = (sys.executable, "-m", "pyiwarp")
"""The start of a command line of `pyiwarp`."""

SENT: Final = (signal.SIGINT, signal.SIGTERM)
"""The signals with which tests end children."""

ROOT: Final = Path(__file__).parents[1]


def python_path(*first: Path) -> str:
    """PYTHONPATH of a child that finds what is in these directories, and then the package beside these tests.

    Without it a child that runs in another directory, or as the `pyiwarp` command, imports the installed package: it is
    another one where the tests run in a copy of the tree.
    """
    return os.pathsep.join([*map(os.fspath, (*first, ROOT)), *filter(None, [os.environ.get("PYTHONPATH")])])


ENVIRONMENT: Final[Mapping[str, str]] = {
    **{name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "PYIWARP_DEBUG")},
    "COLUMNS": "200",
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
    "PYTHONUNBUFFERED": "1",
    "PYTHONPATH": python_path(),
}
"""That of the tests, without what changes how the programs of this repository write, and with the tree under test."""

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
    `COMMAND` is forked by a process that has imported it, unless its environment says how Python is to start.
    """
    options = _with_defaults(options)
    if tuple(command[:3]) == COMMAND and _can_be_prepared(options):
        return _Forked(command, **options)
    if _deaf():
        command = [sys.executable, "-I", "-S", "-c", _RESTORE, *command]
    return subprocess.Popen(command, **options)


def _deaf() -> bool:
    """Whether a child that is started now would not get one of the signals that tests send."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return any(number in blocked or signal.getsignal(number) is signal.SIG_IGN for number in SENT)


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    usual = {"stdin": subprocess.DEVNULL, "env": ENVIRONMENT, "text": True, "process_group": 0}
    return usual | options


# --- a command that is imported already ------------------------------------------------------------------------------


def _can_be_prepared(options: Mapping[str, Any]) -> bool:
    """Whether its environment leaves Python as it is, nothing is to be done in it first, and nobody measures it."""
    here, there = ({key: env[key] for key in env if key.startswith("PYTHON")} for env in (ENVIRONMENT, options["env"]))
    alone = not options.keys() - {"stdin", "stdout", "stderr", "env", "text", "process_group", "cwd"}
    return here == there and alone and hasattr(os, "pidfd_open") and "MUTANTS_NOW" not in os.environ


class _Server:
    """The process that forks, in a process of tests; started when it is first needed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.socket: socket.socket | None = None

    def ask(self, asked: prepared.Asked, streams: Sequence[int]) -> socket.socket:
        """Have a command started; returns the socket that tells of it."""
        if self.process is None or self.process.poll() is not None:  # it may have ended with a test that hung
            self.end()
            self.socket, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.socket.settimeout(PATIENCE)
            with far:
                command = [sys.executable, "-m", "tests.prepared", str(far.fileno())]
                self.process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, env=ENVIRONMENT, process_group=0, pass_fds=[far.fileno()]
                )
        assert self.socket is not None
        return prepared.ask(self.socket, asked, streams)

    def end(self) -> None:
        """End it, as nobody asks any more."""
        if self.process is not None and self.socket is not None:
            self.socket.close()
            self.process.wait(PATIENCE)
            self.process = self.socket = None


_server = _Server()
end_prepared: Final = atexit.register(_server.end)
"""Ends the process that forks commands; the next command starts another one."""


def prepared_pid() -> int | None:
    """The process that forks commands; it is needed until the last test."""
    return None if _server.process is None else _server.process.pid


def prepared_fd() -> int | None:
    """The socket to this process: whatever test starts the first command opens it, and no test closes it."""
    return None if _server.socket is None else _server.socket.fileno()


class _Forked(subprocess.Popen[str]):
    """A command that `tests.prepared` has forked: what `Popen` asks the system about a child is asked there."""

    _told: socket.socket

    def _execute_child(self, args: Sequence[str], *more: Any) -> None:
        _, _, _, _, cwd, env, _, _, _, *pipes = more[:15]
        p2cread, _, _, c2pwrite, _, errwrite = pipes
        streams = [own if own >= 0 else number for number, own in enumerate((p2cread, c2pwrite, errwrite))]
        asked = prepared.Asked([*args[len(COMMAND) :]], dict(env), cwd or os.getcwd())
        self._told = _server.ask(asked, streams)
        self._told.settimeout(PATIENCE)
        self.pid = prepared.heard(self._told)
        self._child_created = True
        self._close_pipe_fds(*pipes)  # type: ignore[attr-defined]  # it has no types

    def _wait(self, timeout: float | None) -> int:
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                assert timeout is not None
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = prepared.heard(self._told)
            self._told.close()
        return self.returncode

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            return self._wait(0)
        return None


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


def status_of(child: int) -> int:
    """How a forked child has ended; one that does not end is killed."""
    deadline = time.monotonic() + PATIENCE
    while (ended := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.001)
    return ended[1]
