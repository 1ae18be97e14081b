"""The options of AF_IWARP's sockets: those of librdmacm's rsockets, and TCP's for the connection below."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pyiwarp import UsageError
from pyiwarp.sockets.family.iwarpsock import LINGER, IwarpSock
from pyiwarp.sockets.family.socketclass import failed, unsupported
from pyiwarp.sockets.options import LEAST_QUEUE, MOST_IOMAPS, MOST_QUEUE

__all__ = [
    "RDMA_INLINE",
    "RDMA_IOMAPSIZE",
    "RDMA_ROUTE",
    "RDMA_RQSIZE",
    "RDMA_SQSIZE",
    "SOL_RDMA",
    "getsockopt",
    "setsockopt",
]

SOL_RDMA: Final = 0x10000
"""The level of the options that librdmacm has for rsockets."""

RDMA_SQSIZE: Final = 0
"""Messages on their way at most."""
RDMA_RQSIZE: Final = 1
"""Messages that the peer may have sent and the program has not read, at most."""
RDMA_INLINE: Final = 2
"""Octets that are sent without memory of their own; kept, and without effect here."""
RDMA_IOMAPSIZE: Final = 3
"""Buffers that the peer may offer for direct writes."""
RDMA_ROUTE: Final = 4
"""A route of InfiniBand: TCP has none."""

_TCP: Final = {socket.SOL_SOCKET, socket.IPPROTO_TCP, socket.IPPROTO_IP, socket.IPPROTO_IPV6}

Getter = Callable[[IwarpSock], int | bytes]
Setter = Callable[[IwarpSock, int], None]


def _resize(sk: IwarpSock, **sizes: Any) -> None:
    """Another size for the stream that is not there yet."""
    if not sk.changeable:
        raise failed(errno.EINVAL)
    try:
        sk.options = replace(sk.options, **sizes)
    except UsageError as error:
        raise OSError(errno.EINVAL, str(error)) from None


def _queue(value: int) -> int:
    return min(max(value, LEAST_QUEUE), MOST_QUEUE)


def _memory(value: int, least: int = 1024) -> int:
    """The doubled number, as the kernel has it for TCP: within bounds, and even."""
    return min(max(2 * value, least), 1 << 28) & ~1


def _set_rcvbuf(sk: IwarpSock, value: int) -> None:
    """For this socket's stream if it is not connected yet; later it is kept, and changes nothing, as in C."""
    sk.options, sk.rcvbuf = replace(sk.options, ring=_memory(value)), value


def _set_sndbuf(sk: IwarpSock, value: int) -> None:
    """As `_set_rcvbuf`."""
    sk.options, sk.sndbuf = replace(sk.options, send_memory=_memory(value)), value


def _set_keepalive(sk: IwarpSock, value: int) -> None:
    sk.keepalive = bool(value)


def _set_keepidle(sk: IwarpSock, value: int) -> None:
    sk.keepidle = value


def _set_inline(sk: IwarpSock, value: int) -> None:
    sk.inline = value


_OWN: Final[dict[tuple[int, int], tuple[Getter, Setter]]] = {
    (socket.SOL_SOCKET, socket.SO_RCVBUF): (lambda sk: sk.options.ring, _set_rcvbuf),
    (socket.SOL_SOCKET, socket.SO_SNDBUF): (lambda sk: sk.options.send_memory, _set_sndbuf),
    (SOL_RDMA, RDMA_SQSIZE): (lambda sk: sk.options.send_queue, lambda sk, v: _resize(sk, send_queue=_queue(v))),
    (SOL_RDMA, RDMA_RQSIZE): (lambda sk: sk.options.recv_queue, lambda sk, v: _resize(sk, recv_queue=_queue(v))),
    (SOL_RDMA, RDMA_INLINE): (lambda sk: sk.inline, _set_inline),
    (SOL_RDMA, RDMA_IOMAPSIZE): (
        lambda sk: sk.options.iomaps,
        lambda sk, v: _resize(sk, iomaps=min(max(v, 0), MOST_IOMAPS)),
    ),
}
"""What is not TCP's."""

_ALSO: Final[dict[tuple[int, int], Setter]] = {
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE): _set_keepalive,
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE): _set_keepidle,
}
"""What TCP is told, and the stream too."""

_READ_ONLY: Final = {socket.SO_ERROR, socket.SO_TYPE, socket.SO_DOMAIN, socket.SO_PROTOCOL, socket.SO_ACCEPTCONN}


def setsockopt(sk: IwarpSock, level: int, name: int, value: int | bytes) -> None:
    """As the system call. Sizes can be chosen before connecting and listening; those accepted have their listener's."""
    if level == socket.SOL_SOCKET and name in _READ_ONLY:
        raise failed(errno.ENOPROTOOPT)
    if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER):
        _set_linger(sk, value)
    elif (level, name) in _OWN:
        _OWN[level, name][1](sk, _number(value))
    elif level in _TCP:
        carrier = sk.tcp()
        if carrier.fileno() >= 0:  # else the stream is over
            carrier.setsockopt(level, name, value)
        sk.told[level, name] = value
        if (level, name) in _ALSO:
            _ALSO[level, name](sk, _number(value))
    else:
        raise unsupported(f"option {name} of level {level}")


def getsockopt(sk: IwarpSock, level: int, name: int) -> int | bytes:
    """As the system call; a number, or octets for an option that is none."""
    if (level, name) == (socket.SOL_SOCKET, socket.SO_LINGER):
        return LINGER.pack(*sk.linger)
    if (level, name) in _OWN:
        return _OWN[level, name][0](sk)
    if level not in _TCP:
        raise unsupported(f"option {name} of level {level}")
    carrier = sk.tcp()
    if carrier.fileno() < 0:  # the stream is over
        return sk.told.get((level, name), 0)
    octets: bytes = carrier.getsockopt(level, name, _LONGEST)
    return _number(octets) if len(octets) == 4 else octets


_LONGEST: Final = 256


def _set_linger(sk: IwarpSock, value: int | bytes) -> None:
    if isinstance(value, int) or len(value) < LINGER.size:
        raise failed(errno.EINVAL)
    onoff, seconds = LINGER.unpack(value[: LINGER.size])
    sk.linger = int(onoff != 0), seconds


def _number(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    if len(value) < 4:
        raise failed(errno.EINVAL)
    return memoryview(bytes(value[:4])).cast("i")[0]
