"""The rsockets protocol as a `Proto`: what connect, listen and accept do in the engine thread; names of TCP below."""

from __future__ import annotations

import array
import errno
import json
import os
import socket
from collections.abc import Callable
from typing import Any, Final
from weakref import WeakValueDictionary

from pyiwarp.sockets.family.enginethread import engine
from pyiwarp.sockets.family.families import Proto
from pyiwarp.sockets.family.iwarpsock import IwarpSock
from pyiwarp.sockets.family.socketclass import KernelSocket, Socket, failed
from pyiwarp.sockets.family.sockoptions import getsockopt, setsockopt
from pyiwarp.sockets.family.startupbridge import NEWS_SIZE, Dialing, Listening
from pyiwarp.sockets.family.streamsock import State, StreamSock, pair_recvmsg, pair_sendmsg, pair_shutdown

__all__ = ["RSOCKETS"]

_ANY: Final[dict[int, str]] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}

_accepted: Final[WeakValueDictionary[int, IwarpSock]] = WeakValueDictionary()
# The connections of this process, by the inode of the program's end: whoever accepts finds what belongs to it.


def _destroy(sk: IwarpSock) -> None:
    sk.close_carrier()


def _found(sk: IwarpSock, address: Any, flags: int) -> tuple[int, tuple[Any, ...]]:
    """The domain and the address of TCP for what a program calls an address."""
    if not isinstance(address, tuple):
        raise TypeError(f"an address is a tuple of host and port, not {type(address).__name__}")
    if len(address) < 2 or not isinstance(address[1], int):
        raise TypeError(f"an address is a tuple of host and port, not {address!r}")
    host, port, *rest = address
    if not 0 <= port <= 0xFFFF:
        raise OverflowError("port must be 0-65535.")
    if not host:
        domain = sk.domain or socket.AF_INET
        return domain, (_ANY[domain], port, *rest)
    wanted = sk.domain or 0
    domain, *_, found = socket.getaddrinfo(host, port, wanted, socket.SOCK_STREAM, flags=flags)[0]
    return domain, (*found[:2], *(rest or found[2:]))


def _get_port(sk: IwarpSock, address: Any) -> None:
    if sk.bound:
        raise failed(errno.EINVAL)
    domain, place = _found(sk, address, socket.AI_PASSIVE)
    carrier = sk.tcp(domain)
    carrier.bind(place)
    sk.sockname = carrier.getsockname()


def _connect(sk: IwarpSock, address: Any) -> None:
    domain, place = _found(sk, address, 0)
    sk.tcp(domain)
    options = sk.stream_options()
    sk.thread = engine()
    sk.state = State.CONNECTING
    sk.thread.call(Dialing(sk.thread, sk, sk.give_carrier(), place, options).start)


def _disconnect(sk: IwarpSock) -> None:
    if sk.thread is not None and sk.thread.is_here:
        sk.thread.ask(_nothing)  # it may still be putting the pair in order after the attempt that has failed
    sk.lose_carrier()


def _nothing() -> None:
    """What was under way in the engine thread is done when this is."""


def _hash(sk: IwarpSock, backlog: int) -> None:
    if sk.state is State.LISTENING:
        return
    carrier = sk.tcp()
    if not sk.bound:
        _get_port(sk, ("", 0))
    carrier.listen(backlog)
    sk.thread = engine()
    sk.state = State.LISTENING
    listening = Listening(sk.thread, sk, sk.give_carrier(), _accepting(sk))
    listening.set_backlog(backlog)
    sk.thread.call(listening.start)


def _unhash(sk: IwarpSock) -> None:
    if sk.thread is not None and sk.thread.is_here:
        sk.thread.ask(sk.thread.look_for_hang_ups)


def _accepting(listener: IwarpSock) -> Callable[[int], IwarpSock]:
    """What makes the `sk` of a connection that a listener has taken, by the inode of the program's end."""

    def accepted(inode: int) -> IwarpSock:
        sk = _child(listener)
        _accepted[inode] = sk
        return sk

    return accepted


def _child(listener: IwarpSock) -> IwarpSock:
    sk = IwarpSock(RSOCKETS, listener.domain)
    sk.options, sk.linger, sk.thread = listener.options, listener.linger, listener.thread
    sk.rcvbuf, sk.sndbuf = listener.rcvbuf, listener.sndbuf
    return sk


def _accept(sock: Socket, sk: IwarpSock) -> tuple[StreamSock, int]:
    flags = socket.MSG_CMSG_CLOEXEC
    news, ancillary, said, _ = KernelSocket.recvmsg(sock, NEWS_SIZE, socket.CMSG_LEN(array.array("i").itemsize), flags)
    if not news:
        raise sk.take_error() or failed(errno.EINVAL)  # as the kernel when a listener was shut down
    if not ancillary or said & socket.MSG_CTRUNC:
        raise failed(errno.EMFILE)
    (fileno,) = array.array("i", ancillary[0][2])
    child = _accepted.get(os.fstat(fileno).st_ino)
    if child is None:  # taken by the process that has forked this one
        child = _child(sk)
        child.state = State.CONNECTED
        child.sockname, child.peername = (tuple(name) for name in json.loads(news))
    return child, fileno


def _close(sk: IwarpSock, seconds: float) -> None:
    if sk.thread is not None and sk.thread.is_here:  # else its parent sees to what is left
        sk.finished.wait(seconds)


RSOCKETS: Final = Proto(
    name="rsockets",
    destroy=_destroy,
    get_port=_get_port,
    sendmsg=pair_sendmsg,
    recvmsg=pair_recvmsg,
    shutdown=pair_shutdown,
    hash=_hash,
    unhash=_unhash,
    connect=_connect,
    disconnect=_disconnect,
    accept=_accept,
    setsockopt=setsockopt,
    getsockopt=getsockopt,
    close=_close,
)
