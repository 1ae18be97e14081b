"""The progress bar of one transfer: octets, rate, time left; on standard error, and only if that is a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from pyiwarp.cli.onscreen import shown

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(name: str, *, visible: bool = True) -> Iterator[Callable[[int, int], None]]:
    """Gives what is to be called with octets done and octets in all; the bar goes away at the end."""
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        disable=not visible or not Console(stderr=True).is_terminal,
    )
    with bar:
        task = bar.add_task(shown(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
