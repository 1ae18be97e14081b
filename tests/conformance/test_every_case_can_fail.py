"""No case can only pass: each fails, by its verdict, against a peer that breaks its rule."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from pyiwarp.conformance.case import Case, Direction, Level, Need, Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.results import Result
from pyiwarp.conformance.runner import Runner
from pyiwarp.conformance.testbench import Settings
from tests.conformance.breakers import all_breakers
from tests.conformance.peers import HOST, Breaker

TIMEOUT = 0.3  # seconds that a reaction may take: everything is on this machine
QUIET = 0.1

CASES = cases()
BREAKERS = all_breakers()


async def try_case(case: Case, breaker: Breaker, direction: Direction) -> Result:
    """Run one case in `direction` against the broken peer."""
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        place = await stack.enter_async_context(breaker.make(direction, patch))
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


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
async def test_it_fails(case: Case) -> None:
    breaker = BREAKERS[case.id]
    result = await try_case(case, breaker, meeting(case, breaker))
    assert result.verdict is Verdict.FAILED, f"{breaker.name}: {result.verdict} {result.reason}"
    assert result.expected
    assert result.seen
