"""One run of rdma-core's tests, in judges of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from interop.foreign.judged import Judged, Told
from interop.pyverbs import network
from interop.pyverbs.errors import NoTests
from interop.siw.locks import locked

LIMIT: Final = 60.0
"""Seconds for one test: the longest takes some seconds on a busy machine."""

GROWTH: Final = 64 * 1024
"""KiB that a judge may have more at its end than before the first test: what Python keeps for later, and modules."""

_PATIENCE: Final = 3600.0  # seconds for another run that has TCP port 7471


class Run:
    """What a run of the tests in `directory` has shown: `ran`, and `left`, a text for each class that left things."""

    def __init__(self, directory: Path, only: Sequence[str] = (), limit: float = LIMIT) -> None:
        self._directory = directory
        self._only = list(only)
        self._limit = limit
        self.ran: list[Told] = []
        self.left: list[str] = []

    def play(self, lock: Path, on_told: Callable[[Told], None] = lambda told: None) -> None:
        """Run them; `on_told` gets each outcome. With one network for all, runs wait for each other at `lock`.

        Raises `NoTests` if they cannot be loaded.
        """
        if network.may_enter():
            self._judge(alone=True, on_told=on_told)
            return
        lock.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock, _PATIENCE, lambda: None):
            self._judge(alone=False, on_told=on_told)

    def _judge(self, alone: bool, on_told: Callable[[Told], None]) -> None:
        orders = {"directory": str(self._directory), "only": self._only, "alone": alone}
        judged = Judged(
            "interop.pyverbs.judge",
            orders,
            self._limit,
            lambda log: NoTests(f"{self._directory} cannot be loaded:\n{log}"),
            self._on_said,
        )
        for told in judged.run():
            self.ran.append(told)
            on_told(told)

    def _on_said(self, said: dict[str, Any]) -> None:
        if said.get("left"):
            self.left.append(f"{said['after']} left {'; '.join(said['left'])}")
        if said.get("grown", 0) > GROWTH:
            self.left.append(f"the process has {said['grown']} KiB more at its end than before the first test")
