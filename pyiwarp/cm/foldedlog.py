"""What peers make happen again and again, logged now and then: a crowd of them must not fill a disk."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

__all__ = ["FoldedLog"]

LOG_INTERVAL: Final = 10.0
"""How often what happens again and again is logged, in seconds."""


@dataclass(slots=True)
class FoldedLog:
    """Says what happens again and again once in `LOG_INTERVAL` seconds, with how often it has."""

    logger: logging.Logger
    """Where it says it."""
    due: dict[str, float] = field(default_factory=dict)
    """When each thing may be said again, by `time.monotonic`."""
    unsaid: dict[str, int] = field(default_factory=dict)
    """How often each thing has happened since it was said."""

    def say(self, level: int, what: str, detail: str) -> None:
        """Say that `what` has happened, at a level of `logging`; `detail` is that of the last time."""
        now = monotonic()
        self.unsaid[what] = self.unsaid.get(what, 0) + 1
        if now >= self.due.get(what, now):
            self._say(level, what, detail)
            self.due[what] = now + LOG_INTERVAL

    def _say(self, level: int, what: str, detail: str) -> None:
        times = self.unsaid.pop(what)
        often = "" if times == 1 else f" ({times} times since the last such line)"
        self.logger.log(level, "%s: %s%s", what, detail, often)
