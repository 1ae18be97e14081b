"""`python -m interop`: runs the matrix of scenarios, peers and roles, and reports."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from . import deviations, peers, prompt, scenarios
from .errors import InteropError
from .guest_pool import GuestPool, needs_image
from .matrix import Cell, Result, cells
from .peer import Role
from .report import Matrix, print_table, write_docs, write_json
from .runner import Runner
from .screen import Screen
from .siw import Image, choose, prepare_image
from .siw.errors import SiwError
from .siw.progress import Progress

PAGE = Path(__file__).parents[1] / "docs" / "interop.md"
app = typer.Typer(add_completion=False, help=__doc__)
ROLES = {"pyiwarp-connects": Role.PYIWARP_CONNECTS, "peer-connects": Role.PEER_CONNECTS}

Peers = Annotated[list[str], typer.Option("--peer", help=f"Only this one; repeatable: {', '.join(peers.ALL)}.")]
Scenarios = Annotated[list[str], typer.Option("--scenario", help="Only those that fit the pattern; repeatable.")]
RoleName = Annotated[str | None, typer.Option("--role", help=f"Only this one: {' or '.join(ROLES)}.")]
Listing = Annotated[bool, typer.Option("--list", help="Say what there is and run nothing.")]
JsonFile = Annotated[Path, typer.Option("--json", help="Write all results to this file.")]
DocsFile = Annotated[
    Path | None, typer.Option("--docs", help="Write the page to this file (the whole matrix: docs/interop.md).")
]
Pcapng = Annotated[Path | None, typer.Option(help="Keep a capture of each scenario in this directory.")]
Keep = Annotated[bool, typer.Option(help="At the first failure stop, and take commands for its guest.")]
Jobs = Annotated[int, typer.Option(min=1, help="Scenarios at a time; each may have a guest of its own.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds for each scenario, instead of its own limit.")]
Cache = Annotated[
    Path | None, typer.Option(help="Directory of the guest's image (default: $PYIWARP_CACHE or ~/.cache).")
]


@app.command()
def run(
    peer: Peers = [],  # noqa: B006
    scenario: Scenarios = [],  # noqa: B006
    role: RoleName = None,
    listing: Listing = False,
    json: JsonFile = Path("results.json"),
    docs: DocsFile = None,
    pcapng: Pcapng = None,
    keep: Keep = False,
    jobs: Jobs = 2,
    timeout: Timeout = None,
    cache: Cache = None,
) -> None:
    """Play every scenario against every peer in both roles, and report. Status 1 if anything is not as declared."""
    chosen = _chosen(peer, scenario, role)
    if listing:
        _list(chosen)
        return
    whole = not (peer or scenario or role)
    if docs is not None and not whole:
        raise typer.BadParameter("--docs describes the whole matrix, so nothing may be left out")
    if pcapng is not None:
        pcapng.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    image = _prepared(cache, Progress(console)) if any(needs_image(cell.peer) for cell in chosen) else None
    matrix = Matrix(asyncio.run(_play(chosen, image, console, 1 if keep else jobs, timeout, pcapng, keep)))
    print_table(matrix, Console(highlight=False))
    write_json(matrix, json)
    if whole:
        write_docs(matrix, docs or PAGE)
    raise typer.Exit(1 if matrix.failed else 0)


def _prepared(cache: Path | None, progress: Progress) -> Image:
    """The image; how its guests are accelerated is settled and said before the first of them is needed."""
    image = prepare_image(cache, progress)
    asyncio.run(choose(image, progress))
    return image


def _chosen(names: Sequence[str], patterns: Sequence[str], role: str | None) -> list[Cell]:
    if unknown := [name for name in names if name not in peers.ALL]:
        raise typer.BadParameter(f"no peer is called {', '.join(unknown)}: there are {', '.join(peers.ALL)}")
    if role is not None and role not in ROLES:
        raise typer.BadParameter(f"a role is {' or '.join(ROLES)}")
    kinds = [kind for kind in peers.ALL.values() if not names or kind.name in names]
    roles = tuple(Role) if role is None else (ROLES[role],)
    return list(cells(kinds, scenarios.ALL.values(), roles, patterns or ("*",)))


def _list(chosen: Sequence[Cell]) -> None:
    for each in dict.fromkeys(cell.scenario for cell in chosen):
        print(f"{each.name:<34} {each.about}")
    for kind in dict.fromkeys(cell.peer for cell in chosen):
        print(f"{kind.name:<34} {kind.about}")


async def _play(
    chosen: Sequence[Cell],
    image: Image | None,
    console: Console,
    jobs: int,
    timeout: float | None,
    pcapng: Path | None,
    keep: bool,
) -> list[Result]:
    # what a connection of a scenario logs when it breaks is no news here
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    logging.getLogger("pyiwarp").setLevel(logging.CRITICAL)
    with Screen(console, len(chosen)) as screen:
        runner = Runner(
            deviations.load(),
            lambda: GuestPool(image, on_failure=prompt.take_commands if keep else None),
            jobs=jobs,
            timeout=timeout,
            pcapng=pcapng,
            stop_at_failure=keep,
            on_start=screen.started,
            on_result=screen.ended,
        )
        return await runner.run(chosen)


def main() -> None:
    """Run the command line; errors of ours are one message and status 2."""
    try:
        app()
    except (InteropError, SiwError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
