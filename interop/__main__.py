"""`python -m interop`: runs the matrix of scenarios, peers and roles, and reports."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import typer

from . import deviations, peers, scenarios
from .errors import InteropError
from .houses import Home
from .matrix import Cell, Outcome, Result, cells
from .peer import PeerKind, Role
from .runner import Runner
from .siw import Image, prepare_image
from .siw.errors import SiwError

app = typer.Typer(add_completion=False)

@app.command()
def main(
    peer: list[str] = [],
    scenario: list[str] = [],
    role: list[str] = [],
    jobs: int = 2,
    timeout: float = 0,
    pcapng: Path | None = None,
) -> None:
    kinds = [peers.ALL[p] for p in peer] or list(peers.ALL.values())
    todo = list(cells(kinds, scenarios.ALL.values(), [Role(r) for r in role] or tuple(Role), scenario or ["*"]))
    image = prepare_image() if any(k.name != "pyiwarp" for k in kinds) else None
    n = 0
    def show(result: Result) -> None:
        nonlocal n
        n += 1
        if result.outcome is not Outcome.CANNOT:
            print(f"{n:4} {result.seconds:6.2f} {result.outcome.value:10} {result.cell}", flush=True)
        if result.message and result.outcome is Outcome.FAIL:
            print("    " + result.message.replace("\n", "\n    "), flush=True)
    runner = Runner(deviations.load(), lambda: Home(image), jobs=jobs, timeout=timeout or None, pcapng=pcapng, on_result=show)
    results = asyncio.run(runner.run(todo))
    from collections import Counter
    print(Counter(r.outcome.value for r in results))
    sys.exit(any(r.outcome is Outcome.FAIL for r in results))

if __name__ == "__main__":
    app()
