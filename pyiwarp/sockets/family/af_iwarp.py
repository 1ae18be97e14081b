"""AF_IWARP, the family that pyiwarp registers: streams of octets over iWARP, addresses as those of TCP.

An example for families of one's own: a number, a table of operations, a `create`, and `sock_register`.
"""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import replace
from typing import Any, Final

from pyiwarp.sockets.family.directwrites import riomap, riounmap, riowrite
from pyiwarp.sockets.family.families import NetProtoFamily, proto_register, sock_register
from pyiwarp.sockets.family.iwarpproto import RSOCKETS
from pyiwarp.sockets.family.iwarpsock import IwarpSock
from pyiwarp.sockets.family.socketclass import Socket, failed, kind_of
from pyiwarp.sockets.family.streamops import stream_ops

__all__ = ["AF_IWARP", "FAMILY", "INTERNET", "IWARP_OPS"]

AF_IWARP: Final = 256
"""The number of the family: one that no family of the kernel's has."""

INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
"""The domains of the TCP below."""


def _create(sock: Socket, protocol: int) -> None:
    """Make `sock` a socket of this family, as the kernel's `inet_create`."""
    if kind_of(sock.type) != socket.SOCK_STREAM:
        raise failed(errno.ESOCKTNOSUPPORT)
    if protocol not in (0, socket.IPPROTO_TCP):
        raise failed(errno.EPROTONOSUPPORT)
    sk = IwarpSock(RSOCKETS, sock.family if sock.family in INTERNET else None)
    sock.graft(IWARP_OPS, sk, sk.new_pair())


def _socketpair(one: Socket, other: Socket) -> None:
    """Two ends of one stream over loopback."""
    with Socket(one.family, one.type, one.proto) as listener:
        listener.bind(("127.0.0.1", 0) if one.family != socket.AF_INET6 else ("::1", 0))
        listener.listen(1)
        timeout = one.gettimeout()
        for waits in (one, listener):  # this is done before the program has them
            waits.settimeout(None)
        one.connect(listener.getsockname())
        while True:
            accepted, address = listener.accept()
            if address == one.getsockname():
                break
            accepted.close()  # somebody else's
        with accepted:
            assert isinstance(accepted, Socket)
            other.exchange(os.dup(accepted.fileno()), accepted.sk)
        one.settimeout(timeout)


def _describe(sock: Socket) -> str:
    """What MPA startup has settled."""
    agreed = sock.sk.agreement
    if agreed is None:
        return str(sock.sk.state.value)
    crc = "with CRC" if agreed.crc else "without CRC"
    markers = ", markers" if agreed.send_markers or agreed.receive_markers else ""
    return f"iWARP as {agreed.role.name.lower()}, MPA revision {agreed.revision} {crc}{markers}"


_DIRECT: Final[dict[str, Any]] = {"riomap": riomap, "riounmap": riounmap, "riowrite": riowrite}
IWARP_OPS: Final = replace(stream_ops(AF_IWARP, __name__, _socketpair, _describe), **_DIRECT)
FAMILY: Final = NetProtoFamily(AF_IWARP, _create)

proto_register(RSOCKETS)
sock_register(FAMILY)
