"""From a command to the event loop and back: the loop, the signals, and every error as one line."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

import typer

from pyiwarp.cli.faults import Interrupted
from pyiwarp.cli.onscreen import explain
from pyiwarp.errors import IwarpError

__all__ = ["LoopName", "complain", "fail", "loop_factory", "run"]

T = TypeVar("T")


class LoopName(StrEnum):
    """Which event loop a command uses; AUTO takes uvloop where it is installed."""

    AUTO = "auto"
    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


def complain(line: str) -> None:
    """One line on standard error."""
    print(f"pyiwarp: {line}", file=sys.stderr, flush=True)


def fail(line: str) -> NoReturn:
    """Say what went wrong and end with 1."""
    complain(line)
    raise typer.Exit(1)


def loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the event loop of that name; ends the command if uvloop is asked for and not there."""
    if name is LoopName.ASYNCIO:
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        if name is LoopName.UVLOOP:
            fail("uvloop is not installed")
        return asyncio.SelectorEventLoop
    return uvloop.new_event_loop


def run(work: Coroutine[Any, Any, T], loop: LoopName = LoopName.AUTO) -> T:
    """Run `work` to its end; SIGINT and SIGTERM cancel it, its errors become one line and exit 1."""
    try:
        with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            return runner.run(_interruptible(work))
    except BrokenPipeError:
        raise  # whoever read standard output has left: no error to speak of
    except Interrupted as error:
        fail(str(error))
    except (IwarpError, OSError) as error:
        fail(explain(error))


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Raises `Interrupted` if a signal ended the work before it could say so itself."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise Interrupted("interrupted") from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
