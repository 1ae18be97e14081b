"""How many ends of streams begin MPA startup during a test, in its own process and in those that it forks.

Counted below what is tested: an octet is added to a file for each machine of MPA startup that the stack makes.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

from pyiwarp.startup import Startup


class Tally:
    """Counts from the last `reset` on."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process
        self._began = 0
        begin = Startup.__init__

        def begin_and_count(startup: Startup, *arguments: Any, **keywords: Any) -> None:
            begin(startup, *arguments, **keywords)
            self._file.write(b".")  # forked processes share the descriptor and its place in the file

        Startup.__init__ = begin_and_count  # type: ignore[method-assign, assignment]  # of every connection

    def reset(self) -> None:
        """Begin with zero."""
        self._began = self._size()

    def counts(self) -> dict[str, int]:
        """Ends of streams since then."""
        return {"startups": self._size() - self._began}

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size
