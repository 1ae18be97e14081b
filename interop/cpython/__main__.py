"""`python -m interop.cpython`: CPython's own socket tests over TCP and over iWARP, and what is not as expected."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from interop.errors import InteropError
from interop.foreign.judged import LIMIT
from interop.foreign.outcome import Outcome

from . import expected, page, source
from .expected import OVER, Ran
from .runs import Module
from .suites import SUITES

app = typer.Typer(add_completion=False, help=__doc__)

Modules = Annotated[list[str], typer.Option("--module", help=f"Only this one; repeatable: {', '.join(SUITES)}.")]
Classes = Annotated[list[str], typer.Option("--class", help="Only this class; repeatable, with one --module.")]
Over = Annotated[list[str], typer.Option("--over", help="tcp or iwarp; both if not given, TCP first.")]
Limit = Annotated[float, typer.Option(help="Seconds for each test.")]
Docs = Annotated[Path, typer.Option("--docs", help="Where the page of a whole run goes.")]
Cache = Annotated[Path | None, typer.Option(help="Directory for Debian's tests (default: $PYIWARP_CACHE or ~/.cache).")]


@app.command()
def run(
    module: Modules = [],  # noqa: B006 - typer gives each call its own
    classes: Classes = [],  # noqa: B006 - typer gives each call its own
    over: Over = [],  # noqa: B006 - typer gives each call its own
    limit: Limit = LIMIT,
    docs: Docs = page.PAGE,
    cache: Cache = None,
) -> None:
    """Run the tests. Status 1 if anything is not as expected, 2 if they cannot be run."""
    if unknown := [each for each in (*module, *over) if each not in (*SUITES, *OVER)]:
        raise typer.BadParameter(f"there is no {', '.join(unknown)}")
    if classes and len(module) != 1:
        raise typer.BadParameter("--class goes with one --module")
    console = Console(stderr=True, highlight=False)
    chosen = {name: tuple(classes) or SUITES[name] for name in (module or SUITES)}
    entries = expected.load()
    runs: dict[str, list[Ran]] = {}
    found: list[str] = []
    try:
        beside = source.find(cache)
        for each in over or OVER:
            runs[each] = _play(chosen, each, beside, limit, console)
            found += [f"over {each}: {fault}" for fault in expected.faults(runs[each], entries, each, whole=not module)]
    except InteropError as error:
        console.print(f"cannot be run: {error}", markup=False)
        raise typer.Exit(2) from error
    for fault in found:
        console.print(f"FAIL  {fault}\n", markup=False, soft_wrap=True)
    if not (module or over):
        docs.write_text(page.text(runs, entries))
    console.print(f"{len(found)} faults" if found else "all as expected")
    raise typer.Exit(1 if found else 0)


def _play(
    chosen: dict[str, tuple[str, ...]], over: str, beside: Path | None, limit: float, console: Console
) -> list[Ran]:
    ran: list[Ran] = []
    for name, classes in chosen.items():
        began = time.monotonic()
        some = list(Module(name, classes, over, beside, limit).run())
        counts = Counter(each.outcome for each in some)
        said = ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome if counts[outcome])
        spoken = sum(each.streams > 0 for each in some)
        console.print(
            f"{name} over {over}: {said or 'nothing'}; {spoken} over MPA; {time.monotonic() - began:.0f} s",
            soft_wrap=True,
        )
        ran += some
    return ran


if __name__ == "__main__":
    app()
