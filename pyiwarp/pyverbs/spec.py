"""Specifications of flows, which iWARP has not."""

from __future__ import annotations

from pyiwarp.pyverbs.refusals import refusing

__getattr__ = refusing(__name__)
