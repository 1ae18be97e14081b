"""Sockets over iWARP: the rsockets protocol, asyncio's streams and transports above it, and a family of sockets.

`open_connection` and `start_server` are the twins of asyncio's, `create_connection` and `create_server` those of the
event loop's. The peer may be any program on librdmacm's rsockets. Stands on the public names of `pyiwarp` alone.

Read in this order: `wire` (the octets), `options`, the parts of one end: `credits`, `ring`, `target`, `posting` and
`iomap`, then `engine` (one end, without sockets and without a clock); `flow`, `delivery` and `transport` (asyncio's
transport above an engine), `connecting`, `serving` and `streams`. The family has a folder of its own, `family`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.sockets.connecting import create_connection
    from pyiwarp.sockets.errors import NotSpoken, PeerViolation, StreamLost
    from pyiwarp.sockets.family.af_iwarp import AF_IWARP
    from pyiwarp.sockets.family.blocking import socketpair
    from pyiwarp.sockets.family.enginethread import SocketCounters, counters
    from pyiwarp.sockets.family.families import (
        NetProtoFamily,
        Proto,
        ProtoOps,
        has_family,
        proto_register,
        proto_unregister,
        protocols,
        sock_register,
        sock_unregister,
    )
    from pyiwarp.sockets.family.installing import install, uninstall
    from pyiwarp.sockets.family.socketclass import Sock, Socket
    from pyiwarp.sockets.family.sockoptions import (
        RDMA_INLINE,
        RDMA_IOMAPSIZE,
        RDMA_ROUTE,
        RDMA_RQSIZE,
        RDMA_SQSIZE,
        SOL_RDMA,
    )
    from pyiwarp.sockets.family.streamops import stream_ops
    from pyiwarp.sockets.family.streamsock import State, StreamSock, pair_recvmsg, pair_sendmsg, pair_shutdown
    from pyiwarp.sockets.options import StreamOptions
    from pyiwarp.sockets.serving import StreamServer, create_server
    from pyiwarp.sockets.streams import open_connection, start_server
    from pyiwarp.sockets.transport import StreamTransport

__all__ = [
    "AF_IWARP",
    "RDMA_INLINE",
    "RDMA_IOMAPSIZE",
    "RDMA_ROUTE",
    "RDMA_RQSIZE",
    "RDMA_SQSIZE",
    "SOL_RDMA",
    "NetProtoFamily",
    "NotSpoken",
    "PeerViolation",
    "Proto",
    "ProtoOps",
    "Sock",
    "Socket",
    "SocketCounters",
    "State",
    "StreamLost",
    "StreamOptions",
    "StreamServer",
    "StreamSock",
    "StreamTransport",
    "counters",
    "create_connection",
    "create_server",
    "has_family",
    "install",
    "open_connection",
    "pair_recvmsg",
    "pair_sendmsg",
    "pair_shutdown",
    "proto_register",
    "proto_unregister",
    "protocols",
    "sock_register",
    "sock_unregister",
    "socketpair",
    "start_server",
    "stream_ops",
    "uninstall",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "family.af_iwarp": ("AF_IWARP",),
        "family.blocking": ("socketpair",),
        "connecting": ("create_connection",),
        "family.enginethread": ("SocketCounters", "counters"),
        "errors": ("NotSpoken", "PeerViolation", "StreamLost"),
        "family.families": (
            "NetProtoFamily",
            "Proto",
            "ProtoOps",
            "has_family",
            "proto_register",
            "proto_unregister",
            "protocols",
            "sock_register",
            "sock_unregister",
        ),
        "family.installing": ("install", "uninstall"),
        "options": ("StreamOptions",),
        "serving": ("StreamServer", "create_server"),
        "family.socketclass": ("Sock", "Socket"),
        "family.sockoptions": ("RDMA_INLINE", "RDMA_IOMAPSIZE", "RDMA_ROUTE", "RDMA_RQSIZE", "RDMA_SQSIZE", "SOL_RDMA"),
        "family.streamops": ("stream_ops",),
        "streams": ("open_connection", "start_server"),
        "family.streamsock": ("State", "StreamSock", "pair_recvmsg", "pair_sendmsg", "pair_shutdown"),
        "transport": ("StreamTransport",),
    },
)
