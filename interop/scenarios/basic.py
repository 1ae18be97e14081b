"""One of each operation, for peers that differ from others in startup alone."""

from __future__ import annotations

from interop.peer import Can, Part, PeerOptions
from interop.stage import Stage
from pyiwarp import Access

from .data import ALL_RIGHTS, check_done, check_memory, exchange, pattern
from .registry import scenario

_SIZE = 3000


@scenario("basic")
async def basic_send_and_write(stage: Stage) -> None:
    """A Send and a Write each way (RFC 5040 §5.1, §5.3)."""
    memory = bytearray(_SIZE)
    async with stage.pair() as pair:
        region = pair.here.register(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE)
        there = await stage.peer.register(_SIZE, ALL_RIGHTS)
        await pair.here.write(pattern(_SIZE, 1), there.remote())
        await exchange(stage, pair)
        await check_memory(stage, there, 0, pattern(_SIZE, 1), "a Write of ours")
        await stage.peer.fill(there, 2)
        await pair.there.post_write(1, Part(there, 0, _SIZE), region[:].remote())
        check_done(stage, await pair.there.completions(1), [1], "its Write")
        await exchange(stage, pair)
        stage.check(memory == pattern(_SIZE, 2), "a Write of the peer's arrived changed")


@scenario("basic")
async def basic_read(stage: Stage) -> None:
    """A Read each way (RFC 5040 §5.2)."""
    async with stage.pair() as pair:
        there = await stage.peer.register(_SIZE, ALL_RIGHTS)
        await stage.peer.fill(there, 3)
        sink = pair.here.register(bytearray(_SIZE))
        await pair.here.read(sink[:], there.remote())
        stage.check(sink.view == pattern(_SIZE, 3), "what our Read brought is wrong")
        source = pair.here.register(bytearray(pattern(_SIZE, 4)), Access.REMOTE_READ)
        await pair.there.post_read(1, Part(there, 0, _SIZE), source[:].remote())
        check_done(stage, await pair.there.completions(1), [1], "its Read")
        await check_memory(stage, there, 0, pattern(_SIZE, 4), "the peer's Read")


@scenario("basic", connecting_needs=Can.CONNECT_REVISION_1)
async def basic_revision_1(stage: Stage) -> None:
    """Sends both ways on a connection of revision 1, ten times (RFC 5044)."""
    async with stage.pair(stage.options(revision=1), peer=PeerOptions(revision=1)) as pair:
        for size in range(1, 1001, 100):
            await exchange(stage, pair, size)
