"""`install`: `socket.socket` looks families up, and TCP sockets of programs that know nothing of it become iWARP.

Modules that have said `from socket import socket` before keep the class that they have: install first.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from pyiwarp import cm
from pyiwarp.sockets.family.af_iwarp import AF_IWARP, INTERNET, IWARP_OPS
from pyiwarp.sockets.family.blocking import socketpair
from pyiwarp.sockets.family.enginethread import in_engine_thread
from pyiwarp.sockets.family.families import LEAST_NUMBER
from pyiwarp.sockets.family.iwarpproto import RSOCKETS
from pyiwarp.sockets.family.iwarpsock import IwarpSock, set_stream_options
from pyiwarp.sockets.family.socketclass import KernelSocket, Socket, kind_of
from pyiwarp.sockets.options import StreamOptions

__all__ = ["InstalledSocket", "OnPlain", "Place", "install", "uninstall"]

Place = tuple[str | None, int | None]
"""A host and a port; None is any."""

OnPlain = Callable[[str, Any], object]
"""Is told of a stream that stays TCP: "connect" or "listen", and the address."""

_OF_PYIWARP: Final = cm.connect, cm.listen  # loaded now: what carries iWARP has sockets of the kernel's

_EVERYWHERE: Final = frozenset({"", "0.0.0.0", "::"})
_kernel_socketpair: Final = socket.socketpair


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which TCP sockets become iWARP: all of them, or those that bind or connect to some places."""

    all: bool = False
    places: frozenset[Place] = frozenset()
    on_plain: OnPlain | None = None

    def has(self, address: Any) -> bool:
        """Whether the socket of this address becomes iWARP."""
        if not self.places or not isinstance(address, tuple) or len(address) < 2:
            return False
        host, port = address[:2]
        wanted = {h for h, p in self.places if p in (None, port)}
        if not wanted or None in wanted or host in _EVERYWHERE:
            return bool(wanted)
        return not wanted.isdisjoint(_numeric(host))


def _numeric(host: str | None) -> set[str]:
    """The addresses of a host, as numbers."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return {str(host)}  # whoever binds or connects to it is told
    return {str(place[0]) for *_, place in found}


_chosen = Chosen()


class _AnySocket(type):
    """Every socket is an instance of what is installed, those that were made before too."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, KernelSocket) if cls is InstalledSocket else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, KernelSocket) if cls is InstalledSocket else super().__subclasscheck__(subclass)


class InstalledSocket(Socket, metaclass=_AnySocket):
    """What `socket.socket` is after `install`."""

    __slots__ = ()

    def choose(self, family: int, type: int, proto: int) -> int | None:
        """AF_IWARP for a TCP socket if all of them become iWARP."""
        return AF_IWARP if _chosen.all and _is_tcp(family, type, proto) else super().choose(family, type, proto)

    def bind(self, address: Any) -> None:
        """As `socket.socket.bind`; it becomes iWARP if the address is chosen."""
        self._become_iwarp(address)
        super().bind(address)

    def listen(self, backlog: int = socket.SOMAXCONN) -> None:
        """As `socket.socket.listen`."""
        super().listen(backlog)
        if self._is_plain():
            self._tell("listen", self.getsockname())

    def connect(self, address: Any) -> None:
        """As `socket.socket.connect`; it becomes iWARP if the address is chosen."""
        if not self._become_iwarp(address) and self._is_plain():
            self._tell("connect", address)
        super().connect(address)

    def connect_ex(self, address: Any) -> int:
        """As `socket.socket.connect_ex`; it becomes iWARP if the address is chosen."""
        if not self._become_iwarp(address) and self._is_plain():
            self._tell("connect", address)
        return super().connect_ex(address)

    def _is_plain(self) -> bool:
        return self.ops is None and _is_tcp(self.family, self.type, self.proto)

    def _tell(self, verb: str, address: Any) -> None:
        if _chosen.on_plain is not None and not in_engine_thread():
            _chosen.on_plain(verb, address)

    def _become_iwarp(self, address: Any) -> bool:
        """Put AF_IWARP into the place of the kernel's TCP, which goes on below it."""
        if self.fileno() < 0 or not self._is_plain() or in_engine_thread() or not _chosen.has(address):
            return False
        sk = IwarpSock(RSOCKETS, int(self.family))
        sk.ops, sk.family, sk.type, sk.proto = IWARP_OPS, self.family, self.type, self.proto
        sk.carrier, sk.carrier_is_here = KernelSocket(self.family, self.type, self.proto, os.dup(self.fileno())), True
        sk.sockname = sk.carrier.getsockname()
        self.exchange(sk.new_pair(), sk)
        return True


def _is_tcp(family: int, type: int, proto: int) -> bool:
    kind = socket.SOCK_STREAM if type == -1 else kind_of(type)
    internet = family == -1 or family in INTERNET
    return internet and kind == socket.SOCK_STREAM and proto in (-1, 0, socket.IPPROTO_TCP) and not in_engine_thread()


def _socketpair(family: int | None = None, type: int = socket.SOCK_STREAM, proto: int = 0) -> Any:
    """As `socket.socketpair`, of registered families too."""
    if family is not None and family >= LEAST_NUMBER:
        return socketpair(family, type, proto)
    return _kernel_socketpair(family, type, proto)


def install(
    *,
    all: bool = False,
    only: Iterable[Place] = (),
    on_plain: OnPlain | None = None,
    options: StreamOptions | None = None,
) -> None:
    """Let `socket.socket` make sockets of registered families, and set `socket.AF_IWARP`.

    With `all` every TCP socket that is made from now on is iWARP; with `only` those that bind or connect to one of
    these places, a listener at every address included. All other TCP sockets stay what they are; `on_plain` is told of
    each that connects or listens. `options` are how streams are set up. Once more changes what is chosen.
    """
    global _chosen
    places = {(number, port) for host, port in only for number in ({None} if host is None else _numeric(host))}
    _chosen = Chosen(all, frozenset(places), on_plain)
    set_stream_options(options or StreamOptions())
    _put(InstalledSocket, _socketpair)
    socket.AF_IWARP = AF_IWARP  # type: ignore[attr-defined]  # a name that it has not had


def uninstall() -> None:
    """Undo `install`; sockets that are open go on."""
    global _chosen
    _chosen = Chosen()
    set_stream_options(StreamOptions())
    _put(KernelSocket, _kernel_socketpair)
    if hasattr(socket, "AF_IWARP"):
        del socket.AF_IWARP


def _put(kind: type[socket.socket], make_pair: Any) -> None:
    socket.socket = kind  # type: ignore[misc]  # a class takes the place of another
    socket.socketpair = make_pair
    ssl.SSLSocket.__bases__ = (kind,)  # what TLS does with a socket's names and connections is the family's
