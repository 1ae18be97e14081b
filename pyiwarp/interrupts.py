"""Ctrl-C without harm: an interrupt that strikes inside the stack waits until the stack is whole again.

`KeyboardInterrupt` can appear between any two steps of a Python program. Between "the kernel has the octets" and "they
are counted" it would leave a stream that lies to its peer. So Python's own handler of SIGINT, and no other, is replaced
by one that looks where it strikes: outside the stack, or where the stack only waits, it raises at once as always;
inside, it raises as soon as the stack has finished what it was about.
"""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Final, TypeVar

__all__ = ["interruptible", "pending", "raise_pending", "take_over"]

RETRY: Final = 0.002
"""How soon an interrupt that found the stack at work strikes again, in seconds."""

_PACKAGE: Final = __name__.partition(".")[0]
_interruptible: Final[set[CodeType]] = set()
_again: Final[list[bool]] = []  # not empty: the next SIGINT is no new one

pending: Final[list[bool]] = []
"""Not empty while an interrupt waits."""

Function = TypeVar("Function", bound=Callable[..., object])


def interruptible(function: Function) -> Function:
    """Mark a function of the stack in which an interrupt does no harm, because all that it does is wait."""
    _interruptible.add(function.__code__)
    return function


def take_over() -> None:
    """Handle SIGINT from now on, if Python's own handler does and this is the main thread; else do nothing."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)


def raise_pending() -> None:
    """Raise the `KeyboardInterrupt` that found the stack at work, if one did; called where the stack is whole."""
    if pending:
        pending.clear()
        raise KeyboardInterrupt


def _on_interrupt(signum: int, frame: FrameType | None) -> None:
    if _again:
        _again.clear()
        if not pending:
            return  # the stack has raised it meanwhile
    if not _inside_stack(frame):
        pending.clear()
        raise KeyboardInterrupt
    pending.append(True)
    retry = threading.Timer(RETRY, _strike_again)
    retry.daemon = True
    retry.start()


def _strike_again() -> None:
    if pending:
        _again.append(True)
        _thread.interrupt_main(signal.SIGINT)


def _inside_stack(frame: FrameType | None) -> bool:
    """Whether the innermost frame that belongs to the stack is one that must not be left half way."""
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] == _PACKAGE:
            return frame.f_code not in _interruptible
        frame = frame.f_back
    return False
