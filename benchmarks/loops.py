"""What asyncio offers without RDMA and without streams: a `BufferedProtocol`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

import uvloop

from benchmarks.pairs import HOST, Job, Sample, filled
from benchmarks.timing import back_and_forth_awaited

__all__ = ["protocol_client", "protocol_server", "run_on", "task_server"]


def run_on(loop: str, main: Coroutine[Any, Any, Any]) -> Any:
    """Run `main` on the loop of that name: uvloop or asyncio."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop) as runner:
        return runner.run(main)


class Echo(asyncio.BufferedProtocol):
    """Collects a message and answers with it, or wakes who awaits it."""

    def __init__(self, size: int, *, answers: bool) -> None:
        self._memory = memoryview(filled(size))
        self._have = 0
        self._answers = answers
        self._arrived: asyncio.Future[None] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._memory[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        self._have += nbytes
        if self._have < len(self._memory):
            return
        self._have = 0
        if self._answers:
            self.write()
        elif self._arrived is not None:
            self._arrived.set_result(None)

    def write(self) -> None:
        assert self._transport is not None, "there is a connection"
        self._transport.write(self._memory)

    async def there_and_back(self) -> None:
        self._arrived = asyncio.get_running_loop().create_future()
        self.write()
        await self._arrived

    async def answer_all(self) -> None:
        """Answer each message from the task that awaits it, as a program does."""
        loop = asyncio.get_running_loop()
        self._arrived = loop.create_future()
        while True:
            await self._arrived
            self._arrived = loop.create_future()
            self.write()


def protocol_server(job: Job, announce: Callable[[int], None]) -> None:
    """The protocol itself answers, where the octets arrive."""
    _echo_on(job, announce, lambda: Echo(job.size, answers=True))


def task_server(job: Job, announce: Callable[[int], None]) -> None:
    """A task answers."""
    tasks = set()

    def make() -> Echo:
        echo = Echo(job.size, answers=False)
        tasks.add(asyncio.get_running_loop().create_task(echo.answer_all()))
        return echo

    _echo_on(job, announce, make)


def _echo_on(job: Job, announce: Callable[[int], None], make: Callable[[], Echo]) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(make, HOST, 0)
        announce(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    run_on(job.loop, main())


def protocol_client(job: Job, port: int) -> Sample:
    async def main() -> Sample:
        loop = asyncio.get_running_loop()
        transport, echo = await loop.create_connection(lambda: Echo(job.size, answers=False), HOST, port)
        sample = await back_and_forth_awaited(job, echo.there_and_back)
        transport.close()
        return sample

    return cast("Sample", run_on(job.loop, main()))
