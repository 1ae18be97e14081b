"""Says what the preparation does: a spinner on a terminal, plain lines with times elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Prints one line a step, with the seconds it took."""

    def __init__(self, console: Console | None = None) -> None:
        """Write to `console`, by default standard error, so that a command's own output stays clean."""
        self.console = console or Console(stderr=True, highlight=False)
        self.seconds: dict[str, float] = {}

    def note(self, text: str) -> None:
        """Print one line that belongs to no step."""
        self.console.print(text, markup=False, soft_wrap=True)

    @contextmanager
    def step(self, name: str, detail: str = "") -> Iterator[None]:
        """Time what happens inside as the step `name`; a step that raises is shown as failed."""
        start = time.monotonic()
        label = f"{name:<9} {detail}".rstrip()
        outcome = "failed"
        try:
            with self._running(label):
                yield
            outcome = "done"
        finally:
            self.seconds[name] = round(time.monotonic() - start, 2)
            # off a terminal the label stands in the line above
            text = f"{label} {outcome}" if self.console.is_terminal else f"{name:<9} {outcome}"
            self.note(f"{self.seconds[name]:6.1f} s  {text}")

    @contextmanager
    def _running(self, label: str) -> Iterator[None]:
        if self.console.is_terminal:
            with self.console.status(label):
                yield
        else:
            self.note(f"          {label} ...")
            yield
