"""`create_connection`, `create_server` and `socketpair` of the module `socket`, with sockets of AF_IWARP."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from typing import Any, Final

from pyiwarp.sockets.family.af_iwarp import AF_IWARP
from pyiwarp.sockets.family.families import sock_family
from pyiwarp.sockets.family.socketclass import Socket, unsupported

__all__ = ["create_connection", "create_server", "socketpair"]

_USUAL: Final[Any] = object()


def create_connection(
    address: tuple[str | None, int],
    timeout: float | None = _USUAL,
    source_address: tuple[str, int] | None = None,
    *,
    all_errors: bool = False,
) -> Socket:
    """Connect to the first address of a host that answers; as `socket.create_connection`.

    Raises the last error, or with `all_errors` an `ExceptionGroup` of all of them; `socket.gaierror` if the host has no
    address.
    """
    host, port = address
    errors: list[OSError] = []
    for _, _, _, _, place in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = Socket(AF_IWARP)
        try:
            if timeout is not _USUAL:
                sock.settimeout(timeout)
            if source_address:
                sock.bind(source_address)
            sock.connect(place)
        except OSError as error:
            sock.close()
            errors.append(error)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    if all_errors:
        raise ExceptionGroup("create_connection failed", errors)
    raise errors[-1] if errors else OSError("getaddrinfo returns an empty list")


def create_server(
    address: tuple[str, int],
    *,
    backlog: int = socket.SOMAXCONN,
    reuse_port: bool = False,
    dualstack_ipv6: bool = False,
) -> Socket:
    """A socket that listens at `address`; as `socket.create_server`.

    With `dualstack_ipv6` a server at an address of IPv6 takes peers of IPv4 too.
    """
    sock = Socket(AF_IWARP)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if dualstack_ipv6:
            sock.sk.tcp(socket.AF_INET6)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind(address)
        sock.listen(backlog)
    except BaseException:
        sock.close()
        raise
    return sock


def socketpair(family: int = AF_IWARP, type: int = socket.SOCK_STREAM, proto: int = 0) -> tuple[Socket, Socket]:
    """Two sockets of a registered family that are connected to each other; as `socket.socketpair`."""
    sock_family(family)  # raises if there is none
    with ExitStack() as undo:
        one = undo.enter_context(Socket(family, type, proto))
        other = undo.enter_context(Socket(family, type, proto))
        if one.ops is None or one.ops.socketpair is None:
            raise unsupported("socketpair")
        one.ops.socketpair(one, other)
        undo.pop_all()
    return one, other
