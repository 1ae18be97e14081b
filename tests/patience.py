"""How long tests wait."""

from __future__ import annotations

from typing import Final

PATIENCE: Final = 60.0
"""Seconds that something which works may take before its test fails: long beside what it takes on a busy machine."""
