"""What awaitable and blocking connections share: one queue pair, its posted receives, memory, options.

How one waits is left to them: `awaitable.Connection` awaits, `blocking.Connection` polls.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from mmap import PAGESIZE, mmap
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, Self, TypeVar

from pyiwarp.access import check_writable, octets_of
from pyiwarp.cm.handshake import ConnectRequest
from pyiwarp.cm.unclosed import warn_unclosed
from pyiwarp.connections.large import READ_AND_ANSWER, Answer, Arrival, Loan, announced
from pyiwarp.connections.options import Options
from pyiwarp.connections.requests import MakeRequest, pair_of
from pyiwarp.errors import (
    BadWorkRequest,
    Closed,
    ConnectionLost,
    Disconnected,
    MessageRefused,
    ProtocolViolation,
    StartupTimeout,
    UsageError,
    WrongProcess,
)
from pyiwarp.exports import public_names
from pyiwarp.memory.fastreg import FastRegion
from pyiwarp.memory.log import AccessLog
from pyiwarp.mr import Access, MemoryRegion, Region, RegionSlice, RemoteRegion
from pyiwarp.negotiation import Agreement
from pyiwarp.pump import Driver
from pyiwarp.queues.checks import check_sges
from pyiwarp.queues.qp import QpCap, QpState, QueuePair
from pyiwarp.queues.work import Completion, Read, Recv, Send, Status, WorkOpcode
from pyiwarp.verbs import Context, ProtectionDomain

if TYPE_CHECKING:
    from pyiwarp.buffers import Buffer

    Local = RegionSlice | MemoryRegion | FastRegion | Buffer
    """What an operation takes for memory of this side: octets of a region, a whole region, or any buffer."""

__all__ = ["Endpoint", "Message", "PeerRequest", "new_connection"]

INLINE_LIMIT: Final = 4096
"""Sends of so many octets are copied, not registered: that costs less."""

MAX_SGE: Final = 16


class Message(NamedTuple):
    """One received Send: its octets, whether it solicited an event, and the STag that it invalidated here.

    With `immediate` the octets are eight of Immediate Data (RFC 7306 §6).
    """

    data: bytes
    """The octets, a copy."""
    solicited: bool = False
    """Whether it solicited an event (RFC 5040 §5.3)."""
    inval_stag: int | None = None
    """The STag that it invalidated on this side, if any (RFC 5040 §5.3)."""
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

    _closed = True  # until it is whole

    def __init__(self, pd: ProtectionDomain, options: Options, *, owns_pd: bool) -> None:
        self.pd = pd
        self.options = options
        """What it was made with."""
        self._owns_pd = owns_pd
        self._llp: D | None = None
        device = pd.context.device
        options.check_device(device)
        self._inline_limit = min(INLINE_LIMIT, device.max_inline)
        self._send_cq = pd.context.create_cq(options.send_depth + 1)
        self._recv_cq = pd.context.create_cq(options.recv_depth + 1)
        cap = QpCap(options.send_depth, options.recv_depth, min(MAX_SGE, device.max_sge), self._inline_limit)
        self.qp: QueuePair = pd.create_qp(self._send_cq, self._recv_cq, cap, options.of_queue_pair())
        """The queue pair underneath; `qp.counters()` says what has passed."""
        self.qp.on_ended = self._wake_all
        self.qp.on_half_closed = self._wake_all
        self._receives = pd.register(_receive_memory(options.recv_depth * options.recv_size))
        size, new = options.recv_size, tuple.__new__  # `Recv(...)` takes more than twice as long
        places = [new(RegionSlice, (self._receives, n * size, size)) for n in range(options.recv_depth)]
        self._slots: list[Recv] = [new(Recv, ((place,), n)) for n, place in enumerate(places)]
        self._inbox: deque[Completion] = deque()  # what `wr_id` numbers, or the octets of one that was put back
        self._lent: dict[int, Loan] = {}  # by STag: messages that the peer has not answered for
        self._arrivals: deque[Arrival] = deque()  # large messages that are being read
        self._closed = False
        self.qp.flush_silently()
        self.qp.post_recv_many(self._slots)
        self._send_cq.taker = self._on_work_done
        self._recv_cq.taker = self._on_received

    def __del__(self) -> None:
        if not self._closed and self._llp is not None and self.qp.alive and not self._left_behind:
            warn_unclosed(self)

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

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What asyncio's transports tell by these names; `default` for all others, and for what is not there.

        "peername" and "sockname" are the addresses as sockets give them, also when the connection has ended. "socket"
        is the TCP socket while there is one, for its options: reading, writing or closing it breaks the stream.
        """
        if self._llp is None:
            return default
        known = {"peername": self.peer_addr, "sockname": self.local_addr, "socket": self._llp.tcp_socket}
        value = known.get(name)
        return default if value is None else value

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
        return error is self.close_reason and isinstance(error, ConnectionLost | ProtocolViolation | StartupTimeout)

    def attach(self, driver: D) -> None:
        """MPA startup has succeeded, and `driver` moves the octets of the queue pair from now on."""
        self._llp = driver
        driver.limit_silence(self.options.keepalive, self.options.user_timeout)

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

    def _new_wr_id(self) -> object:
        """What a work request is posted with whose completion is looked at later."""
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
                requests.append(memory.enter_context(self._sending(then_send)))
            yield requests

    @contextlib.contextmanager
    def _sending(self, data: Local) -> Iterator[MakeRequest]:
        """The work request of a Send."""
        inline = self._inline(data)
        if inline is not None:
            yield lambda wr_id: Send((), wr_id, inline)
            return
        with self._registered(data) as sges:
            yield lambda wr_id: Send(sges, wr_id)

    def _register(
        self, kind: type[Region], buffer: Buffer, access: Access, *, shared: bool, log: AccessLog | None, to: int | None
    ) -> Region:
        return self.pd.register_as(kind, buffer, access, to=to, qp=None if shared else self.qp, log=log)

    def _post_receive(self, slot: int) -> None:
        if self._receives.is_open:
            self.qp.post_recv(self._slots[slot])

    def _take_message(self) -> Message:
        """The oldest message of the inbox; its receive is posted again."""
        completion = self._inbox[0]
        immediate = completion.immediate is not None
        return Message(self._take_data(), completion.solicited, completion.inval_stag, immediate)

    def _take_data(self) -> bytes:
        """The octets of the oldest message of the inbox, a copy; its receive is posted again."""
        completion = self._inbox.popleft()
        slot, data = completion.wr_id, completion.immediate
        if isinstance(slot, bytes):
            return slot
        assert isinstance(slot, int), "receives are numbered by their slot"
        if data is None:
            start = slot * self.options.recv_size
            data = bytes(self._receives.pinned_view(start, completion.nbytes))
        self._post_receive(slot)
        return data

    def _put_back(self, octets: bytes) -> None:
        """The octets of a small Send, given to somebody who has stopped waiting, are the next message again."""
        if not self._closed:
            self._inbox.appendleft(Completion(octets, Status.SUCCESS, WorkOpcode.RECV, len(octets), self.qp.qp_num))

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
        if not isinstance(completion.wr_id, bytes):
            assert isinstance(completion.wr_id, int), "receives are numbered by their slot"
            self._post_receive(completion.wr_id)
        return nbytes

    def _octets_of(self, completion: Completion) -> memoryview:
        """The octets of a message where they lie."""
        if completion.immediate is not None:
            return memoryview(completion.immediate)
        if isinstance(completion.wr_id, bytes):
            return memoryview(completion.wr_id)
        assert isinstance(completion.wr_id, int), "receives are numbered by their slot"
        return self._receives.pinned_view(completion.wr_id * self.options.recv_size, completion.nbytes)

    # --- messages larger than a receive ------------------------------------------------------------------------------

    def _lend(self, data: Local) -> Loan:
        """Tell the peer of a message that it is to read; the send queue has room."""
        if not self.agreement.ird:
            raise BadWorkRequest("IRD is 0: the peer may not read the message (Options.ird, RFC 5040 §6.1)")
        memory = data.view if isinstance(data, _REGISTERED) else data
        loan = Loan(self.pd.register_as(MemoryRegion, memory, Access.REMOTE_READ, qp=self.qp))
        try:
            with self._sending(loan.announcement) as request:
                self.qp.post_send(request(self._new_wr_id()))
        except BaseException:
            loan.region.retire()
            raise
        self._lent[loan.region.stag] = loan
        return loan

    def _on_answer(self, loan: Loan, completion: Completion) -> None:
        """The peer has read a message, or refused it; the STag is void (RFC 5040 §5.3)."""
        loan.answer = bytes(self._octets_of(completion))
        assert isinstance(completion.wr_id, int), "receives are numbered by their slot"
        self._post_receive(completion.wr_id)
        loan.tell()

    def _settle(self, loan: Loan) -> None:
        """The peer has answered, or will not: raises the cause then, or `MessageRefused`."""
        if loan.answer is None:
            self._lent.pop(loan.region.stag, None)
            loan.region.retire()
            self._check_more_to_come()
        loan.check_answer()

    def _check_may_read(self) -> None:
        """Raise what receiving a large message raises where no Read and answer can be posted."""
        if not self.agreement.ord or self.qp.cap.max_send_wr < READ_AND_ANSWER:
            raise BadWorkRequest(
                f"ORD is {self.agreement.ord} and send_depth {self.qp.cap.max_send_wr}: a large message takes 1 and "
                f"{READ_AND_ANSWER} (Options.ord, Options.send_depth)"
            )

    def _next_arrival(self) -> Arrival | None:
        """The oldest large message that no call waits for; None if none has come, or the send queue has no room.

        Raises `BadWorkRequest` if the next message is a plain one, which stays; `MessageRefused` for one that is
        larger than `Options.max_message`, which the peer is told; the cause if the connection has ended.
        """
        for arrival in self._arrivals:
            if not arrival.claimed:
                arrival.claimed = True
                return arrival
        if not self._inbox or self.qp.send_room < READ_AND_ANSWER:
            return None
        remote = announced(self._octets_of(self._inbox[0]))
        if remote is None:
            self._on_message()  # another may wait for it
            raise BadWorkRequest("the next message does not tell of a large one; receive it by recv")
        self._check_more_to_come()  # else the peer can neither be read from nor answered
        if remote.nbytes > self.options.max_message:
            self._take_message()
            self._post_answer(remote, Answer.TOO_LARGE)
            raise MessageRefused(
                f"the peer's message has {remote.nbytes} octets; Options.max_message is {self.options.max_message}"
            )
        arrival = Arrival(bytearray(remote.nbytes))  # if there is no memory the message stays
        self._take_message()
        self._begin_reading(arrival, remote)
        self._arrivals.append(arrival)
        return arrival

    def _drop(self, arrival: Arrival) -> None:
        """A large message has its reader, or the connection was aborted meanwhile, which has dropped them all."""
        if not self._closed:
            self._arrivals.remove(arrival)

    def _begin_reading(self, arrival: Arrival, remote: RemoteRegion) -> None:
        """Read a large message; the answer follows when it is here."""
        if remote.nbytes:
            with self._registered(arrival.memory, Access.LOCAL_WRITE) as (sink,):
                arrival.work.append(self._new_wr_id())
                self.qp.post_send(Read(sink, remote, arrival.work[-1]))
        arrival.work.append(self._post_answer(remote, Answer.TAKEN))

    def _post_answer(self, remote: RemoteRegion, answer: Answer) -> object:
        """Answer for a large message when all Reads before are complete; the peer's STag is void then."""
        wr_id = self._new_wr_id()
        with self._sending(bytes([answer])) as request:
            send = request(wr_id)
            assert isinstance(send, Send), "it was made as one"
            self.qp.post_send(send._replace(inval_stag=remote.stag, fence=True))
        return wr_id

    @property
    def _left_behind(self) -> bool:
        """Whether this process is a forked child, and the connection is its parent's."""
        return self._llp is not None and self._llp.left_behind

    def _check_alive(self) -> None:
        """Raise what a new operation on an ended connection raises."""
        if self._closed:
            raise Closed(f"the connection was closed: {self!r}")
        if self._llp is not None and self._llp.left_behind:
            raise WrongProcess(self)
        if self.qp.state is not QpState.RTS and not self.qp.alive:
            raise self.qp.error or Disconnected(f"the peer closed the connection: {self!r}")

    def _check_more_to_come(self) -> None:
        """Raise what waiting for a message raises when none will come."""
        self._check_alive()
        if self.qp.stream.peer_closed:
            raise Disconnected(f"the peer closed its half of the connection: {self!r}")

    def _on_received(self, completion: Completion) -> None:
        if completion.status is not Status.SUCCESS:
            return
        if completion.inval_stag is not None and completion.inval_stag in self._lent:
            self._on_answer(self._lent.pop(completion.inval_stag), completion)
            return
        self._inbox.append(completion)
        self._on_message()

    def _release(self) -> None:
        """Release all memory; the queue pair is closed."""
        self._inbox.clear()
        self._arrivals.clear()
        while self._lent:
            self._lent.popitem()[1].region.retire()
        if self._receives.is_open:
            self._receives.close()
        if self._owns_pd:
            self.pd.close(force=True)


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
