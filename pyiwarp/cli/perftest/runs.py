"""The six tests themselves: what each side does on the data connections once both have the other's records."""

from __future__ import annotations

import asyncio
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from pyiwarp import Access, ProtectionDomain, RegionSlice, RemoteRegion
from pyiwarp.cli.perftest.endpoint import Endpoint
from pyiwarp.cli.perftest.exchange import Record, Terms
from pyiwarp.cli.perftest.figures import Bandwidth, Latency, peak_interval
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.verbs import Completion, Read, Recv, Send, SendRequest, Write

__all__ = ["CREDIT_SIZE", "DataConnection", "Plan", "run_client", "run_server"]

CREDIT_SIZE = 4
CREDIT_GRACE = 200_000_000
"""How long a client that has several sizes waits for the server's last count, in nanoseconds."""

LEAST_ITERATIONS = 5
"""Messages of which latency can be told."""
now = time.perf_counter_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be done; both sides must be given the same test, size, iterations, `rx_depth`, `qps` and `both_ways`.

    On each of `qps` connections so many sends may be underway, posted `post_list` at a time, so many receives are
    posted, and each `cq_mod`-th message asks for a completion. With `both_ways` the server does what the client does.
    With `seconds` the test runs for so long, whatever `iterations` says. `sizes` are the plans for each of several
    sizes, one after the other on the same connections; `size` is the greatest of them then.
    """

    test: PerfTest
    size: int
    iterations: int
    tx_depth: int
    rx_depth: int
    cq_mod: int
    post_list: int = 1
    qps: int = 1
    both_ways: bool = False
    seconds: float | None = None
    sizes: tuple[Plan, ...] = ()

    @property
    def parts(self) -> tuple[Plan, ...]:
        """What is run one after the other."""
        return self.sizes or (self,)


class DataConnection:
    """One side's data connection and memory: `source` is what it sends from and Reads into, `target` is the peer's."""

    def __init__(self, plan: Plan, terms: Terms, pd: ProtectionDomain, make_end: Callable[[], Endpoint]) -> None:
        nbytes = terms.buffer_size(plan.size)
        remote = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
        self.plan = plan
        self.terms = terms
        self.source = pd.register(bytearray(os.urandom(nbytes)))
        self.target = pd.register(bytearray(nbytes), remote)
        self.credit = pd.register(bytearray(CREDIT_SIZE), Access.LOCAL_WRITE | Access.REMOTE_WRITE)
        self.remote = RemoteRegion(0, 0, 0)
        self._make_end = make_end
        self._receives = 0
        self.several_sizes = bool(plan.sizes)
        self.end = self.fresh_end()

    def fresh_end(self) -> Endpoint:
        """An endpoint not yet connected."""
        self.end = self._make_end()
        return self.end

    def begin(self, plan: Plan, *, client: bool) -> None:
        """Get ready for a test of one size: receives are posted where Sends will come, and none is counted."""
        self.plan = plan
        self._receives = 0
        self.credit.view[:] = bytes(CREDIT_SIZE)
        if plan.test is PerfTest.SEND_LAT or (plan.test is PerfTest.SEND_BW and not client):
            for _ in range(plan.rx_depth):
                self.post_receive()

    def record(self, psn: int, out_reads: int) -> Record:
        """What the peer must know; where Sends are counted, it is told where the count goes."""
        memory = self.credit if self.plan.test is PerfTest.SEND_BW else self.target
        return Record(out_reads=out_reads, qpn=self.end.qp.qp_num, psn=psn, rkey=memory.stag, vaddr=memory.to)

    def set_remote(self, record: Record) -> None:
        """Take the peer's record."""
        test = self.plan.test
        self.remote = record.memory(CREDIT_SIZE if test is PerfTest.SEND_BW else self.target.nbytes)

    def local(self, number: int) -> RegionSlice:
        """Where message `number` is sent from or Read into."""
        return RegionSlice(self.source, self.terms.offset(number, self.plan.size), self.plan.size)

    def far(self, number: int) -> RemoteRegion:
        """Where message `number` is in the peer's memory."""
        return self.remote.at(self.terms.offset(number, self.plan.size))

    def post_receive(self) -> None:
        """Post one more receive, if so many messages are still to come."""
        number = self._receives
        if number < self.plan.iterations:
            self._receives += 1
            offset = self.terms.offset(number, self.plan.size)
            self.end.qp.post_recv(Recv((RegionSlice(self.target, offset, self.plan.size),)))


async def run_client(connections: Sequence[DataConnection]) -> Bandwidth | Latency:
    """The client's part."""
    connection = connections[0]
    match connection.plan.test:
        case PerfTest.WRITE_BW | PerfTest.READ_BW:
            return await _stream_on_all(connections)
        case PerfTest.SEND_BW:
            return _bandwidth(connection.plan, [await _stream_on_credit(connection)])
        case PerfTest.WRITE_LAT:
            return await _write_back_and_forth(connection, client=True)
        case PerfTest.READ_LAT:
            return await _read_again_and_again(connection)
        case PerfTest.SEND_LAT:
            return await _send_back_and_forth(connection, client=True)


async def run_server(connections: Sequence[DataConnection]) -> Bandwidth | Latency | None:
    """The server's part; None where only the client measures, and the server has nothing to do but be there."""
    connection = connections[0]
    if connection.plan.both_ways:
        return await _stream_on_all(connections)
    match connection.plan.test:
        case PerfTest.SEND_BW:
            return await _receive_and_give_credit(connection)
        case PerfTest.WRITE_LAT:
            return await _write_back_and_forth(connection, client=False)
        case PerfTest.SEND_LAT:
            return await _send_back_and_forth(connection, client=False)
    return None


# --- bandwidth -------------------------------------------------------------------------------------------------------


class _Times(NamedTuple):
    """Of one connection: when each message was posted, and how many were complete when, in nanoseconds."""

    posted: list[int]
    completed: list[tuple[int, int]]


def _bandwidth(plan: Plan, runs: Sequence[_Times]) -> Bandwidth:
    """The figures of all connections together."""
    if plan.seconds is not None:
        return _within(plan, plan.seconds, runs)
    posted = sorted(at for run in runs for at in run.posted)
    news = sorted(
        (at, count - before)
        for run in runs
        for (before, _), (count, at) in zip([(0, 0), *run.completed], run.completed, strict=False)
    )
    totals = accumulate(count for _, count in news)
    completed = [(total, at) for total, (at, _) in zip(totals, news, strict=True)]
    best = peak_interval(posted, completed)
    return Bandwidth.of(plan.size, len(posted), completed[-1][1] - posted[0], best)


def _within(plan: Plan, seconds: float, runs: Sequence[_Times]) -> Bandwidth:
    """The figures of the middle half of the time, as perftest has them: connections are all under way then."""
    begun = min(run.posted[0] for run in runs)
    first, last = (begun + int(seconds * quarters / 4 * 1e9) for quarters in (1, 3))
    count = 0
    for run in runs:
        counts = [0, *(done for done, _ in run.completed)]
        count += sum(
            done - before for before, (done, at) in zip(counts, run.completed, strict=False) if first < at <= last
        )
    return Bandwidth.of(plan.size, count, last - first)


def _always(sent: int) -> bool:
    return True


async def _stream_on_all(connections: Sequence[DataConnection]) -> Bandwidth:
    """Writes or Reads on every connection at once."""
    make = _read if connections[0].plan.test.reads else _write
    return _bandwidth(
        connections[0].plan, await asyncio.gather(*(_stream(connection, make) for connection in connections))
    )


def _write(connection: DataConnection, number: int, signaled: bool) -> SendRequest:
    return Write((connection.local(number),), connection.far(number), number, signaled=signaled)


def _read(connection: DataConnection, number: int, signaled: bool) -> SendRequest:
    return Read(connection.local(number), connection.far(number), number, signaled=signaled)


def _send(connection: DataConnection, number: int, signaled: bool) -> SendRequest:
    return Send((connection.local(number),), number, signaled=signaled)


async def _stream(
    connection: DataConnection,
    make: Callable[[DataConnection, int, bool], SendRequest],
    may_send: Callable[[int], bool] = _always,
) -> _Times:
    """Keep the send queue full until all is complete; `may_send` is asked of the last message of each list."""
    plan, end = connection.plan, connection.end
    posted: list[int] = []
    completed: list[tuple[int, int]] = []
    done, total = 0, plan.iterations
    over = None if plan.seconds is None else now() + int(plan.seconds * 1e9)
    while done < total:
        if over is not None and now() > over:
            over, total = None, -(-max(len(posted), 1) // plan.cq_mod) * plan.cq_mod  # the last asks for a completion
        stalled = False
        while (sent := len(posted)) < total:
            upto = min(sent + plan.post_list, total)
            if upto > done + plan.tx_depth:
                break
            if stalled := not may_send(upto - 1):
                break
            posted += [now()] * (upto - sent)
            end.qp.post_send_many(
                [
                    make(connection, number, (number + 1) % plan.cq_mod == 0 or number == total - 1)
                    for number in range(sent, upto)
                ]
            )
        for completion in await (_sent_or_not(end) if stalled else end.sent()):
            assert isinstance(completion.wr_id, int), "messages are numbered"
            done = completion.wr_id + 1
            completed.append((done, now()))
    return _Times(posted, completed)


async def _sent_or_not(end: Endpoint) -> list[Completion]:
    """What is complete after one more turn of the loop, in which the peer's credit may have come."""
    end.check_alive()
    await asyncio.sleep(0)
    return end.poll_sent()


async def _stream_on_credit(connection: DataConnection) -> _Times:
    """Sends, as many as the server has receives for: it writes down here how many it has received."""
    word, depth = connection.credit.view, connection.plan.rx_depth

    def may_send(sent: int) -> bool:
        return sent + 1 - int.from_bytes(word, sys.byteorder) < depth

    times = await _stream(connection, _send, may_send)
    if connection.several_sizes:
        await _last_credit(connection)
    return times


async def _last_credit(connection: DataConnection) -> None:
    """Wait a little for the server's last count: behind the next size's beginning it would be taken for one of that."""
    plan, word = connection.plan, connection.credit.view
    last = max(count for count in range(plan.iterations + 1) if _tells_credit(plan, count))
    over = now() + CREDIT_GRACE
    while int.from_bytes(word, sys.byteorder) != last and now() < over:
        await _sent_or_not(connection.end)


def _tells_credit(plan: Plan, count: int) -> bool:
    """Whether the server tells how many messages it has received: three times for each `rx_depth` of them."""
    return count % plan.rx_depth % (plan.rx_depth // 3) == 0


async def _receive_and_give_credit(connection: DataConnection) -> Bandwidth:
    """Take messages, and RDMA Write their count to the client three times per `rx_depth`, in the host's order."""
    plan, end = connection.plan, connection.end
    begun = count = 0
    while count < plan.iterations:
        for _ in await end.received():
            begun = begun or now()
            count += 1
            connection.post_receive()
            if _tells_credit(plan, count):
                _give_credit(end.qp.post_send, connection.remote, count)
    return Bandwidth.of(plan.size, plan.iterations, now() - begun)


def _give_credit(post: Callable[[SendRequest], None], word: RemoteRegion, count: int) -> None:
    octets = (count & 0xFFFF_FFFF).to_bytes(CREDIT_SIZE, sys.byteorder)
    post(Write(inline=octets, remote=word, signaled=False))


# --- latency ---------------------------------------------------------------------------------------------------------


async def _write_back_and_forth(connection: DataConnection, *, client: bool) -> Latency:
    """Each side waits for the last octet of its memory to count up, then Writes; the server Writes first."""
    plan, end = connection.plan, connection.end
    mark, flag = (region.view[plan.size - 1 : plan.size] for region in (connection.source, connection.target))
    posted: list[int] = []
    if not client:
        end.qp.speak_first()
    for number in range(1, plan.iterations + 1):
        await _await_flag(end, flag, number if client else number - 1)
        posted.append(now())
        mark[0] = number & 0xFF
        end.qp.post_send(Write((connection.source[: plan.size],), connection.remote))
        await end.sent()
    if not client:
        await _await_flag(end, flag, plan.iterations)
    return Latency.of(plan.size, posted, ways=2)


async def _await_flag(end: Endpoint, flag: memoryview, number: int) -> None:
    await end.until(lambda: flag[0] == number & 0xFF)


async def _read_again_and_again(connection: DataConnection) -> Latency:
    plan, end = connection.plan, connection.end
    posted: list[int] = []
    over = math.inf if plan.seconds is None else now() + int(plan.seconds * 1e9)
    while len(posted) < plan.iterations and (now() < over or len(posted) < LEAST_ITERATIONS):
        posted.append(now())
        end.qp.post_send(Read(connection.source[: plan.size], connection.remote))
        await end.sent()
    return Latency.of(plan.size, posted, ways=1)


async def _send_back_and_forth(connection: DataConnection, *, client: bool) -> Latency:
    """The client Sends first, and each side when it has received."""
    plan, end = connection.plan, connection.end
    posted: list[int] = []
    for number in range(plan.iterations):
        if number or not client:
            await _take_one(connection)
        posted.append(now())
        end.qp.post_send(Send((connection.source[: plan.size],), signaled=False))
    if client:
        await _take_one(connection)
    return Latency.of(plan.size, posted, ways=2)


async def _take_one(connection: DataConnection) -> None:
    for _ in await connection.end.received():
        connection.post_receive()
