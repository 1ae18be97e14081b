"""One end of an RDMA connection, awaitable; `api` makes them.

A `Connection` owns one queue pair and posts its receives by itself. Operations are awaited; cancelling one lets the
waiter go but never the work request: its memory stays pinned until it is complete. If a Send of the peer finds no
receive free, reading pauses until the program has taken a message: that holds up answers to Reads as well, so a
program that awaits a `read` while messages pile up should take messages in a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from pyiwarp.accesslog import AccessLog
from pyiwarp.admission import IMMEDIATE_SIZE
from pyiwarp.atomics import ALL_ONES, ATOMIC_SIZE
from pyiwarp.capture import Capture, Tap
from pyiwarp.codes import Rtr
from pyiwarp.errors import BadWorkRequest, Closed, Disconnected, UsageError, WorkFailed
from pyiwarp.fastreg import FastRegion
from pyiwarp.llp import Llp
from pyiwarp.mr import Access, MemoryRegion, RegionSlice, RemoteRegion
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.qp import QpCap, QueuePair
from pyiwarp.startup import Agreement, Offer
from pyiwarp.verbs import ProtectionDomain
from pyiwarp.windows import MemoryWindow
from pyiwarp.work import (
    BindMw,
    CompareSwap,
    Completion,
    FetchAdd,
    Immediate,
    LocalInvalidate,
    Read,
    Recv,
    RegMr,
    Send,
    SendRequest,
    Write,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Connection", "Message", "Options", "Region"]

INLINE_LIMIT: Final = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a connection is set up; every value has a default that suits a peer of any make.

    `recv_depth` receives of `recv_size` octets are posted; a longer Send of the peer ends the connection.
    With `fall_back` a peer that hangs up on a Request of revision 2 is tried once more with revision 1.
    `send_depth` work requests may be in flight, more wait. `crc`, `markers`, `revision`, `ird`, `ord`, `rtr`,
    `timeout` and `first_fpdu_timeout` go into MPA startup (see `Offer`). `mulpdu` fixes the size of FPDUs in octets;
    by default it follows TCP. `linger` bounds the wait for the peer when the connection ends, in seconds.
    Without `extensions` the messages of RFC 7306 are refused. With `half_close` this side may go on sending when the
    peer has closed its half, until `close`; `recv` raises `Disconnected` then. `capture` takes down every octet for
    Wireshark.
    `profile` says how to get on with the peer; where `crc` is None it says that too.
    """

    recv_depth: int = 16
    recv_size: int = 4096
    send_depth: int = 128
    crc: bool | None = None
    markers: bool = False
    revision: int = 2
    fall_back: bool = False
    ird: int = 16
    ord: int = 16
    rtr: Rtr = field(default_factory=lambda: Rtr.WRITE | Rtr.READ)
    timeout: float = 10.0
    first_fpdu_timeout: float | None = 60.0
    mulpdu: int | None = None
    linger: float = 5.0
    extensions: bool = True
    half_close: bool = False
    capture: Capture | None = None
    profile: PeerProfile = PROFILES["rfc"]

    def tap(self, *, initiator: bool) -> Tap | None:
        """A tap for one connection, if there is a capture."""
        return None if self.capture is None else self.capture.flow(initiator=initiator)

    def offer(self, private_data: bytes) -> Offer:
        """The part of the options that MPA startup needs; raises `UsageError` for what the peer would not take."""
        room = self.profile.max_private_data - (4 if self.revision > 1 else 0)
        if len(private_data) > room:
            raise UsageError(f"{len(private_data)} octets of private data; a {self.profile.name} peer takes {room}")
        return Offer(
            revision=self.revision,
            crc=self.profile.crc if self.crc is None else self.crc,
            markers=self.markers,
            private_data=private_data,
            ird=self.profile.depth(self.ird),
            ord=self.profile.depth(self.ord),
            rtr=self.rtr if self.revision > 1 else Rtr(0),
            open_at_once=True,
            timeout=self.timeout,
            first_fpdu_timeout=self.first_fpdu_timeout,
            close_last=self.profile.close_last,
        )


class Message(NamedTuple):
    """One received Send: its octets, whether it solicited an event, and the STag that it invalidated here.

    With `immediate` the octets are eight of Immediate Data (RFC 7306 §6).
    """

    data: bytes
    solicited: bool = False
    inval_stag: int | None = None
    immediate: bool = False


class Region(MemoryRegion):
    """Registered memory that is awaited when it is closed; `async with` closes it.

    A block that is left because it was cancelled does not wait: the memory is let go when no work uses it any more.
    """

    __slots__ = ()

    async def __aenter__(self) -> Region:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and issubclass(kind, asyncio.CancelledError):
            self.retire()  # a peer that has fallen silent must not hold up whoever was told to stop
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

        Voids nothing by itself: after `retire`, or after the peer's Send with Invalidate. Cancelling stops the wait.
        """
        released = asyncio.Event()
        self.when_released(released.set)
        await released.wait()


class Connection:
    """One end of an RDMA connection, made by `connect`, `serve` or `Request.accept`.

    It belongs to the event loop that made it. `async with` closes it, `async for` gives the peer's messages.
    """

    def __init__(self, pd: ProtectionDomain, options: Options, *, owns_pd: bool) -> None:
        self.pd = pd
        self.options = options
        self._owns_pd = owns_pd
        self._llp: Llp | None = None
        self._send_cq = pd.context.create_cq(options.send_depth + 1)
        self._recv_cq = pd.context.create_cq(options.recv_depth + 1)
        cap = QpCap(max_send_wr=options.send_depth, max_recv_wr=options.recv_depth, max_inline=INLINE_LIMIT)
        self.qp: QueuePair = pd.create_qp(
            self._send_cq,
            self._recv_cq,
            cap,
            pause_when_starved=True,
            mulpdu=options.mulpdu,
            linger=options.linger,
            profile=options.profile,
            extensions=options.extensions,
            half_close=options.half_close,
        )
        self.qp.on_ended = self._wake_all
        self.qp.on_half_closed = self._wake_all
        self._receives = pd.register(bytearray(options.recv_depth * options.recv_size))
        self._inbox: deque[Completion] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._room: deque[asyncio.Future[None]] = deque()
        self._closed = False
        for slot in range(options.recv_depth):
            self._post_receive(slot)
        self._send_cq.arm(self._on_sent)
        self._recv_cq.arm(self._on_received)

    def __repr__(self) -> str:
        peer = "" if self._llp is None else f" with {self.peername}"
        return f"<Connection{peer} {self.qp.state.value}>"

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    # --- what was agreed ---------------------------------------------------------------------------------------------

    @property
    def agreement(self) -> Agreement:
        """What startup settled: revision, CRC, markers, IRD, ORD, and the peer's private data."""
        return self.qp.stream.agreement

    @property
    def private_data(self) -> bytes:
        """The private data of the peer's startup frame."""
        return self.agreement.private_data

    @property
    def peername(self) -> str:
        """The peer's address."""
        return "?" if self._llp is None else self._llp.peername

    @property
    def close_reason(self) -> Exception | None:
        """Why the connection ended; None while it lasts and after a graceful end."""
        return self.qp.error

    # --- memory ------------------------------------------------------------------------------------------------------

    def register(
        self,
        buffer: Buffer,
        access: Access = Access.LOCAL_WRITE,
        *,
        shared: bool = True,
        log: AccessLog | None = None,
    ) -> Region:
        """Register the memory of `buffer` for this connection's protection domain; see `ProtectionDomain.register`.

        Without `shared` no other connection of the protection domain lets its peer reach it. What peers do to it is
        noted in `log`.
        """
        return self.pd.register_as(Region, buffer, access, qp=None if shared else self.qp, log=log)

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

    async def send(self, data: RegionSlice | Buffer, *, solicited: bool = False, invalidate: int | None = None) -> None:
        """Send `data` to the peer's next receive (RFC 5040 §5.3); `invalidate` names an STag of the peer's.

        Returning means that the memory is the caller's again, not that the peer has the message. Cancelling does
        not unsend it. Raises the cause if the connection ends first.
        """
        if isinstance(data, RegionSlice):
            await self._do(lambda done: Send((data,), done, None, invalidate, solicited))
            return
        with memoryview(data) as octets:  # not kept: a cancelled call's traceback would keep the memory unresizable
            copy = octets.tobytes() if octets.nbytes <= INLINE_LIMIT else None
        if copy is not None:
            await self._do(lambda done: Send((), done, copy, invalidate, solicited))
            return
        with self._lent(data) as region:
            await self._do(lambda done: Send((region[:],), done, None, invalidate, solicited))

    async def write(self, local: RegionSlice | Buffer, remote: RemoteRegion) -> None:
        """RDMA Write the octets of `local` into the peer's memory (RFC 5040 §5.1).

        Returning means that the local memory may be used again. It does not mean that the octets have arrived: a
        later `send` that the peer has received, or a later `read` that returned, means that (RFC 5040 §5.5). Memory
        that is changed before this returns may reach the peer damaged and end the connection with a CRC error.
        Cancelling does not undo it. Raises the cause if the connection ends first.
        """
        if isinstance(local, RegionSlice):
            _check_fits(local.nbytes, remote)
            await self._do(lambda done: Write((local,), remote, done))
            return
        with self._lent(local) as region:
            _check_fits(region.nbytes, remote)
            await self._do(lambda done: Write((region[:],), remote, done))

    async def read(self, local: RegionSlice, remote: RemoteRegion, *, invalidate_sink: bool = False) -> None:
        """RDMA Read from the peer's memory until `local` is full (RFC 5040 §5.2); returns when the octets are here.

        With `invalidate_sink` the STag of `local` is void then, as by `invalidate`. Cancelling stops the wait; the
        octets may still come, so the memory stays pinned until they have. Raises the cause if the connection ends
        first.
        """
        _check_fits(local.nbytes, remote)
        await self._do(lambda done: Read(local, remote, done, invalidate_sink=invalidate_sink))

    async def fetch_add(self, remote: RemoteRegion, add: int, *, mask: int = 0) -> int:
        """Add to eight octets of the peer's memory; returns the number that was there before (RFC 7306 §5.1.1).

        Both numbers have 64 bits, in the byte order of the peer's host, and wrap. Each 1 in `mask` is the top bit of
        a field that is added by itself. The memory lies at a multiple of eight. Cancelling does not undo it. Raises
        the cause if the connection ends first.
        """
        _check_fits(ATOMIC_SIZE, remote)
        return await self._ask(lambda done: FetchAdd(remote, add, mask, wr_id=done))

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
        _check_fits(ATOMIC_SIZE, remote)
        return await self._ask(lambda done: CompareSwap(remote, compare, swap, compare_mask, swap_mask, wr_id=done))

    async def send_immediate(self, data: bytes, *, solicited: bool = False) -> None:
        """Send eight octets of Immediate Data to the peer's next receive (RFC 7306 §6); otherwise as `send`."""
        await self._do(lambda done: Immediate(bytes(data), done, solicited))

    async def write_with_immediate(
        self, local: RegionSlice | Buffer, remote: RemoteRegion, data: bytes, *, solicited: bool = False
    ) -> None:
        """RDMA Write, and behind it eight octets of Immediate Data: when they come, the Write is placed.

        Nothing is sent if either is unfit, and the octets never without the Write. Otherwise as `write`.
        """
        told = bytes(data)
        if len(told) != IMMEDIATE_SIZE:  # EXT-7306-6.3-05: found before the Write is on its way
            raise BadWorkRequest(f"Immediate Data has 8 octets, not {len(told)} (RFC 7306 §6.2)")
        with contextlib.nullcontext(local) if isinstance(local, RegionSlice) else self._whole(local) as octets:
            _check_fits(octets.nbytes, remote)
            written = await self._post(lambda done: Write((octets,), remote, done))
            sent = await self._post(lambda done: Immediate(told, done, solicited))  # EXT-7306-6.3-06
            await _outcome(written)
            await _outcome(sent)

    async def recv(self) -> bytes:
        """The octets of the peer's next Send; see `recv_message`."""
        return (await self.recv_message()).data

    async def recv_message(self) -> Message:
        """The peer's next Send, in the order sent. Cancelling loses none.

        Raises `Disconnected` when the peer has closed gracefully and all is received, else the cause of the end.
        """
        while not self._inbox:
            self._check_alive()
            if self.qp.stream.peer_closed:
                raise Disconnected(f"the peer closed its half of the connection: {self!r}")
            await self._wait(self._readers)
        completion = self._inbox.popleft()
        slot = completion.wr_id
        assert isinstance(slot, int), "receives are numbered by their slot"
        start = slot * self.options.recv_size
        data = bytes(self._receives.view[start : start + completion.nbytes])  # a copy: the slot is used again
        self._post_receive(slot)
        if completion.immediate is not None:
            return Message(completion.immediate, completion.solicited, immediate=True)
        return Message(data, completion.solicited, completion.inval_stag)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield await self.recv()
        except Disconnected:
            return

    # --- the end -----------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """End the connection gracefully: what was posted is sent, TCP is closed, all memory is let go.

        Takes at most `linger` seconds of a silent peer's time. Cancelling aborts. Twice does nothing.
        """
        if self._closed:
            return
        self._closed = True
        self.qp.disconnect()
        try:
            if self._llp is not None:
                await asyncio.shield(self._llp.closed)
        finally:
            self._dispose()

    def abort(self) -> None:
        """End the connection at once; what is in flight is lost."""
        self._closed = True
        self._dispose()

    def _dispose(self) -> None:
        self.qp.close()
        if self._llp is not None:
            self._llp.abort()
        self._on_sent()
        self._on_received()
        self._inbox.clear()
        if self._receives.is_open:
            self._receives.close()
        if self._owns_pd:
            self.pd.close(force=True)

    # --- inside ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lent(self, octets: Buffer) -> Iterator[Region]:
        """Memory for one operation; who cancels that does not wait, the memory is let go when the work completes."""
        region = self.register(octets, Access(0))
        try:
            yield region
        finally:
            region.retire()

    @contextlib.contextmanager
    def _whole(self, octets: Buffer) -> Iterator[RegionSlice]:
        """All of the memory of one operation, as `_lent` lends it."""
        with self._lent(octets) as region:
            yield region[:]

    def _attach(self, llp: Llp) -> None:
        self._llp = llp
        self.qp.peer = llp.peername

    def _post_receive(self, slot: int) -> None:
        size = self.options.recv_size
        if self._receives.is_open:
            self.qp.post_recv(Recv((self._receives[slot * size : (slot + 1) * size],), slot))

    def _check_alive(self) -> None:
        """Raise what a new operation on an ended connection raises."""
        if self._closed:
            raise Closed(f"the connection was closed: {self!r}")
        if not self.qp.alive:
            raise self.qp.error or Disconnected(f"the peer closed the connection: {self!r}")

    async def _wait(self, waiters: deque[asyncio.Future[None]]) -> None:
        waiter = asyncio.get_running_loop().create_future()
        waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                _wake_one(waiters)  # the news was meant for whoever still waits
            raise

    async def _ask(self, request: Callable[[asyncio.Future[Completion]], SendRequest]) -> int:
        """Post an Atomic and wait for its answer."""
        value = (await self._do(request)).value
        assert value is not None, "an Atomic that succeeded has its answer"
        return value

    async def _do(self, request: Callable[[asyncio.Future[Completion]], SendRequest]) -> Completion:
        """Post a work request, when there is room, and wait for its completion."""
        return await _outcome(await self._post(request))

    async def _post(self, request: Callable[[asyncio.Future[Completion]], SendRequest]) -> asyncio.Future[Completion]:
        """Post a work request, when there is room; its completion will be the result of what is returned."""
        self._check_alive()
        while self.qp.send_room == 0:
            await self._wait(self._room)
            self._check_alive()
        done: asyncio.Future[Completion] = asyncio.get_running_loop().create_future()
        self.qp.post_send(request(done))
        return done

    def _on_sent(self) -> None:
        for completion in self._send_cq.poll():
            done = completion.wr_id
            assert isinstance(done, asyncio.Future)
            if not done.done():
                done.set_result(completion)
            _wake_one(self._room)
        self._send_cq.arm(self._on_sent)

    def _on_received(self) -> None:
        for completion in self._recv_cq.poll():
            if completion.ok:
                self._inbox.append(completion)
                _wake_one(self._readers)
        self._recv_cq.arm(self._on_received)

    def _wake_all(self) -> None:
        """The connection has ended: everybody who waits shall see why."""
        for waiters in (self._readers, self._room):
            while waiters:
                _wake_one(waiters)


async def _outcome(done: asyncio.Future[Completion]) -> Completion:
    """Wait for a work request; raises the cause if it failed."""
    completion = await done
    if not completion.ok:
        raise completion.error or WorkFailed(completion)
    return completion


def _wake_one(waiters: deque[asyncio.Future[None]]) -> None:
    while waiters:
        waiter = waiters.popleft()
        if not waiter.done():
            waiter.set_result(None)
            return


def _check_fits(nbytes: int, remote: RemoteRegion) -> None:
    """A Write or Read past what was advertised would end the connection; better to hear of it here."""
    if nbytes > remote.nbytes:
        raise BadWorkRequest(f"{nbytes} octets do not fit the advertised memory: {remote}")
