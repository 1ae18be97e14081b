"""What programs drop without closing it is told with a ResourceWarning, as asyncio tells of its transports."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

__all__ = ["warn_unclosed"]


def warn_unclosed(
    dropped: object,
    warn: Callable[..., None] = warnings.warn,  # which may be gone when the interpreter ends
    finalizing: Callable[[], bool] = sys.is_finalizing,
) -> None:
    """Tell of an object that is collected while it is open; it is not touched, as its thread or loop may be another.

    Not while the interpreter ends: then nothing has been dropped.
    """
    if not finalizing():
        warn(f"unclosed {dropped!r}", ResourceWarning, stacklevel=2, source=dropped)
