"""Text for people: names from elsewhere made harmless, errors as one line, figures with units, a progress bar."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

__all__ = ["counts_text", "explain", "is_no_name", "progress_bar", "rate", "shown", "shown_whole"]

TEXT_LIMIT: Final = 1024
_OBJECT: Final = re.compile(r"<([A-Z][^<>]*)>")
"""An object of the library's in a message: its brackets are for programmers."""


def shown(text: str) -> str:
    """`text` on one line of bounded length, with every character that could control a terminal escaped."""
    return shown_whole(text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + "…")


def shown_whole(text: str | bytes) -> str:
    """All of `text` on one line, as `shown`; octets are read as ASCII."""
    if not isinstance(text, str):
        text = text.decode("ascii", "backslashreplace")
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    """As Python writes it: \\n, \\x1b, \\u202e, \\udc80."""
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def is_no_name(error: BaseException) -> bool:
    """Whether it says that no host can have this name, as `a..b`: no look-up begins, and no `OSError` is raised."""
    said = [str(error), *getattr(error, "__notes__", ())]  # Python 3.12 names the codec in a note
    return isinstance(error, UnicodeError) and any("idna" in words for words in said)


def counts_text(counts: Mapping[str, int]) -> str:
    """Counters in one line, as `name=number` words."""
    return " ".join(f"{name}={number}" for name, number in counts.items())


def explain(error: BaseException) -> str:
    """One line that says what went wrong."""
    if isinstance(error, socket.gaierror):
        return f"the host is not known: {error.strerror}"
    if is_no_name(error):
        return "the host is not known: a part of its name is empty or too long, or has characters that no name has"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if isinstance(error.filename, str) else ""
        return shown(where + error.strerror)
    return shown(_OBJECT.sub(r"\1", str(error))) or type(error).__name__


def rate(nbytes: int, seconds: float) -> str:
    """A rate in GB/s, or in MB/s below 0.01 GB/s."""
    per_second = nbytes / max(seconds, 1e-9)
    return f"{per_second / 1e9:.2f} GB/s" if per_second >= 1e7 else f"{per_second / 1e6:.3f} MB/s"


@contextmanager
def progress_bar(name: str, *, visible: bool = True) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error, if that is a terminal; gives a function of the octets done and the octets in all.

    The bar shows octets, rate and the time left, and disappears at the end.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        disable=not visible or not Console(stderr=True).is_terminal,
    )
    with bar:
        task = bar.add_task(shown(name), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
