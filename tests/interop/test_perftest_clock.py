"""perftest that cannot measure its clock is run again; whatever else fails is a failure at once."""

from typing import Any

import pytest

from interop.scenarios import tools
from interop.stage import ScenarioFailed

NO_CLOCK = "ib_send_bw ended with status 1: Correlation coefficient r^2: 0.495074 < 0.9\nCan't produce a report"
STAGE: Any = None  # the exchange, which would use it, is replaced


def exchange(monkeypatch: pytest.MonkeyPatch, *failures: str) -> list[str]:
    """The exchange fails with these, then goes well; gives the runs that were made."""
    left, runs = list(failures), []

    async def once(stage: object, test: str, count: int, size: int) -> None:
        runs.append(test)
        if left:
            raise ScenarioFailed(left.pop(0))

    monkeypatch.setattr(tools, "_perftest_once", once)
    return runs


async def test_a_clock_that_was_not_measured_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = exchange(monkeypatch, NO_CLOCK, NO_CLOCK)
    await tools._perftest(STAGE, "send_bw", 100, 20_000)
    assert len(runs) == 3


async def test_it_is_one_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = exchange(monkeypatch, *[NO_CLOCK] * 100)
    with pytest.raises(ScenarioFailed, match="Correlation"):
        await tools._perftest(STAGE, "send_bw", 100, 20_000)
    assert len(runs) == tools._CLOCK_TRIES


async def test_any_other_failure_is_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = exchange(monkeypatch, "ib_send_bw ended with status 1: Completion with error")
    with pytest.raises(ScenarioFailed, match="Completion with error"):
        await tools._perftest(STAGE, "send_bw", 100, 20_000)
    assert len(runs) == 1
