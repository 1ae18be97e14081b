"""What each test spoke: TCP of its own, or MPA. Counted below what is tested, and not asked of it.

Python reports every `connect` of a socket to its audit hooks, whoever calls it. A stream of `pyiwarp.sockets` has a TCP
connection too, which the thread of the engine makes; one that any other thread makes is plain TCP.
"""

from __future__ import annotations

import socket
import sys
import threading
from typing import Any, Final

from interop.cpython import iwarp

FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)


class Tally:
    """Counts from the last `reset` on."""

    def __init__(self, kind: type[socket.socket]) -> None:
        self._lock = threading.Lock()
        self._plain = self._accepted = self._streams = 0
        sys.addaudithook(self._audit)
        self._count_accepted(kind)
        iwarp.on_stream(self._stream)

    def reset(self) -> None:
        """Begin with zero."""
        with self._lock:
            self._plain = self._accepted = self._streams = 0

    def counts(self) -> dict[str, int]:
        """TCP connections asked for outside of the engine, sockets that the test accepted, ends of streams over MPA."""
        with self._lock:
            return {"plain": self._plain, "accepted": self._accepted, "streams": self._streams}

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and not iwarp.in_the_engine():
            sock = arguments[0]
            if sock.family in FAMILIES and sock.type == socket.SOCK_STREAM:
                with self._lock:
                    self._plain += 1

    def _count_accepted(self, kind: type[socket.socket]) -> None:
        accept = kind.accept

        def counting(self_: socket.socket) -> tuple[socket.socket, Any]:
            accepted = accept(self_)
            if self_.family in FAMILIES:
                with self._lock:
                    self._accepted += 1
            return accepted

        kind.accept = counting  # type: ignore[method-assign, assignment]  # of every socket

    def _stream(self) -> None:
        with self._lock:
            self._streams += 1
