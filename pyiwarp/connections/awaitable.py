"""One end of an RDMA connection, awaitable; `serving` makes them.

A `Connection` owns one queue pair and posts its receives by itself. Operations are awaited; cancelling one lets the
waiter go but never the work request: its memory stays pinned until it is complete. If a Send of the peer finds no
receive free, reading pauses until the program has taken a message: that holds up answers to Reads as well, so a
program that awaits a `read` while messages pile up should take messages in a task of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence
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
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
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

__all__ = ["Connection", "Message", "Region"]

Waiter = asyncio.Future[bytes | None]
"""Somebody who waits; the result is None, or the octets of the message that was waited for."""


class Region(MemoryRegion):
    """Registered memory that is awaited when it is closed; `async with` closes it.

    A block that is left because it was cancelled does not wait: the memory is released when no work uses it any more.
    The same holds for a plain `with`, which cannot wait. A Read that was given up may fill the memory until then.
    """

    __slots__ = ()

    def __enter__(self) -> Region:
        return self

    def __exit__(self, *exc: object) -> None:
        self.retire()

    async def __aenter__(self) -> Region:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.retire()  # a silent peer must not delay a task that is cancelled
        else:
            await self.aclose()

    async def aclose(self) -> None:
        """Void the STag at once and wait until no work in flight uses the memory.

        A Read of the peer's that is being answered ends its connection (RFC 5040 §4.8). Cancelling stops the wait, not
        the closing.
        """
        self.retire()
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the STag is void and no work in flight uses the memory: nobody but the caller touches it then.

        It does not void the STag: `retire` or the peer's Send with Invalidate does. Cancelling stops the wait.
        """
        released = asyncio.Event()
        on_released = released.set
        self.when_released(on_released)
        try:
            await released.wait()
        finally:
            self.forget_caller(on_released)


class Connection(Endpoint[AsyncioDriver]):
    """One end of an RDMA connection, made by `connect`, `serve` or `Request.accept`.

    It belongs to the event loop that made it. `async with` closes it, and resets it when the block is left by an
    exception of the program's. `async for` gives the peer's messages until either side closes.
    """

    def __init__(self, pd: ProtectionDomain, options: Options, *, owns_pd: bool) -> None:
        self._readers: deque[Waiter] = deque()
        self._choosy = 0  # of those: they want a message where it lies, not its octets alone
        self._given = False  # whether a reader was given octets, and has not run since
        self._room: deque[Waiter] = deque()
        self._ends: deque[Waiter] = deque()
        super().__init__(pd, options, owns_pd=owns_pd)
        self.qp.take_small(self._on_octets)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is not None and not self.tells_of_the_end(error):
            self.abort()  # a graceful end would tell the peer that all has been said (RFC 5041 §6.2)
        else:
            await self.close()

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
        return self._register(Region, buffer, access, shared=shared, log=log, to=to)

    async def register_fast(
        self,
        region: FastRegion,
        buffers: Buffer | Sequence[Buffer],
        access: Access = Access.LOCAL_WRITE,
        *,
        key: int | None = None,
        to: int | None = None,
    ) -> None:
        """Give a region of `pd.alloc_stag` memory: one buffer or several; see `RegMr`.

        Returns when what was posted before is complete too; the region has its memory from the call on. Cancelling
        does not undo it. Raises `WrongState` if the region has memory, or the cause if the connection ends first.
        """
        await self._do(lambda done: RegMr(region, buffers, access, key, to, done))

    async def bind(
        self,
        window: MemoryWindow,
        local: RegionSlice | None,
        access: Access = Access.REMOTE_READ,
        *,
        key: int | None = None,
    ) -> None:
        """Bind a window of `pd.alloc_window` to octets of a region that grants WINDOW_BIND; see `BindMw`.

        Returns when what was posted before is complete too; the window can be advertised from the call on.
        Cancelling does not undo it. Raises `WrongState` if a window of type 2 is bound, or the cause if the connection
        ends first.
        """
        await self._do(lambda done: BindMw(window, local, access, key, done))

    async def invalidate(self, target: MemoryRegion | FastRegion | MemoryWindow | int, *, fence: bool = False) -> None:
        """Void an STag of this side's: a region's, a window's of type 2, or one by its number; see `LocalInvalidate`.

        Returning means that neither the peer nor work of this connection uses the memory by it. With `fence` all
        earlier Reads and Atomics are complete before it is void. Cancelling does not undo it. Raises the cause if the
        connection ends first.
        """
        await self._do(lambda done: LocalInvalidate(target, done, fence=fence))

    # --- operations --------------------------------------------------------------------------------------------------

    async def send(self, data: Local, *, solicited: bool = False, invalidate: int | None = None) -> None:
        """Send `data` to the peer's next receive (RFC 5040 §5.3); `invalidate` names an STag of the peer's.

        Returning means that the memory is the caller's again, not that the peer has the message. Cancelling does
        not unsend it. Raises the cause if the connection ends first.
        """
        if type(data) is bytes and invalidate is None and self.qp.send_small(data, solicited=solicited):
            return
        inline = self._inline(data)
        if inline is not None:
            await self._do(lambda done: Send((), done, inline, invalidate, solicited))
            return
        with self._registered(data) as sges:
            await self._do(lambda done: Send(sges, done, None, invalidate, solicited))

    async def write(self, local: Local, remote: RemoteRegion, *, then_send: Local | None = None) -> None:
        """RDMA Write the octets of `local` into the peer's memory (RFC 5040 §5.1).

        Returning means that the local memory may be used again. It does not mean that the octets have arrived: a
        later `send` that the peer has received, or a later `read` that returned, means that (RFC 5040 §5.5). Memory
        that is changed before this returns may reach the peer damaged and end the connection with a CRC error.
        With `Options(confirm=True)` returning means that the peer has placed them; what it refuses raises here.
        With `then_send` a Send of these octets follows: when it is received, the Write is placed; see `write_many`.
        Cancelling does not undo it. Raises the cause if the connection ends first.
        """
        if then_send is not None:
            await self.write_many([(local, remote)], then_send=then_send)
            return
        with self._registered(local) as sges:
            await self._do(make_write(sges, remote))

    async def write_many(self, writes: Iterable[tuple[Local, RemoteRegion]], *, then_send: Local | None = None) -> None:
        """RDMA Write each of `writes`, pairs of local memory and memory of the peer's, in their order (RFC 5040 §5.1).

        They are posted together and waited for once. With `then_send` a Send of these octets follows them: when it is
        received, all of them are placed (RFC 5040 §5.5). Returning means for each what it means for `write`, and for
        the Send what it means for `send`. A list may be longer than `Options.send_depth`.
        Cancelling stops the wait: what was posted is sent; the rest of a longer list and the Send are not.
        Raises `BadWorkRequest` for an item that is unfit, or the cause if the connection ends first; a note of the
        error says which item it was.
        """
        with self._batch(make_write, writes, then_send=then_send) as requests:
            await self._do_many(requests)

    async def read(self, local: Local, remote: RemoteRegion, *, invalidate_sink: bool = False) -> None:
        """RDMA Read from the peer's memory until `local` is full (RFC 5040 §5.2); returns when the octets are here.

        With `invalidate_sink` the STag of `local` is void then, as by `invalidate`. Cancelling stops the wait; the
        octets may still come, so the memory stays pinned until they have. Raises the cause if the connection ends
        first.
        """
        with self._registered(local, Access.LOCAL_WRITE) as sges:
            await self._do(make_read(sges, remote, invalidate_sink=invalidate_sink))

    async def read_many(self, reads: Iterable[tuple[Local, RemoteRegion]]) -> None:
        """RDMA Read each of `reads`, pairs of local memory and memory of the peer's (RFC 5040 §5.2).

        They are posted together and waited for once; as many are under way at a time as the peer agreed to (ORD).
        Returns when all octets are here. Raises as `write_many` does.
        Cancelling stops the wait, and their memory stays pinned as that of `read`.
        """
        with self._batch(make_read, reads, Access.LOCAL_WRITE) as requests:
            await self._do_many(requests)

    async def fetch_add(self, remote: RemoteRegion, add: int, *, mask: int = 0) -> int:
        """Add to eight octets of the peer's memory; returns the number that was there before (RFC 7306 §5.1.1).

        Both numbers have 64 bits, in the byte order of the peer's host, and wrap. Each 1 in `mask` is the top bit of
        a field that is added by itself. The memory lies at a multiple of eight. Cancelling does not undo it. Raises
        the cause if the connection ends first.
        """
        return value_of(await self._do(make_fetch_add(remote, add, mask)))

    async def compare_swap(
        self,
        remote: RemoteRegion,
        compare: int,
        swap: int,
        *,
        compare_mask: int = ALL_ONES,
        swap_mask: int = ALL_ONES,
    ) -> int:
        """Put `swap` into eight octets of the peer's memory if `compare` is there; returns what was (RFC 7306 §5.1.2).

        The masks say which bits are compared, and which are put. Otherwise as `fetch_add`.
        """
        return value_of(await self._do(make_compare_swap(remote, compare, swap, compare_mask, swap_mask)))

    async def send_immediate(self, data: bytes, *, solicited: bool = False) -> None:
        """Send eight octets of Immediate Data to the peer's next receive (RFC 7306 §6); otherwise as `send`."""
        await self._do(make_immediate(data, solicited=solicited))

    async def write_with_immediate(
        self, local: Local, remote: RemoteRegion, data: bytes, *, solicited: bool = False
    ) -> None:
        """RDMA Write, and behind it eight octets of Immediate Data: when they come, the Write is placed.

        Nothing is sent if either is unfit, and the octets never without the Write. Otherwise as `write`.
        """
        immediate = make_immediate(data, solicited=solicited)
        with self._registered(local) as sges:
            await self._do_many([make_write(sges, remote), immediate])  # EXT-7306-6.3-06

    async def recv(self) -> bytes:
        """The octets of the peer's next Send; see `recv_message`."""
        while not self._inbox:
            self._check_more_to_come()
            octets = await self._wait(self._readers)
            if octets is not None:
                self._given = False
                return octets
        return self._take_data()

    async def recv_message(self) -> Message:
        """The peer's next Send, in the order sent. Cancelling loses none.

        Raises `Disconnected` when the peer has closed gracefully and all is received, else the cause of the end.
        """
        if not self._inbox:
            await self._wait_for_message()
        return self._take_message()

    async def recv_into(self, buffer: Local) -> int:
        """Receive the peer's next Send into `buffer`; returns how many octets it has (RFC 5040 §5.3).

        `buffer` is any memory that can be written, a whole region or a slice of one: its first octets are those of the
        message, the others stay. The octets are copied once, out of the receive in which they came. Raises
        `BadWorkRequest` for a message that is larger than `buffer`, which stays the next one, and for memory that may
        not be written; otherwise as `recv_message`. Cancelling loses none.
        """
        self._check_sink(buffer)
        if not self._inbox:
            await self._wait_for_message()
        return self._take_into(buffer)

    async def send_large(self, data: Local) -> None:
        """Send a message of any length below 2^32 octets to the peer's `recv_large`, which reads it by RDMA.

        Returns when the peer has all of it: it costs a round trip more than `send`. The memory must not change until
        then. `docs/large-messages.md` has the protocol. Raises `MessageRefused` for more than the peer's
        `Options.max_message`, which ends nothing; `BadWorkRequest` if the peer may not read (IRD is 0); the cause if
        the connection ends first. Cancelling does not unsend it: the memory stays registered until the peer has it.
        """
        await self._make_room()
        loan = self._lend(data)
        told = asyncio.get_running_loop().create_future()
        loan.tell = lambda: None if told.done() else told.set_result(None)
        await told
        self._settle(loan)

    async def recv_large(self) -> bytearray:
        """The next message of the peer's `send_large`, read from its memory (RFC 5040 §5.2).

        Raises `MessageRefused` for more than `Options.max_message` octets, which the peer is told and which ends
        nothing; `BadWorkRequest` if the peer's next message is a plain Send, which stays; otherwise as
        `recv_message`. Cancelling loses none: the next `recv_large` returns it.
        """
        self._check_may_read()
        while (arrival := self._next_arrival()) is None:
            if self._inbox:
                await self._make_room(READ_AND_ANSWER)
            else:
                await self._wait_for_news()
        try:
            await asyncio.shield(_future(arrival.work[-1]))
        except asyncio.CancelledError:
            arrival.claimed = False
            _wake_every(self._readers)
            raise
        self._drop(arrival)
        succeeded([_future(done).result() for done in arrival.work])
        return arrival.memory

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        """The octets of the peer's next Send; the end when either side has closed. Otherwise as `recv`."""
        try:
            return await self.recv()
        except (Closed, Disconnected):  # by this side, by the peer
            raise StopAsyncIteration from None

    # --- the end -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the connection gracefully: what was posted is sent, TCP is closed, all memory is released.

        It waits at most `linger` seconds for a silent peer. Cancelling aborts. A second call does nothing, nor does one
        in a forked child: the connection is its parent's.
        """
        if self._closed:
            return
        self._closed = True
        if self._left_behind:
            return
        try:
            self.qp.disconnect()
            if self._llp is not None:
                await asyncio.shield(self._llp.closed)
        finally:
            self._dispose()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended, by whichever side; `close_reason` says why.

        Cancelling stops the wait.
        """
        while self.qp.alive:
            await self._wait(self._ends)
        if self._llp is not None:
            await asyncio.shield(self._llp.closed)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _wait_for_message(self) -> None:
        while not self._inbox:
            await self._wait_for_news()

    async def _wait_for_news(self) -> None:
        self._check_more_to_come()
        self._choosy += 1
        try:
            await self._wait(self._readers)
        finally:
            self._choosy -= 1

    async def _wait(self, waiters: deque[Waiter]) -> bytes | None:
        """Wait to be woken; returns the octets of a message that were given to this waiter."""
        waiter: Waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                octets = waiter.result()
                if octets is not None:
                    self._given = False
                    self._put_back(octets)
                _wake_one(waiters)  # another waiter must be woken instead
            elif waiter in waiters:  # else it was passed over when another was woken
                waiters.remove(waiter)  # a program may wait a little, again and again
            raise

    async def _do(self, request: MakeRequest) -> Completion:
        """Post a work request, when there is room, and wait for its completion.

        A request whose octets the kernel takes at once completes at once; the driver yields to the loop now and then.
        """
        self._check_alive()
        if self.qp.send_room == 0:
            await self._make_room()
        return successful(await self._post(request))

    async def _do_many(self, requests: Sequence[MakeRequest]) -> None:
        """Post work requests in their order, together as far as there is room, and wait for the last of them."""
        self._check_alive()
        loop = asyncio.get_running_loop()
        posted: list[asyncio.Future[Completion]] = []
        while len(posted) < len(requests):
            await self._make_room()
            some = requests[len(posted) : len(posted) + self.qp.send_room]
            waiting = [loop.create_future() for _ in some]
            self.qp.post_send_many([request(done) for request, done in zip(some, waiting, strict=True)])
            posted += waiting
            if len(posted) < len(requests) and not (await waiting[len(waiting) // 2]).ok:
                break
        if posted:
            await posted[-1]
            succeeded([done.result() for done in posted])

    async def _make_room(self, requests: int = 1) -> None:
        """Wait until the send queue takes so many work requests."""
        self._check_alive()
        while self.qp.send_room < requests:
            await self._wait(self._room)
            self._check_alive()

    def _post(self, request: MakeRequest) -> asyncio.Future[Completion]:
        """Post a work request, for which there is room; its completion will be the result of what is returned."""
        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.qp.post_send(request(done))
        return done

    def _new_wr_id(self) -> asyncio.Future[Completion]:
        return asyncio.get_running_loop().create_future()

    def _on_work_done(self, completion: Completion) -> None:
        done = completion.wr_id
        if done is not None:  # else nobody waits: a small Send that did not leave before the end
            assert isinstance(done, asyncio.Future)
            if not done.done():
                done.set_result(completion)
        if self._room:
            _wake_one(self._room)

    def _on_message(self) -> None:
        _wake_one(self._readers)

    def _on_octets(self, octets: memoryview) -> bool:
        """Give the octets of a small Send to who waits for them; False if nobody does, or if others come first."""
        if self._inbox or self._choosy or self._given:
            return False
        readers = self._readers
        while readers:
            waiter = readers.popleft()
            if not waiter.done():
                waiter.set_result(bytes(octets))
                self._given = True
                return True
        return False

    def _wake_all(self) -> None:
        """The connection has ended: wake every waiter, which then raises the cause."""
        for waiters in (self._readers, self._room, self._ends):
            _wake_every(waiters)
        for loan in self._lent.values():
            loan.tell()


def _future(wr_id: object) -> asyncio.Future[Completion]:
    """What an operation was posted with."""
    assert isinstance(wr_id, asyncio.Future)
    return wr_id


def _wake_every(waiters: deque[Waiter]) -> None:
    while waiters:
        _wake_one(waiters)


def _wake_one(waiters: deque[Waiter]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return
