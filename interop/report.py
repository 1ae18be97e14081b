"""What a run leaves behind: a table for the terminal, results.json for programs, docs/interop.md for readers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .deviations import Deviation
from .matrix import Outcome, Result
from .peer import Can, PeerKind, Role
from .scenarios import Scenario

MARKS = {Outcome.PASS: "pass", Outcome.FAIL: "FAIL", Outcome.CANNOT: "cannot", Outcome.DIFFERS: "differs"}
_STYLES = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.CANNOT: "dim", Outcome.DIFFERS: "yellow"}
_ARROWS = {Role.PYIWARP_CONNECTS: "→", Role.PEER_CONNECTS: "←"}
_WIDTH = 200  # off a terminal


class Matrix:
    """The results, by scenario, peer and role."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self._found = {(each.cell.scenario.name, each.cell.peer.name, each.cell.role): each for each in results}
        self.peers: list[PeerKind] = list(dict.fromkeys(each.cell.peer for each in results))
        self.scenarios: list[Scenario] = list(dict.fromkeys(each.cell.scenario for each in results))

    def at(self, scenario: Scenario, peer: PeerKind, role: Role) -> Result | None:
        """The result of one cell, if it was part of the run."""
        return self._found.get((scenario.name, peer.name, role))

    @property
    def failed(self) -> list[Result]:
        """The results that are not as they should be."""
        return [each for each in self.results if each.outcome is Outcome.FAIL]

    @property
    def counts(self) -> str:
        """How many of each outcome, in words."""
        found = Counter(each.outcome for each in self.results)
        return ", ".join(f"{found[outcome]} {outcome.value}" for outcome in Outcome if found[outcome]) or "nothing"


def print_table(matrix: Matrix, console: Console) -> None:
    """Scenarios × peers × roles."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("scenario", no_wrap=True)
    for peer in matrix.peers:
        for role in Role:
            table.add_column(f"{peer.name} {_ARROWS[role]}", no_wrap=True)
    for scenario in matrix.scenarios:
        row = [_cell(matrix.at(scenario, peer, role)) for peer in matrix.peers for role in Role]
        table.add_row(scenario.name, *row)
    wide = console if console.is_terminal else Console(file=console.file, width=_WIDTH, highlight=False)
    wide.print(table)
    wide.print(f"→ pyiwarp connects, ← the peer connects: {matrix.counts}", markup=False)


def _cell(result: Result | None) -> str:
    return "" if result is None else f"[{_STYLES[result.outcome]}]{MARKS[result.outcome]}[/]"


def write_json(matrix: Matrix, file: Path) -> None:
    """All results for programs."""
    entries = [
        {
            "scenario": each.cell.scenario.name,
            "peer": each.cell.peer.name,
            "role": each.cell.role.value,
            "outcome": each.outcome.value,
            "seconds": round(each.seconds, 3),
            "message": each.message,
            "deviations": [{"aspect": d.aspect, "seen": d.seen, "reason": d.reason} for d in each.deviations],
        }
        for each in matrix.results
    ]
    file.write_text(json.dumps({"results": entries}, indent=1, ensure_ascii=False) + "\n")


# --- docs/interop.md -------------------------------------------------------------------------------------------------

_HEAD = """\
# Working together with other implementations

This page is written by `python -m interop` from a run of the whole matrix; a change by hand is
lost with the next. `interop/README.md` says how to run it.

Each scenario of `interop/scenarios` is played against each peer, in two roles: → pyiwarp connects, ← the peer connects.

| mark | meaning |
| --- | --- |
| pass | the two work together as the RFCs say |
| differs *n* | the peer does otherwise in a known way, number *n* below; everything else is as it should be |
| cannot | the peer lacks an ability that the scenario takes |
| FAIL | anything else |

An empty cell is not played: peers that differ from another in startup alone play only what concerns that.

## Peers
"""


def write_docs(matrix: Matrix, file: Path) -> None:
    """The page for readers: the same octets for the same outcomes."""
    numbers = _numbered(matrix)
    lines = [_HEAD, "| peer | what it is | profile | cannot |", "| --- | --- | --- | --- |"]
    for peer in matrix.peers:
        lines.append(f"| {peer.name} | {peer.about} | {peer.profile.name} | {_everything(peer) or 'nothing of it'} |")
    lines += ["", "## Matrix", ""]
    heads = [f"{peer.name} {_ARROWS[role]}" for peer in matrix.peers for role in Role]
    lines += [f"| scenario | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for scenario in matrix.scenarios:
        cells = [_mark(matrix.at(scenario, peer, role), numbers) for peer in matrix.peers for role in Role]
        lines.append(f"| {scenario.name} | {' | '.join(cells)} |")
    lines += ["", f"In all: {matrix.counts}.", "", "## Scenarios", ""]
    lines += [f"* `{scenario.name}`: {scenario.about}" for scenario in matrix.scenarios]
    lines += ["", "## What peers do otherwise", ""]
    for deviation, number in numbers.items():
        when = "Seen now and then" if deviation.sometimes else "Seen"
        lines.append(
            f"{number}. {deviation.reason}. {when}: {deviation.aspect}: {deviation.seen}. [{deviation.reference}]"
        )
    file.write_text("\n".join(lines) + "\n")


def _everything(peer: PeerKind) -> str:
    """What a peer cannot do of all there is."""
    return (~Can.NOTHING & ~peer.can).words


def _numbered(matrix: Matrix) -> dict[Deviation, int]:
    """The deviations that happened, in the order of the table."""
    order = {scenario.name: place for place, scenario in enumerate(matrix.scenarios)}
    happened = sorted(matrix.results, key=lambda each: order[each.cell.scenario.name])
    found = dict.fromkeys(deviation for each in happened for deviation in each.deviations)
    return {deviation: number for number, deviation in enumerate(found, 1)}


def _mark(result: Result | None, numbers: dict[Deviation, int]) -> str:
    if result is None:
        return ""
    notes = ", ".join(str(number) for number in sorted(numbers[each] for each in result.deviations))
    return f"{MARKS[result.outcome]} {notes}".strip()
