"""Completion counters, which there are none of."""

from __future__ import annotations

from pyiwarp.pyverbs.refusals import refusing

__getattr__ = refusing(__name__)
