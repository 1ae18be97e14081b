"""What `pyiwarp conform` prints: progress while cases run, then failures with their octets and a table of groups."""

from __future__ import annotations

import json as jsonlib
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.results import Report, Result

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyiwarp.conformance.case import Case

__all__ = ["RunDisplay", "list_cases", "show_report"]

STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.DEVIATES: "yellow",
    Verdict.CANNOT: "cyan",
    Verdict.SKIPPED: "dim",
    Verdict.ERROR: "bold magenta",
}


class RunDisplay:
    """The progress of a run on standard error: a bar with the current case on a terminal, else a line for each verdict.

    With `quiet` there is neither.
    """

    def __init__(self, total: int, *, quiet: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._total = total
        self._ended = 0
        self._with_lines = not quiet and not self._console.is_terminal
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._bar.add_task("probing the peer", total=total)

    def __enter__(self) -> RunDisplay:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def listening(self, port: int) -> None:
        """The bench waits for the peer at `port`."""
        self._console.print(f"waiting for a peer at port {port}", markup=False, soft_wrap=True)

    def begun(self, case: Case) -> None:
        """A case begins."""
        self._bar.update(self._task, description=f"{case.id}  {case.title}"[:70])

    def ended(self, result: Result) -> None:
        """A case has its verdict."""
        self._bar.advance(self._task)
        self._ended += 1
        if self._with_lines and result.verdict is not Verdict.SKIPPED:
            line = f"{self._ended}/{self._total}  {result.verdict.value}  {result.case.id}  {result.case.title}"
            self._console.print(line, markup=False, soft_wrap=True)


def show_report(report: Report) -> None:
    """Print failures with their details, then the table, then one line."""
    console = Console(highlight=False)
    for result in report.results:
        if result.verdict.bad or result.verdict is Verdict.DEVIATES:
            style = STYLES[result.verdict]
            console.print(f"[{style}]{result.verdict.value.upper()}[/]")
            for line in result.details():
                console.print(escape(line), soft_wrap=True)
            console.print()
    if report.results:
        console.print(_table(report))
    for line in _missing_abilities(report):
        console.print(escape(line), soft_wrap=True)
    console.print(escape(_conclusion(report)), soft_wrap=True)


def _table(report: Report) -> Table:
    verdicts = [verdict for verdict in Verdict if report.counts.get(verdict)]
    table = Table("group", *(f"[{STYLES[verdict]}]{verdict.value}[/]" for verdict in verdicts))
    for column in table.columns[1:]:
        column.justify = "right"
    groups: dict[str, Counter[Verdict]] = {}
    for result in report.results:
        groups.setdefault(result.case.group, Counter())[result.verdict] += 1
    for group, counts in groups.items():
        table.add_row(group, *(str(counts[verdict] or "") for verdict in verdicts))
    table.add_section()
    table.add_row("all", *(str(report.counts[verdict]) for verdict in verdicts))
    return table


def _missing_abilities(report: Report) -> list[str]:
    reasons = Counter(result.reason for result in report.results if result.verdict is Verdict.CANNOT)
    return [f"the peer cannot: {count} case{'' if count == 1 else 's'}: {reason}" for reason, count in reasons.items()]


def _conclusion(report: Report) -> str:
    if report.abandoned:
        return f"{report.peer}: {report.abandoned}"
    ran = sum(report.counts.get(verdict, 0) for verdict in (Verdict.PASSED, Verdict.FAILED, Verdict.DEVIATES))
    bad = sum(count for verdict, count in report.counts.items() if verdict.bad)
    what = "nothing failed" if report.passed else f"{bad} failed" if ran else "no case could be run"
    number = f"{ran} case{'' if ran == 1 else 's'}"
    return f"{report.peer} ({report.direction}, level {report.level}): {number} in {report.seconds:.1f} s, {what}"


def list_cases(cases: Sequence[Case], *, json: bool) -> None:
    """One line per case: id, level, directions, strictness, title; with `json` one array with everything."""
    if json:
        print(jsonlib.dumps([case.as_data() for case in cases], indent=1))
        return
    for case in cases:
        directions = "both" if len(case.directions) > 1 else next(iter(case.directions)).value
        print(f"{case.id:24} {case.level.word:6} {directions:7} {case.strictness.value:6} {case.title}")
