"""The stack itself as a peer: a context of its own, driven through verbs and not through the awaitable API."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from typing import Final

from interop.peer import (
    HERE,
    MAX_DEPTH,
    Can,
    Depths,
    Done,
    Part,
    PeerConnection,
    PeerKind,
    PeerListener,
    PeerNotConnected,
    PeerOptions,
    PeerRegion,
    PeerRejected,
    PeerRequest,
    Programs,
)
from interop.siw.verbs import pattern
from pyiwarp import Access, Context, IwarpError, ProtectionDomain, Rejected, RemoteRegion, TerminatedByPeer, cm
from pyiwarp.codes import Rtr
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.mr import MemoryRegion
from pyiwarp.negotiation import Offer
from pyiwarp.profile import PROFILES
from pyiwarp.queues.cq import CompletionQueue
from pyiwarp.queues.qp import QpCap, QueuePair
from pyiwarp.queues.work import Completion, Read, Recv, Send, Sge, WorkOpcode, Write

KIND: Final = PeerKind(
    name="pyiwarp",
    about="the stack itself, driven through its verbs",
    profile=PROFILES["rfc"],
    can=Can.CONNECT_REVISION_1
    | Can.CONNECT_REVISION_2
    | Can.ASK_FOR_PEER_TO_PEER
    | Can.INSIST_ON_CRC
    | Can.CONNECT_WITHOUT_CRC
    | Can.MARKERS
    | Can.RECEIVE_WITHOUT_MEMORY
    | Can.TELL_INVALIDATED
    | Can.TELL_TERMINATE,
)

_KINDS = {
    WorkOpcode.SEND: "send",
    WorkOpcode.WRITE: "write",
    WorkOpcode.READ: "read",
    WorkOpcode.RECV: "receive",
}


def _offer(options: PeerOptions) -> Offer:
    return Offer(
        revision=options.revision,
        crc=options.crc,
        private_data=options.private_data,
        ird=options.depths.ird,
        ord=options.depths.ord,
        rtr=Rtr.WRITE | Rtr.READ if options.revision > 1 else Rtr(0),
        open_at_once=True,
    )


class PyiwarpPeer:
    """One peer; a context manager that ends all it has made."""

    kind = KIND

    def __init__(self) -> None:
        self.context = Context()
        self._domains = (self.context.alloc_pd(), self.context.alloc_pd())
        self._connections: list[_Connection] = []
        self._listeners: list[cm.Listener] = []

    async def __aenter__(self) -> PyiwarpPeer:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.kill()

    # --- connections -------------------------------------------------------------------------------------------------

    async def listen(self, *, other_domain: bool = False) -> PeerListener:
        """Listen on a port that the system chooses."""
        listener = await cm.listen(HERE, 0)
        self._listeners.append(listener)
        return _Listener(self, listener, other_domain)

    async def connect(self, port: int, options: PeerOptions, *, other_domain: bool = False) -> PeerConnection:
        """Connect to our side."""
        connection = self.new_connection(other_domain)
        try:
            llp = await cm.connect(connection.qp, HERE, port, _offer(options))
        except Rejected as error:
            raise PeerRejected(error.private_data) from error
        except (IwarpError, OSError) as error:
            raise PeerNotConnected(str(error)) from error
        return connection.begin(llp)

    def new_connection(self, other_domain: bool) -> _Connection:
        """The queues of a connection to be."""
        connection = _Connection(self.context, self._domains[other_domain])
        self._connections.append(connection)
        return connection

    # --- memory ------------------------------------------------------------------------------------------------------

    async def register(self, length: int, access: Access, *, other_domain: bool = False) -> PeerRegion:
        """Memory of zeros."""
        region = self._domains[other_domain].register(bytearray(length), access)
        return PeerRegion(region.to, region.stag, length, region)

    async def put(self, region: PeerRegion, data: bytes, offset: int = 0) -> None:
        """Change the memory."""
        _view(region)[offset : offset + len(data)] = data

    async def fill(self, region: PeerRegion, seed: int) -> None:
        """Make it a pattern."""
        _view(region)[:] = pattern(region.length, seed)

    async def get(self, region: PeerRegion, offset: int, length: int) -> bytes:
        """Look at the memory."""
        return bytes(_view(region)[offset : offset + length])

    async def digest(self, region: PeerRegion, offset: int = 0, length: int | None = None) -> int:
        """The CRC of a part."""
        return zlib.crc32(_view(region)[offset : None if length is None else offset + length])

    # --- the end -----------------------------------------------------------------------------------------------------

    async def kill(self) -> None:
        """Close every socket as the kernel does when a process dies."""
        for listener in self._listeners:
            listener.close()
        for connection in self._connections:
            await connection.kill()
        self.context.close()

    async def crash(self) -> None:
        """Not ours to do."""
        raise NotImplementedError

    def programs(self) -> Programs:
        """There is no other machine."""
        raise NotImplementedError

    def crash_report(self) -> str:
        """What its connections ended of."""
        errors = [connection.qp.error for connection in self._connections if connection.qp.error]
        return "\n".join(f"the pyiwarp peer: {error}" for error in errors)


def _region(region: PeerRegion) -> MemoryRegion:
    assert isinstance(region.handle, MemoryRegion)
    return region.handle


def _view(region: PeerRegion) -> memoryview:
    return _region(region).pinned_view(0, region.length)  # also after the STag was invalidated


def _sge(part: Part | None) -> Sge | None:
    return None if part is None else Sge(_region(part.region), part.offset, part.length)


class _Connection:
    """A queue pair with one completion queue for all."""

    private_data = b""
    depths = Depths(0, 0)

    def __init__(self, context: Context, pd: ProtectionDomain) -> None:
        self._cq: CompletionQueue = context.create_cq(4 * MAX_DEPTH)
        cap = QpCap(max_send_wr=MAX_DEPTH, max_recv_wr=MAX_DEPTH)
        self.qp: QueuePair = pd.create_qp(self._cq, self._cq, cap, linger=3.0)
        self.qp.on_ended = lambda: self._ended.set()
        self._ended = asyncio.Event()
        self._news = asyncio.Event()
        self._found: deque[Completion] = deque()
        self._solicited: asyncio.Event | None = None
        self._llp: AsyncioDriver | None = None
        self._cq.arm(self._on_completion)

    def begin(self, llp: AsyncioDriver) -> _Connection:
        """Startup is over."""
        self._llp = llp
        agreement = self.qp.stream.agreement
        self.private_data = agreement.private_data
        self.depths = Depths(agreement.ird, agreement.ord)
        return self

    def _on_completion(self) -> None:
        found = self._cq.poll()
        self._found += found
        if self._solicited is not None and any(each.solicited or not each.ok for each in found):
            self._solicited.set()
        self._news.set()
        self._cq.arm(self._on_completion)

    async def post_receive(self, wr_id: int, region: PeerRegion, offset: int = 0, length: int | None = None) -> None:
        """Post a receive; without octets it has no memory."""
        size = region.length - offset if length is None else length
        self.qp.post_recv(Recv((Sge(_region(region), offset, size),) if size else (), wr_id))

    async def post_send(
        self, wr_id: int, part: Part | None, *, solicited: bool = False, invalidate: int | None = None
    ) -> None:
        """Post a Send."""
        sge = _sge(part)
        self.qp.post_send(Send(() if sge is None else (sge,), wr_id, inval_stag=invalidate, solicited=solicited))

    async def post_write(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Post a Write."""
        sge = _sge(part)
        self.qp.post_send(Write(() if sge is None else (sge,), remote, wr_id))

    async def post_read(self, wr_id: int, part: Part | None, remote: RemoteRegion) -> None:
        """Post a Read."""
        self.qp.post_send(Read(_sge(part), remote, wr_id))

    async def completions(self, count: int, timeout: float = 30.0) -> list[Done]:
        """Take completions."""
        try:
            async with asyncio.timeout(timeout):
                while len(self._found) < count:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            count = len(self._found)
        return [_done(self._found.popleft()) for _ in range(count)]

    async def arm_solicited(self) -> None:
        """Watch for a solicited completion from now on."""
        self._solicited = asyncio.Event()

    async def solicited_event(self, timeout: float) -> bool:
        """Whether there was one."""
        assert self._solicited is not None, "armed before"
        return await _happens(self._solicited, timeout)

    async def disconnect(self) -> None:
        """Close gracefully."""
        self.qp.disconnect()

    async def ended(self, timeout: float = 30.0) -> str:
        """How it ended."""
        if not await _happens(self._ended, timeout):
            return "not"
        error = self.qp.error
        return f"terminated {error.term}" if isinstance(error, TerminatedByPeer) else "disconnected"

    async def kill(self) -> None:
        """End TCP at once."""
        if self._llp is not None:
            self._llp.abort()
            await self._llp.closed
        self.qp.close()


async def _happens(event: asyncio.Event, timeout: float) -> bool:
    try:
        await asyncio.wait_for(event.wait(), timeout)
    except TimeoutError:
        return False
    return True


def _done(completion: Completion) -> Done:
    assert isinstance(completion.wr_id, int)
    # siw has one word for everything that fails as its stream ends, whoever is to blame; the scenarios speak it
    status = "success" if completion.ok else "flushed"
    return Done(completion.wr_id, status, _KINDS[completion.opcode], completion.nbytes, completion.inval_stag)


class _Request:
    """A Request of ours."""

    def __init__(self, peer: PyiwarpPeer, request: cm.ConnectRequest, other_domain: bool) -> None:
        self._peer, self._request, self._other_domain = peer, request, other_domain
        self.private_data = request.private_data

    async def accept(self, depths: Depths, private_data: bytes) -> PeerConnection:
        """Accept."""
        connection = self._peer.new_connection(self._other_domain)
        options = PeerOptions(depths, private_data, self._request.frame.revision, crc=False)
        return connection.begin(self._request.accept(connection.qp, _offer(options)))

    async def reject(self, private_data: bytes) -> None:
        """Refuse."""
        self._request.reject(private_data)


class _Listener:
    """Where the peer listens."""

    host = HERE

    def __init__(self, peer: PyiwarpPeer, listener: cm.Listener, other_domain: bool) -> None:
        self._peer, self._listener, self._other_domain = peer, listener, other_domain
        self.port = listener.port

    async def request(self, timeout: float = 30.0) -> PeerRequest:
        """The next Request."""
        return _Request(self._peer, await asyncio.wait_for(self._listener.get_request(), timeout), self._other_domain)
