"""pyiwarp on an event loop: Writes, Reads and Sends through queue pairs, and messages that are awaited.

Each side has one protection domain and `qps` connections; what they say to each other stands in `lanes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pyiwarp
from benchmarks.lanes import COUNT, END, SECONDS, Lane, depth_of, memory_of, options_of
from benchmarks.loops import run_on
from benchmarks.pairs import HOST, Job, Sample
from benchmarks.posting import post_all
from benchmarks.timing import back_and_forth_awaited, now
from pyiwarp import Connection, cm
from pyiwarp.cli.perftest.endpoint import Endpoint
from pyiwarp.verbs import Context, ProtectionDomain

__all__ = ["awaited_client", "awaited_server", "stream_client", "stream_server"]


class AwaitedLane(Lane):
    """A lane whose completions are awaited."""

    def __init__(self, pd: ProtectionDomain, job: Job, memory: bytearray) -> None:
        self.end = Endpoint(pd, options_of(job), depth_of(job), pause_when_starved=True)
        super().__init__(pd, self.end.qp, job, memory)
        self._heard: asyncio.Queue[bytes | Exception] = asyncio.Queue()
        self._taking: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Take what comes from now on: data is forgotten, its receive posted again."""
        self._taking = asyncio.get_running_loop().create_task(self._take_all())

    def close(self) -> None:
        """End the connection."""
        if self._taking is not None:
            self._taking.cancel()
        self.end.abort()

    async def tell(self, octets: bytes) -> None:
        """Send a control message."""
        self.post_control(octets)
        await self.end.sent()

    async def hear(self) -> bytes:
        """The peer's next control message; raises why there will be none."""
        heard = await self._heard.get()
        if isinstance(heard, Exception):
            raise heard
        return heard

    async def stream(self, until: float) -> int:
        """Keep `outstanding` messages underway until then, one batch at least; how many octets that were."""
        posted = underway = 0
        while underway or not posted or now() < until:
            while underway < self.room and (not posted or now() < until):
                post_all(self.qp, self.batch)
                underway += 1
                posted += 1
            underway -= len(await self.end.sent())
        return posted * self.batch_octets

    async def _take_all(self) -> None:
        try:
            while True:
                for octets in self.control_in(await self.end.received()):
                    self._heard.put_nowait(octets)
        except Exception as error:
            self._heard.put_nowait(error)


# --- bandwidth and rate ----------------------------------------------------------------------------------------------


def stream_server(job: Job, announce: Callable[[int], None]) -> None:
    async def main() -> None:
        pd, memory = Context().alloc_pd(), memory_of(job)
        async with await cm.listen(HOST, 0, options_of(job).offer(b"")) as listener:
            announce(listener.port)
            lanes = []
            for _ in range(job.qps):
                lane = AwaitedLane(pd, job, memory)
                lane.end.accept(await listener.get_request())
                lane.open()
                lanes.append(lane)
            await asyncio.gather(*(_serve(lane) for lane in lanes))

    run_on(job.loop, main())


async def _serve(lane: AwaitedLane) -> None:
    lane.meet(await lane.hear())
    await lane.tell(lane.region[:].advertise())
    while True:
        (seconds,) = SECONDS.unpack(await lane.hear())
        nbytes = await lane.stream(now() + seconds) if lane.job.both_ways else 0
        await lane.hear()
        await lane.tell(COUNT.pack(nbytes))


def stream_client(job: Job, port: int) -> Sample:
    async def main() -> Sample:
        pd, memory = Context().alloc_pd(), memory_of(job)
        lanes = [AwaitedLane(pd, job, memory) for _ in range(job.qps)]
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


async def _one_phase(lane: AwaitedLane, began: float, seconds: float) -> int:
    """Octets of both directions on one connection, when all of them have arrived."""
    await lane.tell(SECONDS.pack(seconds))
    nbytes = await lane.stream(began + seconds)
    await lane.tell(END)
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
