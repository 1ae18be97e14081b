"""The scenarios: one coroutine each, against the public API on our side and a `Peer` on the other.

`ALL` has them by name. A module of this package holds the scenarios of one group.
"""

from __future__ import annotations

from .registry import ALL, Scenario
from . import basic, depths, ending, errors, mixed, read, send, startup, tools, write  # noqa: I001  # the table's order

__all__ = ["ALL", "Scenario"]

_GROUPS = (startup, depths, basic, send, write, read, errors, ending, mixed, tools)
