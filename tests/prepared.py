"""A process that has imported the `pyiwarp` command, and forks a process for each command that tests start.

Such a process is `python -m pyiwarp` with all that belongs to it: signals, descriptors, exit and exit code. Only the
time to import is saved, which is most of what a short command takes. `tests.children` starts it.

What it is asked is a line of JSON (arguments, environment, directory), and comes with four descriptors: the three
standard streams, and a socket over which it says the number of the new process, and in the end its exit status. The
number stays the process's own until that socket is closed at the other end.
"""

from __future__ import annotations

import gc
import importlib
import io
import json
import os
import runpy
import select
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

__all__ = ["Asked", "ask", "heard"]

USED: Final = (
    "pyiwarp.cli",
    "pyiwarp.cli.demo",
    "pyiwarp.cli.perf_screen",
    "pyiwarp.cli.rping.client",
    "pyiwarp.cli.rping.server",
    "pyiwarp.cli.transfers",
    "pyiwarp.conformance.catalogue",
    "pyiwarp.conformance.runner",
    "pyiwarp.target.server",
    "typer._adapters",
    "uvloop",
)
"""What commands import when they run, beside what comes with it."""

_MOST: Final = 1 << 20  # octets of what is asked
_NUMBER: Final = 4  # octets


class Asked(NamedTuple):
    """A command to start."""

    argv: list[str]
    environ: dict[str, str]
    directory: str


def ask(server: socket.socket, asked: Asked, streams: Sequence[int]) -> socket.socket:
    """Ask `server` for a process; returns the socket over which it tells of it."""
    near, far = socket.socketpair()
    with far:
        socket.send_fds(server, [json.dumps(asked).encode()], [*streams, far.fileno()])
    return near


def heard(told: socket.socket) -> int:
    """What comes next over that socket: the process's number, then how it ended, as `Popen.returncode` has it."""
    octets = told.recv(_NUMBER)
    return int.from_bytes(octets, "big", signed=True) if octets else -signal.SIGKILL  # the server was killed, too


class _Forks:
    """The processes that were forked and have not been forgotten."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self._poll = select.poll()
        self._poll.register(server, select.POLLIN)
        self._running: dict[int, tuple[int, socket.socket]] = {}  # by pidfd
        self._ended: dict[int, tuple[int, socket.socket]] = {}  # by the socket

    def serve(self) -> Asked | None:
        """Fork what is asked for; returns in each process that was forked, and None where nobody asks any more."""
        while True:
            for ready, _ in self._poll.poll():
                if ready == self._server.fileno():
                    octets, descriptors, _, _ = socket.recv_fds(self._server, _MOST, 4)
                    if not octets:
                        return None
                    if (asked := self._fork(Asked(*json.loads(octets)), descriptors)) is not None:
                        return asked
                elif ready in self._running:
                    self._tell(ready)
                else:
                    self._forget(ready)

    def _fork(self, asked: Asked, descriptors: list[int]) -> Asked | None:
        *streams, teller = descriptors
        pid = os.fork()
        if not pid:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            return asked
        os.setpgid(pid, pid)
        for stream in streams:
            os.close(stream)
        process = os.pidfd_open(pid)
        self._running[process] = pid, socket.socket(fileno=teller)
        self._poll.register(process, select.POLLIN)
        self._say(self._running[process][1], pid)
        return None

    @staticmethod
    def _say(teller: socket.socket, number: int) -> None:
        teller.sendall(number.to_bytes(_NUMBER, "big", signed=True))

    def _tell(self, process: int) -> None:
        """Tell how it has ended. It is not waited for: its number must not be given to another process yet."""
        pid, teller = self._running.pop(process)
        how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert how is not None
        self._poll.unregister(process)
        os.close(process)
        self._ended[teller.fileno()] = pid, teller
        self._poll.register(teller, 0)  # until the other end is closed
        with suppress(BrokenPipeError):  # nobody wants to know
            self._say(teller, how.si_status if how.si_code == os.CLD_EXITED else -how.si_status)

    def _forget(self, told: int) -> None:
        pid, teller = self._ended.pop(told)
        self._poll.unregister(told)
        teller.close()
        os.waitpid(pid, 0)


def _open_standard_streams() -> None:
    """As Python does when it starts: the files behind them have changed."""
    for name, number, mode in (("stdin", 0, "rb"), ("stdout", 1, "wb"), ("stderr", 2, "wb")):
        old = getattr(sys, name)
        below = open(number, mode, buffering=0 if number else -1, closefd=False)  # noqa: SIM115 - PYTHONUNBUFFERED
        new = io.TextIOWrapper(below, encoding=old.encoding, errors=old.errors, newline="\n", write_through=number > 0)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)


def main(descriptor: int) -> None:
    """Serve the socket `descriptor`; in a process that was forked, be the command."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as where it is not ignored
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in USED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    asked = _Forks(socket.socket(fileno=descriptor)).serve()
    if asked is None:
        os._exit(0)
    _open_standard_streams()
    os.environ.clear()
    os.environ.update(asked.environ)
    os.chdir(asked.directory)
    sys.argv[:] = ["pyiwarp", *asked.argv]
    runpy.run_module("pyiwarp", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
