"""Memory that devices of a bus share, which there is none of."""

from __future__ import annotations

from pyiwarp.pyverbs.refusals import refusing

__getattr__ = refusing(__name__)
