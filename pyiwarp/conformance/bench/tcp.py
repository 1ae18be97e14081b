"""One TCP connection as the bench needs it: every octet in order, and whether FIN or RST ended them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, Protocol

__all__ = ["Tap", "Tcp"]

Address = tuple[str, int]
HELD: Final = 1 << 17  # octets
MOST: Final = 1 << 22  # octets that may wait to be taken; a peer that floods waits too
ADVMSS: Final = struct.Struct("=84xI")  # struct tcp_info of Linux, up to tcpi_advmss
ABORTING_LINGER: Final = struct.pack("ii", 1, 0)  # close() sends RST


class Tap(Protocol):
    """An observer of a connection's octets."""

    def opened(self, local: Address, peer: Address) -> None:
        """TCP is established."""

    def sent(self, octets: Iterable[bytes | bytearray | memoryview]) -> None:
        """These octets were given to TCP."""

    def received(self, octets: bytes | bytearray | memoryview) -> None:
        """These octets came from TCP."""

    def closed(self) -> None:
        """TCP has ended."""


class Tcp(asyncio.Protocol):
    """A connection; `buffer` holds what came and was not taken, `fin` and `rst` say how the peer ended it."""

    def __init__(self, tap: Tap | None = None) -> None:
        self.buffer = bytearray()
        self.fin = False
        self.rst = False
        self._tap = tap
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._held = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is established."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._writable.set()
        if self._tap:
            local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
            self._tap.opened(local[:2], peer[:2])

    def data_received(self, data: bytes) -> None:
        """Octets came."""
        self.buffer += data
        if self._tap:
            self._tap.received(data)
        self._changed.set()
        if len(self.buffer) > MOST and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """FIN came; this side's half stays open."""
        self.fin = True
        self._changed.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP has ended: without a FIN before, the peer reset it."""
        if not self.fin or exc is not None:
            self.rst = True
        if self._tap:
            self._tap.closed()
        self._changed.set()
        self._writable.set()

    def pause_writing(self) -> None:
        """The kernel holds all it wants."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The kernel takes more."""
        self._writable.set()

    @property
    def over(self) -> bool:
        """Whether nothing more can come."""
        return self.fin or self.rst

    @property
    def socket(self) -> socket.socket:
        """The socket, for its options and names."""
        assert self._transport is not None
        found: socket.socket = self._transport.get_extra_info("socket")
        return found

    @property
    def announced_mss(self) -> int | None:
        """The segment size that this side has announced: the peer's EMSS is not larger. None if TCP does not tell."""
        try:
            info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, ADVMSS.size)
        except (AttributeError, OSError):
            return None
        return int(ADVMSS.unpack(info)[0]) if len(info) == ADVMSS.size else None

    @property
    def segment_size(self) -> int | None:
        """TCP's segment size for what this side sends, in octets. None if TCP does not tell."""
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
        except (AttributeError, OSError):
            return None

    async def send(self, octets: bytes, timeout: float) -> None:
        """Give octets to TCP; those behind an end, or that the peer does not read in `timeout` seconds, are lost."""
        if self._transport is None or self._transport.is_closing():
            return
        if self._tap:
            self._tap.sent([octets])
        self._transport.write(octets)
        try:
            async with asyncio.timeout(timeout):
                await self._writable.wait()
        except TimeoutError:
            return  # what it does then is seen by the next expectation

    async def more(self) -> None:
        """Wait until something new came or the connection ended."""
        self._changed.clear()
        if not self._held:
            self._resume()  # what was whole has been taken
        if not self.over:
            await self._changed.wait()

    def hold(self) -> None:
        """Take nothing more from the peer, so that it can send only what the kernels hold; that of this side little."""
        self._held = True
        if self._transport is not None and not self.over:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD)
            self._transport.pause_reading()

    def release(self) -> None:
        """Take again what the peer sends."""
        self._held = False
        self._resume()

    def _resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def finish(self) -> None:
        """Send FIN; nothing happens on a connection that has ended."""
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):  # the peer has reset the connection, which the next expectation sees
                self._transport.write_eof()

    def reset(self) -> None:
        """Send RST."""
        if self._transport is not None and not self._transport.is_closing():
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORTING_LINGER)
            self._transport.abort()

    def close(self) -> None:
        """Close the connection; TCP is reset if it has not ended."""
        if self._transport is not None:
            self._transport.abort()
