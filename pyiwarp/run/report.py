"""Says on standard error what of the program is not replaced, and at the end whether its sockets spoke MPA."""

from __future__ import annotations

import os
import socket
import sys
import threading
from typing import Any, Final, TextIO

from pyiwarp.pump import address_word
from pyiwarp.pyverbs.installing import installed_elsewhere
from pyiwarp.sockets import counters
from pyiwarp.sockets.family.af_iwarp import INTERNET

__all__ = ["PyverbsReport", "Report"]

FAILED: Final = 3
"""The exit status if `--check` finds fault."""

_MOST: Final = 100
"""Lines of one run: a program that connects to everybody must not fill the terminal."""

_STARTING: Final = ("subprocess.Popen", "os.posix_spawn", "os.exec")


class _Said:
    """Lines on standard error, each of them once."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        """Print one line, once."""
        with self._lock:
            if line in self._said or len(self._said) >= _MOST:
                return
            self._said.add(line)
        print(f"pyiwarp run: {line}", file=self._stream or sys.stderr, flush=True)


class PyverbsReport(_Said):
    """Told by Python's audit hooks when pyverbs is imported, and when another process is started that has its own."""

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`."""
        if event == "import" and arguments[0] == "pyverbs":
            other = installed_elsewhere()
            beside = "there is no other" if other is None else f"the one at {other} is not used"
            self.say(f"pyverbs is pyiwarp.pyverbs; {beside}")
        elif event in _STARTING:
            self.say(f"not replaced: pyverbs in another process, {os.fsdecode(arguments[0])}")


class Report(_Said):
    """Told by `install` and by Python's audit hooks, which see sockets that `install` does not reach.

    `in_engine` says whether the caller is the thread whose TCP connections are below streams of iWARP.
    """

    def __init__(self, in_engine: Any, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._in_engine = in_engine
        self.plain = 0
        """How often a socket that stayed TCP was connected or began to listen."""

    def on_plain(self, verb: str, address: Any) -> None:
        """A listening socket stayed TCP; the connecting ones are seen by `audit`."""
        if verb == "listen":
            self._plain("listens at", address)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """For `sys.addaudithook`."""
        if event == "socket.connect":
            sock, address = arguments
            if sock.family in INTERNET and sock.type == socket.SOCK_STREAM and not self._in_engine():
                self._plain("connects to", address)
        elif event in _STARTING:
            self.say(f"not replaced: the sockets of another process, {os.fsdecode(arguments[0])}")

    def _plain(self, what: str, address: Any) -> None:
        with self._lock:
            self.plain += 1
        self.say(f"TCP, not iWARP: a socket {what} {_named(address)}")

    def finish(self) -> bool:
        """Say what became of all sockets; returns whether MPA was spoken and nothing else."""
        streams = counters()
        self.say(
            f"{streams.connected} streams connected and {streams.accepted} accepted over MPA, {self.plain} over TCP"
        )
        return bool(streams.connected + streams.accepted) and not self.plain


def _named(address: Any) -> str:
    if not isinstance(address, tuple) or len(address) < 2:
        return repr(address)
    host, *rest = address
    return address_word((str(host), *rest))
