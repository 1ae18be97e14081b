"""`python -m interop.pyverbs`: rdma-core's Python tests on `pyiwarp.pyverbs`, and what is not as the table has it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from interop.errors import InteropError
from interop.foreign.judged import Told
from interop.foreign.outcome import Outcome
from interop.pyverbs import expected, page, source
from interop.pyverbs.expected import Passed, Skipped, Table
from interop.pyverbs.runs import LIMIT, Run
from interop.siw.image import cache_directory

app = typer.Typer(add_completion=False, help=__doc__)

Only = Annotated[
    list[str], typer.Argument(help="Patterns of tests, as test_qp.*; all without any.", show_default=False)
]
Runs = Annotated[int, typer.Option(min=1, help="How often, each time in a new process.")]
Version = Annotated[str, typer.Option(help="Of pyverbs on PyPI.")]
Tests = Annotated[Path | None, typer.Option(help="rdma-core, or its directory of tests, instead of what PyPI has.")]
Limit = Annotated[float, typer.Option(help="Seconds for each test.")]
Docs = Annotated[Path, typer.Option("--docs", help="Where the page of a whole run goes.")]
Cache = Annotated[Path | None, typer.Option(help="Directory for the tests (default: $PYIWARP_CACHE or ~/.cache).")]


@app.command()
def run(
    only: Only = [],  # noqa: B006 - typer gives each call its own
    runs: Runs = 1,
    version: Version = source.VERSION,
    tests: Tests = None,
    limit: Limit = LIMIT,
    docs: Docs = page.PAGE,
    cache: Cache = None,
) -> None:
    """Run the tests. Status 1 if anything is not as it is to be, 2 if they cannot be run.

    With another version than the table is about, only tests that fail are faults; what else differs is told.
    """
    console = Console(stderr=True, highlight=False)
    table = expected.load()
    ours = tests is None and version == table.version
    held = cache_directory(cache).parent / "pyverbs"
    try:
        directory = source.download(version, held) if tests is None else source.given(tests)
        faulty = 0
        for number in range(1, runs + 1):
            began = time.monotonic()
            one = Run(directory, only, limit)
            one.play(held / "lock-7471")
            found = _faults(one, table, ours=ours, whole=ours and not only, console=console)
            faulty += bool(found)
            took = f"{time.monotonic() - began:.0f} s"
            console.print(f"run {number} of {runs}: {_summary(one.ran, table)}; {took}", soft_wrap=True, markup=False)
            for fault in found:
                console.print(f"FAIL  {fault}\n", markup=False, soft_wrap=True)
    except InteropError as error:
        console.print(f"cannot be run: {error}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from error
    if ours and not only:
        docs.write_text(page.text(table))
    console.print(f"{faulty} of {runs} runs with faults" if faulty else "all as it is to be")
    raise typer.Exit(1 if faulty else 0)


def _faults(one: Run, table: Table, *, ours: bool, whole: bool, console: Console) -> list[str]:
    if ours:
        return expected.faults(one.ran, table, whole=whole) + one.left
    for difference in expected.differences(one.ran, table):
        console.print(difference, markup=False, soft_wrap=True)
    bad = [told for told in one.ran if told.outcome in expected.BAD]
    return [f"{expected.short(told)} {told.outcome.value}\n{told.detail}".rstrip() for told in bad] + one.left


def _summary(ran: Sequence[Told], table: Table) -> str:
    entries = {told.test: table.entry(expected.short(told)) for told in ran}
    vendor = {test for test, entry in entries.items() if isinstance(entry, Skipped) and entry.vendor}
    generic = [told for told in ran if told.test not in vendor]
    counts = Counter(told.outcome for told in generic)
    said = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
    passed = [entries[told.test] for told in generic if told.outcome is Outcome.PASSED]
    shown = Counter(entry.what.value for entry in passed if isinstance(entry, Passed))
    shows = ", ".join(f"{count} {what}" for what, count in shown.most_common())
    return f"{len(generic)} generic tests: {said or 'none'} ({shows}); {len(vendor)} of vendors"


if __name__ == "__main__":
    app()
