"""The polling driver: moves octets between a non-blocking socket and a pump when a `Poller` asks it to.

What is posted is given to the kernel at once, within the call that posts it, and what comes is taken within the call
that looks: nothing waits for another turn of anything.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from threading import get_ident
from time import monotonic
from typing import Any, Final

from pyiwarp.buffers import Octets
from pyiwarp.capture import Tap
from pyiwarp.drivers.poller import NEVER, Poller
from pyiwarp.drivers.readiness import READABLE as _IN
from pyiwarp.drivers.readiness import WRITABLE as _OUT
from pyiwarp.drivers.tcp import EMSS_REFRESH, TURN_BATCHES, emss_of, limit_silence, reset_at_end, unpace
from pyiwarp.pump import HELD, NOT_NOW, STEADY_LOOK, TAKEN, Pump, TimeLimit, address_word, no_callback

__all__ = ["PollingDriver"]

_IOV_MAX: Final = 1024  # what one gather write takes on Linux
_NO_MORE: Final = 0
_MORE: Final = 1
_AS_BEFORE: Final = 2
_LAST_READS: Final = 1024  # after a failed write: what may still lie in the socket


class PollingDriver:
    """One TCP connection under a pump, progressed by a poller. The pump may be exchanged; startup does so once.

    Takes over `sock`, which is established; `peer` is the peer's address if it is known. `on_closed` is called once,
    when TCP has ended, `on_exchanged` when the pump was exchanged.
    """

    def __init__(
        self,
        poller: Poller,
        pump: Pump,
        sock: socket.socket,
        tap: Tap | None = None,
        peer: tuple[Any, ...] | None = None,
    ) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an FPDU waits for no other
        self.pump = pump
        self.poller = poller
        self.closed = False
        self.deadline = NEVER
        self.on_closed: Callable[[], object] = no_callback
        self.on_exchanged: Callable[[], object] = no_callback
        local, peer = sock.getsockname(), peer or _peer_of(sock)
        self.peer_addr: tuple[Any, ...] | None = peer
        self.local_addr: tuple[Any, ...] | None = local
        self.peername = address_word(peer)
        self.sockname = address_word(local)
        unpace(sock, self.peername)
        self._socket = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._sendmsg: Callable[[list[Octets]], int] = getattr(sock, "sendmsg", self._send_joined)
        self._tap = tap
        self._pending: list[Octets] = []  # what the kernel did not take yet
        self._failed: OSError | None = None  # of a write that is made again
        self._emss_serves = 0  # so many more writes
        self._mask = 0
        self._busy = False
        self._asked = False  # there may be something to write, said while it was busy
        self._steady = False
        self._in_line = False  # the pump is behind, and a turn will come
        self._more = False  # a turn ended with batches left
        self._eof = False
        self._sent_fin = False
        self._limit: TimeLimit | None = None
        self._limit_ends = NEVER
        poller.watch(self, 0)
        if tap is not None and peer is not None:
            tap.opened(local[:2], peer[:2])

    def __repr__(self) -> str:
        return f"<PollingDriver {self.sockname} with {self.peername}>"

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    # --- from the poller ---------------------------------------------------------------------------------------------

    def ready(self, happened: int) -> None:
        """The socket has something to read, takes something to write, or has failed."""
        if self._busy:
            return
        self._busy = True
        self._asked = False
        try:
            if happened != _IN and happened & _OUT and self._pending:
                self._write(self._pending)
            if (happened == _IN or happened & ~_OUT) and self._mask & _IN and not self.closed:
                received = self._receive()
                if received == _AS_BEFORE and self._steady and self._mask == _IN and not self._asked:
                    return
            self._run()
        finally:
            self._busy = False

    def expired(self) -> None:
        """The present wait is over."""
        if self._busy:
            return
        limit = None
        if self._limit is not None and self._limit_ends <= monotonic():
            limit, self._limit, self._limit_ends = self._limit, None, NEVER
            self._steady = False  # so that the pump is asked for its limit again
        self.deadline = self._limit_ends
        self._busy = True
        try:
            if limit is not None:
                self.pump.timed_out(limit)
            self._run()
        finally:
            self._busy = False

    def next_turn(self, fpdus: int) -> None:
        """The pump goes on with the input that it has left for this turn."""
        self._in_line = False
        if self.closed or not self.pump.behind:
            return
        self._busy = True
        try:
            self.pump.proceed(fpdus)
            self._run()
        finally:
            self._busy = False

    # --- from the pump's owner ---------------------------------------------------------------------------------------

    @property
    def tcp_socket(self) -> Any:
        """The socket, for its options; None once TCP has ended."""
        return None if self.closed else self._socket

    def limit_silence(self, keepalive: float | None, user_timeout: float | None) -> None:
        """Let TCP find out that the peer is gone; see `tcp.limit_silence`."""
        if not self.closed:
            limit_silence(self._socket, keepalive, user_timeout)

    @property
    def left_behind(self) -> bool:
        """Whether this process is a forked child, and the connection is its parent's."""
        return self.poller.left_behind

    def kick(self) -> None:
        """Write what there is to write, at once. Raises `WrongThread` in another thread than that of the poller."""
        poller = self.poller
        if get_ident() != poller.ident:
            if poller.left_behind and self.pump.output_ended:
                return  # the queue pair is being given up
            poller.check_thread()
        if self._busy or self.closed:
            self._asked = True
            return  # the call that is running looks for more to write before it returns
        self._busy = True
        try:
            poller.shielded(self._run)
        finally:
            self._busy = False

    def write_small(self, octets: bytes) -> int:
        """Give octets to the kernel at once, if nothing else is being written; see `Driver`."""
        if (
            not self._steady
            or self._busy
            or self._pending
            or self._emss_serves == 0
            or self._tap is not None
            or self.closed
            or get_ident() != self.poller.ident
        ):
            return NOT_NOW
        try:
            sent = self._send(octets)
        except BlockingIOError:
            return NOT_NOW
        except OSError as error:
            self._failed = error  # the plain way writes these octets again, and ends the connection
            return NOT_NOW
        self._emss_serves -= 1
        if sent == len(octets):
            return TAKEN
        self._pending = [octets[sent:]]
        self._busy = True
        try:
            self._settle()
        finally:
            self._busy = False
        return HELD

    def write_pieces(self, pieces: list[Octets]) -> int:
        """Nothing: messages whose octets would have to be copied are those of streams, which are not polled."""
        return NOT_NOW

    def exchange(self, pump: Pump) -> None:
        """Drive `pump` from now on: Full Operation begins (RFC 5044 §7.1.2 rule 4)."""
        self.pump = pump
        self._emss_serves = 0
        self._steady = False
        self.on_exchanged()
        self.kick()

    def abort(self) -> None:
        """End TCP at once; what was not sent is lost."""
        if self.left_behind:
            return
        self.reset_at_end()
        self._end(None)

    def reset_at_end(self) -> None:
        """Whatever ends the connection from now on, the peer sees a reset: a FIN would look like a graceful end."""
        if not self.closed and not self.left_behind:
            reset_at_end(self._socket)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _receive(self) -> int:
        """Receive once; returns that `_NO_MORE` comes now, that there may be `_MORE`, or that all is `_AS_BEFORE`."""
        view = self.pump.receive_view()
        try:
            nbytes = self._recv_into(view)
        except BlockingIOError:
            return _NO_MORE
        except OSError as error:
            self._end(error)
            return _NO_MORE
        if nbytes:
            if self._tap is not None:
                self._tap.received(view[:nbytes])
            return _AS_BEFORE if self.pump.received(nbytes) else _MORE
        self._eof = True
        self.pump.received_eof()
        return _NO_MORE

    def _run(self) -> None:
        """Write what there is to write, then settle what may have changed."""
        if self.closed:
            return
        if not self._steady:
            self.pump.resume()  # even while clogged: a peer that is clogged too waits for this side to read
        self._more = False
        batches = 0
        while not (self._pending or self.closed):
            if batches == TURN_BATCHES:
                self._more = True  # the poller comes back at once: the socket takes octets
                break
            if self._emss_serves == 0:
                self._emss_serves = EMSS_REFRESH
                self.pump.set_emss(emss_of(self._socket))
            iov = self.pump.next_iov()
            if not iov:
                break
            if self._sent_fin:  # what the peer asks for now cannot be answered: this half is closed
                self.abort()
                return
            self._emss_serves -= 1
            batches += 1
            if self._tap is not None:
                self._tap.sent(iov)
            self._write(iov)
        if not self.closed:
            self._settle()

    def _write(self, iov: list[Octets]) -> None:
        """Give octets to the kernel, and keep views of what it does not take."""
        if self._failed is not None:
            error, self._failed = self._failed, None
            self._drain(error)
            return
        try:
            if len(iov) == 1:
                nbytes, sent = len(iov[0]), self._send(iov[0])
            else:
                nbytes, sent = sum(map(len, iov)), self._sendmsg(iov if len(iov) <= _IOV_MAX else iov[:_IOV_MAX])
        except BlockingIOError:
            self._pending = iov
            return
        except OSError as error:
            self._drain(error)
            return
        if sent == nbytes:
            if self._pending:
                self._pending = []
            self.pump.flushed()
            return
        whole = 0
        while sent >= len(iov[whole]):
            sent -= len(iov[whole])
            whole += 1
        self._pending = iov[whole:]
        self._pending[0] = memoryview(self._pending[0])[sent:]

    def _send_joined(self, iov: list[Octets]) -> int:
        """As `sendmsg`, which Windows has not."""
        return self._send(b"".join(iov))

    def _drain(self, error: OSError) -> None:
        """After a failed write: receive what the peer sent before, such as a Terminate, then end."""
        for _ in range(_LAST_READS):
            while self.pump.behind:
                self.pump.proceed()
            if self.closed or not (self.pump.wants_input and not self._eof and self._receive()):
                break
        self._end(error)

    def _settle(self) -> None:
        """See to input, ends and time, unless only octets matter as before."""
        pump = self.pump
        was_steady, self._steady = self._steady, pump.steady
        mask = _OUT if self._pending or self._more else 0
        if was_steady and self._steady and mask | _IN == self._mask and not self._eof:
            return
        if self._steady:
            if not self._eof:
                mask |= _IN
            if not was_steady:
                self._watch_time(pump.time_limit())
        else:
            if pump.over:
                self._close()
                return
            if pump.output_ended and not self._sent_fin and not self._pending:
                self._end_half()
                if self.closed:
                    return
            if pump.wants_input and not self._eof:
                mask |= _IN
            self._watch_time(pump.time_limit())
        if pump.behind and not self._in_line:
            self._in_line = True
            self.poller.wait_for_turn(self)
        self._wake_at(self._limit_ends)
        if mask != self._mask:
            self._mask = mask
            self.poller.watch(self, mask)

    def _watch_time(self, limit: TimeLimit | None) -> None:
        if limit is None:
            limit = STEADY_LOOK
        if limit == self._limit:
            return
        self._limit = limit
        now = monotonic()
        # the looks of all drivers fall together: the poller wakes once for them, and finds the next deadline once
        self._limit_ends = (now if limit is not STEADY_LOOK else now // limit.seconds * limit.seconds) + limit.seconds

    def _wake_at(self, deadline: float) -> None:
        if deadline != self.deadline:
            before, self.deadline = self.deadline, deadline
            self.poller.look_at_time(deadline, before)

    def _end_half(self) -> None:
        self._sent_fin = True
        try:
            self._socket.shutdown(socket.SHUT_WR)  # MPA-5044-7.2-01: only between FPDUs; the peer's answer is read
        except OSError as error:  # the peer has reset the connection
            self._drain(error)

    def _close(self) -> None:
        if self._pending or self.pump.broken:
            self.abort()  # the last octets were not taken, or a FIN would look like a graceful end
        else:
            self._end(None)

    def _end(self, cause: Exception | None) -> None:
        if self.closed:
            return
        self.closed = True
        self.poller.forget(self)
        self._socket.close()
        self._pending = []
        if self._tap is not None:
            self._tap.closed()
        self.pump.lost(cause)
        self.on_closed()


def _peer_of(sock: socket.socket) -> tuple[Any, ...] | None:
    """The peer's address; None if it has reset the connection already."""
    try:
        name: tuple[Any, ...] = sock.getpeername()  # of IPv6 it has four parts
    except OSError:
        return None
    return name
