"""Ctrl-C without harm: an interrupt that arrives inside the stack is raised when the stack is consistent again.

`KeyboardInterrupt` can appear between any two steps of a Python program. Between "the kernel has the octets" and "they
are counted" it would leave a stream whose state does not match the wire. So Python's own handler of SIGINT, and no
other, is replaced by one that looks at the frames. Outside the stack, or where the stack only waits, it raises at once.
Inside, it raises as soon as the stack has finished the call. A callback of the program counts as inside, because the
stack has not finished the call that makes it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Final

__all__ = ["give_back", "interruptible", "pending", "raise_pending", "take_over", "waiting", "waiting_module"]

RETRY: Final = 0.002
"""After how many seconds an interrupt that arrived inside the stack is sent again."""

_PACKAGE: Final = __name__.partition(".")[0]
_UNHEARD: Final = frozenset({"_weakrefset", "weakref"})
"""Modules whose functions Python calls when an object ends: what they raise is printed and lost."""

_interruptible: Final[set[CodeType]] = set()
_waiting: Final[set[CodeType]] = set()
_waiting_modules: Final[set[str]] = set()
_holders: Final[list[bool]] = []  # one for each `give_back` that is owed
_again: Final[list[bool]] = []  # not empty: the next SIGINT is no new one

pending: Final[list[bool]] = []
"""Not empty while an interrupt waits."""


def interruptible(function: Callable[..., object]) -> None:
    """Mark a function of the stack in which an interrupt does no harm, because all that it does is look and wait."""
    if hasattr(function, "__code__"):  # else it is compiled, and an interrupt finds those who called it
        _interruptible.add(function.__code__)


def waiting(function: Callable[..., object]) -> None:
    """Mark a function of the stack that may be left by an interrupt of what it calls, though not between its steps.

    A compiled one has no steps that an interrupt could come between.
    """
    if hasattr(function, "__code__"):
        _waiting.add(function.__code__)


def waiting_module(name: str) -> None:
    """Let Ctrl-C leave the functions of a module of this package while they wait, though not between their steps.

    A module that stands on `pyiwarp.blocking` and waits calls it with its own name. Programs need not: they can be left
    anywhere.
    """
    _waiting_modules.add(name)


def take_over() -> bool:
    """Handle SIGINT from now on, if Python's own handler does; returns whether `give_back` is owed.

    Does nothing but in the main thread, where signals are handled.
    """
    if not _in_main_thread():
        return False
    _holders.append(True)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _on_interrupt)
    return True


def give_back() -> None:
    """Undo one `take_over`, in any thread; the last one restores Python's own handler.

    Python lets no thread but the main one do that. In another one the handler stays, which raises at once when nothing
    is owed, and gives way at the next SIGINT.
    """
    _holders.pop()
    _give_way()


def _give_way() -> None:
    """Restore Python's own handler, if nobody needs this one."""
    unneeded = not _holders and not pending and _in_main_thread()
    if unneeded and signal.getsignal(signal.SIGINT) is _on_interrupt:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def raise_pending() -> None:
    """Raise the `KeyboardInterrupt` that found the stack at work, if one did and it may be raised here.

    It is the main thread's alone: in another one this does nothing.
    """
    if pending and _in_main_thread() and not _inside_stack(sys._getframe(1), calling=True):
        pending.clear()
        raise KeyboardInterrupt


def _on_interrupt(signum: int, frame: FrameType | None) -> None:
    if _again:
        _again.clear()
        if not pending:
            return  # the stack has raised it meanwhile
    if not _inside_stack(frame):
        pending.clear()
        _give_way()
        raise KeyboardInterrupt
    pending.append(True)
    retry = threading.Timer(RETRY, _strike_again)
    retry.daemon = True
    retry.start()


def _strike_again() -> None:
    main = threading.main_thread().ident
    if pending and main is not None:
        _again.append(True)
        _interrupt(main)


def _interrupt(thread: int) -> None:
    """Send SIGINT to the main thread, which ends a sleep too where signals go to threads."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(thread, signal.SIGINT)
    else:
        signal.raise_signal(signal.SIGINT)


def _inside_stack(frame: FrameType | None, *, calling: bool = False) -> bool:
    """Whether some function of the stack would be left half way, or nobody would hear of the interrupt.

    That at which the interrupt strikes must be interruptible; those that have called it, or with `calling` all of
    them, must at least be waiting.
    """
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        if name in _UNHEARD:
            return True
        if name.partition(".")[0] == _PACKAGE:
            code = frame.f_code
            waits = calling and (code in _waiting or name in _waiting_modules)
            if not waits and code not in _interruptible:
                return True
            calling = True
        frame = frame.f_back
    return False
