"""Protocol families: a table by number, in the shape and with the names of the Linux kernel's.

`socket(family)` looks its number up here. The family's `create` gives the socket a `ProtoOps`, which is what every
method of the socket calls, and a `sk` of its own: the kernel's `struct sock`. A `ProtoOps` of streams is the same for
many protocols; what differs stands in a `Proto`. Nothing here knows iWARP.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyiwarp.sockets.family.socketclass import Buffer, Socket

__all__ = [
    "LEAST_NUMBER",
    "NetProtoFamily",
    "Proto",
    "ProtoOps",
    "has_family",
    "proto_register",
    "proto_unregister",
    "protocols",
    "sock_family",
    "sock_register",
    "sock_unregister",
]

LEAST_NUMBER: Final = 256
"""Families of this table have a number from here on: the kernel knows none of them, and refuses one that reaches it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proto:
    """One protocol, as the kernel's `struct proto`: what it does with its own `sk`.

    An operation that a protocol does not have is None. Each raises `OSError` with the errno of the system call.
    """

    name: str
    """As lists have it."""
    sendmsg: Callable[[Socket, list[Buffer], int], int]
    """Send octets, as many as there is room for; returns how many."""
    recvmsg: Callable[[Socket, list[Buffer], int], int]
    """Fill buffers with octets that have come; returns how many, 0 at the end."""
    shutdown: Callable[[Socket, int], None]
    """End one direction or both."""
    get_port: Callable[[Any, Any], None] | None = None
    """Take an address: what `bind` does for a stream."""
    hash: Callable[[Any, int], None] | None = None
    """Listen from now on, with a backlog: peers find `sk` by its address."""
    unhash: Callable[[Any], None] | None = None
    """Listen no more, if no process has the listening socket any more."""
    connect: Callable[[Any, Any], bool | None] | None = None
    """Begin to connect to an address; it does not wait. Returns True if the socket is connected already."""
    disconnect: Callable[[Any], None] | None = None
    """An attempt to connect has failed: let `sk` be as it was before."""
    accept: Callable[[Socket, Any], tuple[Any, int]] | None = None
    """Take the next connection of a listening socket: its own `sk`, and its descriptor."""
    setsockopt: Callable[[Any, int, int, int | bytes], None] | None = None
    """Set an option: its level, its number, its value."""
    getsockopt: Callable[[Any, int, int], int | bytes] | None = None
    """The value of an option, by its level and its number."""
    init: Callable[[Any], None] | None = None
    """`sk` is new."""
    destroy: Callable[[Any], None] | None = None
    """`sk` is given up: all its sockets in this process are closed."""
    close: Callable[[Any, float], None] | None = None
    """The socket is closed: wait up to so many seconds until what was sent has left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtoOps:
    """What the methods of a socket call, as the kernel's `struct proto_ops`.

    Each is given the socket first. Waiting is theirs: they keep to the socket's timeout, and raise `BlockingIOError`
    where it is 0. An operation that a family does not have is None: the socket raises EOPNOTSUPP.
    """

    family: int
    """Its number."""
    owner: str
    """Who provides it: the name of a module."""
    release: Callable[[Socket], None]
    """The socket is closed."""
    bind: Callable[[Socket, Any], None] | None = None
    """Give the socket an address."""
    connect: Callable[[Socket, Any], None] | None = None
    """Connect to an address."""
    socketpair: Callable[[Socket, Socket], None] | None = None
    """Connect two new sockets to each other."""
    accept: Callable[[Socket], tuple[Socket, Any]] | None = None
    """The next connection of a listening socket, as a socket, and the address of its peer."""
    getname: Callable[[Socket, bool], Any] | None = None
    """The socket's own address, or with True that of its peer."""
    poll: Callable[[Socket], int] | None = None
    """What is ready, in the bits of `select.poll`."""
    ioctl: Callable[[Socket, int, bytes], int | bytes] | None = None
    """A request of `fcntl.ioctl`, with its argument; returns the answer."""
    listen: Callable[[Socket, int], None] | None = None
    """Wait for peers, with a backlog."""
    shutdown: Callable[[Socket, int], None] | None = None
    """End one direction or both: SHUT_RD, SHUT_WR, SHUT_RDWR."""
    setsockopt: Callable[[Socket, int, int, int | bytes], None] | None = None
    """Set an option: its level, its number, its value."""
    getsockopt: Callable[[Socket, int, int], int | bytes] | None = None
    """The value of an option, by its level and its number."""
    sendmsg: Callable[[Socket, list[Buffer], int], int] | None = None
    """Send the octets of some buffers, with flags; returns how many were taken."""
    recvmsg: Callable[[Socket, list[Buffer], int], int] | None = None
    """Fill some buffers, with flags; returns how many octets have come, 0 at the end."""
    riomap: Callable[[Socket, Any, int], int] | None = None
    """Let the peer write a buffer under an offset, -1 for one of the family's choice; returns the offset."""
    riounmap: Callable[[Socket, int], None] | None = None
    """The buffer under an offset is the program's alone again."""
    riowrite: Callable[[Socket, Buffer, int], int] | None = None
    """Write into a buffer of the peer's, by its offset; returns how many octets. These three are librdmacm's."""
    describe: Callable[[Socket], str] = lambda sock: ""
    """What the socket's `repr` says beside its addresses; the kernel has no such operation."""


@dataclass(frozen=True, slots=True)
class NetProtoFamily:
    """A family: its number, and what makes a socket one of its own.

    `create(sock, protocol)` checks `sock.type` and `protocol` (0 is the family's usual one), and calls `sock.graft`.
    """

    family: int
    """The number."""
    create: Callable[[Socket, int], None]
    """Makes a socket one of this family, for a protocol."""


_families: Final[dict[int, NetProtoFamily]] = {}
_protocols: Final[dict[str, Proto]] = {}
_lock: Final = threading.Lock()


def sock_register(family: NetProtoFamily) -> None:
    """Enter a family: sockets of its number are made by its `create` from now on.

    Raises `OSError`: EEXIST if the number is taken, ENOBUFS for one that the kernel may know (below 256).
    """
    if family.family < LEAST_NUMBER:
        raise OSError(errno.ENOBUFS, f"family {family.family}: numbers below {LEAST_NUMBER} are the kernel's")
    with _lock:
        if family.family in _families:
            raise OSError(errno.EEXIST, f"family {family.family} is registered already")
        _families[family.family] = family


def sock_unregister(family: int) -> None:
    """Take a family out of the table; its sockets go on. One that is not there is no error."""
    with _lock:
        _families.pop(family, None)


def sock_family(family: int) -> NetProtoFamily:
    """The family of this number; raises `OSError` with EAFNOSUPPORT if there is none."""
    found = _families.get(family)
    if found is None:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return found


def has_family(family: int) -> bool:
    """Whether sockets of this family can be made: one that is registered here, or one of the kernel's."""
    if family in _families:
        return True
    try:
        socket.SocketType(family, socket.SOCK_STREAM).close()
    except OSError as error:
        return error.errno not in (errno.EAFNOSUPPORT, errno.EINVAL)
    return True


def proto_register(proto: Proto) -> None:
    """Enter a protocol in the list of those there are; raises `OSError` with EEXIST if its name is taken."""
    with _lock:
        if proto.name in _protocols:
            raise OSError(errno.EEXIST, f"the protocol {proto.name} is registered already")
        _protocols[proto.name] = proto


def proto_unregister(name: str) -> None:
    """Take a protocol out of the list."""
    with _lock:
        _protocols.pop(name, None)


def protocols() -> tuple[Proto, ...]:
    """The protocols that are registered, as `/proc/net/protocols` lists the kernel's."""
    return tuple(_protocols.values())
