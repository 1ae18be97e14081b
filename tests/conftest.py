"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("pyiwarp", deadline=None)  # a busy machine is no finding
settings.load_profile("pyiwarp")
