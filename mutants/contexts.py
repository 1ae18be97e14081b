"""A plugin of pytest: tells coverage.py which test runs, and notes how long each took and whether it passed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import coverage
import pytest

from mutants.children import NOW


class Watch:
    """What is known of the tests that have run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """All of one test, its fixtures included."""
        NOW.write_text(item.nodeid)
        if measured := coverage.Coverage.current():
            measured.switch_context(item.nodeid)
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A part of a test has ended."""
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration
        if not report.passed:
            self.failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        """Leave what was noted beside the file that names the test."""
        passed = {name: seconds for name, seconds in self.seconds.items() if name not in self.failed}
        NOW.with_suffix(".json").write_text(json.dumps({"seconds": passed, "failed": sorted(self.failed)}))


def pytest_configure(config: pytest.Config) -> None:
    """Called by pytest when it loads this plugin."""
    config.pluginmanager.register(Watch())
