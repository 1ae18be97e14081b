"""Drawings of what was measured, by matplotlib (`pip install '.[bench]'`); the file's name decides: PNG or SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

__all__ = ["draw_rows", "draw_sweep"]

ROW_HEIGHT: Final = 0.33
OURS: Final = "#1f6f8b"
OTHERS: Final = "#b9bec4"
COLUMNS: Final = 2


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise SystemExit(f"a plot needs matplotlib: pip install '.[bench]' ({error})") from error
    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    return pyplot


def draw_rows(rows: Mapping[str, Mapping[str, Any]], caption: str, path: Path) -> None:
    """One panel of bars for each row: medians, with a line from the lowest to the highest."""
    pyplot = _pyplot()
    lines = -(-len(rows) // COLUMNS)
    tallest = max(len(row["candidates"]) for row in rows.values())
    size = (13, max(2.0, lines * (1.0 + ROW_HEIGHT * tallest)))
    figure, axes = pyplot.subplots(lines, COLUMNS, figsize=size, squeeze=False)
    panels = list(axes.flat)
    for panel, row in zip(panels, rows.values(), strict=False):
        _draw_row(panel, row)
    for panel in panels[len(rows) :]:
        panel.axis("off")
    figure.text(0.01, 0.002, caption, fontsize=7, color="#555555")
    figure.tight_layout(rect=(0, 0.01, 1, 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _draw_row(panel: Any, row: Mapping[str, Any]) -> None:
    name = row["figure"]
    there = {who: found for who, found in row["candidates"].items() if "samples" in found}
    values = {who: [sample[name] for sample in found["samples"]] for who, found in there.items()}
    medians = [found["medians"][name] for found in there.values()]
    errors = [
        [median - min(values[who]) for who, median in zip(there, medians, strict=True)],
        [max(values[who]) - median for who, median in zip(there, medians, strict=True)],
    ]
    ours = [OURS if "pyiwarp" in who or who[0].isdigit() else OTHERS for who in there]
    panel.barh(range(len(there)), medians, xerr=errors, color=ours, ecolor="#444444", capsize=2)
    panel.set_yticks(range(len(there)), list(there), fontsize=8)
    panel.invert_yaxis()
    panel.set_title(row["title"], fontsize=9, loc="left")
    panel.set_xlabel(name, fontsize=8)
    panel.tick_params(axis="x", labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)


def draw_sweep(
    series: Mapping[str, Sequence[tuple[float, float]]], caption: str, path: Path, *, across: str, figure_name: str
) -> None:
    """A line for each candidate: the figure over message size or connections, both on logarithmic scales."""
    pyplot = _pyplot()
    figure, panel = pyplot.subplots(figsize=(9, 5.5))
    for name, points in series.items():
        if points:
            panel.plot(*zip(*points, strict=True), marker="o", markersize=3, linewidth=1.5, label=name)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xlabel(across)
    panel.set_ylabel(figure_name)
    panel.grid(visible=True, which="both", color="#e6e6e6", linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=8, frameon=False)
    figure.text(0.01, 0.005, caption, fontsize=6, color="#555555")
    figure.tight_layout(rect=(0, 0.02, 1, 1))
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
