"""Listening sockets: one port for all addresses of a host, and accepting that goes on whatever `accept` raises.

For either connection manager: nothing here waits.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from pyiwarp.cm.addresses import Address, TcpSocket
from pyiwarp.errors import UsageError
from pyiwarp.pump import address_word

__all__ = [
    "RETRY_ACCEPT",
    "RETRY_AFTER_ROOM",
    "Peer",
    "accept_waiting",
    "listening_sockets",
    "network_of",
    "taken_over",
]

RETRY_ACCEPT: Final = 1.0
"""How long a listener rests, in seconds, when the process has no file descriptor left."""

RETRY_AFTER_ROOM: Final = 0.05
"""The same when a connection that owed its Request was closed, so that its descriptor is about to be free."""

TURN_ACCEPTS: Final = 64
"""Connections that one listening socket accepts in one turn at most, so that those accepted have their turn."""

PORT_ATTEMPTS: Final = 32
"""How often the system is asked for a port that is free at every address."""

SYSTEM_QUEUE: Final = 128
"""Connections that the system holds for a listener at least: what does not fit there waits for TCP's repetition."""

Peer = tuple[Any, ...]
"""The address that `accept` gives: a peer that resets at once has no other."""

_NOT_HERE: Final = errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT
_OF_THE_CONNECTION: Final = frozenset(  # accept(2): errors of the new connection, and none of the listening socket
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "EHOSTDOWN", "EHOSTUNREACH", "EINTR", "ENETDOWN", "ENETUNREACH", "ENONET", "ENOPROTOOPT"),
        *("EOPNOTSUPP", "EPERM", "EPROTO", "ETIMEDOUT"),
    )
    if hasattr(errno, name)
)


def listening_sockets(found: Iterable[tuple[object, ...]], backlog: int) -> list[socket.socket]:
    """Sockets that listen at the addresses that `getaddrinfo` has `found`, all of them at one port.

    Port 0 lets the system choose one that is free at every address. An address or a protocol that this host does not
    have is passed over, unless there is no other. `backlog` connections may wait in the system's own queue of each, or
    more.
    Raises `OSError` if an address cannot be bound.
    """
    addresses = Address.each_of(found)
    for attempt in range(PORT_ATTEMPTS):
        try:
            return _listening(addresses, backlog)
        except OSError as error:
            chosen = not any(address.port for address in addresses)
            if error.errno != errno.EADDRINUSE or not chosen or attempt == PORT_ATTEMPTS - 1:
                raise
    raise AssertionError("the last attempt returns or raises")


def _listening(addresses: list[Address], backlog: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    port = 0
    try:
        for address in addresses:
            try:
                sock = _bound(address, port)
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
                continue
            sockets.append(sock)
            port = sock.getsockname()[1]  # every address the same, once the system has chosen
        if missing is not None and not sockets:
            raise missing
        for sock in sockets:
            sock.listen(max(backlog, SYSTEM_QUEUE))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def taken_over(sock: socket.socket, host: str | None, port: int, backlog: int) -> list[socket.socket]:
    """The socket that the program has bound, which listens from now on, as systemd's may already.

    Raises `UsageError` for what is no TCP socket that is bound and not connected, or if `host` or `port` is given too;
    it is the program's then.
    """
    if host is not None or port:
        raise UsageError(f"sock says where to listen: host {host!r} and port {port} are not given too")
    if not isinstance(sock, socket.socket):
        raise UsageError(f"sock is a socket.socket, not {sock!r}")
    if sock.fileno() < 0:
        raise UsageError(f"sock is closed: {sock!r}")
    wrong = _why_not_to_listen(sock)
    if wrong:
        raise UsageError(f"a listener takes a TCP socket that is bound; sock is {wrong}: {sock!r}")
    sock.listen(max(backlog, SYSTEM_QUEUE))
    sock.setblocking(False)
    return [sock]


def _why_not_to_listen(sock: socket.socket) -> str:
    """What keeps a socket from listening for TCP connections; empty if nothing does."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "of another family than AF_INET and AF_INET6"
    if sock.type != socket.SOCK_STREAM or sock.proto not in (0, socket.IPPROTO_TCP):
        return "of another type than SOCK_STREAM, or of another protocol than TCP"
    if not sock.getsockname()[1]:
        return "not bound to a port"
    try:
        sock.getpeername()
    except OSError:
        return ""
    return "connected"


def _bound(address: Address, port: int) -> socket.socket:
    place = address.at_port(port or address.port)
    try:
        sock = TcpSocket(address.family, address.kind, address.protocol)
        try:
            sock.setblocking(False)
            if os.name == "posix":  # elsewhere it lets two listeners have one port
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(place)
        except BaseException:
            sock.close()
            raise
    except OSError as error:
        raise OSError(error.errno, f"cannot listen at {address_word(place)}: {error.strerror}") from error
    return sock


def accept_waiting(sock: socket.socket, receive: Callable[[socket.socket, Peer], None]) -> OSError | None:
    """Give `receive` the TCP connections that wait at `sock`, each with the peer's address, some in one call.

    Returns the error if the listener must rest, because the process has no file descriptor or memory left. The system
    tells of that also when no connection waits any more, so it is no news once one was accepted.
    """
    accepted = 0
    for _ in range(TURN_ACCEPTS):
        if sock.fileno() < 0:
            break  # the program has closed it from a callback
        try:
            connection, address = sock.accept()
        except BlockingIOError:
            break
        except OSError as error:
            if error.errno in _OF_THE_CONNECTION:
                continue
            return None if accepted else error
        accepted += 1
        connection.setblocking(False)
        receive(connection, address)
    return None


def network_of(host: str) -> str:
    """What one peer can have many addresses of: with IPv6 the network of 64 bits, else the address itself."""
    if ":" not in host:
        return host
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if not isinstance(address, IPv6Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()
