"""Running a command on an event loop: the loop, the signals, and each error as one line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from pyiwarp.cli import streams
from pyiwarp.cli.terminal import explain, is_no_name
from pyiwarp.errors import IwarpError

if TYPE_CHECKING:
    import asyncio

__all__ = ["Interrupted", "LoopName", "complain", "end_server", "fail", "loop_factory", "run"]

T = TypeVar("T")


class Interrupted(Exception):
    """A signal of the user or of the system asked the program to stop."""


class LoopName(StrEnum):
    """The event loop of a command; AUTO is uvloop where it is installed."""

    AUTO = "auto"
    UVLOOP = "uvloop"
    ASYNCIO = "asyncio"


def complain(line: str) -> None:
    """Print one line on standard error."""
    print(f"pyiwarp: {line}", file=sys.stderr, flush=True)


def fail(line: str) -> NoReturn:
    """Print what went wrong and end the command with exit code 1."""
    complain(line)
    raise typer.Exit(1)


def end_server(interrupted: int, what: str, told: str, facts: Mapping[str, object] | None) -> None:
    """Say how a server ended that was stopped: with exit code 1 if it has interrupted so many of `what`.

    `told` is what else there is to say of its time, as `name=number` words; `facts` is that as data, None if nobody
    wants data.
    """
    if facts is not None:
        from json import dumps

        print(dumps({"event": "stopped", "interrupted": interrupted, **facts}), flush=True)
    plural = "" if interrupted == 1 else "s"
    complain(f"stopped; {interrupted} {what}{plural} interrupted" + (f"; {told}" if told else ""))
    if interrupted:
        raise typer.Exit(1)


def loop_factory(name: LoopName) -> Callable[[], asyncio.AbstractEventLoop]:
    """The factory of the event loop `name`; ends the command if uvloop is asked for and not installed."""
    if name is LoopName.ASYNCIO:
        return _asyncios()
    try:
        import uvloop
    except ImportError:
        if name is LoopName.UVLOOP:
            fail("uvloop is not installed")
        return _asyncios()
    return uvloop.new_event_loop


def _asyncios() -> Callable[[], asyncio.AbstractEventLoop]:
    """The one that Ctrl-C wakes up: on Windows that is not the selector's."""
    import asyncio

    if sys.platform == "win32":
        return asyncio.ProactorEventLoop
    return asyncio.SelectorEventLoop


def run(work: Coroutine[Any, Any, T], loop: LoopName = LoopName.AUTO, *, keep_going: bool = False) -> T:
    """Run `work` to its end. SIGINT and SIGTERM cancel it; an error is printed as one line, with exit code 1.

    With `keep_going` it does not end when standard output takes nothing any more.
    """
    import asyncio

    if keep_going:
        streams.keep_going()
    try:
        with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
            return runner.run(_interruptible(work))
    except BrokenPipeError:
        raise  # the reader of standard output has closed it: not an error
    except Interrupted as error:
        fail(str(error))
    except (IwarpError, OSError) as error:
        fail(explain(error))
    except UnicodeError as error:
        if not is_no_name(error):
            raise
        fail(explain(error))


async def _interruptible(work: Coroutine[Any, Any, T]) -> T:
    """Raises `Interrupted` if a signal cancelled the work and it did not raise an error of its own."""
    import asyncio

    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    with _cancelled_by_signals(loop, task):
        try:
            return await task
        except asyncio.CancelledError:
            raise Interrupted("interrupted") from None


@contextmanager
def _cancelled_by_signals(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> Iterator[None]:
    """SIGINT and SIGTERM cancel the task in the block."""
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, task.cancel)
            except NotImplementedError:  # Windows' loops
                before[number] = signal.signal(number, lambda *_: loop.call_soon_threadsafe(task.cancel))
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            if number in before:
                signal.signal(number, before[number])
            else:
                loop.remove_signal_handler(number)
