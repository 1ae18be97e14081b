"""Against the target program as it is every case passes, in both directions."""

from __future__ import annotations

import pytest

from pyiwarp.conformance.case import Direction, Level, Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.runner import Runner
from pyiwarp.conformance.testbench import Settings
from pyiwarp.target.server import Target

FINE = {Verdict.PASSED, Verdict.SKIPPED}


@pytest.mark.parametrize("direction", [*Direction])
async def test_everything_passes(direction: Direction) -> None:
    async with Target("127.0.0.1") as target:
        await target.start()
        port = target.port if direction is Direction.CONNECT else 0
        settings = Settings(direction, Level.TARGET, "127.0.0.1", port)
        report = await Runner(settings, ("127.0.0.1", target.control_port), strict=True).run(cases())
    assert not report.abandoned
    assert report.passed
    bad = [line for result in report.results if result.verdict not in FINE for line in result.story()]
    assert not bad, "\n".join(bad)
