"""What both drivers ask of TCP beyond octets."""

from __future__ import annotations

import contextlib
import math
import socket
import sys
from struct import Struct
from typing import Final, Protocol

from pyiwarp.errors import UsageError

__all__ = [
    "EMSS_REFRESH",
    "LONGEST_KEEPALIVE",
    "LONGEST_USER_TIMEOUT",
    "TURN_BATCHES",
    "check_silence",
    "emss_of",
    "limit_silence",
    "reset_at_end",
    "unpace",
]

EMSS_REFRESH: Final = 64
"""How many writes one reading of TCP_MAXSEG serves: it changes rarely, and asking costs a system call."""

UNTOLD_EMSS: Final = 1460
"""The segment size, in octets, where TCP does not tell it: that of Ethernet without options."""

TURN_BATCHES: Final = 4
"""Batches that one connection writes in one turn at most, so that the other connections have their turn."""

LONGEST_KEEPALIVE: Final = 32767
"""Seconds: what Linux takes for TCP_KEEPIDLE."""

LONGEST_USER_TIMEOUT: Final = 2147483
"""Seconds: TCP_USER_TIMEOUT has milliseconds in 31 bits."""

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


class _Adjustable(Protocol):
    """A socket whose options can be set; asyncio lets programs have no more of it."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """As of any socket."""


def _keepalive_options(seconds: float) -> list[tuple[int, int, int]]:
    """Probe a peer that was silent for so long (RFC 1122 §4.2.3.6), and again after as long."""
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))  # the second on macOS
    if idle is None:
        raise UsageError(f"keepalive is {seconds:g} s: sockets of this platform have no TCP_KEEPIDLE")
    whole = math.ceil(seconds)
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, idle, whole)]
    if hasattr(socket, "TCP_KEEPINTVL"):  # elsewhere the system's
        options.append((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, whole))
    return options


def _user_timeout_options(seconds: float) -> list[tuple[int, int, int]]:
    """End a connection whose peer acknowledges nothing for so long (RFC 5482)."""
    option = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is None:
        raise UsageError(f"user_timeout is {seconds:g} s: sockets of this platform have no TCP_USER_TIMEOUT")
    return [(socket.IPPROTO_TCP, option, math.ceil(seconds * 1000))]


def _silence_options(keepalive: float | None, user_timeout: float | None) -> list[tuple[int, int, int]]:
    options = [] if keepalive is None else _keepalive_options(keepalive)
    return options + ([] if user_timeout is None else _user_timeout_options(user_timeout))


def check_silence(keepalive: float | None, user_timeout: float | None) -> None:
    """Raises `UsageError` for what the platform's sockets cannot do; see `limit_silence`."""
    _silence_options(keepalive, user_timeout)


def limit_silence(sock: _Adjustable, keepalive: float | None, user_timeout: float | None) -> None:
    """Let TCP find out that a peer is gone; None leaves the system's.

    It probes after `keepalive` idle seconds, and gives up after `user_timeout` seconds without an acknowledgement.
    """
    if keepalive is None and user_timeout is None:
        return
    with contextlib.suppress(OSError):  # the values are good: the peer has reset the connection, which will be told
        for level, option, value in _silence_options(keepalive, user_timeout):
            sock.setsockopt(level, option, value)


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
