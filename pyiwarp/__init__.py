"""iWARP in userspace: RDMA verbs over ordinary TCP sockets (MPA, DDP and RDMAP; RFC 5044, 5041, 5040).

`connect`, `listen` and `serve` give awaitable connections; `pyiwarp.verbs` has the objects of libibverbs.
"""

from pyiwarp.connections.awaitable import Connection, Message, Options, Region
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
