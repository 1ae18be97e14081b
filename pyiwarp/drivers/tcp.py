"""What both drivers ask of TCP beyond octets."""

from __future__ import annotations

import contextlib
import socket
import sys
from struct import Struct
from typing import Final

__all__ = ["EMSS_REFRESH", "TURN_BATCHES", "emss_of", "reset_at_end", "unpace"]

EMSS_REFRESH: Final = 64
"""How many writes one reading of TCP_MAXSEG serves: it changes rarely, and asking costs a system call."""

UNTOLD_EMSS: Final = 1460
"""The segment size, in octets, where TCP does not tell it: that of Ethernet without options."""

TURN_BATCHES: Final = 4
"""Batches that one connection writes in one turn at most, so that the other connections have their turn."""

_RESET: Final = Struct("HH" if sys.platform == "win32" else "ii").pack(1, 0)  # struct linger: on, for no time
_PACED: Final = b"bbr"
_UNPACED: Final = b"cubic", b"reno"
_NAME_SIZE: Final = 16  # TCP_CA_NAME_MAX
_LOOPBACK: Final = "127.", "[::1]:", "[::ffff:127."


def emss_of(sock: socket.socket) -> int:
    """TCP's segment size now, in octets (MPA-5044-4.5-06)."""
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
    except (AttributeError, OSError):  # Windows may not tell; macOS does not once the peer has reset the connection
        return UNTOLD_EMSS


def reset_at_end(sock: socket.socket) -> None:
    """Whatever ends the connection from now on, the peer sees a reset: a FIN would look like a graceful end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def unpace(sock: socket.socket, peer: str) -> None:
    """Let nothing hold back octets that go to `peer`, an address as `pump.address_word` has it, if it is this host.

    Where the system's congestion control is BBR, it paces them by timers. Loopback has no bottleneck to spare, and the
    timers cost the sender more time than its octets.
    """
    option = getattr(socket, "TCP_CONGESTION", None)  # Linux and FreeBSD have it
    if option is None or not peer.startswith(_LOOPBACK):
        return
    with contextlib.suppress(OSError):  # another that is not there, or not allowed: paced, and right all the same
        if sock.getsockopt(socket.IPPROTO_TCP, option, _NAME_SIZE).rstrip(b"\0") == _PACED:
            _choose(sock, option)


def _choose(sock: socket.socket, option: int) -> None:
    for name in _UNPACED:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, option, name)
            return
