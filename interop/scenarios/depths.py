"""How many Reads at once: what the two sides settle on, and that as many work (RFC 6581 §9.1)."""

from __future__ import annotations

import asyncio

from interop.peer import Depths, Part, PeerOptions
from interop.stage import Pair, Stage
from pyiwarp import Access

from .data import ALL_RIGHTS, check_done, pattern
from .registry import add

_CASES = (
    (Depths(16, 16), Depths(16, 16)),
    (Depths(1, 1), Depths(1, 1)),
    (Depths(128, 128), Depths(128, 128)),
    (Depths(4, 1), Depths(2, 8)),
    (Depths(16, 16), Depths(2, 2)),
    (Depths(2, 2), Depths(16, 16)),
    (Depths(3, 3), Depths(3, 3)),
    (Depths(0, 0), Depths(0, 0)),
)
_SIZE = 100


async def _settle(stage: Stage, ours: Depths, peers: Depths) -> None:
    """Connect with these depths, compare, and read as many times in each direction as are allowed at once, twice."""
    options = stage.options(ird=ours.ird, ord=ours.ord)
    async with stage.pair(options, peer=PeerOptions(peers)) as pair:
        depth = stage.peer.kind.profile.depth  # what our side asks for of what it was told to
        stage.compare("our ORD", pair.here.agreement.ord, min(depth(ours.ord), peers.ird))
        stage.compare("the peer's ORD", pair.there.depths.ord, min(peers.ord, depth(ours.ird)))
        if ours.ord and peers.ird:
            await _we_read(stage, pair, 2 * pair.here.agreement.ord)
        if peers.ord and ours.ird:
            await _peer_reads(stage, pair, 2 * pair.there.depths.ord)


async def _we_read(stage: Stage, pair: Pair, count: int) -> None:
    source = await stage.peer.register(_SIZE, ALL_RIGHTS)
    await stage.peer.fill(source, 7)
    sinks = [pair.here.register(bytearray(_SIZE)) for _ in range(count)]
    await asyncio.gather(*(pair.here.read(sink[:], source.remote()) for sink in sinks))
    stage.check(all(sink.view == pattern(_SIZE, 7) for sink in sinks), "what our Reads brought is wrong")


async def _peer_reads(stage: Stage, pair: Pair, count: int) -> None:
    count = min(count, 100)
    source = pair.here.register(bytearray(pattern(_SIZE, 8)), Access.REMOTE_READ)
    sink = await stage.peer.register(_SIZE * count, ALL_RIGHTS)
    for number in range(count):
        await pair.there.post_read(number, Part(sink, number * _SIZE, _SIZE), source[:].remote())
    check_done(stage, await pair.there.completions(count), range(count), "its Reads")
    seen = await stage.peer.get(sink, 0, _SIZE * count)
    stage.check(seen == pattern(_SIZE, 8) * count, "what the peer's Reads brought is wrong")


def _register(ours: Depths, peers: Depths) -> None:
    async def run(stage: Stage) -> None:
        await _settle(stage, ours, peers)

    name = f"depths-{ours.ird}-{ours.ord}-and-{peers.ird}-{peers.ord}"
    about = f"IRD {ours.ird} ORD {ours.ord} of ours meet IRD {peers.ird} ORD {peers.ord} of the peer's (RFC 6581 §9.1)"
    add(name, "depths", about, run)


for _ours, _peers in _CASES:
    _register(_ours, _peers)
