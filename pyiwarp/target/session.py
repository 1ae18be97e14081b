"""One session of the target: the memory, the receives and the queue pair of one connection, and what became of it.

Each has a context of its own, hence STags of its own, so that no session can meddle with another.
"""

from __future__ import annotations

import asyncio
from typing import Final

from pyiwarp import Access, Device, cm
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Closed, IwarpError, Rejected, TerminatedByPeer
from pyiwarp.negotiation import Agreement
from pyiwarp.target.memory import GuardedMemory, pattern
from pyiwarp.target.settings import MAX_RECEIVES, Settings
from pyiwarp.target.watch import Watch
from pyiwarp.target.words import Refused, reply
from pyiwarp.verbs import Completion, QpCap, QpState, Recv, SendRequest

__all__ = ["STATES", "Session"]

STATES: Final = ("waiting", "connected", "closing", "terminated", "error", "closed", "rejected")
MAX_POSTS: Final = 256
MAX_COMPLETIONS: Final = 4096
MAX_MEMORY: Final = 32 << 20
_REMOTE: Final = {
    "rw": Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC,
    "ro": Access.REMOTE_READ,
    "wo": Access.REMOTE_WRITE,
}
_OTHER: Final = "other"
_SCRATCH: Final = "scratch"
_STATE_OF: Final = {
    QpState.IDLE: "closed",  # after it was connected
    QpState.RTS: "connected",
    QpState.CLOSING: "closing",
    QpState.TERMINATE: "terminated",
    QpState.ERROR: "error",
}


class Session:
    """The next connection, prepared; then that connection; then what is left of it, until `close`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.offer = settings.offer
        self._context = Device().open()
        self._pd = self._context.alloc_pd()
        self._others = self._context.alloc_pd()
        self._cq = self._context.create_cq(MAX_COMPLETIONS)
        self._room = MAX_COMPLETIONS  # for completions of what is posted
        self._memory_left = MAX_MEMORY
        self.qp = self._pd.create_qp(
            self._cq,
            self._cq,
            QpCap(max_send_wr=MAX_POSTS, max_recv_wr=MAX_RECEIVES),
            mulpdu=settings.mulpdu,
            linger=settings.linger,
            profile=settings.profile,
            extensions=settings.extensions,
        )
        self.watch = Watch()
        self._llp: AsyncioDriver | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._frame_data: bytes | None = None
        self._error: Exception | None = None
        self._closed = False
        self.regions = self._make_regions()
        self.receives: list[GuardedMemory] = []
        self.post_receives(settings.receives)

    def _make_regions(self) -> dict[str, GuardedMemory]:
        size = self.settings.region_size
        regions = {name: self.new_memory(size, Access.LOCAL_WRITE | rights) for name, rights in _REMOTE.items()}
        regions[_OTHER] = self.new_memory(size, Access.LOCAL_WRITE | _REMOTE["rw"], elsewhere=True)
        for salt, memory in enumerate(regions.values(), 1):
            memory.octets[:] = pattern(size, salt)
        regions[_SCRATCH] = self.new_memory(self.settings.scratch_size, Access.LOCAL_WRITE)
        return regions

    # --- memory and work ---------------------------------------------------------------------------------------------

    @property
    def advertised(self) -> dict[str, str]:
        """The regions that a peer may be told of, each as STAG:TO:LEN."""
        return {name: memory.advertisement for name, memory in self.regions.items() if name != _SCRATCH}

    def new_memory(self, nbytes: int, access: Access, *, elsewhere: bool = False) -> GuardedMemory:
        """Memory that lives as long as the session; with `elsewhere` its STag belongs to no stream."""
        guard = self.settings.guard
        if nbytes + 2 * guard > self._memory_left:
            raise Refused("full", f"a session has at most {MAX_MEMORY} octets of memory")
        self._memory_left -= nbytes + 2 * guard
        return GuardedMemory(self._others if elsewhere else self._pd, access, nbytes, guard)

    def post_receives(self, sizes: tuple[int, ...]) -> None:
        """Post receives of these sizes; raises `Refused` or `UsageError` at the first that finds no room."""
        for size in sizes:
            self._check_room()
            memory = self.new_memory(size, Access.LOCAL_WRITE)
            self.qp.post_recv(Recv((memory.region[:],) if size else (), len(self.receives)))
            self._room -= 1
            self.receives.append(memory)

    def post(self, request: SendRequest) -> None:
        """Post to the send queue; raises `Refused` or `UsageError`."""
        self._check_room()
        self.qp.post_send(request)
        self._room -= 1

    def _check_room(self) -> None:
        if not self._room:
            raise Refused("full", f"{MAX_COMPLETIONS} completions were not asked for")

    @property
    def waiting_completions(self) -> int:
        """How many completions can be taken."""
        return len(self._cq)

    def take_completions(self, limit: int | None) -> list[Completion]:
        """The oldest completions; all of them without a `limit`."""
        taken = self._cq.poll(limit)
        self._room += len(taken)
        return taken

    # --- the connection ----------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether a connection is still to come."""
        return self.state == "waiting" and self._connecting is None and self._frame_data is None

    async def take(self, request: cm.ConnectRequest, watch: Watch) -> None:
        """Be the Responder that `request` meets; what goes wrong becomes the session's state."""
        self.watch = watch
        self._frame_data = request.private_data
        try:
            if self.settings.delay:
                await asyncio.sleep(self.settings.delay)
            if self._closed:
                request.reject()
                return
            if self.settings.reject:
                request.reject(self.settings.private_data)
                self._error = Rejected(self.settings.private_data)
                return
            self._llp = request.accept(self.qp, self.offer)
            if self.settings.speak_first:
                self.qp.speak_first()
        except IwarpError as error:
            self._error = error

    def connect(self, host: str, port: int) -> None:
        """Be the Initiator, from now on; what comes of it becomes the session's state."""
        if not self.waiting:
            raise Refused("state", f"the session has had its connection: {self.state}")
        self._connecting = asyncio.get_running_loop().create_task(self._connect(host, port))

    async def _connect(self, host: str, port: int) -> None:
        try:
            self._llp = await cm.connect(self.qp, host, port, self.offer, tap=self.watch)
        except (IwarpError, OSError) as error:
            self._error = error

    def disconnect(self) -> None:
        """End the connection gracefully."""
        self.qp.disconnect()

    def abort(self) -> None:
        """End the connection at once: TCP is reset."""
        if self._connecting is not None:
            self._connecting.cancel()
        error = Closed("the connection was aborted by command")
        self._error = self._error or error
        self.qp.abort(error)
        if self._llp is not None:
            self._llp.abort()

    def close(self) -> None:
        """Forget everything; a connection that is there is aborted."""
        if self._connecting is not None:
            self._connecting.cancel()
        self._closed = True
        self.qp.close()
        if self._llp is not None:
            self._llp.abort()
        self._context.close()

    async def wait_closed(self) -> None:
        """Until TCP has ended, if it was there."""
        if self._llp is not None:
            await asyncio.shield(self._llp.closed)

    # --- what became of it -------------------------------------------------------------------------------------------

    @property
    def _began(self) -> bool:
        return self._llp is not None or self.qp.state is not QpState.IDLE

    @property
    def _agreement(self) -> Agreement | None:
        return self.qp.stream.agreement if self._began else None

    @property
    def cause(self) -> Exception | None:
        """Why the connection ended, or did not come to be; None for a graceful end."""
        if self._began:
            return self.qp.stream.violation or self.qp.error or self._error
        return self._error

    @property
    def state(self) -> str:
        """One of `STATES`."""
        if self._began:
            if isinstance(self.cause, TerminatedByPeer) or self.qp.stream.violation is not None:
                return "terminated"
            return _STATE_OF[self.qp.state]
        if isinstance(self._error, Rejected):
            return "rejected"
        return "error" if self._error is not None else "waiting"

    def report(self) -> str:
        """The answer to `state`: nothing in it but what the stack has told."""
        agreement, cause = self._agreement, self.cause
        private = self._frame_data or (cause.private_data if isinstance(cause, Rejected) else b"")
        told = {
            "state": self.state,
            "cause": type(cause).__name__ if cause is not None else "-",
            "sent": self.watch.sent_terminate,
            "got": self.watch.received_terminate if isinstance(cause, TerminatedByPeer) else b"",
            "private": agreement.private_data if agreement is not None else private,
        }
        return reply(**told, **({} if agreement is None else _terms(agreement)))


def _terms(agreement: Agreement) -> dict[str, object]:
    """What both sides settled on in startup."""
    return {
        "role": agreement.role.value,
        "revision": agreement.revision,
        "crc": agreement.crc,
        "markers": agreement.receive_markers,
        "sends_markers": agreement.send_markers,
        "ird": agreement.ird,
        "ord": agreement.ord,
        "peer_ird": "-" if agreement.peer_ird is None else agreement.peer_ird,
        "peer_ord": "-" if agreement.peer_ord is None else agreement.peer_ord,
        "p2p": agreement.peer_to_peer,
    }
