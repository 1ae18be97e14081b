"""The peers of the matrix: this stack itself, and the kinds of Linux siw."""

from __future__ import annotations

from interop.peer import PeerKind

from . import pyiwarp, siw

__all__ = ["ALL"]

ALL: dict[str, PeerKind] = {kind.name: kind for kind in (pyiwarp.KIND, *siw.KINDS)}
