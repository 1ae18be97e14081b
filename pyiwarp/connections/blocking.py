"""A Connection that one calls and that answers, progressed by polling; `pyiwarp.blocking` makes them.

It belongs to the thread that made it, as its poller does. While one of them waits, all connections of the thread make
progress.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from pyiwarp.connections.endpoint import Endpoint, Message
from pyiwarp.connections.large import READ_AND_ANSWER
from pyiwarp.connections.options import Options
from pyiwarp.connections.requests import (
    MakeRequest,
    make_compare_swap,
    make_fetch_add,
    make_immediate,
    make_read,
    make_write,
    succeeded,
    successful,
    value_of,
)
from pyiwarp.drivers.interrupts import waiting_module
from pyiwarp.drivers.poller import Poller, poller
from pyiwarp.drivers.polling_driver import PollingDriver
from pyiwarp.errors import Closed, Disconnected
from pyiwarp.memory.atomics import ALL_ONES
from pyiwarp.memory.fastreg import FastRegion
from pyiwarp.memory.log import AccessLog
from pyiwarp.memory.windows import MemoryWindow
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
from pyiwarp.queues.work import BindMw, Completion, LocalInvalidate, RegMr, Send
from pyiwarp.verbs import ProtectionDomain

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer
    from pyiwarp.connections.endpoint import Local

__all__ = ["Connection", "Region"]

waiting_module(__name__)


class Region(MemoryRegion):
    """Registered memory whose closing waits for the work that uses it; `with` closes it.

    A block that is left by an exception does not wait: the memory is released when no work uses it any more.
    """

    __slots__ = ("poller",)

    poller: Poller
    """What makes the connections of this thread progress."""

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if name != "poller"]

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *exc: object) -> None:
        if exc and exc[0] is not None:
            self.retire()  # a silent peer must not delay a program that has given up
        else:
            self.drain()

    def drain(self, timeout: float | None = None) -> None:
        """Void the STag at once and wait until no work in flight uses the memory.

        A Read of the peer's that is being answered ends its connection (RFC 5040 §4.8). Raises `TimeoutError` after
        `timeout` seconds; the memory is released later then.
        """
        self.retire()
        self.wait_closed(timeout)

    def wait_closed(self, timeout: float | None = None) -> None:
        """Wait until the STag is void and no work in flight uses the memory: nobody but the caller touches it then.

        It does not void the STag: `retire` or the peer's Send with Invalidate does. Raises `TimeoutError` after
        `timeout` seconds.
        """
        released: list[bool] = []

        def on_released() -> None:
            released.append(True)

        self.when_released(on_released)
        try:
            if not self.poller.wait(lambda: released, timeout):
                raise TimeoutError(f"work in flight used the memory for more than {timeout:g} s: {self!r}")
        finally:
            self.forget_caller(on_released)


class _Outcome:
    """Where the completion of one operation goes."""

    __slots__ = ("completion",)

    def __init__(self) -> None:
        self.completion: Completion | None = None


class Connection(Endpoint[PollingDriver]):
    """One end of an RDMA connection, made by `connect` or `Request.accept`; it belongs to the thread that made it.

    `with` closes it, and resets it when the block is left by an exception of the program's. `for` gives the peer's
    messages until either side closes. Each operation waits at most `timeout` seconds, for ever by
    default, and then raises `TimeoutError`: the work goes on, only the waiting is over, and its memory stays pinned
    until it is complete. Ctrl-C is the same. In another thread every operation raises `WrongThread`.
    """

    def __init__(self, pd: ProtectionDomain, options: Options, *, owns_pd: bool) -> None:
        self.poller: Poller = poller()
        """What makes the connections of this thread progress."""
        super().__init__(pd, options, owns_pd=owns_pd)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not self.tells_of_the_end(error):
            self.abort()  # a graceful end would tell the peer that all has been said (RFC 5041 §6.2)
        else:
            self.close()

    # --- memory ------------------------------------------------------------------------------------------------------

    def register(
        self,
        buffer: Buffer,
        access: Access = Access.LOCAL_WRITE,
        *,
        shared: bool = True,
        log: AccessLog | None = None,
        to: int | None = None,
    ) -> Region:
        """Register the memory of `buffer` for this connection's protection domain; see `ProtectionDomain.register`.

        Without `shared` no other connection of the protection domain lets its peer reach it. What peers do to it is
        noted in `log`. `to` is the TO of its first octet.
        """
        region = self._register(Region, buffer, access, shared=shared, log=log, to=to)
        region.poller = self.poller
        return region

    def register_fast(
        self,
        region: FastRegion,
        buffers: Buffer | Sequence[Buffer],
        access: Access = Access.LOCAL_WRITE,
        *,
        key: int | None = None,
        to: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Give a region of `pd.alloc_stag` memory: one buffer or several; see `RegMr`.

        Returns when what was posted before is complete too; the region has its memory from the call on. Raises
        `WrongState` if the region has memory, or the cause if the connection ends first.
        """
        self._do(lambda done: RegMr(region, buffers, access, key, to, done), timeout)

    def bind(
        self,
        window: MemoryWindow,
        local: RegionSlice | None,
        access: Access = Access.REMOTE_READ,
        *,
        key: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Bind a window of `pd.alloc_window` to octets of a region that grants WINDOW_BIND; see `BindMw`.

        Returns when what was posted before is complete too; the window can be advertised from the call on. Raises
        `WrongState` if a window of type 2 is bound, or the cause if the connection ends first.
        """
        self._do(lambda done: BindMw(window, local, access, key, done), timeout)

    def invalidate(
        self,
        target: MemoryRegion | FastRegion | MemoryWindow | int,
        *,
        fence: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Void an STag of this side's: a region's, a window's of type 2, or one by its number; see `LocalInvalidate`.

        Returning means that neither the peer nor work of this connection uses the memory by it. With `fence` all
        earlier Reads and Atomics are complete before it is void. Raises the cause if the connection ends first.
        """
        self._do(lambda done: LocalInvalidate(target, done, fence=fence), timeout)

    # --- operations --------------------------------------------------------------------------------------------------

    def send(
        self,
        data: Local,
        *,
        solicited: bool = False,
        invalidate: int | None = None,
        timeout: float | None = None,
    ) -> None:
        """Send `data` to the peer's next receive (RFC 5040 §5.3); `invalidate` names an STag of the peer's.

        Returning means that the memory is the caller's again, not that the peer has the message. Raises the cause if
        the connection ends first.
        """
        if type(data) is bytes and invalidate is None and self.qp.send_small(data, solicited=solicited):
            return
        inline = self._inline(data)
        if inline is not None:
            self._do(lambda done: Send((), done, inline, invalidate, solicited), timeout)
            return
        with self._registered(data) as sges:
            self._do(lambda done: Send(sges, done, None, invalidate, solicited), timeout)

    def write(
        self, local: Local, remote: RemoteRegion, *, then_send: Local | None = None, timeout: float | None = None
    ) -> None:
        """RDMA Write the octets of `local` into the peer's memory (RFC 5040 §5.1).

        Returning means that the local memory may be used again. It does not mean that the octets have arrived: a
        later `send` that the peer has received, or a later `read` that returned, means that (RFC 5040 §5.5). With
        `Options(confirm=True)` it does, and what the peer refuses raises here. With `then_send` a Send of these octets
        follows: when it is received, the Write is placed; see `write_many`. Raises the cause if the connection ends
        first.
        """
        if then_send is not None:
            self.write_many([(local, remote)], then_send=then_send, timeout=timeout)
            return
        with self._registered(local) as sges:
            self._do(make_write(sges, remote), timeout)

    def write_many(
        self,
        writes: Iterable[tuple[Local, RemoteRegion]],
        *,
        then_send: Local | None = None,
        timeout: float | None = None,
    ) -> None:
        """RDMA Write each of `writes`, pairs of local memory and memory of the peer's, in their order (RFC 5040 §5.1).

        They are posted together and waited for once. With `then_send` a Send of these octets follows them: when it is
        received, all of them are placed (RFC 5040 §5.5). Returning means for each what it means for `write`, and for
        the Send what it means for `send`. A list may be longer than `Options.send_depth`.
        After `timeout` seconds what was posted goes on; the rest of a longer list and the Send are not posted.
        Raises `BadWorkRequest` for an item that is unfit, or the cause if the connection ends first; a note of the
        error says which item it was.
        """
        with self._batch(make_write, writes, then_send=then_send) as requests:
            self._do_many(requests, timeout)

    def read(
        self,
        local: Local,
        remote: RemoteRegion,
        *,
        invalidate_sink: bool = False,
        timeout: float | None = None,
    ) -> None:
        """RDMA Read from the peer's memory until `local` is full (RFC 5040 §5.2); returns when the octets are here.

        With `invalidate_sink` the STag of `local` is void then, as by `invalidate`. Raises the cause if the connection
        ends first.
        """
        with self._registered(local, Access.LOCAL_WRITE) as sges:
            self._do(make_read(sges, remote, invalidate_sink=invalidate_sink), timeout)

    def read_many(self, reads: Iterable[tuple[Local, RemoteRegion]], *, timeout: float | None = None) -> None:
        """RDMA Read each of `reads`, pairs of local memory and memory of the peer's (RFC 5040 §5.2).

        They are posted together and waited for once; as many are under way at a time as the peer agreed to (ORD).
        Returns when all octets are here. Raises as `write_many` does.
        """
        with self._batch(make_read, reads, Access.LOCAL_WRITE) as requests:
            self._do_many(requests, timeout)

    def fetch_add(self, remote: RemoteRegion, add: int, *, mask: int = 0, timeout: float | None = None) -> int:
        """Add to eight octets of the peer's memory; returns the number that was there before (RFC 7306 §5.1.1).

        Both numbers have 64 bits, in the byte order of the peer's host, and wrap. Each 1 in `mask` is the top bit of
        a field that is added by itself. Raises the cause if the connection ends first.
        """
        return value_of(self._do(make_fetch_add(remote, add, mask), timeout))

    def compare_swap(
        self,
        remote: RemoteRegion,
        compare: int,
        swap: int,
        *,
        compare_mask: int = ALL_ONES,
        swap_mask: int = ALL_ONES,
        timeout: float | None = None,
    ) -> int:
        """Put `swap` into eight octets of the peer's memory if `compare` is there; returns what was (RFC 7306 §5.1.2).

        The masks say which bits are compared, and which are put. Otherwise as `fetch_add`.
        """
        return value_of(self._do(make_compare_swap(remote, compare, swap, compare_mask, swap_mask), timeout))

    def send_immediate(self, data: bytes, *, solicited: bool = False, timeout: float | None = None) -> None:
        """Send eight octets of Immediate Data to the peer's next receive (RFC 7306 §6); otherwise as `send`."""
        self._do(make_immediate(data, solicited=solicited), timeout)

    def write_with_immediate(
        self,
        local: Local,
        remote: RemoteRegion,
        data: bytes,
        *,
        solicited: bool = False,
        timeout: float | None = None,
    ) -> None:
        """RDMA Write, and behind it eight octets of Immediate Data: when they come, the Write is placed.

        Nothing is sent if either is unfit, and the octets never without the Write. Otherwise as `write`.
        """
        immediate = make_immediate(data, solicited=solicited)
        with self._registered(local) as sges:
            self._do_many([make_write(sges, remote), immediate], timeout)  # EXT-7306-6.3-06

    def recv(self, *, timeout: float | None = None) -> bytes:
        """The octets of the peer's next Send; see `recv_message`."""
        return self.recv_message(timeout=timeout).data

    def recv_message(self, *, timeout: float | None = None) -> Message:
        """The peer's next Send, in the order sent. A time limit and Ctrl-C lose none.

        Raises `Disconnected` when the peer has closed gracefully and all is received, else the cause of the end.
        """
        self._wait_for_message(timeout, _deadline(timeout))
        return self._take_message()

    def recv_into(self, buffer: Local, *, timeout: float | None = None) -> int:
        """Receive the peer's next Send into `buffer`; returns how many octets it has (RFC 5040 §5.3).

        `buffer` is any memory that can be written, a whole region or a slice of one: its first octets are those of the
        message, the others stay. The octets are copied once, out of the receive in which they came. Raises
        `BadWorkRequest` for a message that is larger than `buffer`, which stays the next one, and for memory that may
        not be written; otherwise as `recv_message`.
        """
        self._check_sink(buffer)
        self._wait_for_message(timeout, _deadline(timeout))
        return self._take_into(buffer)

    def send_large(self, data: Local, *, timeout: float | None = None) -> None:
        """Send a message of any length below 2^32 octets to the peer's `recv_large`, which reads it by RDMA.

        Returns when the peer has all of it: it costs a round trip more than `send`. The memory must not change until
        then. `docs/large-messages.md` has the protocol. Raises `MessageRefused` for more than the peer's
        `Options.max_message`, which ends nothing; `BadWorkRequest` if the peer may not read (IRD is 0); the cause if
        the connection ends first. A time limit does not unsend it: the memory stays registered until the peer has it.
        """
        deadline = _deadline(timeout)
        self._make_room(deadline)
        loan = self._lend(data)
        if not self._await(lambda: loan.answer is not None or self._is_over, deadline):
            raise TimeoutError(f"the peer has not read the message yet: {self!r}")
        self._settle(loan)

    def recv_large(self, *, timeout: float | None = None) -> bytearray:
        """The next message of the peer's `send_large`, read from its memory (RFC 5040 §5.2).

        Raises `MessageRefused` for more than `Options.max_message` octets, which the peer is told and which ends
        nothing; `BadWorkRequest` if the peer's next message is a plain Send, which stays; otherwise as
        `recv_message`. A time limit and Ctrl-C lose none: the next `recv_large` returns it.
        """
        deadline = _deadline(timeout)
        self.poller.check_thread()
        self._check_may_read()
        while (arrival := self._next_arrival()) is None:
            if self._inbox:
                self._make_room(deadline, READ_AND_ANSWER)
            else:
                self._wait_for_message(timeout, deadline)
        try:
            self._completion(_outcome(arrival.work[-1]), deadline)
        except BaseException:
            arrival.claimed = False
            raise
        self._drop(arrival)
        succeeded([self._completion(_outcome(done), deadline) for done in arrival.work])
        return arrival.memory

    @property
    def _is_over(self) -> bool:
        """Whether no message comes any more."""
        return not self.qp.alive or self.qp.stream.peer_closed

    def _wait_for_message(self, timeout: float | None, deadline: float | None) -> None:
        """Wait until the inbox has a message; `deadline` is the end of `timeout` seconds."""
        self.poller.check_thread()
        inbox = self._inbox
        if not inbox:
            ready = self._await(lambda: inbox or self._is_over, deadline)
            if not inbox:
                self._check_more_to_come()
                assert not ready, "a wait that is not over in vain has a message or an end"
                raise TimeoutError(f"no message came within {timeout:g} s: {self!r}")

    def __iter__(self) -> Iterator[bytes]:
        try:
            while True:
                yield self.recv()
        except (Closed, Disconnected):  # by this side, by the peer
            return

    # --- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the connection gracefully: what was posted is sent, TCP is closed, all memory is released.

        It waits at most `linger` seconds for a silent peer. Ctrl-C aborts. A second call does nothing, nor does one in
        a forked child: the connection is its parent's.
        """
        if self._left_behind:
            self._closed = True
            return
        self.poller.check_thread()
        if self._closed:
            return
        self._closed = True
        try:
            self.qp.disconnect()
            llp = self._llp
            if llp is not None:
                self.poller.wait(lambda: llp.closed)
        finally:
            self._dispose()

    def abort(self) -> None:
        """End the connection at once; what is in flight is lost. In a forked child it does nothing."""
        if not self._left_behind:
            self.poller.check_thread()
        super().abort()

    def _dispose(self) -> None:
        if self._llp is not None:
            self._llp.reset_at_end()  # else closing the queue pair could make this driver send a FIN
        super()._dispose()

    def wait_closed(self, *, timeout: float | None = None) -> None:
        """Wait until the connection has ended, by whichever side; `close_reason` says why.

        Raises `TimeoutError` after `timeout` seconds.
        """
        llp = self._llp
        if not self._await(lambda: not self.qp.alive and (llp is None or llp.closed), _deadline(timeout)):
            raise TimeoutError(f"the connection has not ended: {self!r}")

    # --- inside ------------------------------------------------------------------------------------------------------

    def _do(self, request: MakeRequest, timeout: float | None) -> Completion:
        """Post a work request, when there is room, and wait for its completion."""
        deadline = _deadline(timeout)
        return self._outcome(self._post(request, deadline), deadline)

    def _post(self, request: MakeRequest, deadline: float | None) -> _Outcome:
        """Post a work request, when there is room."""
        self._make_room(deadline)
        done = _Outcome()
        self.qp.post_send(request(done))
        return done

    def _new_wr_id(self) -> _Outcome:
        return _Outcome()

    def _do_many(self, requests: Sequence[MakeRequest], timeout: float | None) -> None:
        """Post work requests in their order, together as far as there is room, and wait for the last of them."""
        deadline = _deadline(timeout)
        posted: list[_Outcome] = []
        while len(posted) < len(requests):
            self._make_room(deadline)
            some = requests[len(posted) : len(posted) + self.qp.send_room]
            waiting = [_Outcome() for _ in some]
            self.qp.post_send_many([request(done) for request, done in zip(some, waiting, strict=True)])
            posted += waiting
            if len(posted) < len(requests) and not self._completion(waiting[len(waiting) // 2], deadline).ok:
                break
        if posted:
            self._completion(posted[-1], deadline)
            succeeded([self._completion(done, deadline) for done in posted])

    def _make_room(self, deadline: float | None, requests: int = 1) -> None:
        """Wait until the send queue takes so many work requests."""
        self.poller.check_thread()
        self._check_alive()
        if self.qp.send_room < requests:
            if not self._await(lambda: self.qp.send_room >= requests or not self.qp.alive, deadline):
                raise TimeoutError(f"the send queue stayed full: {self!r}")
            self._check_alive()

    def _outcome(self, done: _Outcome, deadline: float | None) -> Completion:
        """Wait for a work request; raises the cause if it failed."""
        return successful(self._completion(done, deadline))

    def _completion(self, done: _Outcome, deadline: float | None) -> Completion:
        """Wait for a work request, whatever becomes of it."""
        if done.completion is None and not self._await(lambda: done.completion, deadline):
            raise TimeoutError(f"the work request is still under way: {self!r}")
        completion = done.completion
        assert completion is not None, "every work request completes"
        return completion

    def _await(self, done: Callable[[], object], deadline: float | None) -> bool:
        return self.poller.wait(done, None if deadline is None else max(0.0, deadline - monotonic()))

    def _on_work_done(self, completion: Completion) -> None:
        done = completion.wr_id
        if done is not None:  # else nobody waits: a small Send that did not leave before the end
            assert isinstance(done, _Outcome)
            done.completion = completion


def _outcome(wr_id: object) -> _Outcome:
    """What an operation was posted with."""
    assert isinstance(wr_id, _Outcome)
    return wr_id


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else monotonic() + timeout
