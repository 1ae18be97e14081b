"""Domains of XRC, which iWARP has not."""

from __future__ import annotations

from typing import Any, ClassVar

from pyiwarp.pyverbs.base import PyverbsCM, Record, unsupported

__all__ = ["XRCD", "XRCDInitAttr"]


class XRCDInitAttr(Record):
    """What a domain would be made of."""

    FIELDS: ClassVar[dict[str, Any]] = {"comp_mask": 0, "oflags": 0, "fd": 0}


class XRCD(PyverbsCM):
    """A domain of XRC."""

    def __init__(self, context: object, init_attr: XRCDInitAttr) -> None:
        unsupported("Failed to allocate XRC Domain")
