"""The scenarios: one coroutine each, against the public API on our side and a `Peer` on the other.

`ALL` has them by name, in the order of the table. A module of this package holds the scenarios of one group.
"""

from __future__ import annotations

from typing import Final

from . import (
    basic,
    depths,
    ending,
    errors,
    mixed,
    preloaded,
    read,
    registry,
    send,
    sockettools,
    startup,
    streams,
    tools,
    unchanged,
    write,
)
from .registry import Scenario

__all__ = ["ALL", "GROUPS", "Scenario"]

_MODULES = (
    *(startup, depths, basic, send, write, read, errors, ending, mixed, tools),
    *(streams, sockettools, preloaded, unchanged),
)

GROUPS: Final = (*(module.__name__.rpartition(".")[2] for module in _MODULES), "ucmatose")
"""The groups in the order of the table; a peer may take part in some of them alone."""

ALL: Final[dict[str, Scenario]] = dict(
    sorted(registry.registered.items(), key=lambda item: GROUPS.index(item[1].group))
)
