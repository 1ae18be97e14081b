"""Waits that end: what a peer owes comes in time, or the wait says what was due."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from pyiwarp.cli.faults import PeerSilent

__all__ = ["within"]

T = TypeVar("T")


async def within(seconds: float, work: Awaitable[T], due: str) -> T:
    """What `work` gives; raises `PeerSilent`, which names what was `due`, after `seconds`."""
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await work
    except TimeoutError:
        if limit.expired():
            raise PeerSilent(f"{due} did not come within {seconds:g} s") from None
        raise
