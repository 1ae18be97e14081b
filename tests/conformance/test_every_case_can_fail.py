"""No case can only pass: each fails, by its verdict, against a peer that breaks its rule."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import AsyncExitStack

import pytest

from pyiwarp.conformance.bench.abilities import Direction, Level, Need
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.results import Result
from pyiwarp.conformance.runner import Runner
from tests.conformance.breakers import all_breakers
from tests.conformance.peers import Breaker, Patch
from tests.hosts import HOST

TIMEOUT = 0.3  # seconds that a reaction may take: everything is on this machine
QUIET = 0.1
AT_ONCE = 4  # cases; most of their time is waiting

CASES = cases()
BREAKERS = all_breakers()


async def try_case(case: Case, breaker: Breaker, direction: Direction) -> Result:
    """Run one case in `direction` against the broken peer."""
    with pytest.MonkeyPatch.context() as patch:
        if breaker.bends:
            breaker.bends(patch)
        return await meet(case, breaker, direction)


async def meet(case: Case, breaker: Breaker, direction: Direction) -> Result:
    """As `try_case`, when this process is bent already."""
    async with AsyncExitStack() as stack:
        place = await stack.enter_async_context(breaker.make(direction))
        settings = Settings(direction, Level(max(place.level, case.level)), HOST, place.port, TIMEOUT, QUIET)
        settings.patience = TIMEOUT
        settings.needs = set(Need)
        runner = Runner(settings, place.control, strict=True)
        await runner.open()
        stack.callback(runner.close)
        if place.visit is not None:
            settings.reachable_at = await stack.enter_async_context(place.visit(runner.port))
        return await runner.run_case(case)


def meeting(case: Case, breaker: Breaker) -> Direction:
    """A direction that both know."""
    common = sorted(case.directions & breaker.directions)
    assert common, f"{case.id} and {breaker.name!r} never meet"
    return common[0]


def test_every_case_has_a_breaker_and_every_breaker_a_case() -> None:
    assert {case.id for case in CASES} == set(BREAKERS)


async def try_all(chosen: Iterable[Case]) -> dict[str, Result]:
    """Each case against its breaker, some at once where they need the same bend; who does not fail tries once more."""
    groups: dict[Patch | None, list[Case]] = {}
    for case in chosen:
        groups.setdefault(BREAKERS[case.id].bends, []).append(case)
    results: dict[str, Result] = {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def try_one(case: Case) -> None:
        breaker = BREAKERS[case.id]
        async with turns:
            results[case.id] = await meet(case, breaker, meeting(case, breaker))

    for bends, group in groups.items():
        with pytest.MonkeyPatch.context() as patch:
            if bends:
                bends(patch)
            await asyncio.gather(*map(try_one, group))
            for case in group:
                if results[case.id].verdict is not Verdict.FAILED:  # the others may have taken its time
                    await try_one(case)
    return results


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest) -> dict[str, Result]:
    """What became of the cases that are to be tested."""
    chosen = {
        str(item.callspec.id)
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.originalname == "test_it_fails"
    }
    return asyncio.run(try_all(case for case in CASES if case.id in chosen))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_it_fails(case: Case, results: dict[str, Result]) -> None:
    breaker, result = BREAKERS[case.id], results[case.id]
    assert result.verdict is Verdict.FAILED, f"{breaker.name}: {result.verdict} {result.reason}"
    assert result.expected
    assert result.seen
