"""The matrix: which scenario is run against which peer in which role, and what became of each run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase

from .deviations import Deviation
from .errors import InteropError
from .peer import PeerKind, Role
from .scenarios import Scenario


class Outcome(Enum):
    """What the table shows."""

    PASS = "pass"
    FAIL = "fail"
    CANNOT = "peer cannot"
    DIFFERS = "differs as declared"


@dataclass(frozen=True)
class Cell:
    """One place in the table."""

    scenario: Scenario
    peer: PeerKind
    role: Role

    def __str__(self) -> str:
        return f"{self.scenario.name} with {self.peer.name}, {self.role.value}"


@dataclass(frozen=True)
class Result:
    """What became of a cell; `message` says why it failed or what the peer cannot do."""

    cell: Cell
    outcome: Outcome
    message: str = ""
    deviations: tuple[Deviation, ...] = field(default=())
    seconds: float = 0.0


def cells(
    peers: Iterable[PeerKind],
    scenarios: Iterable[Scenario],
    roles: Sequence[Role] = tuple(Role),
    names: Sequence[str] = ("*",),
) -> Iterator[Cell]:
    """Every cell there is; `names` are patterns for the names of scenarios, of which each must fit some.

    Raises `InteropError` for a pattern that fits none.
    """
    scenarios = list(scenarios)
    for pattern in names:
        if not any(fnmatchcase(scenario.name, pattern) for scenario in scenarios):
            raise InteropError(f"no scenario is called {pattern!r}; --list shows all")
    chosen = [each for each in scenarios if any(fnmatchcase(each.name, pattern) for pattern in names)]
    for peer in peers:
        for scenario in chosen:
            if peer.groups is None or scenario.group in peer.groups:
                yield from (Cell(scenario, peer, role) for role in scenario.needs if role in roles)


def cannot(cell: Cell) -> Result | None:
    """The result of a cell that need not be run, because the peer lacks what it takes."""
    lacking = cell.scenario.lacking(cell.peer, cell.role)
    return Result(cell, Outcome.CANNOT, f"{cell.peer.name} cannot {lacking.words}") if lacking else None
