"""pyiwarp on an event loop: Writes, Reads and Sends through queue pairs, and messages that are awaited.

Each side has one protection domain and `qps` connections. Control messages are solicited Sends, so that they are told
from data: both advertise their memory, then for each phase the client says "go", both stream if it goes both ways, the
client says "end" behind its last message, and the server's answer, which counts what it sent, stops the clock.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Final, cast

import pyiwarp
from benchmarks.loops import run_on
from benchmarks.pairs import HOST, Job, Sample
from benchmarks.posting import post_all
from benchmarks.timing import back_and_forth_awaited, now
from pyiwarp import cm
from pyiwarp.cli.endpoint import Endpoint
from pyiwarp.connection import Connection, Options
from pyiwarp.mr import Access, RemoteRegion
from pyiwarp.verbs import Context, ProtectionDomain
from pyiwarp.work import Read, Recv, Send, SendRequest, Write

__all__ = ["awaited_client", "awaited_server", "options_of", "stream_client", "stream_server"]

CONTROL: Final = 16
REMOTE: Final = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
COUNT: Final = struct.Struct("!Q")


def options_of(job: Job) -> Options:
    """How the job's connections are set up."""
    return Options(crc=job.crc, markers=job.markers, mulpdu=job.mulpdu, linger=0.5)


class Lane:
    """One connection of either side, its memory, and its control messages."""

    def __init__(self, pd: ProtectionDomain, job: Job, memory: bytearray) -> None:
        self.job = job
        sends = job.kind == "send"
        slots = 4 + (2 * job.outstanding if sends else 0)
        self._slot_size = max(job.size if sends else 0, CONTROL)
        # a large receive is the same memory again and again, as the target of a Write is
        self._inboxes = 4 + (2 * job.outstanding if self._slot_size <= 1 << 16 else 4 if sends else 0)
        self.end = Endpoint(pd, options_of(job), max(slots, 2 * job.outstanding, 16), pause_when_starved=True)
        self._inbox = pd.register(bytearray(self._slot_size * self._inboxes))
        self._heard: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._taking: asyncio.Task[None] | None = None
        self.region = pd.register(memory, REMOTE)
        self.remote = RemoteRegion(0, 0, 0)
        self._batch: list[SendRequest] = []
        for slot in range(slots):
            self._post_receive(slot % self._inboxes)

    def _post_receive(self, slot: int) -> None:
        start = slot * self._slot_size
        self.end.qp.post_recv(Recv((self._inbox[start : start + self._slot_size],), slot))

    async def tell(self, octets: bytes) -> None:
        """Send a control message."""
        self.end.qp.post_send(Send(inline=octets, solicited=True))
        await self.end.sent()

    async def hear(self) -> bytes:
        """The peer's next control message; raises why there will be none."""
        heard = await self._heard.get()
        if isinstance(heard, Exception):
            raise heard
        return heard

    def open(self) -> None:
        """Take what comes from now on: data is forgotten, its receive posted again."""
        self._taking = asyncio.get_running_loop().create_task(self._take_all())

    def close(self) -> None:
        """End the connection."""
        if self._taking is not None:
            self._taking.cancel()
        self.end.abort()

    async def _take_all(self) -> None:
        try:
            while True:
                await self._take()
        except Exception as error:
            self._heard.put_nowait(error)

    async def _take(self) -> None:
        for completion in await self.end.received():
            slot = cast("int", completion.wr_id)
            if completion.solicited:
                start = slot * self._slot_size
                self._heard.put_nowait(bytes(self._inbox.view[start : start + completion.nbytes]))
            self._post_receive(slot)

    def meet(self, advertisement: bytes) -> None:
        """Know the peer's memory, and prepare the batch of work requests that is posted again and again."""
        self.remote = RemoteRegion.parse(advertisement)
        job, local = self.job, self.region[: self.job.size]
        last = job.batch - 1
        makers: dict[str, Callable[[int], SendRequest]] = {
            "write": lambda n: Write((local,), self.remote, signaled=n == last),
            "read": lambda n: Read(local, self.remote, signaled=n == last),
            "send": lambda n: Send((local,), signaled=n == last),
        }
        self._batch = [makers[job.kind](number) for number in range(job.batch)]

    async def stream(self, until: float) -> int:
        """Keep `outstanding` messages underway until then; how many octets that were when all were complete."""
        end, batch = self.end, self._batch
        posted = underway = 0
        room = max(1, self.job.outstanding // len(batch))
        while underway or now() < until:
            while underway < room and now() < until:
                post_all(end.qp, batch)
                underway += 1
                posted += 1
            underway -= len(await end.sent())
        return posted * len(batch) * self.job.size


# --- bandwidth and rate ----------------------------------------------------------------------------------------------


def stream_server(job: Job, announce: Callable[[int], None]) -> None:
    async def main() -> None:
        pd, memory = Context().alloc_pd(), bytearray(max(job.size, CONTROL))
        async with await cm.listen(HOST, 0, options_of(job).offer(b"")) as listener:
            announce(listener.port)
            lanes = []
            for _ in range(job.qps):
                lane = Lane(pd, job, memory)
                lane.end.accept(await listener.get_request())
                lane.open()
                lanes.append(lane)
            await asyncio.gather(*(_serve(lane) for lane in lanes))

    run_on(job.loop, main())


async def _serve(lane: Lane) -> None:
    lane.meet(await lane.hear())
    await lane.tell(lane.region[:].advertise())
    while True:
        (seconds,) = struct.unpack("!d", await lane.hear())
        nbytes = await lane.stream(now() + seconds) if lane.job.both_ways else 0
        await lane.hear()
        await lane.tell(COUNT.pack(nbytes))


def stream_client(job: Job, port: int) -> Sample:
    async def main() -> Sample:
        pd, memory = Context().alloc_pd(), bytearray(max(job.size, CONTROL))
        lanes = [Lane(pd, job, memory) for _ in range(job.qps)]
        for lane in lanes:
            await lane.end.connect(HOST, port)
            lane.open()
        for lane in lanes:
            await lane.tell(lane.region[:].advertise())
            lane.meet(await lane.hear())
        for seconds in (job.warmup, job.seconds):
            began = now()
            octets = await asyncio.gather(*(_one_phase(lane, began, seconds) for lane in lanes))
            rate = sum(octets) / (now() - began)
        for lane in lanes:
            lane.close()
        return {
            "GB/s": rate / 1e9,
            "messages/s": rate / job.size,
            "slowest / fastest": min(octets) / max(octets),
        }

    return cast("Sample", run_on(job.loop, main()))


async def _one_phase(lane: Lane, began: float, seconds: float) -> int:
    """Octets of both directions on one connection, when all of them have arrived."""
    await lane.tell(struct.pack("!d", seconds))
    nbytes = await lane.stream(began + seconds)
    await lane.tell(b"end")
    (back,) = COUNT.unpack(await lane.hear())
    return nbytes + int(back)


# --- latency ---------------------------------------------------------------------------------------------------------


def awaited_server(job: Job, announce: Callable[[int], None]) -> None:
    async def echo(connection: Connection) -> None:
        async for message in connection:
            await connection.send(message)

    async def main() -> None:
        async with await pyiwarp.serve(echo, HOST, options=options_of(job)) as server:
            announce(server.port)
            await server.serve_forever()

    run_on(job.loop, main())


def awaited_client(job: Job, port: int) -> Sample:
    async def main() -> Sample:
        message = bytes(job.size)
        async with pyiwarp.connect(HOST, port, options=options_of(job)) as connection:

            async def there_and_back() -> None:
                await connection.send(message)
                await connection.recv()

            return await back_and_forth_awaited(job, there_and_back)

    return cast("Sample", run_on(job.loop, main()))
