"""Sockets over iWARP: the rsockets protocol, asyncio's streams and transports above it, and a family of sockets.

`open_connection` and `start_server` are the twins of asyncio's, `create_connection` and `create_server` those of the
event loop's. The peer may be any program on librdmacm's rsockets. Stands on the public names of `pyiwarp` alone.

Read in this order: `wire` (the octets), `options`, the parts of one end: `credits`, `ring`, `target`, `posting` and
`iomap`, then `engine` (one end, without sockets and without a clock); `flow`, `delivery` and `transport` (asyncio's
transport above an engine), `connecting`, `serving` and `streams`. Then the family: `families` (the table),
`socketclass`, `streamsock` and `streamops` (what families of streams share), `iwarpsock`, `sockoptions`, `iwarpproto`
and `af_iwarp` (the family itself), `enginethread`, `startupbridge` and `bridge` (the thread that serves it), `blocking`
and `installing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.sockets.af_iwarp import AF_IWARP
    from pyiwarp.sockets.blocking import socketpair
    from pyiwarp.sockets.connecting import create_connection
    from pyiwarp.sockets.enginethread import SocketCounters, counters
    from pyiwarp.sockets.errors import NotSpoken, PeerViolation, StreamLost
    from pyiwarp.sockets.families import (
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
    from pyiwarp.sockets.installing import install, uninstall
    from pyiwarp.sockets.options import StreamOptions
    from pyiwarp.sockets.serving import StreamServer, create_server
    from pyiwarp.sockets.socketclass import Sock, Socket
    from pyiwarp.sockets.sockoptions import (
        RDMA_INLINE,
        RDMA_IOMAPSIZE,
        RDMA_ROUTE,
        RDMA_RQSIZE,
        RDMA_SQSIZE,
        SOL_RDMA,
    )
    from pyiwarp.sockets.streamops import stream_ops
    from pyiwarp.sockets.streams import open_connection, start_server
    from pyiwarp.sockets.streamsock import State, StreamSock, pair_recvmsg, pair_sendmsg, pair_shutdown
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
        "af_iwarp": ("AF_IWARP",),
        "blocking": ("socketpair",),
        "connecting": ("create_connection",),
        "enginethread": ("SocketCounters", "counters"),
        "errors": ("NotSpoken", "PeerViolation", "StreamLost"),
        "families": (
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
        "installing": ("install", "uninstall"),
        "options": ("StreamOptions",),
        "serving": ("StreamServer", "create_server"),
        "socketclass": ("Sock", "Socket"),
        "sockoptions": ("RDMA_INLINE", "RDMA_IOMAPSIZE", "RDMA_ROUTE", "RDMA_RQSIZE", "RDMA_SQSIZE", "SOL_RDMA"),
        "streamops": ("stream_ops",),
        "streams": ("open_connection", "start_server"),
        "streamsock": ("State", "StreamSock", "pair_recvmsg", "pair_sendmsg", "pair_shutdown"),
        "transport": ("StreamTransport",),
    },
)
