"""Against rping as it is, client and server, every case of the levels bare and rping passes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

import pyiwarp
from pyiwarp.cli.rping.protocol import Pinger, answer_pings
from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.results import Report
from pyiwarp.conformance.runner import Runner
from tests.patience import PATIENCE

HOST = "127.0.0.1"


def check(report: Report) -> None:
    assert not report.abandoned
    bad = [line for result in report.results if result.verdict.bad for line in result.details()]
    assert not bad, "\n".join(bad)
    assert report.counts[Verdict.PASSED] >= 40
    assert report.counts[Verdict.SKIPPED] > 0


async def test_the_server() -> None:
    async def answer(connection: pyiwarp.Connection) -> None:
        with suppress(pyiwarp.IwarpError):
            await answer_pings(connection, PATIENCE, lambda ping: None)

    async with await pyiwarp.serve(answer, HOST, 0) as server:
        check(await Runner(Settings(Direction.CONNECT, Level.RPING, HOST, server.port), strict=True).run(cases()))


async def talks(connection: pyiwarp.Connection) -> None:
    """Sends, and is not the least bit silent."""
    while True:
        await connection.send(b"hello")
        await asyncio.sleep(0.005)


async def pings(connection: pyiwarp.Connection) -> None:
    await Pinger(connection, 64, PATIENCE).ping(0, verify=False)


@pytest.mark.parametrize("client", [pings, talks])
async def test_a_client_at_the_level_bare_need_not_be_silent(
    client: Callable[[pyiwarp.Connection], Awaitable[None]],
) -> None:
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    runner = Runner(Settings(Direction.LISTEN, Level.BARE, HOST, 0), strict=True, listening=port.set_result)

    async def connect_again_and_again() -> None:
        there = await port
        while True:
            await asyncio.sleep(0)
            with suppress(pyiwarp.IwarpError, OSError):
                async with await pyiwarp.connect(HOST, there) as connection:
                    await client(connection)

    connecting = asyncio.ensure_future(connect_again_and_again())
    try:
        check(await runner.run(cases()))
    finally:
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)


@pytest.mark.parametrize("markers", [False, True], ids=["plain", "markers"])
async def test_the_client(markers: bool) -> None:
    options = pyiwarp.Options(markers=markers)
    runner = Runner(Settings(Direction.LISTEN, Level.RPING, HOST, 0), strict=True)

    async def ping_again_and_again() -> None:
        while True:
            await asyncio.sleep(0)
            with suppress(pyiwarp.IwarpError, OSError):
                async with await pyiwarp.connect(HOST, runner.port, options=options) as connection:
                    await Pinger(connection, 64, PATIENCE).ping(0, verify=False)

    pinging = asyncio.ensure_future(ping_again_and_again())
    try:
        check(await runner.run(cases()))
    finally:
        pinging.cancel()
        await asyncio.gather(pinging, return_exceptions=True)
