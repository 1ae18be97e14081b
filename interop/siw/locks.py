"""Locks between processes on files of the cache, so that two do not make the same thing side by side."""

import asyncio
import fcntl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from .errors import PreparationError

_PAUSE = 0.1  # seconds between two attempts


@contextmanager
def locked(file: Path, patience: float, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock `file`; `on_wait` is called when somebody else does.

    Raises `PreparationError` if somebody else still holds it after `patience` seconds.
    """
    with file.open("w") as opened:
        for attempt in _attempts(opened.fileno(), file, patience):
            if attempt == 0:
                on_wait()
            time.sleep(_PAUSE)
        yield


@asynccontextmanager
async def locked_by_task(file: Path, patience: float) -> AsyncIterator[None]:
    """The same for a task, also against other tasks of this process."""
    with file.open("w") as opened:
        for _ in _attempts(opened.fileno(), file, patience):
            await asyncio.sleep(_PAUSE)
        yield


def _attempts(descriptor: int, file: Path, patience: float) -> Iterator[int]:
    """Give the number of each attempt that failed, and end when one has succeeded."""
    end = time.monotonic() + patience
    attempt = 0
    while not _try_lock(descriptor):
        if time.monotonic() > end:
            raise PreparationError(f"{file} is still held after {patience:.0f} s")
        yield attempt
        attempt += 1


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
