"""What several scenarios move, and how they look at it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from interop.peer import Done, Part, PeerRegion
from interop.siw.verbs import pattern
from interop.stage import Pair, Stage
from pyiwarp import Access

__all__ = [
    "ALL_RIGHTS",
    "LARGE",
    "PAGE",
    "SHORT",
    "SLACK",
    "check_done",
    "check_memory",
    "exchange",
    "pattern",
    "sizes",
]

LARGE = 1 << 20
SLACK = 64
PAGE = 4096
SHORT = 64
"""Octets that a peer may send in another way than longer messages."""

ALL_RIGHTS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
"""What a region grants unless the scenario is about rights."""

ETHERNET_MULPDU = 1450
"""The MULPDU of a peer behind TCP segments of 1460 octets that keeps to multiples of eight, as siw does."""


def sizes(mulpdu: int, header: int) -> list[int]:
    """Message sizes around the limits of one FPDU, ours and the peer's, and a large one."""
    around = {limit - header + more for limit in (mulpdu, ETHERNET_MULPDU) for more in (-1, 0, 1)}
    return [0, 1, *sorted(around), LARGE]


async def check_memory(stage: Stage, region: PeerRegion, offset: int, wanted: bytes, what: str) -> None:
    """The peer's memory holds `wanted`."""
    seen = await stage.peer.digest(region, offset, len(wanted))
    stage.check(seen == zlib.crc32(wanted), f"{what}: {len(wanted)} octets in the peer's memory are not those sent")


def check_done(stage: Stage, done: Iterable[Done], wanted: Iterable[int], what: str) -> None:
    """Work of the peer completed well, all of it, in order."""
    done = list(done)
    stage.check(
        all(each.ok for each in done) and [each.wr_id for each in done] == list(wanted),
        f"{what}: the peer's work completed as {done}",
    )


async def exchange(stage: Stage, pair: Pair, size: int = 500) -> None:
    """The shortest proof that a connection works: a Send there and a Send back."""
    sent, received = await stage.peer.register(size, ALL_RIGHTS), await stage.peer.register(size, ALL_RIGHTS)
    await stage.peer.fill(sent, 2)
    await pair.there.post_receive(900, received)
    await pair.here.send(pattern(size, 1))
    done = await pair.there.completions(1)
    check_done(stage, done, [900], "a Send of ours")
    await check_memory(stage, received, 0, pattern(size, 1), "a Send of ours")
    await pair.there.post_send(901, Part(sent, 0, size))
    stage.check(await pair.here.recv() == pattern(size, 2), "a Send of the peer's arrived changed")
    check_done(stage, await pair.there.completions(1), [901], "its own Send")
