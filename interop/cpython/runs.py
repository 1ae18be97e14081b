"""One module of CPython's tests, over TCP or over iWARP."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from interop.cpython.errors import NoTests
from interop.cpython.expected import Ran
from interop.foreign.judged import LIMIT, Judged


class Module:
    """One module of CPython's tests, over TCP or over iWARP."""

    def __init__(
        self, module: str, classes: Sequence[str], over: str, beside: Path | None = None, limit: float = LIMIT
    ) -> None:
        orders = {
            "module": module,
            "classes": list(classes),
            "over": over,
            "beside": None if beside is None else str(beside),
        }
        self._judged = Judged(
            "interop.cpython.judge", orders, limit, lambda log: NoTests(f"{module} cannot be loaded:\n{log}")
        )

    def run(self) -> Iterator[Ran]:
        """Every test of it, as each ends."""
        for told in self._judged.run():
            yield Ran(told.test, told.outcome, told.detail, **told.counts, seconds=told.seconds)
