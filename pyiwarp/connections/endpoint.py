"""What awaitable and blocking connections share: one queue pair, its posted receives, memory, options.

How one waits is left to them: `awaitable.Connection` awaits, `blocking.Connection` polls.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar

from pyiwarp.access import check_writable, octets_of
from pyiwarp.bounds import check_count, check_kind, check_offered, check_seconds
from pyiwarp.capture import Capture, Tap
from pyiwarp.cm.handshake import ConnectRequest
from pyiwarp.codes import MAX_MESSAGE, MAX_MULPDU, MIN_MULPDU, UNNEGOTIATED, Rtr
from pyiwarp.connections.requests import MakeRequest, pair_of
from pyiwarp.errors import (
    BadWorkRequest,
    Closed,
    ConnectionLost,
    Disconnected,
    ProtocolViolation,
    UsageError,
    WrongProcess,
)
from pyiwarp.exports import public_names
from pyiwarp.memory.fastreg import FastRegion
from pyiwarp.memory.log import AccessLog
from pyiwarp.mr import Access, MemoryRegion, Region, RegionSlice, RemoteRegion
from pyiwarp.negotiation import Agreement, Offer, check_private_data_type
from pyiwarp.profile import PROFILES, PeerProfile
from pyiwarp.pump import Driver
from pyiwarp.queues.checks import check_sges
from pyiwarp.queues.qp import QpCap, QpOptions, QpState, QueuePair
from pyiwarp.queues.qp_options import FPDU_TIMEOUT
from pyiwarp.queues.work import Completion, Recv, Send, Status
from pyiwarp.verbs import Context, Device, ProtectionDomain

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer

    Local = RegionSlice | MemoryRegion | FastRegion | Buffer
    """What an operation takes for memory of this side: octets of a region, a whole region, or any buffer."""

__all__ = ["Endpoint", "Message", "Options", "PeerRequest", "new_connection", "options_for"]

INLINE_LIMIT: Final = 4096
"""Sends of so many octets are copied, not registered: that costs less."""

RECV_DEPTH: Final = 16
SEND_DEPTH: Final = 128
READS: Final = 16
MAX_SGE: Final = 16

_MOST: Final = (1 << 31) - 1  # the device says how many work requests it takes
_FLAGS: Final = "markers", "refuse_markers", "fall_back", "extensions", "half_close", "confirm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a connection is set up; every value has a default that suits a peer of any make.
    `Options.of` has the defaults of a device instead.

    `recv_depth` receives of `recv_size` octets are posted; a longer Send of the peer ends the connection. With
    `fall_back` a peer that hangs up on a Request of revision 2 is tried once more with revision 1. `send_depth`
    work requests may be in flight, more wait. `crc`, `markers`, `refuse_markers`, `revision`, `ird`, `ord`, `rtr`,
    `timeout` and `first_fpdu_timeout` go into MPA startup (see `Offer`). `mulpdu` fixes the size of FPDUs in
    octets; by default it follows TCP. `linger` bounds the wait for the peer when the connection ends, in seconds,
    and `fpdu_timeout` how long an FPDU that the peer has begun may stay unfinished (None is no bound).
    Without `extensions` the messages of RFC 7306 are refused. With `half_close` this side may go on sending when
    the peer has closed its half, until `close`; `recv` raises `Disconnected` then. `capture` takes down every octet
    for Wireshark. `profile` says how to get on with the peer; where `crc` is None it says that too. With `confirm`
    a `send` or `write` returns when the peer has processed it, and raises if the peer refused it; that takes Reads,
    so `ord` is 1 or more.

    Raises `UsageError` for a value that is out of its bounds or of another kind.
    """

    recv_depth: int = RECV_DEPTH
    recv_size: int = 4096
    send_depth: int = SEND_DEPTH
    crc: bool | None = None
    markers: bool = False
    refuse_markers: bool = False
    revision: int = 2
    fall_back: bool = False
    ird: int = READS
    ord: int = READS
    rtr: Rtr = field(default_factory=lambda: Rtr.WRITE | Rtr.READ)
    timeout: float = 10.0
    first_fpdu_timeout: float | None = 60.0
    mulpdu: int | None = None
    linger: float = 5.0
    fpdu_timeout: float | None = FPDU_TIMEOUT
    extensions: bool = True
    half_close: bool = False
    capture: Capture | None = None
    profile: PeerProfile = PROFILES["rfc"]
    confirm: bool = False

    def __post_init__(self) -> None:
        for name in ("recv_depth", "send_depth"):
            check_count(name, getattr(self, name), 1, _MOST)
        check_count("recv_size", self.recv_size, 1, MAX_MESSAGE, " octets (RFC 5041 §5.2)")
        check_count("revision", self.revision, 1, 2, " (RFC 5044, RFC 6581)")
        for name in ("ird", "ord"):
            check_count(name, getattr(self, name), 0, UNNEGOTIATED, ", 14 bits (RFC 6581 §9)")
        if self.mulpdu is not None:
            check_count("mulpdu", self.mulpdu, MIN_MULPDU, MAX_MULPDU, " octets (RFC 5044 §3)")
        check_seconds("timeout", self.timeout, zero=False)
        check_seconds("linger", self.linger)
        for name in ("first_fpdu_timeout", "fpdu_timeout"):
            if getattr(self, name) is not None:
                check_seconds(name, getattr(self, name), zero=False)
        for name in _FLAGS:
            check_kind(name, getattr(self, name), bool, "True or False")
        check_kind("crc", self.crc, bool | None, "True, False, or None for what suits the peer")
        check_kind("rtr", self.rtr, Rtr, "one or several of pyiwarp.codes.Rtr")
        check_kind("capture", self.capture, Capture | None, "a pyiwarp.capture.Capture or None")
        check_kind("profile", self.profile, PeerProfile, "a PeerProfile, as pyiwarp.profile.PROFILES has them by name")
        if self.confirm and not self.ord:
            raise UsageError("ord is 0: completions can be confirmed by Reads alone (RFC 5040 §6.1)")

    def check_device(self, device: Device) -> None:
        """Raises `UsageError` for more than `device` holds."""
        for name, value, most in (
            ("recv_depth", self.recv_depth, device.max_qp_wr),
            ("send_depth", self.send_depth, device.max_qp_wr),
            ("ird", self.ird, device.max_ird),
            ("ord", self.ord, device.max_ord),
        ):
            if value != UNNEGOTIATED:
                check_offered(name, value, most, device.name)

    @classmethod
    def of(cls, device: Device) -> Options:
        """The options that suit a device: what it speaks in startup, and no more than it holds."""
        return cls(
            recv_depth=min(RECV_DEPTH, device.max_qp_wr),
            send_depth=min(SEND_DEPTH, device.max_qp_wr),
            crc=device.crc,
            markers=device.markers,
            refuse_markers=device.refuse_markers,
            revision=device.revision,
            ird=min(READS, device.max_ird),
            ord=min(READS, device.max_ord),
            rtr=device.rtr,
        )

    def of_queue_pair(self) -> QpOptions:
        """The part of the options that the queue pair needs."""
        return QpOptions(
            pause_when_starved=True,
            mulpdu=self.mulpdu,
            linger=self.linger,
            fpdu_timeout=self.fpdu_timeout,
            profile=self.profile,
            extensions=self.extensions,
            half_close=self.half_close,
            confirm=self.confirm,
        )

    def tap(self, *, initiator: bool) -> Tap | None:
        """A tap for one connection, if there is a capture."""
        return None if self.capture is None else self.capture.flow(initiator=initiator)

    def second_try(self) -> Options | None:
        """The options for one more try when the peer hung up on the Request; None if none is made (MPA2-6581-10-07)."""
        return replace(self, revision=1) if self.fall_back and self.revision != 1 else None

    def offer(self, private_data: bytes) -> Offer:
        """The part of the options that MPA startup needs; raises `UsageError` for what the peer would not take."""
        check_private_data_type(private_data)
        room = self.profile.max_private_data - (4 if self.revision > 1 else 0)
        if len(private_data) > room:
            raise UsageError(f"{len(private_data)} octets of private data; a {self.profile.name} peer takes {room}")
        return Offer(
            revision=self.revision,
            crc=self.profile.crc if self.crc is None else self.crc,
            markers=self.markers,
            refuse_markers=self.refuse_markers,
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


_INTERNAL: Final = frozenset({"attach", "of", "tells_of_the_end"})
_NO_ACCESS: Final = Access(0)  # local read is always allowed
_REGISTERED: Final = RegionSlice, MemoryRegion, FastRegion

D = TypeVar("D", bound=Driver)
C = TypeVar("C", bound="Endpoint[Any]")


class Endpoint(Generic[D]):
    """One end of an RDMA connection, awaitable or blocking. `D` is the driver that moves its octets."""

    @classmethod
    def of(cls, pd: ProtectionDomain | None, options: Options) -> Self:
        """SEC-5042-2.2.4-01: one that shares nothing has a protection domain of its own."""
        return cls(pd or Context().alloc_pd(), options, owns_pd=pd is None)

    def __init__(self, pd: ProtectionDomain, options: Options, *, owns_pd: bool) -> None:
        self.pd = pd
        self.options = options
        self._owns_pd = owns_pd
        self._llp: D | None = None
        device = pd.context.device
        options.check_device(device)
        self._inline_limit = min(INLINE_LIMIT, device.max_inline)
        self._send_cq = pd.context.create_cq(options.send_depth + 1)
        self._recv_cq = pd.context.create_cq(options.recv_depth + 1)
        cap = QpCap(options.send_depth, options.recv_depth, min(MAX_SGE, device.max_sge), self._inline_limit)
        self.qp: QueuePair = pd.create_qp(self._send_cq, self._recv_cq, cap, options.of_queue_pair())
        self.qp.on_ended = self._wake_all
        self.qp.on_half_closed = self._wake_all
        self._receives = pd.register(_receive_memory(options.recv_depth * options.recv_size))
        size = options.recv_size
        self._slots = [Recv((self._receives[n * size : (n + 1) * size],), n) for n in range(options.recv_depth)]
        self._inbox: deque[Completion] = deque()
        self._closed = False
        for slot in range(options.recv_depth):
            self._post_receive(slot)
        self._send_cq.taker = self._on_work_done
        self._recv_cq.taker = self._on_received

    def __dir__(self) -> list[str]:
        return public_names(self, _INTERNAL)

    def __repr__(self) -> str:
        peer = "" if self._llp is None else f" with {self.peername}"
        return f"<Connection{peer} {self.qp.state.value}>"

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
    def local_addr(self) -> tuple[Any, ...] | None:
        """This side's address, as `socket.getsockname` gives it; also when the connection has ended."""
        return None if self._llp is None else self._llp.local_addr

    @property
    def peer_addr(self) -> tuple[Any, ...] | None:
        """The peer's address, as `socket.getpeername` gives it; also when the connection has ended."""
        return None if self._llp is None else self._llp.peer_addr

    @property
    def is_closed(self) -> bool:
        """Whether the connection was closed here or has ended: no operation can succeed any more."""
        return self._closed or not self.qp.alive

    @property
    def close_reason(self) -> Exception | None:
        """Why the connection ended; None while it lasts and after a graceful end."""
        return self.qp.error

    # --- the beginning and the end -----------------------------------------------------------------------------------

    def tells_of_the_end(self, error: BaseException) -> bool:
        """Whether an error says that the peer ended this connection, which is no fault of the program's."""
        if isinstance(error, BaseExceptionGroup):
            return all(self.tells_of_the_end(each) for each in error.exceptions)
        if isinstance(error, Disconnected):
            return not self.qp.alive or self.qp.stream.peer_closed
        return error is self.close_reason and isinstance(error, ConnectionLost | ProtocolViolation)

    def attach(self, driver: D) -> None:
        """MPA startup has succeeded, and `driver` moves the octets of the queue pair from now on."""
        self._llp = driver

    def abort(self) -> None:
        """End the connection at once; what is in flight is lost. In a forked child it does nothing."""
        self._closed = True
        if not self._left_behind:
            self._dispose()

    def _dispose(self) -> None:
        """Give up the queue pair, TCP and all memory, in this order."""
        self.qp.close()
        if self._llp is not None:
            self._llp.abort()
        self._release()

    # --- what the ways of waiting add --------------------------------------------------------------------------------

    def _on_work_done(self, completion: Completion) -> None:
        """A work request is complete; its `wr_id` is whatever it was posted with."""
        raise NotImplementedError

    def _on_message(self) -> None:
        """A message has come into the inbox."""

    def _wake_all(self) -> None:
        """The connection has ended: wake every waiter, which then raises the cause."""

    # --- inside ------------------------------------------------------------------------------------------------------

    def _inline(self, data: Local) -> bytes | None:
        """The octets of `data` if they go inline, as a copy; None for those of a region, and for more than fit."""
        if type(data) is bytes:
            return data if len(data) <= self._inline_limit else None
        if isinstance(data, _REGISTERED):
            return None
        with octets_of(data) as octets:  # not kept: a traceback would keep the memory unresizable
            return octets.tobytes() if octets.nbytes <= self._inline_limit else None

    @contextlib.contextmanager
    def _registered(self, data: Local, access: Access = _NO_ACCESS) -> Iterator[tuple[RegionSlice]]:
        """The SGE of one operation.

        Memory that is not registered is registered for the operation, with `access`. It is released when the work
        completes, also if the program stops waiting before.
        """
        if isinstance(data, _REGISTERED):
            yield (_whole(data),)
            return
        region = self.pd.register(data, access)
        try:
            yield (region[:],)
        finally:
            region.retire()

    @contextlib.contextmanager
    def _batch(
        self,
        make: Callable[[tuple[RegionSlice], RemoteRegion], MakeRequest],
        items: Iterable[tuple[Local, RemoteRegion]],
        access: Access = _NO_ACCESS,
        then_send: Local | None = None,
    ) -> Iterator[list[MakeRequest]]:
        """The work requests of a list of operations, each judged before any is posted; behind them that of a Send."""
        requests: list[MakeRequest] = []
        with contextlib.ExitStack() as memory:
            for n, item in enumerate(items):
                try:
                    local, remote = pair_of(item)
                    sges = memory.enter_context(self._registered(local, access))
                    check_sges(sges, access, self.pd, self.qp.cap)
                    requests.append(make(sges, remote))
                except UsageError as error:
                    error.add_note(f"item {n} of the list (counted from 0); nothing was posted")
                    raise
            if then_send is not None:
                inline = self._inline(then_send)
                octets = () if inline is not None else memory.enter_context(self._registered(then_send))
                requests.append(lambda done: Send(octets, done, inline))
            yield requests

    def _register(
        self, kind: type[Region], buffer: Buffer, access: Access, *, shared: bool, log: AccessLog | None
    ) -> Region:
        return self.pd.register_as(kind, buffer, access, qp=None if shared else self.qp, log=log)

    def _post_receive(self, slot: int) -> None:
        if self._receives.is_open:
            self.qp.post_recv(self._slots[slot])

    def _take_message(self) -> Message:
        """The oldest message of the inbox; its receive is posted again."""
        completion = self._inbox.popleft()
        slot = completion.wr_id
        assert isinstance(slot, int), "receives are numbered by their slot"
        sge = self._slots[slot].sges[0]
        data = bytes(self._receives.pinned_view(sge.offset, completion.nbytes))  # a copy: the slot is used again
        self._post_receive(slot)
        if completion.immediate is not None:
            return Message(completion.immediate, completion.solicited, immediate=True)
        return Message(data, completion.solicited, completion.inval_stag)

    def _check_sink(self, buffer: Local) -> None:
        """Raise what receiving into `buffer` raises when it may not be written."""
        if isinstance(buffer, _REGISTERED):
            check_sges((_whole(buffer),), Access.LOCAL_WRITE, self.pd, self.qp.cap)
            return
        with octets_of(buffer) as octets:  # not kept: the memory may be resized while one waits
            check_writable(octets, Access.LOCAL_WRITE)

    def _take_into(self, buffer: Local) -> int:
        """Copy the oldest message of the inbox into `buffer`; returns its octets. One that does not fit stays."""
        self._check_sink(buffer)
        completion = self._inbox[0]
        nbytes = completion.nbytes if completion.immediate is None else len(completion.immediate)
        try:
            if isinstance(buffer, _REGISTERED):
                region, offset, room = _whole(buffer)
                _check_room(nbytes, room)
                region.pinned_view(offset, nbytes)[0:nbytes] = self._octets_of(completion)
            else:
                with octets_of(buffer) as octets:
                    _check_room(nbytes, octets.nbytes)
                    octets[:nbytes] = self._octets_of(completion)
        except BadWorkRequest:
            self._on_message()  # another that waits may have room for it
            raise
        self._inbox.popleft()
        slot = completion.wr_id
        assert isinstance(slot, int), "receives are numbered by their slot"
        self._post_receive(slot)
        return nbytes

    def _octets_of(self, completion: Completion) -> memoryview:
        """The octets of a message where they lie."""
        if completion.immediate is not None:
            return memoryview(completion.immediate)
        assert isinstance(completion.wr_id, int), "receives are numbered by their slot"
        return self._receives.pinned_view(self._slots[completion.wr_id].sges[0].offset, completion.nbytes)

    @property
    def _left_behind(self) -> bool:
        """Whether this process is a forked child, and the connection is its parent's."""
        return self._llp is not None and self._llp.left_behind

    def _check_alive(self) -> None:
        """Raise what a new operation on an ended connection raises."""
        if self._closed:
            raise Closed(f"the connection was closed: {self!r}")
        if self._left_behind:
            raise WrongProcess(self)
        if self.qp.state is not QpState.RTS and not self.qp.alive:
            raise self.qp.error or Disconnected(f"the peer closed the connection: {self!r}")

    def _check_more_to_come(self) -> None:
        """Raise what waiting for a message raises when none will come."""
        self._check_alive()
        if self.qp.stream.peer_closed:
            raise Disconnected(f"the peer closed its half of the connection: {self!r}")

    def _on_received(self, completion: Completion) -> None:
        if completion.status is Status.SUCCESS:
            self._inbox.append(completion)
            self._on_message()

    def _release(self) -> None:
        """Release all memory; the queue pair is closed."""
        self._inbox.clear()
        if self._receives.is_open:
            self._receives.close()
        if self._owns_pd:
            self.pd.close(force=True)


def options_for(pd: ProtectionDomain | None, given: Options | None) -> Options:
    """The options of connections: those given, else those of the device, if the program chose one.

    Raises `UsageError` for more than the device holds.
    """
    device = Device() if pd is None else pd.context.device
    if given is None:
        return Options.of(device)
    check_kind("options", given, Options, "a pyiwarp.Options")
    given.check_device(device)
    return given


def _whole(local: RegionSlice | MemoryRegion | FastRegion) -> RegionSlice:
    """The octets that stand for registered memory in a work request."""
    return local if isinstance(local, RegionSlice) else local[:]


def _check_room(nbytes: int, room: int) -> None:
    """Raise what receiving raises when the buffer has fewer octets than the message."""
    if nbytes > room:
        raise BadWorkRequest(
            f"the message has {nbytes} octets, the buffer {room}; nothing is lost: receive it into more, or by recv"
        )


def _receive_memory(nbytes: int) -> bytearray | mmap:
    """Zeros for receives; pages that nothing was placed in cost nothing."""
    return mmap(-1, nbytes) if nbytes >= PAGESIZE else bytearray(nbytes)


@contextlib.contextmanager
def new_connection(kind: type[C], pd: ProtectionDomain | None, options: Options) -> Iterator[C]:
    """A connection that is about to be connected; it is aborted if that fails."""
    connection = kind.of(pd, options)
    try:
        yield connection
    except BaseException:
        connection.abort()
        raise


class PeerRequest(Generic[D]):
    """A peer that wants to connect: what the Requests of awaitable and blocking listeners share."""

    def __init__(self, request: ConnectRequest[D], pd: ProtectionDomain | None, options: Options) -> None:
        self._request = request
        self._pd = pd
        self._options = options

    def __repr__(self) -> str:
        return repr(self._request)

    @property
    def private_data(self) -> bytes:
        """The private data of the peer's MPA Request."""
        return self._request.private_data

    @property
    def peername(self) -> str:
        """The peer's address."""
        return self._request.peername
