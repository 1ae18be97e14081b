"""`python -m interop.conform`: the conformance tester against Linux siw, case by case, and the page about it."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pyiwarp.conformance.case import Direction, Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.manners import Manners
from pyiwarp.errors import UsageError

from ..siw import prepare_image
from ..siw.errors import SiwError
from ..siw.progress import Progress
from .campaign import Campaign, Outcome, run_campaigns

app = typer.Typer(add_completion=False, help=__doc__)
SIW = Manners(settle=0.02, little_endian_terminates=True)

Only = Annotated[list[str], typer.Option("--only", help="Only cases that this names; repeatable.")]
Skip = Annotated[list[str], typer.Option("--skip", help="Not the cases that this names; repeatable.")]
DirectionName = Annotated[Direction | None, typer.Option("--direction", help="Only this one.")]
JsonFile = Annotated[Path, typer.Option("--json", help="Write all results to this file.")]
Timeout = Annotated[float, typer.Option(min=0.2, help="Seconds that a reaction of siw may take.")]
Cache = Annotated[
    Path | None, typer.Option(help="Directory of the guest's image (default: $PYIWARP_CACHE or ~/.cache).")
]


@app.command()
def run(
    only: Only = [],  # noqa: B006
    skip: Skip = [],  # noqa: B006
    direction: DirectionName = None,
    json: JsonFile = Path("siw-conformance.json"),
    timeout: Timeout = 2.0,
    cache: Cache = None,
) -> None:
    """Run the cases against siw in both directions. Status 1 if something is not as declared."""
    cases = select(only, skip)
    console = Console(stderr=True, highlight=False)
    image = prepare_image(cache, Progress(console))
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    begun = time.monotonic()

    def ended(outcome: Outcome) -> None:
        if outcome.result.verdict in (Verdict.FAILED, Verdict.ERROR):
            for line in (f"{outcome.direction.value}:", *outcome.result.story()):
                console.print(line, markup=False, soft_wrap=True)

    campaigns = [
        Campaign(image, each, timeout=timeout, manners=SIW, judge=None, ended=ended)
        for each in ([direction] if direction else Direction)
    ]
    outcomes = asyncio.run(run_campaigns(campaigns, cases))
    json.write_text(jsonlib.dumps([outcome.as_data() for outcome in outcomes], indent=1) + "\n")
    counts = {verdict: sum(outcome.result.verdict is verdict for outcome in outcomes) for verdict in Verdict}
    console.print(
        ", ".join(f"{n} {verdict.value}" for verdict, n in counts.items() if n), f"{time.monotonic() - begun:.0f} s"
    )
    raise typer.Exit(1 if any(outcome.result.verdict.bad for outcome in outcomes) else 0)


def main() -> None:
    """Run the command line; errors of ours are one message and status 2."""
    try:
        app()
    except (UsageError, SiwError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
