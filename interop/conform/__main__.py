"""`python -m interop.conform`: the conformance tester against Linux siw, case by case, and the page about it."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.profiles import load_profile
from pyiwarp.errors import UsageError

from ..siw import choose, prepare_image
from ..siw.errors import GuestStartError, SiwError
from ..siw.progress import Progress
from .campaign import Campaign, Outcome, run_campaigns
from .page import Run, write_page
from .race import measure_race

PAGE = Path(__file__).parents[2] / "docs" / "siw-conformance.md"
app = typer.Typer(add_completion=False, help=__doc__)

Only = Annotated[list[str], typer.Option("--only", help="Only cases that this names; repeatable.")]
Skip = Annotated[list[str], typer.Option("--skip", help="Not the cases that this names; repeatable.")]
DirectionName = Annotated[Direction | None, typer.Option("--direction", help="Only this one.")]
JsonFile = Annotated[Path, typer.Option("--json", help="Write all results to this file.")]
DocsFile = Annotated[Path, typer.Option("--docs", help="Write the page of a whole run to this file.")]
Timeout = Annotated[float, typer.Option(min=0.2, help="Seconds that a reaction of siw may take.")]
Jobs = Annotated[int, typer.Option(min=1, help="Guests at a time.")]
Cache = Annotated[
    Path | None, typer.Option(help="Directory of the guest's image (default: $PYIWARP_CACHE or ~/.cache).")
]


@app.command()
def run(
    only: Only = [],  # noqa: B006
    skip: Skip = [],  # noqa: B006
    direction: DirectionName = None,
    json: JsonFile = Path("siw-conformance.json"),
    docs: DocsFile = PAGE,
    timeout: Timeout = 1.0,
    jobs: Jobs = 4,
    cache: Cache = None,
) -> None:
    """Run the cases against siw in both directions. Status 1 if something is not as the profile `siw` declares."""
    cases = select(only, skip)
    profile = load_profile("siw")
    console = Console(stderr=True, highlight=False)
    progress = Progress(console)
    image = prepare_image(cache, progress)
    asyncio.run(choose(image, progress))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # what a case breaks is no news here
    begun = time.monotonic()

    def ended(outcome: Outcome) -> None:
        if outcome.result.verdict.bad:
            lines = (f"siw fails where the bench is to {outcome.direction.value}:", *outcome.result.details())
            console.print("\n".join(lines), markup=False, soft_wrap=True)

    directions = [direction] if direction else [*Direction]
    shares = max(1, jobs // len(directions))
    campaigns = [
        (Campaign(image, each, timeout=timeout, profile=profile, ended=ended), cases[part::shares])
        for each in directions
        for part in range(shares)
    ]
    outcomes = asyncio.run(run_campaigns(campaigns))
    outcomes.sort(key=lambda outcome: (outcome.direction is Direction.LISTEN, cases.index(outcome.result.case)))
    json.write_text(jsonlib.dumps([outcome.as_data() for outcome in outcomes], indent=1) + "\n")
    seconds = time.monotonic() - begun
    if not (only or skip or direction):
        write_page(docs, Run(outcomes, profile, asyncio.run(measure_race(image)), seconds))
    counts = Counter(outcome.result.verdict for outcome in outcomes)
    told = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict])
    console.print(f"{told}; {seconds:.0f} s")
    raise typer.Exit(1 if any(outcome.result.verdict.bad for outcome in outcomes) else 0)


def main() -> None:
    """Run the command line; errors of ours are one message and status 2."""
    try:
        app()
    except GuestStartError as error:
        print(f"error: no guest comes up: {error}", file=sys.stderr)
        sys.exit(2)
    except (UsageError, SiwError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
