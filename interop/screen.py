"""Shows a run while it goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .matrix import Cell, Outcome, Result
from .report import MARKS


class Screen:
    """Told of each cell as it starts and ends; a context manager."""

    def __init__(self, console: Console, count: int) -> None:
        self._console = console
        self._count = count
        self._done = 0
        self._start = time.monotonic()
        self._running: dict[Cell, None] = {}
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("", total=count)

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def started(self, cell: Cell) -> None:
        """A cell is being run."""
        self._running[cell] = None
        self._progress.update(self._task, description=", ".join(str(each) for each in self._running))

    def ended(self, result: Result) -> None:
        """A cell has its result."""
        self._done += 1
        self._running.pop(result.cell, None)
        self._progress.update(self._task, advance=1)
        if result.outcome is Outcome.FAIL:
            self._console.print(f"FAIL  {result.message}", markup=False, soft_wrap=True)
        elif not self._console.is_terminal and result.outcome is not Outcome.CANNOT:
            self._line(result)

    def _line(self, result: Result) -> None:
        place = f"{self._done:4}/{self._count} {time.monotonic() - self._start:6.1f} s"
        line = f"{place}  {MARKS[result.outcome]:<8} {result.cell} ({result.seconds:.1f} s)"
        self._console.print(line, markup=False, soft_wrap=True)
