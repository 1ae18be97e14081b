"""The asyncio driver: moves octets between a TCP transport and a pump, on the stock loop and on uvloop.

Incoming octets are received straight into the pump's own buffer; outgoing views are given to the transport as they
are. A work request completes only when the transport holds none of its octets, because uvloop reads them later when
the socket is full. While it holds any, nothing more is asked of the pump: back-pressure without a queue.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from typing import Any, Final, cast

from pyiwarp.buffers import Octets
from pyiwarp.capture import Tap
from pyiwarp.drivers.tcp import EMSS_REFRESH, TURN_BATCHES, emss_of, limit_silence, reset_at_end, unpace
from pyiwarp.drivers.turns import turns_of
from pyiwarp.errors import WrongProcess
from pyiwarp.forks import StandIn, left_behind_in_children
from pyiwarp.pump import HELD, NOT_NOW, STEADY_LOOK, TAKEN, Pump, TimeLimit, address_word, no_callback

__all__ = ["AsyncioDriver", "Pump"]

# These releases have a writelines that never pauses the protocol (gh-127655).
_WRITELINES_NEVER_PAUSES: bool = (3, 12, 0) <= sys.version_info[:3] < (3, 12, 9) or (
    3,
    13,
    0,
) <= sys.version_info[:3] < (3, 13, 2)

_CAN_GATHER: Final = hasattr(os, "writev")


class AsyncioDriver(asyncio.BufferedProtocol):
    """One TCP connection under a pump. The pump may be exchanged at any time; startup does so once.

    `peer` is the peer's address if it is known: a peer that has reset the connection already has none any more.
    """

    def __init__(
        self,
        pump: Pump,
        loop: asyncio.AbstractEventLoop,
        tap: Tap | None = None,
        peer: tuple[Any, ...] | None = None,
    ) -> None:
        self.pump = pump
        self._loop = loop
        self._turns = turns_of(loop)
        self._id = id(self)
        self._tap = tap
        self._view: memoryview | None = None  # what get_buffer gave, kept for the tap alone
        self._transport: asyncio.Transport | None = None
        self.peer_addr: tuple[Any, ...] | None = peer
        self.local_addr: tuple[Any, ...] | None = None
        self.peername, self.sockname = address_word(peer), "?"  # for messages; an ended connection still has them
        self._socket: socket.socket | None = None
        self._fd = -1  # of the socket, while it may be written
        self._stand_in: StandIn | None = None  # for forks, while TCP is there
        self._written = 0  # batches
        self._emss_due = 0  # when so many are written
        self._writing_paused = False
        self._resuming = False
        self._in_line = False  # the pump is behind, and a turn will come
        self._kicked = False  # the loop's next turn looks at the output
        self._burst = False  # something was written since the loop last had news
        self._busy = False  # the pump is being called; the output is looked at afterwards
        self._asked = False  # there may be something to write, said while it was busy
        self._steady = False
        self._reading = True
        self._sent_fin = False
        self._aborted = False
        self._left_behind = False
        self._limit: TimeLimit | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.exchanged: Callable[[], object] = no_callback
        self.closed: asyncio.Future[None] = loop.create_future()

    # --- from the loop -----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is established."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's has the methods, not the base class
        self._socket = transport.get_extra_info("socket")
        self.peer_addr = transport.get_extra_info("peername") or self.peer_addr
        self.local_addr = transport.get_extra_info("sockname")
        self.peername, self.sockname = address_word(self.peer_addr), address_word(self.local_addr)
        if self._socket is not None:
            unpace(self._socket, self.peername)
            self._fd = self._socket.fileno() if _CAN_GATHER else -1
        self._stand_in = StandIn(self)
        left_behind_in_children(self._stand_in)
        self._transport.set_write_buffer_limits(high=0)  # pause_writing at the first octet that stays behind
        if self._tap is not None:
            local, peer = self.local_addr, self.peer_addr
            if local is not None and peer is not None:  # else the peer has reset the connection already
                self._tap.opened(local[:2], peer[:2])
        if self._aborted:
            self._transport.abort()
        else:
            self.kick()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next octets shall land."""
        view = self.pump.receive_view()
        if self._tap is not None:
            self._view = view
        return view

    def buffer_updated(self, nbytes: int) -> None:
        """`nbytes` octets now lie in the view that `get_buffer` gave."""
        if self._tap is not None and self._view is not None:
            self._tap.received(self._view[:nbytes])
            self._view = None
        self._turns.news = self._id
        self._busy = True
        self._burst = self._asked = False
        try:
            if not self.pump.received(nbytes) or self._asked or not self._steady:
                self._run()
        finally:
            self._busy = False

    def eof_received(self) -> bool:
        """The peer closed its half; this side's stays open until the pump is done."""
        self._busy = True
        try:
            self.pump.received_eof()
            self._run()
        finally:
            self._busy = False
        return True

    def pause_writing(self) -> None:
        """The transport holds octets."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """The kernel has taken all of them.

        The stock loop looks at its transport again after this call, so nothing may end it here (see `_settle`): it
        would tell of the end twice, or close the half twice.
        """
        self._writing_paused = False
        self._busy = self._resuming = True
        try:
            self.pump.flushed()
            self._run()
        finally:
            self._busy = self._resuming = False

    def connection_lost(self, exc: Exception | None) -> None:
        """TCP has ended."""
        self._transport = self._socket = self._stand_in = None
        self._fd = -1
        if self._tap is not None:
            self._tap.closed()
        self.pump.lost(exc)
        if self._timer is not None:
            self._timer.cancel()
        if not self.closed.done():
            self.closed.set_result(None)

    # --- from the pump's owner ---------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Write what there is to write, at once, and tell the pump before this returns.

        What is posted after that, with no news from the loop between, goes together in the loop's next turn: a burst
        is not cut into small writes.
        """
        if self._busy or self._kicked or self._transport is None:
            if self._left_behind and not self.pump.output_ended:  # else the queue pair is being given up
                raise WrongProcess(self.pump)
            self._asked = True
            return  # the call that is running looks for more to write before it returns
        if self._burst:
            self._look_later()
            return
        written = self._written
        self._busy = True
        try:
            self._run()
        finally:
            self._busy = False
        self._burst = self._written != written

    def write_small(self, octets: bytes) -> int:
        """Write octets at once, if nothing else is being written; see `Driver`.

        As after `kick`, what is posted behind it with no news from the loop between goes together in the loop's next
        turn.
        """
        transport = self._transport
        if (
            not self._steady
            or self._burst
            or self._busy
            or self._kicked
            or self._writing_paused
            or self._written >= self._emss_due
            or self._tap is not None
            or transport is None
            or transport.is_closing()
        ):
            return NOT_NOW
        self._written += 1
        self._burst = True
        transport.write(octets)
        if transport.get_write_buffer_size() == 0:
            return TAKEN
        self._writing_paused = True  # resume_writing will follow
        return HELD

    def write_pieces(self, pieces: list[Octets]) -> int:
        """Give pieces to the kernel at once, if nothing else is being written; see `Driver`.

        This is the one write that passes the loop's transport, which holds nothing then: it would keep the pieces. A
        program may also call it that the pump has called: nothing that it does calls back.
        """
        transport, nbytes = self._transport, sum(map(len, pieces))
        if (
            not self._steady
            or self._kicked
            or self._writing_paused
            or self._written >= self._emss_due
            or self._tap is not None
            or transport is None
            or transport.is_closing()
            or self._fd < 0
        ):
            return NOT_NOW
        try:
            taken = os.writev(self._fd, pieces)
        except BlockingIOError:
            taken = 0
        except OSError:
            return NOT_NOW  # the plain way meets the error, and ends the connection
        self._written += 1
        self._burst = True
        if taken == nbytes:
            return TAKEN
        transport.write(memoryview(b"".join(pieces))[taken:])
        if transport.get_write_buffer_size() == 0:
            return TAKEN
        self._writing_paused = True  # resume_writing will follow
        return HELD

    def _look_later(self) -> None:
        if not self._kicked:
            self._kicked = True
            self._loop.call_soon(self._on_kick)

    def exchange(self, pump: Pump) -> None:
        """Drive `pump` from now on: Full Operation begins (RFC 5044 §7.1.2 rule 4)."""
        self.pump = pump
        self._emss_due = self._written
        self._steady = False
        self.exchanged()
        self._look_later()

    def abort(self) -> None:
        """End TCP at once, or as soon as it begins; what was not sent is lost."""
        self._aborted = True
        if self._socket is not None and self._socket.fileno() >= 0:  # uvloop closes it before it says so
            reset_at_end(self._socket)
        if self._transport is not None:
            if self._resuming:
                self._loop.call_soon(self._transport.abort)
            else:
                self._transport.abort()

    @property
    def tcp_socket(self) -> socket.socket | None:
        """The TCP socket, as the loop's transports give it; None before TCP is established and when it has ended."""
        return self._socket

    def limit_silence(self, keepalive: float | None, user_timeout: float | None) -> None:
        """Let TCP find out that the peer is gone; see `tcp.limit_silence`."""
        if self._socket is not None and self._socket.fileno() >= 0:
            limit_silence(self._socket, keepalive, user_timeout)

    # --- when the process forks --------------------------------------------------------------------------------------

    @property
    def left_behind(self) -> bool:
        """Whether this process is a forked child, and the connection is its parent's."""
        return self._left_behind

    def descriptors(self) -> list[int]:
        """The socket's, if it is open."""
        return [] if self._socket is None else [self._socket.fileno()]

    def leave_behind(self) -> None:
        """This process is a forked child: nothing is read, written or ended any more."""
        self._left_behind = True
        self._transport = self._socket = self._tap = None
        self._fd = -1

    # --- inside ------------------------------------------------------------------------------------------------------

    def _on_kick(self) -> None:
        self._kicked = self._burst = False
        self.kick()

    def next_turn(self, fpdus: int) -> None:
        """The pump goes on with the input that it has left for this turn."""
        self._in_line = False
        if self._transport is None or not self.pump.behind:
            return
        self._busy = True
        self._burst = False
        try:
            self.pump.proceed(fpdus)
            self._run()
        finally:
            self._busy = False

    def _run(self) -> None:
        """Write what there is to write, then settle everything that may have changed."""
        if self._run_pump(self.pump):  # what the peer asks for now cannot be answered: this half is closed
            self.abort()
        elif self._transport is not None:
            self._settle(self._transport)

    def _run_pump(self, pump: Pump) -> bool:
        """Write some batches; returns whether there was one that can not be written any more."""
        if not self._steady:
            pump.resume()  # even while clogged: a peer that is clogged too waits for this side to read
        for _ in range(TURN_BATCHES):
            transport = self._transport
            if self._writing_paused or transport is None or transport.is_closing():
                return False
            if self._written >= self._emss_due:
                self._refresh_emss()
            iov = pump.next_iov()
            if not iov:
                return False
            if self._sent_fin:
                return True
            if not self._write(transport, iov):
                self._writing_paused = True  # resume_writing will follow
                return False
            pump.flushed()
        self._look_later()
        return False

    def _write(self, transport: asyncio.Transport, iov: list[Octets]) -> bool:
        """Give a batch to the transport; returns whether the kernel has taken all of it."""
        self._written += 1
        if self._tap is not None:
            self._tap.sent(iov)
        if len(iov) == 1:
            transport.write(iov[0])
        elif _WRITELINES_NEVER_PAUSES:
            transport.write(b"".join(iov))
        else:
            transport.writelines(iov)
        return transport.get_write_buffer_size() == 0

    def _refresh_emss(self) -> None:
        """Let the pump know TCP's segment size (MPA-5044-4.5-06)."""
        self._emss_due = self._written + EMSS_REFRESH
        if self._socket is not None and self._socket.fileno() >= 0:
            self.pump.set_emss(emss_of(self._socket))

    def _settle(self, transport: asyncio.Transport) -> None:
        """See to input, ends and time, unless only octets matter as before."""
        pump = self.pump
        was_steady, self._steady = self._steady, pump.steady
        if was_steady and self._steady:
            return
        if pump.wants_input != self._reading:
            self._reading = pump.wants_input
            (transport.resume_reading if self._reading else transport.pause_reading)()
        if pump.behind and not self._in_line:
            self._in_line = True
            self._turns.wait_for_one(self)
        if self._resuming and (pump.over or pump.output_ended):
            self._look_later()
            return
        if pump.over:
            self._close(transport)
            return
        if pump.output_ended and not self._sent_fin and not self._writing_paused:
            self._end_half(transport)
        self._watch_time()

    def _end_half(self, transport: asyncio.Transport) -> None:
        self._sent_fin = True
        try:
            transport.write_eof()  # MPA-5044-7.2-01: a FIN only between FPDUs, and the peer's answer is still read
        except OSError:
            transport.abort()  # the peer has reset the connection, and the loop is yet to notice

    def _close(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        if self.pump.broken:
            self.abort()
        elif self._writing_paused:
            transport.abort()  # the peer does not take the last octets
        else:
            transport.close()

    def _watch_time(self) -> None:
        limit = self.pump.time_limit() or STEADY_LOOK
        if limit == self._limit:
            return
        self._limit = limit
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(limit.seconds, self._on_time, limit)

    def _on_time(self, limit: TimeLimit) -> None:
        self._timer = self._limit = None
        self._steady = False  # so that the pump is asked for its limit again
        self._busy = True
        try:
            self.pump.timed_out(limit)
            if self._transport is not None:
                self._run()
        finally:
            self._busy = False
