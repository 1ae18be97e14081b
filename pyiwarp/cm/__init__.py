"""The connection manager: MPA startup on sockets, from a queue pair that is IDLE to one that is RTS.

The public names are those of the asyncio way: `connect` is the Initiator's side, `listen` the Responder's. `polling_cm`
has the same two without an event loop, `identifiers` is rdma_cm's model over either.

May import: queues, engine, drivers, and the modules of the layers below; nothing of connections. Read `handshake` first
(startup between a driver and a queue pair), `addresses`, `listening`, `foldedlog`, `reception`, then `asyncio_dialing`
and `asyncio_cm`, `polled_dialing` and `polling_cm`, `cm_events`, `identifiers`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.cm.asyncio_cm import ConnectRequest, Listener, connect, listen
    from pyiwarp.cm.foldedlog import FoldedLog
    from pyiwarp.cm.reception import DEFAULT_BACKLOG, PER_ADDRESS, ListenerCounters

__all__ = [
    "DEFAULT_BACKLOG",
    "PER_ADDRESS",
    "ConnectRequest",
    "FoldedLog",
    "Listener",
    "ListenerCounters",
    "connect",
    "listen",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "asyncio_cm": ("ConnectRequest", "Listener", "connect", "listen"),
        "foldedlog": ("FoldedLog",),
        "reception": ("DEFAULT_BACKLOG", "PER_ADDRESS", "ListenerCounters"),
    },
)
