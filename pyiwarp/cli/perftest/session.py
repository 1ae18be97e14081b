"""One perftest session from the first connection to the last: control, agreement, data, test, results.

The control connection comes first and the data connections after it, to the same port. Every wait
ends: when no connection makes progress for `patience` seconds, all are aborted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Final

from pyiwarp import Context, Options, cm
from pyiwarp.cli.perftest.endpoint import Endpoint, MessageLink, watch
from pyiwarp.cli.perftest.exchange import RECORD_SIZE, Control, Record
from pyiwarp.cli.perftest.figures import Bandwidth, Latency
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.cli.perftest.runs import DataConnection, Plan, run_client, run_server
from pyiwarp.cli.tasks import within
from pyiwarp.errors import ConnectionLost
from pyiwarp.files.errors import PeerSilent

__all__ = ["PerfSession", "Result"]

Result = Bandwidth | Latency | None

TRIES: Final = 10
BETWEEN_TRIES: Final = 0.1
OUT_READS: Final = 128
GRACE: Final = 0.2


class PerfSession:
    """The test of `plan` with one peer; `run_client` or `run_server` does all of it and returns the result.

    `on_ready` is called with the peer's address when both sides are ready to begin, `on_result` with the figures of
    each size.
    Both raise `PeerSilent`, `BadMessage`, or what ended a connection. A server without results of its own returns
    those of the client, if the test has it tell them, or None.
    """

    def __init__(
        self,
        plan: Plan,
        options: Options,
        patience: float,
        on_ready: Callable[[str], None] = lambda peer: None,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> None:
        self._plan = plan
        self._patience = patience
        self._on_ready = on_ready
        self._on_result = on_result
        reads = OUT_READS if plan.test.reads else 0
        self._options = replace(options, ird=0, ord=0)
        self._data_options = replace(options, ird=reads, ord=reads)
        self._out_reads = options.profile.depth(reads) or 1
        self._pd = Context().alloc_pd()
        self._ends: list[Endpoint] = []
        self._record = Record()  # of the first data connection

    async def run_client(self, host: str, port: int) -> Result:
        """Play the client against the server on `host` and `port`."""
        async with self._watched():
            end, link = self._new_control()
            await end.connect(host, port)
            control = Control(link, client=True)
            connections = await self._begin(control)
            for connection in connections:
                await self._connect_data(connection, host, port)
            await self._exchange_memory(control, connections)
            result = await self._finish(control, connections[0], await self._run(control, connections, run_client))
            if self._plan.test is PerfTest.WRITE_LAT:
                # nothing closes this test: a FIN right behind the last Write can overtake the server's last completion
                await self._await_close(connections[0].end, GRACE)
            for other in reversed(self._ends):
                await other.close()
            return result

    async def run_server(self, listener: cm.Listener) -> Result:
        """Play the server for the next client that connects; waits for one as long as it takes."""
        request = await listener.get_request()
        async with self._watched():
            end, link = self._new_control()
            end.accept(request)
            control = Control(link, client=False)
            connections = await self._begin(control)
            for connection in connections:
                self._ends.append(connection.end)
                connection.end.accept(await within(self._patience, listener.get_request(), "the data connection"))
            await self._exchange_memory(control, connections)
            result = await self._finish(control, connections[0], await self._run(control, connections, run_server))
            for other in reversed(self._ends):
                await self._await_close(other, self._options.linger)
                await other.close()
            return result

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[None]:
        """All connections and tasks of the session end with the block."""
        watcher = asyncio.get_running_loop().create_task(watch(self._ends, self._patience))
        try:
            yield
        finally:
            watcher.cancel()
            for end in self._ends:
                end.abort()
            await asyncio.wait({watcher})
            self._pd.close(force=True)

    def _new_control(self) -> tuple[Endpoint, MessageLink]:
        end = Endpoint(self._pd, self._options, depth=2)
        self._ends.append(end)
        return end, MessageLink(end, self._pd, RECORD_SIZE)

    async def _begin(self, control: Control) -> list[DataConnection]:
        """All that comes before the data connections."""
        terms = await control.agree()
        depth = max(self._plan.tx_depth, self._plan.rx_depth, 16)
        make_end = partial(Endpoint, self._pd, self._data_options, depth)
        connections = [DataConnection(self._plan, terms, self._pd, make_end) for _ in range(self._plan.qps)]
        await control.exchange_record(Record())
        return connections

    async def _connect_data(self, connection: DataConnection, host: str, port: int) -> None:
        """Connect, with retries: the server needs a moment to listen again."""
        for attempt in range(1, TRIES + 1):
            end = connection.end if attempt == 1 else connection.fresh_end()
            try:
                await end.connect(host, port)
            except (ConnectionRefusedError, ConnectionLost):
                end.abort()
                if attempt == TRIES:
                    raise
                await asyncio.sleep(BETWEEN_TRIES)
            else:
                self._ends.append(end)
                return

    async def _exchange_memory(self, control: Control, connections: Sequence[DataConnection]) -> None:
        """Both know of the data connections; then each tells where its memory is, as often as this test has it.

        First comes a record for each connection, in the order that they were made in, then each once more, then the
        first again. A test both ways begins with one more, when both are ready.
        """
        await control.exchange_record(Record())
        again = self._plan.test.key_exchanges - 2
        records = {connection: connection.record(secrets.randbits(24), self._out_reads) for connection in connections}
        self._record = records[connections[0]]
        for connection in (*connections, *connections, *[connections[0]] * again):
            connection.set_remote(await control.exchange_record(records[connection]))
        self._on_ready(connections[0].end.peername)

    async def _run(
        self,
        control: Control,
        connections: Sequence[DataConnection],
        side: Callable[[Sequence[DataConnection]], Awaitable[Result]],
    ) -> Result:
        """The test with each size; returns the result of the last.

        A test both ways, and one of Sends, begins when both are ready; with several sizes bandwidth has both tell when
        they are done with each, too.
        """
        plan, result = self._plan, None
        for part in plan.parts:
            for connection in connections:
                connection.begin(part, client=side is run_client)
            if plan.both_ways or plan.test.sends:
                connections[0].set_remote(await control.exchange_record(self._record))
            result = await side(connections)
            if plan.sizes and (plan.both_ways or plan.test is PerfTest.SEND_BW):
                await control.exchange_record(self._record)
            if plan.both_ways:
                assert isinstance(result, Bandwidth), "only bandwidth is measured both ways"
                result += await control.report(result)
            if result is not None:
                self._on_result(result)
        return result

    async def _finish(self, control: Control, connection: DataConnection, result: Result) -> Result:
        """Both are done; where only the client measures bandwidth, the server is told, else each tells the other."""
        test = self._plan.test
        if test is PerfTest.WRITE_LAT:
            return result
        record = connection.record(secrets.randbits(24), self._out_reads)
        if not self._plan.both_ways:
            await control.exchange_record(record)
        if test in (PerfTest.WRITE_BW, PerfTest.READ_BW):
            assert not isinstance(result, Latency), "these are tests of bandwidth"
            if not self._plan.both_ways:
                theirs = await control.report(result)
                if result is None:
                    result = theirs
                    self._on_result(result)
            await control.exchange_record(record)
        return result

    async def _await_close(self, end: Endpoint, seconds: float) -> None:
        """Wait up to `seconds` for the peer to close first: perftest's client reports an error otherwise."""
        with suppress(PeerSilent):
            await within(seconds, end.wait_ended(), "the end of the connection")
