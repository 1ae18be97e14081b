"""What several runs agree on: each candidate's proportion to the first of its row, and how far the runs lie apart."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.table import figure, wide_console

__all__ = ["Ratios", "show_spread", "spreads"]

Ratios = Mapping[str, float]
"""By candidate: its median of one run in proportion to that of the row's first candidate."""


def spreads(runs: Sequence[Ratios]) -> dict[str, list[float]]:
    """By candidate its ratios of all runs, in their order; one that has none in some run is left out."""
    common = [name for name in runs[0] if all(name in run for run in runs)]
    return {name: [run[name] for run in runs] for name in common}


def show_spread(title: str, runs: Sequence[Ratios]) -> None:
    """Print the table of a row."""
    table = Table(title=title, title_justify="left", min_width=100)
    for heading in ("candidate", "÷ first, median of runs", "lowest", "highest", "each run"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for name, ratios in spreads(runs).items():
        told = (statistics.median(ratios), min(ratios), max(ratios))
        table.add_row(name, *map(figure, told), " ".join(map(figure, ratios)))
    console = wide_console()
    console.print(table)
    console.print()
