"""The polling driver: moves octets between a non-blocking socket and a pump when it is asked to.

There is no loop, no task and no timer. A `Poller` knows the sockets of one thread; whoever polls a completion queue
makes them progress. What is posted is given to the kernel at once, within the call that posts it, and what comes is
taken within the call that looks: nothing waits for another turn of anything.
"""

from __future__ import annotations

import math
import select
import socket
import threading
from collections.abc import Callable
from struct import Struct
from threading import get_ident
from time import monotonic
from typing import Final, Protocol

from pyiwarp.capture import Tap
from pyiwarp.cq import CompletionQueue
from pyiwarp.errors import UsageError, WrongThread
from pyiwarp.interrupts import give_back, interruptible, pending, raise_pending, take_over, waiting
from pyiwarp.pump import Octets, Pump, address_word
from pyiwarp.startup import TimeLimit

__all__ = ["Pollable", "Poller", "PollingLlp", "poller"]

TURN_BATCHES: Final = 4
"""Batches written at a stretch at most, so that other connections have their turn."""

EMSS_REFRESH: Final = 64
"""How many writes one reading of TCP_MAXSEG serves: it changes rarely, and asking costs a system call."""

SPIN: Final = 0.0005
"""For how long `Poller.wait` looks again and again before it sleeps, in seconds."""

NEVER: Final = math.inf

_RESET: Final = Struct("ii").pack(1, 0)  # struct linger: on, for no time
_IOV_MAX: Final = 1024  # what one gather write takes on Linux
_LAST_READS: Final = 1024  # after a failed write: what may still lie in the socket
_IN: Final = select.POLLIN
_OUT: Final = select.POLLOUT


class Pollable(Protocol):
    """A socket that a poller watches."""

    deadline: float

    def fileno(self) -> int:
        """The file descriptor."""

    def ready(self, happened: int) -> None:
        """The system says `happened`, bits of `select.poll`."""

    def expired(self) -> None:
        """`deadline` has passed."""


class Poller:
    """The sockets of one thread that have no event loop; it belongs to the thread that makes it.

    `spin` is for how long `wait` keeps looking before it lets the system wake it, in seconds: looking costs a core and
    saves the time of waking up.
    """

    def __init__(self, spin: float = SPIN) -> None:
        self.spin = spin
        self.ident = get_ident()
        self._poll = select.poll()
        self._look = self._poll.poll
        self._pollables: dict[int, Pollable] = {}
        self._masks: dict[Pollable, int] = {}
        self._next_deadline = NEVER
        self.busy = False
        self._guarded = False

    def __repr__(self) -> str:
        return f"<Poller {len(self._masks)} sockets>"

    def check_thread(self) -> None:
        """Raise `WrongThread` unless the poller belongs to the calling thread."""
        if get_ident() != self.ident:
            here = threading.current_thread().name
            raise WrongThread(f"{self!r} belongs to thread {self.ident}, not to {here!r} ({get_ident()})")

    # --- for pollables -----------------------------------------------------------------------------------------------

    def watch(self, pollable: Pollable, mask: int) -> None:
        """Tell `pollable` when one of the bits of `mask` happens; 0 leaves it alone, even when its peer is gone."""
        before = self._masks.get(pollable)
        if mask == before:
            return
        if not self._masks:
            self._guarded = take_over()
        fd = pollable.fileno()
        if mask:
            self._pollables[fd] = pollable
            self._poll.register(fd, mask)
        elif before:
            self._poll.unregister(fd)
        self._masks[pollable] = mask

    def forget(self, pollable: Pollable) -> None:
        """Watch `pollable` no more; its socket is still open."""
        if self._masks.pop(pollable, 0):
            self._poll.unregister(pollable.fileno())
        if self._guarded and not self._masks:
            self._guarded = False
            give_back()
        self._pollables.pop(pollable.fileno(), None)
        self.look_at_time(NEVER, pollable.deadline)

    def look_at_time(self, deadline: float, before: float = NEVER) -> None:
        """A pollable's deadline has become `deadline`, and was `before`."""
        if deadline <= self._next_deadline:
            self._next_deadline = deadline
        elif before <= self._next_deadline:
            self._find_next_deadline()

    # --- for programs ------------------------------------------------------------------------------------------------

    def progress(self) -> int:
        """Let every socket with news take them, and every wait that was too long end; never waits itself.

        Returns how many sockets had news. Raises `WrongThread` in another thread than that of the poller. Within a
        callback of the stack it does nothing.
        """
        if get_ident() != self.ident:
            self.check_thread()
        if self.busy:
            return 0
        ready = self._look(0)
        if ready or self._next_deadline != NEVER:
            self._serve(ready)
        if pending:
            raise_pending()
        return len(ready)

    def wait(self, done: Callable[[], object], timeout: float | None = None) -> bool:
        """Make progress until `done()` is true or `timeout` seconds have passed; returns whether it is true.

        Looks without pause for `spin` seconds from the last news on, then sleeps until the system has some.
        """
        self.check_thread()
        if self.busy:
            raise UsageError("a callback of the stack must not wait: what it waits for could not happen")
        self.progress()
        now = monotonic()
        deadline = NEVER if timeout is None else now + timeout
        spinning = now + self.spin
        while not done():
            if now >= deadline:
                return False
            if now >= spinning:
                self._serve(self._sleep(min(deadline, self._next_deadline) - now))
                spinning = monotonic() + self.spin
            elif self.progress():
                spinning = monotonic() + self.spin
            now = monotonic()
        return True

    # --- inside ------------------------------------------------------------------------------------------------------

    def _sleep(self, seconds: float) -> list[tuple[int, int]]:
        raise_pending()
        return self._look(None if seconds == NEVER else math.ceil(max(0.0, seconds) * 1000))

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        self.busy = True
        try:
            for fd, happened in ready:
                pollable = self._pollables.get(fd)  # one may have closed another
                if pollable is not None:
                    pollable.ready(happened)
            if self._next_deadline != NEVER and self._next_deadline <= monotonic():
                self._expire()
        finally:
            self.busy = False

    def _expire(self) -> None:
        now = monotonic()
        for pollable in list(self._masks):
            if pollable.deadline <= now and pollable in self._masks:
                pollable.expired()
        self._find_next_deadline()

    def _find_next_deadline(self) -> None:
        self._next_deadline = min((pollable.deadline for pollable in self._masks), default=NEVER)


interruptible(Poller.progress)
interruptible(Poller._sleep)
waiting(Poller.wait)
waiting(CompletionQueue.poll)


class _Own(threading.local):
    """What each thread has for itself."""

    poller: Poller | None = None


_own = _Own()


def poller() -> Poller:
    """The poller of the calling thread, made at the first call; its `spin` says how long to look before sleeping."""
    if _own.poller is None:
        _own.poller = Poller()
    return _own.poller


class PollingLlp:
    """One TCP connection under a pump, progressed by a poller. The pump may be exchanged; startup does so once.

    Takes over `sock`, which is established. `on_closed` is called once, when TCP has ended, `on_exchanged` when the
    pump was exchanged.
    """

    def __init__(self, poller: Poller, pump: Pump, sock: socket.socket, tap: Tap | None = None) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # an FPDU waits for no other
        self.pump = pump
        self.poller = poller
        self.closed = False
        self.deadline = NEVER
        self.on_closed: Callable[[], object] = _nothing
        self.on_exchanged: Callable[[], object] = _nothing
        local, peer = sock.getsockname(), _peer_of(sock)
        self.peername = address_word(peer)
        self.sockname = address_word(local)
        self._socket = sock
        self._recv_into = sock.recv_into
        self._sendmsg = sock.sendmsg
        self._tap = tap
        self._pending: list[Octets] = []  # what the kernel did not take yet
        self._emss_serves = 0  # so many more writes
        self._mask = 0
        self._busy = False
        self._steady = False
        self._more = False  # a turn ended with batches left
        self._eof = False
        self._sent_fin = False
        self._limit: TimeLimit | None = None
        poller.watch(self, 0)
        if tap is not None and peer is not None:
            tap.opened(local[:2], peer[:2])

    def __repr__(self) -> str:
        return f"<PollingLlp {self.sockname} with {self.peername}>"

    def fileno(self) -> int:
        """The socket's file descriptor."""
        return self._socket.fileno()

    # --- from the poller ---------------------------------------------------------------------------------------------

    def ready(self, happened: int) -> None:
        """The socket has something to read, takes something to write, or has failed."""
        if self._busy:
            return
        self._busy = True
        try:
            if happened & _OUT and self._pending:
                self._write(self._pending)
            if happened & ~_OUT and self._mask & _IN and not self.closed:
                self._receive()
            self._run()
        finally:
            self._busy = False

    def expired(self) -> None:
        """The present wait is over."""
        self.deadline = NEVER
        limit, self._limit = self._limit, None
        if limit is None or self._busy:
            return
        self._busy = True
        try:
            self.pump.timed_out(limit)
            self._run()
        finally:
            self._busy = False

    # --- from the pump's owner ---------------------------------------------------------------------------------------

    def kick(self) -> None:
        """Write what there is to write, at once. Raises `WrongThread` in another thread than that of the poller."""
        poller = self.poller
        if get_ident() != poller.ident:
            poller.check_thread()
        if self._busy or self.closed:
            return  # whoever is busy looks for more to write before it is done
        was_busy = poller.busy
        self._busy = poller.busy = True  # what callbacks poll makes no progress beneath
        try:
            self._run()
        finally:
            self._busy = False
            poller.busy = was_busy

    def exchange(self, pump: Pump) -> None:
        """Drive `pump` from now on: Full Operation begins (RFC 5044 §7.1.2 rule 4)."""
        self.pump = pump
        self._emss_serves = 0
        self._steady = False
        self.on_exchanged()
        self.kick()

    def abort(self) -> None:
        """End TCP at once; what was not sent is lost."""
        self.reset_at_end()
        self._end(None)

    def reset_at_end(self) -> None:
        """Whatever ends the connection from now on, the peer sees a reset: a FIN would look like a graceful end."""
        if not self.closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _receive(self) -> bool:
        """Receive once; returns whether there may be more."""
        view = self.pump.receive_view()
        try:
            nbytes = self._recv_into(view)
        except BlockingIOError:
            return False
        except OSError as error:
            self._end(error)
            return False
        if nbytes:
            if self._tap is not None:
                self._tap.received(view[:nbytes])
            self.pump.received(nbytes)
        else:
            self._eof = True
            self.pump.received_eof()
        return not self._eof

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
            if self._emss_serves == 0:  # MPA-5044-4.5-06
                self._emss_serves = EMSS_REFRESH
                self.pump.set_emss(self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG))
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
        try:
            sent = self._sendmsg(iov if len(iov) <= _IOV_MAX else iov[:_IOV_MAX])
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._drain(error)
            return
        if sent == (len(iov[0]) if len(iov) == 1 else sum(map(len, iov))):
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

    def _drain(self, error: OSError) -> None:
        """The peer takes nothing more; what it sent before, such as a Terminate, lies in the socket still."""
        for _ in range(_LAST_READS):
            if self.closed or not (self.pump.wants_input and not self._eof and self._receive()):
                break
        self._end(error)

    def _settle(self) -> None:
        """See to input, ends and time, unless only octets matter as before."""
        pump = self.pump
        self._steady = pump.steady
        mask = _OUT if self._pending or self._more else 0
        if self._steady:
            if not self._eof:
                mask |= _IN
            if self._limit is not None:
                self._watch_time(None)
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
        if mask != self._mask:
            self._mask = mask
            self.poller.watch(self, mask)

    def _watch_time(self, limit: TimeLimit | None) -> None:
        if limit == self._limit:
            return
        self._limit = limit
        before = self.deadline
        self.deadline = NEVER if limit is None else monotonic() + limit.seconds
        self.poller.look_at_time(self.deadline, before)

    def _end_half(self) -> None:
        self._sent_fin = True
        try:
            self._socket.shutdown(socket.SHUT_WR)  # MPA-5044-7.2-01: only between FPDUs; the peer's answer is read
        except OSError as error:  # the peer has reset the connection
            self._drain(error)

    def _close(self) -> None:
        if self._pending or self.pump.broken:
            self.abort()  # nobody takes the last octets, or nobody shall believe that these were the last
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


def _peer_of(sock: socket.socket) -> tuple[str, int] | None:
    """The peer's address; None if it has reset the connection already."""
    try:
        name: tuple[str, int] = sock.getpeername()
    except OSError:
        return None
    return name


def _nothing() -> None:
    """What a driver tells that nobody listens to."""
