"""iWARP in userspace: RDMA verbs over ordinary TCP sockets (MPA, DDP and RDMAP; RFC 5044, 5041, 5040).

`connect`, `listen` and `serve` give awaitable connections; `pyiwarp.verbs` has the objects of libibverbs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.connections.awaitable import Connection, Message, Region
    from pyiwarp.connections.options import Options
    from pyiwarp.connections.serving import Listener, Request, Server, connect, listen, serve
    from pyiwarp.errors import (
        Closed,
        ConnectionLost,
        Disconnected,
        IwarpError,
        ProtocolViolation,
        Rejected,
        StartupError,
        TerminatedByPeer,
        UsageError,
        WorkFailed,
    )
    from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
    from pyiwarp.verbs import Context, Device, ProtectionDomain

__all__ = [
    "Access",
    "Closed",
    "Connection",
    "ConnectionLost",
    "Context",
    "Device",
    "Disconnected",
    "IwarpError",
    "Listener",
    "MemoryRegion",
    "Message",
    "Options",
    "ProtectionDomain",
    "ProtocolViolation",
    "Region",
    "RegionSlice",
    "Rejected",
    "RemoteRegion",
    "Request",
    "Server",
    "StartupError",
    "TerminatedByPeer",
    "UsageError",
    "WorkFailed",
    "connect",
    "listen",
    "serve",
]

__version__ = "0.1.0"

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "connections.awaitable": ("Connection", "Message", "Region"),
        "connections.options": ("Options",),
        "connections.serving": ("Listener", "Request", "Server", "connect", "listen", "serve"),
        "errors": (
            "Closed",
            "ConnectionLost",
            "Disconnected",
            "IwarpError",
            "ProtocolViolation",
            "Rejected",
            "StartupError",
            "TerminatedByPeer",
            "UsageError",
            "WorkFailed",
        ),
        "mr": ("Access", "MemoryRegion", "RegionSlice", "RemoteRegion"),
        "verbs": ("Context", "Device", "ProtectionDomain"),
    },
    modules=(
        "blocking",
        "blockingcm",
        "capture",
        "cm",
        "devices",
        "errors",
        "files",
        "profile",
        "rdmacm",
        "sockets",
        "verbs",
    ),
)
