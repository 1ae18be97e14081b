"""The engine thread: one for each process, with an event loop of its own, that serves all blocking sockets.

It is started when the first socket needs it. A forked child has its own, when it needs one: the connections that it
has inherited are served by its parent. It is a daemon; when the program ends, what was sent has some time to leave.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import select
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol, TypeVar

__all__ = ["EngineThread", "Served", "SocketCounters", "counters", "engine", "in_engine_thread"]

T = TypeVar("T")

AT_EXIT: Final = 5.0
"""Seconds without progress after which a program that ends gives up sending."""

AT_EXIT_MOST: Final = 60.0
"""Seconds after which it gives up however much moves: a peer that takes an octet now and then holds up no program."""

_LOOK: Final = 0.02


class Served(Protocol):
    """What the engine thread does for one socket, with the near end of its pair."""

    near: socket.socket

    def on_hang_up(self) -> None:
        """The program has closed its end, or shut both directions."""

    def leave(self) -> None:
        """The program ends: nothing more is written than what is there."""

    def waiting(self) -> int:
        """Octets that have not left yet."""


class SocketCounters(NamedTuple):
    """What became of the sockets of this process."""

    connected: int = 0
    """Streams that a socket has connected."""
    accepted: int = 0
    """Streams that a listening socket has taken, whether the program has accepted them or not."""
    refused: int = 0
    """Attempts to connect that have failed."""


class EngineThread:
    """Runs the loop; `engine` gives the one of this process."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._hang_ups = select.epoll()
        self._served: dict[int, Served] = {}
        self.counters = SocketCounters()
        self.scratch = memoryview(bytearray(1 << 18))
        """Octets that are on their way between a pair and a stream; only within one callback."""
        begun: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(target=self._run, args=(begun,), name="pyiwarp.sockets", daemon=True)
        self._thread.start()
        self.loop = begun.result()

    def __repr__(self) -> str:
        return f"<EngineThread {len(self._served)} sockets>"

    def _run(self, begun: Future[asyncio.AbstractEventLoop]) -> None:
        """Make the loop, where no Ctrl-C can leave it half made, and run it."""
        try:
            loop = asyncio.SelectorEventLoop(self._selector)
            loop.add_reader(self._hang_ups.fileno(), self._on_hang_ups)
        except BaseException as error:
            begun.set_exception(error)
            return
        asyncio.set_event_loop(loop)
        begun.set_result(loop)
        loop.run_forever()

    @property
    def is_here(self) -> bool:
        """Whether it serves this process; after a fork the parent's serves the parent alone."""
        return self is _engine

    @property
    def is_current(self) -> bool:
        """Whether this is the thread."""
        return threading.current_thread() is self._thread

    # --- from other threads ------------------------------------------------------------------------------------------

    def call(self, what: Callable[[], object]) -> None:
        """Call `what` in the thread, soon."""
        self.loop.call_soon_threadsafe(what)

    def ask(self, what: Callable[[], T]) -> T:
        """Call `what` in the thread; returns or raises what it does."""
        answer: Future[T] = Future()

        def call() -> None:
            try:
                answer.set_result(what())
            except Exception as error:
                answer.set_exception(error)

        if self.is_current:
            call()
        else:
            self.loop.call_soon_threadsafe(call)
        return answer.result()

    # --- in the thread -----------------------------------------------------------------------------------------------

    def count(self, name: str) -> None:
        """One more of `SocketCounters`."""
        self.counters = self.counters._replace(**{name: getattr(self.counters, name) + 1})

    def watch(self, served: Served) -> None:
        """Tell `served` when its program hangs up, whatever else happens."""
        fileno = served.near.fileno()
        self._served[fileno] = served
        self._hang_ups.register(fileno, 0)  # hanging up is told without being asked for

    def unwatch(self, served: Served) -> None:
        """Before its near end is closed."""
        fileno = served.near.fileno()
        if self._served.pop(fileno, None) is not None:
            self._unregister(fileno)

    def _unregister(self, fileno: int) -> None:
        try:
            self._hang_ups.unregister(fileno)
        except FileNotFoundError:  # it has hung up before
            return

    def _on_hang_ups(self) -> None:
        for fileno, _ in self._hang_ups.poll(0):
            self._unregister(fileno)
            if (served := self._served.get(fileno)) is not None:
                served.on_hang_up()

    def look_for_hang_ups(self) -> None:
        """What has been closed just now is closed when this returns."""
        self._on_hang_ups()

    # --- the end -----------------------------------------------------------------------------------------------------

    def finish(self, patience: float = AT_EXIT, most: float = AT_EXIT_MOST) -> None:
        """The program ends: let what was written leave, as long as something moves, for `most` seconds in all."""
        try:
            asyncio.run_coroutine_threadsafe(self._leave(patience, most), self.loop).result()
        except RuntimeError:  # the loop is gone
            return

    async def _leave(self, patience: float, most: float) -> None:
        for served in list(self._served.values()):
            served.leave()
        loop = asyncio.get_running_loop()
        begun = since = loop.time()
        waiting = self._waiting()
        while self._served and loop.time() < min(since + patience, begun + most):
            await asyncio.sleep(_LOOK)
            if (now := self._waiting()) != waiting:
                waiting, since = now, loop.time()

    def _waiting(self) -> tuple[int, int]:
        return len(self._served), sum(served.waiting() for served in self._served.values())

    def leave_behind(self) -> None:
        """This process is a forked child: its copies of the descriptors are closed, the parent's stay as they are."""
        for served in self._served.values():
            os.close(served.near.detach())
        for closing in (self._hang_ups, self._selector):
            os.close(closing.fileno())


_engine: EngineThread | None = None
_left_behind: Final[list[EngineThread]] = []  # a loop that is running in the parent is not to be closed here
_lock = threading.Lock()


def engine() -> EngineThread:
    """The engine thread of this process; it is started if there is none."""
    global _engine
    with _lock:
        if _engine is None:
            _engine = EngineThread()
        return _engine


def counters() -> SocketCounters:
    """What became of the sockets of this process; a forked child begins anew."""
    return SocketCounters() if _engine is None else _engine.counters


def in_engine_thread() -> bool:
    """Whether the caller is the engine thread."""
    return _engine is not None and _engine.is_current


def _in_child() -> None:
    global _engine, _lock
    _lock = threading.Lock()
    if _engine is not None:
        _left_behind.append(_engine)
        _engine.leave_behind()
        _engine = None


def _at_exit() -> None:
    if _engine is not None:
        _engine.finish()


os.register_at_fork(after_in_child=_in_child)
atexit.register(_at_exit)
