"""What AF_IWARP keeps of a socket: its TCP socket, its options, its stream once that is there."""

from __future__ import annotations

import socket
import struct
import threading
from dataclasses import replace
from typing import Any, Final

from pyiwarp.sockets.family.enginethread import EngineThread
from pyiwarp.sockets.family.families import Proto
from pyiwarp.sockets.family.socketclass import KernelSocket
from pyiwarp.sockets.family.streamsock import State, StreamSock
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.transport import StreamTransport

__all__ = ["LINGER", "IwarpSock", "set_stream_options", "stream_options"]

LINGER: Final = struct.Struct("ii")
"""What SO_LINGER takes: whether, and for how many seconds."""

_defaults = StreamOptions()


def stream_options() -> StreamOptions:
    """What sockets begin with that are made from now on."""
    return _defaults


def set_stream_options(options: StreamOptions) -> None:
    """Let sockets that are made from now on begin with `options`: with a profile for the peer, for example."""
    global _defaults
    _defaults = options


class IwarpSock(StreamSock):
    """One socket of AF_IWARP.

    `carrier` is the TCP socket below: made when it is first needed, the engine thread's once it connects or listens.
    `domain` is AF_INET or AF_INET6, None as long as no address has said which.
    """

    carrier: Any = None  # also if making one was interrupted
    carrier_is_here = False

    def __init__(self, prot: Proto, domain: int | None = None) -> None:
        self.domain = domain
        self.options = stream_options()
        self.told: dict[tuple[int, int], int | bytes] = {}
        """Options of TCP that the program has set."""
        self.keepalive = False
        self.keepidle = 7200
        self.inline = 64
        self.agreement: Any = None
        """What MPA startup has settled, once it has."""
        self.stream: StreamTransport | None = None
        """The stream, which is the engine thread's, while it is there."""
        self.thread: EngineThread | None = None
        """That which serves it; of another process if this one is a forked child."""
        self.finished = threading.Event()
        """Set when everything has left and the stream has ended."""
        super().__init__(prot)
        self.sockname = self._no_name()

    def __del__(self) -> None:
        self.close_carrier()
        super().__del__()

    @property
    def bound(self) -> bool:
        """Whether it has a port."""
        return bool(self.sockname[1])

    @property
    def abortive(self) -> bool:
        """Whether closing resets the stream: SO_LINGER with 0 seconds."""
        return self.linger[0] != 0 and self.linger[1] == 0

    def tcp(self, domain: int | None = None) -> Any:
        """The TCP socket below, of this domain if one is given."""
        wanted = domain or self.domain or socket.AF_INET
        if self.carrier is not None and self.carrier_is_here and self.carrier.family != wanted:
            self.close_carrier()
        if self.carrier is None:
            self.carrier = KernelSocket(wanted, socket.SOCK_STREAM)
            self.carrier_is_here = True
            for (level, name), value in self.told.items():
                self.carrier.setsockopt(level, name, value)
        if domain is not None:
            self.domain = domain
        return self.carrier

    def give_carrier(self) -> Any:
        """The TCP socket, which is the engine thread's from now on."""
        self.carrier_is_here = False
        return self.carrier

    def close_carrier(self) -> None:
        """Give up the TCP socket, if it is still this side's."""
        if self.carrier_is_here:
            self.carrier.close()
            self.carrier = None
            self.carrier_is_here = False

    def lose_carrier(self) -> None:
        """It was the engine thread's, and did not connect: another attempt has another one."""
        self.carrier = None
        self.sockname = self._no_name()

    def _no_name(self) -> tuple[str, int] | tuple[str, int, int, int]:
        return ("::", 0, 0, 0) if self.domain == socket.AF_INET6 else ("0.0.0.0", 0)

    def stream_options(self) -> StreamOptions:
        """How its stream is set up, by the options that the program has set."""
        return replace(self.options, keepalive=self.keepidle if self.keepalive else self.options.keepalive)

    @property
    def changeable(self) -> bool:
        """Whether sizes can still be chosen."""
        return self.state is State.UNCONNECTED
