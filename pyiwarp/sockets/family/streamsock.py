"""The part of a stream's `sk` that is the same for all protocols, and the pair of descriptors that it stands on.

A program's socket is one end of a pair of the kernel's. So `select`, timeouts, signals and C code that knows
descriptors work as with any socket. The other end, the near one, is the protocol's.
"""

from __future__ import annotations

import select
import socket
from contextlib import suppress
from enum import Enum
from typing import Any, Final

from pyiwarp.sockets.family.families import Proto
from pyiwarp.sockets.family.socketclass import Buffer, KernelSocket, Sock, Socket

__all__ = [
    "State",
    "StreamSock",
    "hang_up",
    "hung_up",
    "pair",
    "pair_recvmsg",
    "pair_sendmsg",
    "pair_shutdown",
]

_FILLING: Final = 1 << 16
"""Octets that make a program's end look not writable: a fourth of what the system lets it hold, and more."""


_NEWS: Final = b"!"
"""What makes a program's end readable when there is something to be told; nobody reads it."""


class State(Enum):
    """What has become of a stream's socket."""

    UNCONNECTED = "unconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LISTENING = "listening"


class StreamSock(Sock):
    """What every stream protocol keeps of a socket; `near` is the protocol's end of the pair, None if it is not here.

    `error` is what SO_ERROR tells, and what the next call raises.
    """

    near: socket.socket | None = None  # also if making one was interrupted

    def __init__(self, prot: Proto) -> None:
        super().__init__()
        self.prot = prot
        """The protocol."""
        self.state: State = State.UNCONNECTED
        """What has become of it."""
        self.error: OSError | None = None
        self.sent_to_nobody = False
        """Whether the program has sent something since the peer has closed."""
        self.shut: set[int] = set()
        """The directions that the program has shut: SHUT_RD, SHUT_WR."""
        self.linger: tuple[int, int] = (0, 0)
        """SO_LINGER: whether, and for how many seconds."""
        self._filling = 0
        self.rcvbuf: int | None = None
        """SO_RCVBUF, if the program has set it: what the pair holds for the program."""
        self.sndbuf: int | None = None
        """SO_SNDBUF, if the program has set it: what the pair holds of the program's."""
        self.attempt_failed = False
        """Whether the last attempt to connect has failed."""
        self.peername: Any = None
        """The address of the peer."""
        self.sockname: Any = None
        """Its own address."""
        if prot.init is not None:
            prot.init(self)

    def __del__(self) -> None:
        self.close_near()

    def new_pair(self) -> int:
        """Make the pair of a socket that is not connected: it is neither readable nor writable. Returns its far end."""
        far, self.near = pair()
        self._fill(far)
        return far.detach()

    def _fill(self, far: socket.socket) -> None:
        self._filling = KernelSocket.send(far, bytes(_FILLING), socket.MSG_DONTWAIT)

    def make_writable(self, near: socket.socket) -> None:
        """Take the filling away, and nothing of what the program sends as soon as it can."""
        while self._filling:
            self._filling -= len(near.recv(self._filling))

    def failed(self, near: socket.socket, error: OSError) -> None:
        """An attempt to connect has failed: the socket is readable and writable, and the next call tells why."""
        self.error = error
        if hung_up(near):
            near.close()
            return
        self.attempt_failed = True
        self.state, self.near = State.UNCONNECTED, near
        with suppress(OSError):  # the program may see the first of it and close its socket before the rest is done
            self.make_writable(near)
            near.send(_NEWS)

    def try_again(self, sock: Socket) -> None:
        """Let the pair be as it was before an attempt that has failed."""
        self.attempt_failed = False
        KernelSocket.recv(sock, len(_NEWS), socket.MSG_DONTWAIT)
        self._fill(sock)

    def take_near(self) -> socket.socket:
        """Give the near end to the protocol."""
        near, self.near = self.near, None
        assert near is not None, "a socket that is not connected has its pair"
        return near

    def close_near(self) -> None:
        """Give up what is here of the pair."""
        if self.near is not None:
            self.near.close()
            self.near = None

    def take_error(self) -> OSError | None:
        """The error that has not been told yet, which is told now."""
        error, self.error = self.error, None
        return error


def pair() -> tuple[socket.socket, socket.socket]:
    """A program's end, and one that does not block, both the kernel's whatever `socket.socket` is now."""
    far, near = (KernelSocket(each.family, each.type, 0, each.detach()) for each in socket.socketpair())
    near.setblocking(False)
    return far, near


def pair_sendmsg(sock: Socket, buffers: list[Buffer], flags: int) -> int:
    """`Proto.sendmsg` for protocols that take octets from the near end."""
    if len(buffers) == 1:
        return KernelSocket.send(sock, buffers[0], flags)
    return KernelSocket.sendmsg(sock, buffers, (), flags)


def pair_recvmsg(sock: Socket, buffers: list[Buffer], flags: int) -> int:
    """`Proto.recvmsg` for protocols that put octets into the near end."""
    if len(buffers) != 1:
        return KernelSocket.recvmsg_into(sock, buffers, 0, flags)[0]
    return KernelSocket.recv_into(sock, buffers[0], 0, flags) if len(buffers[0]) else 0


def pair_shutdown(sock: Socket, how: int) -> None:
    """`Proto.shutdown` for protocols that look at the near end."""
    KernelSocket.shutdown(sock, how)


def drain(near: socket.socket) -> None:
    """Throw away what has been written to the other end."""
    try:
        while near.recv(_FILLING):
            pass
    except OSError:  # there is no more, or the other end was closed with octets that nobody has read
        return


def hang_up(near: socket.socket) -> None:
    """End both directions: the program reads what is there, then the end; what it writes is refused."""
    with suppress(OSError):  # the program has done so
        near.shutdown(socket.SHUT_RDWR)
    drain(near)  # else the program would be told of a reset
    near.close()


def hung_up(near: socket.socket) -> bool:
    """Whether the other end is closed in every process, or shut in both directions."""
    poll = select.poll()
    poll.register(near, 0)
    return bool(poll.poll(0))
