"""The connection manager: MPA startup on sockets, from a queue pair that is IDLE to one that is RTS.

The public names are those of the asyncio way: `connect` is the Initiator's side, `listen` the Responder's. `polling_cm`
has the same two without an event loop, `identifiers` is rdma_cm's model over either.

May import: queues, engine, drivers, and the modules of the layers below; nothing of connections. Read `handshake` first
(startup between a driver and a queue pair), then `asyncio_cm`, `polling_cm`, `identifiers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiwarp.cm.asyncio_cm import DEFAULT_BACKLOG, ConnectRequest, Listener, connect, listen

__all__ = ["DEFAULT_BACKLOG", "ConnectRequest", "Listener", "connect", "listen"]


def __getattr__(name: str) -> object:
    """The public names, found when they are asked for: programs without an event loop never load asyncio."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pyiwarp.cm import asyncio_cm

    return getattr(asyncio_cm, name)


def __dir__() -> list[str]:
    return __all__
