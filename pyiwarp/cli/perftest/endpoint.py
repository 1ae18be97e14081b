"""One end of a connection at the level of verbs: a queue pair, its completions awaited, its end noticed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pyiwarp import Access, Options, ProtectionDomain, cm
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import Disconnected
from pyiwarp.files.errors import PeerSilent
from pyiwarp.verbs import Completion, CompletionQueue, QpCap, Recv, Send

__all__ = ["Endpoint", "MessageLink", "watch"]


class Endpoint:
    """A queue pair for `depth` work requests each way, connected by `connect` or `accept`.

    With `pause_when_starved` a Send of the peer's waits for its receive. Waits have no limit of their own: see `watch`.
    """

    def __init__(self, pd: ProtectionDomain, options: Options, depth: int, *, pause_when_starved: bool = False) -> None:
        self.options = options
        self._send_cq = pd.context.create_cq(depth + 1)
        self._recv_cq = pd.context.create_cq(depth + 1)
        self.qp = pd.create_qp(
            self._send_cq,
            self._recv_cq,
            QpCap(max_send_wr=depth, max_recv_wr=depth),
            pause_when_starved=pause_when_starved,
            mulpdu=options.mulpdu,
            linger=options.linger,
            profile=options.profile,
        )
        self.qp.on_ended = self._on_ended
        self._ended = asyncio.Event()
        self._waiters: list[asyncio.Future[None]] = []
        self._llp: AsyncioDriver | None = None

    @property
    def peername(self) -> str:
        """The peer's address."""
        return "?" if self._llp is None else self._llp.peername

    @property
    def progress(self) -> tuple[int, int]:
        """Something that changes whenever anything moves."""
        if self._llp is None:
            return 0, 0
        stream = self.qp.stream
        return stream.fpdus_received, stream.octets_sent

    # --- life --------------------------------------------------------------------------------------------------------

    async def connect(self, host: str, port: int) -> None:
        """Connect; errors as `pyiwarp.connect`."""
        tap = self.options.tap(initiator=True)
        self._llp = await cm.connect(self.qp, host, port, self.options.offer(b""), tap=tap)

    def accept(self, request: cm.ConnectRequest) -> None:
        """Accept; errors as `Request.accept`."""
        self._llp = request.accept(self.qp, self.options.offer(b""))

    async def wait_ended(self) -> None:
        """Until the peer has closed the connection, or it broke."""
        await self._ended.wait()

    async def close(self) -> None:
        """End the connection gracefully; takes at most `linger` seconds of a silent peer's time."""
        self.qp.disconnect()
        if self._llp is not None:
            await asyncio.shield(self._llp.closed)
        self.abort()

    def abort(self) -> None:
        """End the connection at once. Twice does nothing."""
        self.qp.close()
        if self._llp is not None:
            self._llp.abort()

    def check_alive(self) -> None:
        """Raises why the connection has ended, if it has."""
        if not self.qp.alive:
            raise self.qp.error or Disconnected("the peer closed the connection in the middle of the test")

    # --- completions -------------------------------------------------------------------------------------------------

    async def sent(self) -> list[Completion]:
        """Completions of the send queue, at least one; raises why a work request failed."""
        return await self._some(self._send_cq)

    async def received(self) -> list[Completion]:
        """Completions of the receive queue, at least one; raises why a work request failed."""
        return await self._some(self._recv_cq)

    def poll_sent(self) -> list[Completion]:
        """Completions of the send queue, none if there are none yet; raises why a work request failed."""
        return _checked(self._send_cq.poll())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Poll `condition`, which a Write of the peer makes true: a Write has no completion here."""
        while not condition():
            self.check_alive()
            await asyncio.sleep(0)

    async def _some(self, cq: CompletionQueue) -> list[Completion]:
        while True:
            done = cq.poll()
            if done:
                return _checked(done)
            self.check_alive()
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            cq.arm(self._wake)
            await waiter

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def _on_ended(self) -> None:
        self._ended.set()
        self._wake()


def _checked(completions: list[Completion]) -> list[Completion]:
    for completion in completions:
        if not completion.ok:
            raise completion.error or Disconnected("the peer closed the connection in the middle of the test")
    return completions


class MessageLink:
    """Short messages, one receive after the other, over an endpoint of its own."""

    def __init__(self, end: Endpoint, pd: ProtectionDomain, size: int) -> None:
        self._end = end
        self._memory = pd.register(bytearray(size), Access.LOCAL_WRITE)
        self._post()

    async def send(self, octets: bytes) -> None:
        """Send a message."""
        self._end.qp.post_send(Send(inline=octets))
        await self._end.sent()

    async def recv(self) -> bytes:
        """The peer's next message."""
        (completion,) = await self._end.received()
        octets = bytes(self._memory.view[: completion.nbytes])
        self._post()
        return octets

    def _post(self) -> None:
        self._end.qp.post_recv(Recv((self._memory[:],)))


async def watch(ends: Sequence[Endpoint], patience: float) -> None:
    """Abort all `ends` when none of them made progress for `patience` seconds; runs until cancelled."""
    while True:
        before = [end.progress for end in ends]
        await asyncio.sleep(patience)
        if [end.progress for end in ends] == before:
            for end in ends:
                end.qp.abort(PeerSilent(f"the peer did nothing for {patience:g} s"))
