"""Against the target program as it is every case passes, in both directions."""

from __future__ import annotations

import asyncio

from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.results import Report
from pyiwarp.conformance.runner import Runner
from pyiwarp.target.server import Target

FINE = {Verdict.PASSED, Verdict.SKIPPED}


async def report_in(direction: Direction) -> Report:
    async with Target("127.0.0.1") as target:
        await target.start()
        port = target.port if direction is Direction.CONNECT else 0
        settings = Settings(direction, Level.TARGET, "127.0.0.1", port)
        return await Runner(settings, ("127.0.0.1", target.control_port), strict=True).run(cases())


async def test_everything_passes() -> None:
    ran = set()
    for report in await asyncio.gather(*map(report_in, Direction)):  # most of the time is waiting
        assert not report.abandoned
        assert report.passed
        bad = [line for result in report.results if result.verdict not in FINE for line in result.details()]
        assert not bad, f"the bench is to {report.direction}:\n" + "\n".join(bad)
        ran |= {result.case.id for result in report.results if result.verdict is Verdict.PASSED}
    assert ran == {case.id for case in cases()}
