"""Between a program's pair and a stream: octets, ends and errors both ways, in the engine thread.

The near end is read only while the stream takes octets, and the stream only while the program does: so a slow reader
slows the writer down at the other side, through both pairs.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import termios
from typing import Final

from pyiwarp.sockets.delivery import KeepsNothing
from pyiwarp.sockets.family.enginethread import EngineThread
from pyiwarp.sockets.family.iwarpsock import IwarpSock
from pyiwarp.sockets.family.streamsock import State, hang_up, hung_up
from pyiwarp.sockets.posting import INLINE
from pyiwarp.sockets.transport import StreamTransport

__all__ = ["HIGH_WATER", "ORPHAN_TIMEOUT", "Bridge"]

ORPHAN_TIMEOUT: Final = 60.0
"""Seconds that a closed socket goes on sending to a peer that takes nothing, as the system's own do for some time."""

HIGH_WATER: Final = 64 * 1024
"""Octets that wait at the stream before the program is read no more; what it writes then fills its pair."""


class Bridge(KeepsNothing):
    """The protocol of one stream, whose program is at the other end of `near`."""

    def __init__(self, thread: EngineThread, sk: IwarpSock, near: socket.socket) -> None:
        self._thread = thread
        self._loop = thread.loop
        self._sk = sk
        self.near = near
        self._transport: StreamTransport | None = None
        self._rest = bytearray()  # for the program, whose end is full
        self._program_done = False  # the program sends nothing more
        self._hung_up = False  # and takes nothing more
        self._leaving = self._paused = False
        self._peer_done = self._lost = False
        self._orphan: asyncio.TimerHandle | None = None
        self.over = False

    @property
    def transport(self) -> StreamTransport:
        """The stream's."""
        assert self._transport is not None, "the stream is connected"
        return self._transport

    # --- from the stream ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The stream is there: the program may send."""
        assert isinstance(transport, StreamTransport)
        self._transport = transport
        transport.set_write_buffer_limits(HIGH_WATER)
        sk = self._sk
        sk.stream = transport
        sk.peername, sk.sockname = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        sk.agreement, sk.carrier = transport.get_extra_info("agreement"), transport.get_extra_info("socket")
        if sk.rcvbuf is not None:
            self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, sk.rcvbuf)
        connecting, sk.state = sk.state is State.CONNECTING, State.CONNECTED
        if connecting:
            sk.make_writable(self.near)
        self._thread.watch(self)
        self._loop.add_reader(self.near, self._on_program)

    def data_received(self, data: bytes | memoryview) -> None:
        """Give octets to the program; what does not fit keeps the stream from reading."""
        if self._hung_up:
            return
        sent = self._give(data)
        if sent < len(data) and not self._hung_up:
            self._rest += data[sent:]
            self.transport.pause_reading()
            self._loop.add_writer(self.near, self._on_room)

    def _give(self, octets: bytes | memoryview | bytearray) -> int:
        try:
            return self.near.send(octets)
        except BlockingIOError:
            return 0
        except OSError:  # the program has shut its reading half: what comes is thrown away
            return len(octets)

    def _on_room(self) -> None:
        del self._rest[: self._give(self._rest)]
        if self._rest:
            return
        self._loop.remove_writer(self.near)
        self.transport.resume_reading()
        self._tell_end()

    def pause_writing(self) -> None:
        """The peer is slow: the program is read no more for now."""
        self._paused = True
        self._loop.remove_reader(self.near)

    def resume_writing(self) -> None:
        """Read the program again."""
        self._paused = False
        if not self._program_done and not self._lost:
            self._loop.add_reader(self.near, self._on_program)
            self._read_the_rest()

    def eof_received(self) -> bool:
        """The peer sends nothing more: the program reads what is there, then the end."""
        self._peer_done = True
        self._tell_end()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The stream has ended; `exc` is what the program is told."""
        self._lost = True
        if exc is not None:
            self._sk.sent_to_nobody = True  # what follows the error is known to be lost
            self._sk.error = exc if isinstance(exc, OSError) else ConnectionResetError(*exc.args)
        self._loop.remove_reader(self.near)
        self._tell_end()

    def _tell_end(self) -> None:
        if self._rest or self.over:
            return
        if self._lost:
            self._finish()
        elif self._peer_done:
            try:
                self.near.shutdown(socket.SHUT_WR)
            except OSError:  # the program has left
                return

    def _finish(self) -> None:
        self.over = True
        if self._orphan is not None:
            self._orphan.cancel()
        self._loop.remove_reader(self.near)
        self._loop.remove_writer(self.near)
        self._thread.unwatch(self)
        hang_up(self.near)
        self._transport = self._sk.stream = None
        self._sk.finished.set()

    # --- from the program --------------------------------------------------------------------------------------------

    def _on_program(self) -> None:
        if self._program_done or self._lost:
            return
        if not self.transport.takes_octets:  # the end comes at once, and the program shall not send into nothing
            self._loop.remove_reader(self.near)
            return
        try:
            nbytes = self.near.recv_into(self._thread.scratch)
        except (BlockingIOError, InterruptedError):
            if self._leaving:
                self._on_done()
            return
        except OSError:  # it has closed with octets that it has not read
            nbytes = 0
        if nbytes:
            octets = self._thread.scratch[:nbytes]
            self.transport.write(bytes(octets) if nbytes <= INLINE else octets)
            self._read_the_rest()
        else:
            self._on_done()

    def _read_the_rest(self) -> None:
        """What is there when the program ends: no end follows it, as the program's end is not closed yet."""
        if self._leaving and not self._paused:
            self._loop.call_soon(self._on_program)

    def _on_done(self) -> None:
        self._program_done = True
        self._loop.remove_reader(self.near)
        if self._hung_up or self._leaving or hung_up(self.near):
            self._leave_stream()
        else:
            self.transport.write_eof()

    def _leave_stream(self) -> None:
        if self._sk.abortive and not self._leaving:
            self.transport.abort()
        else:
            self.transport.close()

    def on_hang_up(self) -> None:
        """The program takes nothing more; what it has sent goes out, then the stream ends."""
        if self.over:
            return
        self._hung_up = True
        if self._rest:
            self._rest.clear()
            self._loop.remove_writer(self.near)
        if self._lost:
            self._finish()
            return
        self.transport.resume_reading()
        if self._program_done or self._sk.abortive:
            self._leave_stream()
        self._watch_orphan(self.waiting())

    def _watch_orphan(self, waiting: int) -> None:
        """End a stream that nobody has any more if its peer takes nothing for too long."""

        def look() -> None:
            now = self.waiting()
            if now < waiting:
                self._watch_orphan(now)
            else:
                self.transport.abort()

        self._orphan = self._loop.call_later(ORPHAN_TIMEOUT, look)

    def leave(self) -> None:
        """The program ends, with or without closing its socket."""
        self._leaving = True
        if self._lost:
            self._finish()
        elif self._program_done:
            self.transport.close()
        else:
            self._read_the_rest()

    def waiting(self) -> int:
        """Octets of the program that have not left yet."""
        unread: int = struct.unpack("i", fcntl.ioctl(self.near, termios.FIONREAD, bytes(4)))[0]
        return unread + self.transport.get_write_buffer_size()
