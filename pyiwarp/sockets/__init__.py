"""Sockets over iWARP: the rsockets protocol, and asyncio's streams and transports above it.

`open_connection` and `start_server` are the twins of asyncio's, `create_connection` and `create_server` those of the
event loop's. The peer may be any program on librdmacm's rsockets. Stands on the public names of `pyiwarp` alone.

Read in this order: `wire` (the octets), `options`, the parts of one end: `credits`, `ring`, `target`, `posting` and
`iomap`, then `engine` (one end, without sockets and without a clock); `flow`, `delivery` and `transport` (asyncio's
transport above an engine), `connecting`, `serving` and `streams`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyiwarp.exports import lazy_exports

if TYPE_CHECKING:
    from pyiwarp.sockets.connecting import create_connection
    from pyiwarp.sockets.errors import NotSpoken, PeerViolation, StreamLost
    from pyiwarp.sockets.options import StreamOptions
    from pyiwarp.sockets.serving import StreamServer, create_server
    from pyiwarp.sockets.streams import open_connection, start_server
    from pyiwarp.sockets.transport import StreamTransport

__all__ = [
    "NotSpoken",
    "PeerViolation",
    "StreamLost",
    "StreamOptions",
    "StreamServer",
    "StreamTransport",
    "create_connection",
    "create_server",
    "open_connection",
    "start_server",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "connecting": ("create_connection",),
        "errors": ("NotSpoken", "PeerViolation", "StreamLost"),
        "options": ("StreamOptions",),
        "serving": ("StreamServer", "create_server"),
        "streams": ("open_connection", "start_server"),
        "transport": ("StreamTransport",),
    },
)
