"""Where tables are printed, and how numbers look in them."""

from __future__ import annotations

from typing import Final

from rich.console import Console

__all__ = ["figure", "wide_console"]

WIDTH: Final = 118


def wide_console() -> Console:
    """The terminal; where there is none, as wide a page as a table needs."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDTH)


def figure(value: float) -> str:
    """A number in three or four digits that count."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:.{3 if abs(value) < 10 else 2 if abs(value) < 100 else 1}f}"
