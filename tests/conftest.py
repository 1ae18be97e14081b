"""What holds for all tests."""

from __future__ import annotations

import gc
import os

from hypothesis import Phase, settings

from tests.limits import (
    pytest_configure,
    pytest_runtest_call,
    pytest_runtest_setup,
    pytest_runtest_teardown,
    pytest_timeout_cancel_timer,
    pytest_timeout_set_timer,
    pytest_unconfigure,
)

__all__ = [
    "pytest_collection_finish",
    "pytest_configure",
    "pytest_runtest_call",
    "pytest_runtest_setup",
    "pytest_runtest_teardown",
    "pytest_timeout_cancel_timer",
    "pytest_timeout_set_timer",
    "pytest_unconfigure",
]

settings.register_profile("pyiwarp", deadline=None)  # a busy machine is no finding
# where it matters alone that a test fails, as for a breakage made on purpose, the smallest example is not looked for
settings.register_profile("unshrunk", deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
settings.load_profile(os.environ.get("PYIWARP_HYPOTHESIS", "pyiwarp"))


def pytest_collection_finish() -> None:
    """Tests look for what they leave with `gc.collect`, which need not go through all tests and modules each time."""
    gc.collect()
    gc.freeze()
