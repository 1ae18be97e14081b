"""The operations of every stream socket, as the kernel's `inet_stream_ops`: states, checks and waiting.

What the protocol below does is in its `Proto`. `stream_ops` makes the table for one family.
"""

from __future__ import annotations

import errno
import fcntl
import select
import socket
from collections.abc import Callable
from typing import Any, Final

from pyiwarp.sockets.family.families import ProtoOps
from pyiwarp.sockets.family.socketclass import Buffer, KernelSocket, Socket, failed, unsupported, wait_ready
from pyiwarp.sockets.family.streamsock import State, StreamSock

__all__ = ["stream_ops"]

_EVENTS: Final = select.POLLIN | select.POLLOUT | select.POLLPRI | select.POLLRDHUP
_UNNOTICED: Final = 1 << 16
"""Octets of a send that a kernel's TCP takes at once, whether anybody reads them or not."""

_BOTH: Final = {socket.SHUT_RD, socket.SHUT_WR}


def _bind(sock: Socket, address: Any) -> None:
    sk: StreamSock = sock.sk
    if sk.state is not State.UNCONNECTED:
        raise failed(errno.EINVAL)
    if sk.prot.get_port is None:
        raise unsupported("bind")
    sk.prot.get_port(sk, address)


def _connect(sock: Socket, address: Any) -> None:
    sk: StreamSock = sock.sk
    if sk.prot.connect is None:
        raise unsupported("connect")
    if sk.state in (State.CONNECTED, State.LISTENING):
        raise failed(errno.EISCONN)
    if sk.state is State.CONNECTING:
        raise failed(errno.EALREADY)
    if sk.attempt_failed:
        if sk.prot.disconnect is not None:
            sk.prot.disconnect(sk)
        sk.try_again(sock)
    sk.error = None
    if sk.prot.connect(sk, address):
        return
    if sock.gettimeout() == 0:  # also if another thread has connected it meanwhile: it may not be writable yet
        raise failed(errno.EINPROGRESS)
    _wait_connected(sock, sk)


def _connected(sk: StreamSock) -> bool:
    return sk.state is State.CONNECTED


def _wait_connected(sock: Socket, sk: StreamSock) -> None:
    """Wait until the connection is there; raises what has prevented it."""
    wait_ready(sock, select.POLLOUT, sock.gettimeout())
    if (error := sk.take_error()) is not None:
        raise error


def _accept(sock: Socket) -> tuple[Socket, Any]:
    sk: StreamSock = sock.sk
    if sk.state is not State.LISTENING:
        raise failed(errno.EINVAL)
    if sk.prot.accept is None:
        raise unsupported("accept")
    child, fileno = sk.prot.accept(sock, sk)
    return Socket.grafted(sk, child, fileno), child.peername


def _getname(sock: Socket, peer: bool) -> Any:
    sk: StreamSock = sock.sk
    if peer and sk.state is not State.CONNECTED:
        raise failed(errno.ENOTCONN)
    return sk.peername if peer else sk.sockname


def _poll(sock: Socket) -> int:
    poll = select.poll()
    poll.register(sock, _EVENTS)
    ready = poll.poll(0)
    return (ready[0][1] if ready else 0) | (select.POLLERR if sock.sk.error is not None else 0)


def _ioctl(sock: Socket, request: int, argument: bytes) -> int | bytes:
    return fcntl.ioctl(sock.fileno(), request, argument)


def _listen(sock: Socket, backlog: int) -> None:
    sk: StreamSock = sock.sk
    if sk.state not in (State.UNCONNECTED, State.LISTENING):
        raise failed(errno.EINVAL)
    if sk.prot.hash is None:
        raise unsupported("listen")
    sk.prot.hash(sk, max(backlog, 0))


def _shutdown(sock: Socket, how: int) -> None:
    sk: StreamSock = sock.sk
    directions = {socket.SHUT_RD: {socket.SHUT_RD}, socket.SHUT_WR: {socket.SHUT_WR}, socket.SHUT_RDWR: _BOTH}.get(how)
    if directions is None:
        raise failed(errno.EINVAL)
    if sk.state not in (State.CONNECTED, State.LISTENING):
        raise failed(errno.ENOTCONN)
    sk.shut |= directions
    sk.prot.shutdown(sock, how)


def _setsockopt(sock: Socket, level: int, name: int, value: int | bytes) -> None:
    sk: StreamSock = sock.sk
    if sk.prot.setsockopt is None:
        raise failed(errno.ENOPROTOOPT)
    sk.prot.setsockopt(sk, level, name, value)
    if (level, name) == (socket.SOL_SOCKET, socket.SO_SNDBUF):
        KernelSocket.setsockopt(sock, level, name, value)  # what the program may write before it has to wait


def _getsockopt(sock: Socket, level: int, name: int) -> int | bytes:
    sk: StreamSock = sock.sk
    if level == socket.SOL_SOCKET and name in _OF_ANY:
        return _OF_ANY[name](sock, sk)
    if sk.prot.getsockopt is None:
        raise failed(errno.ENOPROTOOPT)
    return sk.prot.getsockopt(sk, level, name)


def _so_error(sock: Socket, sk: StreamSock) -> int:
    error = sk.take_error()
    return 0 if error is None else error.errno or errno.EIO


_OF_ANY: Final[dict[int, Callable[[Socket, StreamSock], int]]] = {
    socket.SO_ERROR: _so_error,
    socket.SO_TYPE: lambda sock, sk: int(sock.type),
    socket.SO_DOMAIN: lambda sock, sk: int(sock.family),
    socket.SO_PROTOCOL: lambda sock, sk: sock.proto,
    socket.SO_ACCEPTCONN: lambda sock, sk: int(sk.state is State.LISTENING),
}


def _check_flags(flags: int) -> None:
    if flags & socket.MSG_OOB:
        raise unsupported("MSG_OOB")


def _see_connected(sock: Socket, sk: StreamSock, flags: int) -> None:
    """Before the connection is there, octets wait for it: what the pair holds until then is nobody's."""
    if sk.state is State.CONNECTING:
        if sock.gettimeout() == 0 or flags & socket.MSG_DONTWAIT:
            raise failed(errno.EAGAIN)
        _wait_connected(sock, sk)


def _sendmsg(sock: Socket, buffers: list[Buffer], flags: int) -> int:
    sk: StreamSock = sock.sk
    _check_flags(flags)
    _see_connected(sock, sk, flags)
    if (error := sk.take_error()) is not None:
        raise error
    if not _connected(sk):
        raise failed(errno.EPIPE if socket.SHUT_WR in sk.shut else errno.ENOTCONN)
    try:
        return sk.prot.sendmsg(sock, buffers, flags)
    except BrokenPipeError:
        return _lost(sk, buffers)


def _lost(sk: StreamSock, buffers: list[Buffer]) -> int:
    """Nobody takes the octets; as with TCP a first small send to a peer that has closed does not know it yet."""
    if (error := sk.take_error()) is not None:
        raise error
    nbytes = sum(memoryview(buffer).nbytes for buffer in buffers)
    if socket.SHUT_WR in sk.shut or sk.sent_to_nobody or nbytes > _UNNOTICED:
        raise failed(errno.EPIPE)
    sk.sent_to_nobody = True
    return nbytes


def _recvmsg(sock: Socket, buffers: list[Buffer], flags: int) -> int:
    sk: StreamSock = sock.sk
    _check_flags(flags)
    _see_connected(sock, sk, flags)
    if sk.state in (State.UNCONNECTED, State.LISTENING):
        raise sk.take_error() or failed(errno.ENOTCONN)
    nbytes = sk.prot.recvmsg(sock, buffers, flags)
    if not nbytes and (error := sk.error) is not None and any(map(len, buffers)):
        sk.error = None
        raise error
    return nbytes


def _release(sock: Socket) -> None:
    sk: StreamSock = sock.sk
    sk.holders -= 1
    if not sk.holders:
        if sk.state is State.LISTENING and sk.prot.unhash is not None:
            sk.prot.unhash(sk)
        if sk.linger[0] and sk.state is State.CONNECTED and sk.prot.close is not None:
            sk.prot.close(sk, sk.linger[1])
        if sk.prot.destroy is not None:
            sk.prot.destroy(sk)
        sk.close_near()


def stream_ops(
    family: int,
    owner: str,
    socketpair: Callable[[Socket, Socket], None] | None = None,
    describe: Callable[[Socket], str] = lambda sock: "",
) -> ProtoOps:
    """The table of a family of streams; `describe` is what `repr` says beside the addresses."""
    return ProtoOps(
        family=family,
        owner=owner,
        release=_release,
        bind=_bind,
        connect=_connect,
        socketpair=socketpair,
        accept=_accept,
        getname=_getname,
        poll=_poll,
        ioctl=_ioctl,
        listen=_listen,
        shutdown=_shutdown,
        setsockopt=_setsockopt,
        getsockopt=_getsockopt,
        sendmsg=_sendmsg,
        recvmsg=_recvmsg,
        describe=describe,
    )
