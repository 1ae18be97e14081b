"""How a run goes on, and how it ends: errors of a case, the first failure, an interruption."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from pyiwarp.conformance import runner as runner_module
from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.testbench import Bench, Settings
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.results import INTERRUPTED, Report
from pyiwarp.conformance.runner import Runner
from pyiwarp.target.server import Target
from tests.conformance.breakers.generic import SILENT
from tests.hosts import HOST

CASES = select(["MPA-5044-8"])
LIMIT = 5.0  # seconds; an interruption takes a hundredth of it


def case_that(function: Callable[[Bench], Awaitable[None]]) -> Case:
    return replace(CASES[0], run=function)


async def _wrong(bench: Bench) -> None:
    await bench.open()
    bytes([0 - 4])


async def _assertion(bench: Bench) -> None:
    raise AssertionError("the pattern admits frames alone")


async def run(cases: list[Case], *, fail_fast: bool = False) -> Report:
    async with Target(HOST) as target:
        await target.start()
        settings = Settings(port=target.port, timeout=1.0)
        return await Runner(settings, strict=True, fail_fast=fail_fast).run(cases)


@pytest.mark.parametrize(
    ("function", "words"),
    [(_wrong, "ValueError: bytes must be in range(0, 256)"), (_assertion, "AssertionError: the pattern admits")],
)
async def test_an_exception_in_a_case_is_an_error_with_its_traceback(
    function: Callable[[Bench], Awaitable[None]], words: str
) -> None:
    report = await run([*[case_that(function)] * 4, CASES[1]])
    assert not report.abandoned
    assert [result.verdict for result in report.results] == [*[Verdict.ERROR] * 4, Verdict.PASSED]
    result = report.results[0]
    assert words in result.reason
    assert any(f"in {function.__name__}" in line for line in result.octets)
    assert any(function.__name__ in line for line in result.details())
    assert not report.passed


async def test_fail_fast_ends_with_the_first_failure() -> None:
    report = await run([CASES[1], case_that(_wrong), CASES[1]], fail_fast=True)
    assert [result.verdict for result in report.results] == [Verdict.PASSED, Verdict.ERROR]
    assert not report.passed


async def test_what_a_case_has_not_looked_at_is_judged_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def judge_rest(bench: Bench) -> None:
        raise Failed("a good FPDU", "a bad one")

    monkeypatch.setattr(Bench, "judge_rest", judge_rest)
    report = await run([CASES[1]])
    (result,) = report.results
    assert (result.verdict, result.expected, result.seen) == (Verdict.FAILED, "a good FPDU", "a bad one")


async def test_a_case_that_does_not_end_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The peer keeps it waiting: that is no fault of the bench's."""

    async def waiting(bench: Bench) -> None:
        await asyncio.sleep(10 * LIMIT)

    monkeypatch.setattr(runner_module, "PER_CASE", 0.1)
    async with Target(HOST) as target:
        await target.start()
        report = await Runner(Settings(port=target.port, timeout=1.0), strict=True).run([case_that(waiting)])
    (result,) = report.results
    assert (result.verdict, result.expected, result.seen) == (Verdict.FAILED, "an end", "none within 0.1 s")
    assert not report.passed


async def test_an_interruption_ends_the_case_at_hand() -> None:
    begun = asyncio.Event()

    async def waiting(bench: Bench) -> None:
        begun.set()
        await asyncio.sleep(10 * LIMIT)

    async with Target(HOST) as target:
        await target.start()
        runner = Runner(Settings(port=target.port, timeout=10 * LIMIT), strict=True)
        running = asyncio.ensure_future(runner.run([CASES[1], case_that(waiting)]))
        await begun.wait()
        started = time.perf_counter()
        runner.stop()
        report = await running
    assert time.perf_counter() - started < LIMIT
    assert report.abandoned == INTERRUPTED
    assert [result.verdict for result in report.results] == [Verdict.PASSED]


async def test_a_run_that_is_stopped_before_it_begins_runs_nothing() -> None:
    async with Target(HOST) as target:
        await target.start()
        runner = Runner(Settings(port=target.port, timeout=10 * LIMIT), strict=True)
        runner.stop()
        report = await runner.run([CASES[1]])
    assert (report.abandoned, report.results) == (INTERRUPTED, [])


@pytest.mark.parametrize("direction", Direction)
async def test_an_interruption_ends_the_wait_for_a_peer(direction: Direction) -> None:
    async with SILENT.make(Direction.CONNECT) as place:
        port = place.port if direction is Direction.CONNECT else 0
        settings = Settings(direction, Level.BARE, HOST, port, timeout=10 * LIMIT, patience=10 * LIMIT)
        runner = Runner(settings)
        running = asyncio.ensure_future(runner.run(CASES))
        await asyncio.sleep(0.1)
        started = time.perf_counter()
        runner.stop()
        report = await running
    assert time.perf_counter() - started < LIMIT
    assert (report.abandoned, report.results) == (INTERRUPTED, [])


async def test_a_run_that_is_cancelled_is_cancelled() -> None:
    async with SILENT.make(Direction.CONNECT) as place:
        running = asyncio.ensure_future(Runner(Settings(port=place.port, timeout=10 * LIMIT)).run(CASES))
        await asyncio.sleep(0.1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
