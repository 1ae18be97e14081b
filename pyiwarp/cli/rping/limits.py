"""What rping has fixed: its port, and how many octets a ping may have."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_SIZE", "MIN_SIZE", "PORT"]

PORT: Final = 7174
MIN_SIZE: Final = 23
MAX_SIZE: Final = 65535
