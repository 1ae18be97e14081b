"""The thread and the event loop that an object belongs to, checked in debug mode only.

Nothing in the stack is locked. A queue pair that a second thread uses goes wrong in ways that are hard to see, so in
debug mode (`Device(debug=True)`, the environment variable PYIWARP_DEBUG, or `python -X dev`) objects are made of
classes that check each call. Without debug mode there is no check and no cost. What is made while a `SharedPoller` is
held belongs to whoever holds that.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from pyiwarp.drivers.poller import own
from pyiwarp.drivers.shared_poller import SharedPoller
from pyiwarp.errors import WrongThread

if TYPE_CHECKING:
    import asyncio

__all__ = ["debugging", "watched"]

Kind = TypeVar("Kind")


def debugging() -> bool:
    """Whether the environment asks for debug mode: PYIWARP_DEBUG is set to more than 0, or Python runs with -X dev."""
    return sys.flags.dev_mode or os.environ.get("PYIWARP_DEBUG", "0") not in ("", "0")


class _Owner:
    """Who may use an object: the thread that made it, in the loop that ran then, or else the first that it is used in.

    Or whoever holds the shared poller that was held then.
    """

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.loop = _running_loop()
        self.shared = own.poller if isinstance(own.poller, SharedPoller) else None

    def check(self, thing: object) -> None:
        """Raises `WrongThread` unless this thread and this loop may use `thing`."""
        if self.shared is not None:
            self.shared.check_thread()
            return
        thread = threading.current_thread()
        if thread is not self.thread:
            raise WrongThread(f"thread {thread.name!r} uses what belongs to thread {self.thread.name!r}: {thing!r}")
        loop = _running_loop()
        if loop is None:  # between two runs, or in a clean-up after the last
            return
        if self.loop is None:
            self.loop = loop
        elif loop is not self.loop:
            raise WrongThread(f"the event loop {loop!r} uses what belongs to another one, {self.loop!r}: {thing!r}")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


@functools.cache
def watched(kind: type[Kind], *methods: str) -> type[Kind]:
    """A class like `kind` whose `methods` raise `WrongThread` where the object does not belong."""

    def begin(self: Any, *args: Any, **options: Any) -> None:
        self._owner = _Owner()
        kind.__init__(self, *args, **options)

    return type(kind.__name__, (kind,), {"__init__": begin, **dict(_checked(kind, methods))})


def _checked(kind: type, methods: Iterable[str]) -> Iterable[tuple[str, Callable[..., Any]]]:
    for name in methods:
        method = getattr(kind, name)

        @functools.wraps(method)
        def checked(self: Any, *args: Any, _method: Callable[..., Any] = method, **options: Any) -> Any:
            self._owner.check(self)
            return _method(self, *args, **options)

        yield name, checked
