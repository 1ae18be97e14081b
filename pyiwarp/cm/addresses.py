"""Socket addresses: what `getaddrinfo` says of a name, in the order in which to try them (RFC 8305)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Final, NamedTuple

from pyiwarp.bounds import check_count

__all__ = ["ATTEMPT_DELAY", "Address", "TcpSocket", "check_port", "in_turns", "local_end", "not_connected"]

ATTEMPT_DELAY: Final = 0.25
"""How long an attempt to connect has, in seconds, before the next address is tried beside it (RFC 8305 §5)."""

TcpSocket: Final = socket.socket
"""The class as Python has it, whatever a program puts into its place later, as `pyiwarp.sockets.install` does."""

_NO_WAY: Final = errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT

SocketAddress = tuple[str, int] | tuple[str, int, int, int]


def check_port(port: object) -> None:
    """Raises `UsageError` for what is no TCP port: some resolvers take 70000 for 4464."""
    check_count("port", port, 0, 65_535, " (RFC 9293 §3.1)")


class Address(NamedTuple):
    """One answer of `getaddrinfo`."""

    family: int
    kind: int
    protocol: int
    name: str
    address: SocketAddress

    @classmethod
    def each_of(cls, found: Iterable[tuple[object, ...]]) -> list[Address]:
        """The answers of `getaddrinfo`, none of them twice."""
        return list(dict.fromkeys(cls(*each) for each in found))  # type: ignore[arg-type]

    @property
    def port(self) -> int:
        """The TCP port."""
        return self.address[1]

    def at_port(self, port: int) -> SocketAddress:
        """The same address with another port; an IPv6 address keeps its scope."""
        return (self.address[0], port, *self.address[2:])


def in_turns(addresses: Sequence[Address]) -> list[Address]:
    """The addresses with the families in turns, the resolver's first choice first (RFC 8305 §4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    return [address for turn in zip_longest(*families.values()) for address in turn if address is not None]


def not_connected(host: str, port: int, errors: Sequence[OSError]) -> OSError:
    """The error for a host none of whose addresses takes a TCP connection, from those of its addresses.

    An answer of the peer's says more than an address that this host has no way to.
    """
    answers = [error for error in errors if error.errno not in _NO_WAY]
    code = (answers or errors)[0].errno or errno.EINVAL
    return OSError(code, f"{os.strerror(code)}: {host} port {port}")


def local_end(locals_: Sequence[Address], family: int) -> SocketAddress:
    """Which of this side's addresses an attempt of `family` is made from, at any port; raises `OSError` if none is."""
    for address in locals_:
        if address.family == family:
            return address.at_port(0)
    raise OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
