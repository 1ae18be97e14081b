"""`pyiwarp perf -a` and `-D`: all sizes one after the other on the same connections, and a time instead of a count.

The exchange is perftest's: nothing between the sizes of a test that the client alone runs; a record before each size
where both must be ready (Sends, both ways), and one behind each where bandwidth is measured on both sides.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
from dataclasses import replace

import pytest
import typer

from pyiwarp import Options
from pyiwarp.cli.perf import SIZES, make_plan
from pyiwarp.cli.perftest.figures import Bandwidth
from pyiwarp.cli.perftest.names import PerfTest
from pyiwarp.cli.perftest.runs import Plan
from pyiwarp.cli.perftest.session import PerfSession, Result
from pyiwarp.cm import listen as listen_verbs
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.perfscript import listening, server_side
from tests.integration.test_cli import process
from tests.integration.test_cli import run as command
from tests.patience import PATIENCE

__all__ = ["run"]

COUNT = 6
FEW = (2, 64, 8192)


def plans(test: PerfTest, sizes: tuple[int, ...] = FEW, *, both_ways: bool = False) -> Plan:
    parts = tuple(make_plan(test, size, COUNT, both_ways=both_ways) for size in sizes)
    return replace(parts[-1], sizes=parts)


def session(plan: Plan, results: list[Result] | None = None) -> PerfSession:
    got = [] if results is None else results
    return PerfSession(plan, Options(linger=1.0), PATIENCE, on_result=got.append)


BOTH_WAYS = (PerfTest.WRITE_BW, PerfTest.READ_BW)


@pytest.mark.parametrize(
    ("test", "both_ways"), [*((test, False) for test in PerfTest), *((test, True) for test in BOTH_WAYS)]
)
def test_all_sizes_with_ourselves(run: Runner, test: PerfTest, both_ways: bool) -> None:
    async def main() -> None:
        here: list[Result] = []
        there: list[Result] = []
        plan = plans(test, both_ways=both_ways)
        async with await listen_verbs(HOST, 0) as listener:
            served = asyncio.ensure_future(session(plan, there).run_server(listener))
            last = await session(plan, here).run_client(HOST, listener.port)
            await served
        assert [result.size for result in here if result is not None] == list(FEW)
        assert all(result is not None and result.iterations == COUNT for result in here)
        assert last == here[-1]
        of_the_server = {PerfTest.READ_LAT: 0, PerfTest.WRITE_BW: 1, PerfTest.READ_BW: 1}  # is told of the last
        assert len(there) == (len(FEW) if both_ways else of_the_server.get(test, len(FEW)))

    run(main)


def test_sends_of_two_sizes_measured(run: Runner) -> None:
    """A record before each size, and one behind it; the count of receives begins anew."""

    async def main() -> None:
        async with await listening() as listener:
            plan = plans(PerfTest.SEND_BW, (32, 64))
            results: list[Result] = []
            measured = asyncio.ensure_future(session(plan, results).run_client(HOST, listener.port))
            async with server_side(listener, keys=3, size=64, receives=COUNT) as (side, remote):
                for size in (32, 64):
                    assert len(await side.answer(side.own)) == 56
                    for _ in range(COUNT - 1):
                        assert len(await side.lane().recv()) == size
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(side.lane().recv(), 0.1)
                    await side.lane().write((2).to_bytes(4, sys.byteorder), remote)
                    assert len(await side.lane().recv()) == size
                    await side.lane().write((COUNT).to_bytes(4, sys.byteorder), remote)
                    assert len(await side.answer(side.own)) == 56
                assert len(await side.answer(side.own)) == 56  # the end
            await measured
            assert [result.size for result in results if result is not None] == [32, 64]

    run(main)


def test_writes_of_two_sizes_measured(run: Runner) -> None:
    """Nothing is exchanged between them; the last one's figures are reported."""

    async def main() -> None:
        async with await listening() as listener:
            plan = plans(PerfTest.WRITE_BW, (32, 64))
            measured = asyncio.ensure_future(session(plan).run_client(HOST, listener.port))
            async with server_side(listener, keys=3, size=64) as (side, _):
                assert len(await side.answer(side.own)) == 56
                lines = [await side.answer(bytes(8)) for _ in range(5)]
                assert [int.from_bytes(line, "big") for line in lines[:2]] == [64, COUNT]
                assert len(await side.answer(side.own)) == 56
            assert isinstance(await measured, Bandwidth)

    run(main)


def test_writes_of_two_sizes_both_ways_measured(run: Runner) -> None:
    async def main() -> None:
        async with await listening() as listener:
            plan = plans(PerfTest.WRITE_BW, (32, 64), both_ways=True)
            results: list[Result] = []
            measured = asyncio.ensure_future(session(plan, results).run_client(HOST, listener.port))
            async with server_side(listener, keys=3, size=64) as (side, remote):
                for size in (32, 64):
                    assert len(await side.answer(side.own)) == 56
                    await side.lane().write(b"\xa5" * size, remote)
                    assert len(await side.answer(side.own)) == 56
                    lines = [await side.answer(line) for line in (bytes(8), bytes(8), *[struct.pack("!d", 2.0)] * 3)]
                    assert int.from_bytes(lines[0], "big") == size
                assert len(await side.answer(side.own)) == 56
            await measured
            assert [result.size for result in results if result is not None] == [32, 64]

    run(main)


def test_a_and_d_of_the_command() -> None:
    words = ("-a", "-n", "5", "--json")
    with process("perf", "read_lat", "-p", "0", *words) as server:
        place = f"{HOST}:{server.told()['port']}"
        rows = [json.loads(line) for line in command("perf", "read_lat", place, *words).stdout.splitlines()]
        assert [row["size"] for row in rows if row["event"] == "result"] == list(SIZES)
        assert [server.told()["event"] for _ in range(2)] == ["connected", "result"]
        server.ended(0)
    with process("perf", "write_bw", "-p", "0", "-s", "4096", "--json") as server:
        place = f"{HOST}:{server.told()['port']}"
        row = json.loads(command("perf", "write_bw", place, "-s", "4096", "-D", "1", "--json").stdout.splitlines()[-1])
        assert row["iterations"] > 0
        assert row["average"] == pytest.approx(row["iterations"] * 4096 / 0.5 / (1 << 20))  # the middle half
        assert row["peak"] == 0
        server.ended(0)


def test_a_time_for_reads(run: Runner) -> None:
    async def main() -> None:
        plan = make_plan(PerfTest.READ_LAT, seconds=0.05)
        async with await listen_verbs(HOST, 0) as listener:
            served = asyncio.ensure_future(session(plan).run_server(listener))
            result = await session(plan).run_client(HOST, listener.port)
            await served
        assert result is not None
        assert result.iterations >= 5

    run(main)


def test_what_cannot_be_asked_for_together() -> None:
    with pytest.raises(typer.BadParameter, match="-a is all sizes, -s is one"):
        make_plan(PerfTest.WRITE_BW, 64, all_sizes=True)
    with pytest.raises(typer.BadParameter, match="send_bw ends after a number of messages"):
        make_plan(PerfTest.SEND_BW, seconds=1)
    with pytest.raises(typer.BadParameter, match="write_bw both ways ends after a number"):
        make_plan(PerfTest.WRITE_BW, seconds=1, both_ways=True)
    with pytest.raises(typer.BadParameter, match="-D ends the test after a time, -n does not"):
        make_plan(PerfTest.WRITE_BW, iterations=9, seconds=1)
    with pytest.raises(typer.BadParameter, match="-D ends the test after a time, -a does not"):
        make_plan(PerfTest.WRITE_BW, all_sizes=True, seconds=1)


def test_all_sizes_are_perftests() -> None:
    plan = make_plan(PerfTest.WRITE_BW, all_sizes=True)
    assert [part.size for part in plan.parts] == [1 << power for power in range(1, 24)]
    assert plan.size == 1 << 23
    assert [part.cq_mod for part in plan.parts if part.size in (8192, 16384)] == [100, 1]
