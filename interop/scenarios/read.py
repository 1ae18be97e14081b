"""Reads of every size, from every offset, as many at once as are allowed and more (RFC 5040 §5.2)."""

from __future__ import annotations

import asyncio

from interop.peer import Depths, Part, PeerOptions
from interop.stage import Stage, cause
from pyiwarp import Access, Connection, Options, RegionSlice, RemoteRegion
from pyiwarp.codes import Opcode

from .data import ALL_RIGHTS, LARGE, SLACK, check_done, check_memory, pattern, sizes
from .registry import LIMIT, scenario

_HEADER = 14  # of a tagged segment (RFC 5041 §4.2)
_OFFSETS = (0, 1, 7, 63)


async def _read_sizes(stage: Stage, options: Options) -> None:
    async with stage.pair(options) as pair:
        there = await stage.peer.register(LARGE + SLACK, ALL_RIGHTS)
        await stage.peer.fill(there, 30)
        whole = pattern(LARGE + SLACK, 30)
        memory = bytearray(LARGE + SLACK)
        sink = pair.here.register(memory)
        mulpdu = pair.here.qp.stream.mulpdu
        for number, size in enumerate(sizes(mulpdu, _HEADER)):
            offset = _OFFSETS[number % len(_OFFSETS)]
            memory[:] = bytes(len(memory))
            await pair.here.read(RegionSlice(sink, 5, size), there.remote(offset))
            wanted = bytes(5) + whole[offset : offset + size] + bytes(LARGE + SLACK - 5 - size)
            stage.check(memory == wanted, f"our Read of {size} octets from offset {offset} brought something else")
        source = pair.here.register(bytearray(pattern(LARGE + SLACK, 31)), Access.REMOTE_READ)
        for number, size in enumerate(sizes(mulpdu, _HEADER)):
            offset = _OFFSETS[number % len(_OFFSETS)]
            part = Part(there, 3, size) if size else None
            await pair.there.post_read(number, part, source[offset:].remote())
            check_done(stage, await pair.there.completions(1), [number], f"its Read of {size} octets")
            await check_memory(stage, there, 3, pattern(LARGE + SLACK, 31)[offset : offset + size], "its Read")


@scenario("read", timeout=2 * LIMIT)
async def read_sizes(stage: Stage) -> None:
    """Reads of 0, 1, MULPDU-1, MULPDU, MULPDU+1 and 2^20 octets at odd offsets, both ways (RFC 5040 §5.2)."""
    await _read_sizes(stage, stage.options())


@scenario("read", timeout=2 * LIMIT)
async def read_sizes_ethernet(stage: Stage) -> None:
    """The same with FPDUs for segments of 1448 octets (RFC 5044 §4.5)."""
    await _read_sizes(stage, stage.options(mulpdu=1442))


@scenario("read")
async def read_many(stage: Stage) -> None:
    """Three hundred Reads in flight or waiting, both ways at once (RFC 5040 §5.5)."""
    count, size = 100, 700
    async with stage.pair() as pair:
        there = await stage.peer.register(count * size, ALL_RIGHTS)
        await stage.peer.fill(there, 32)
        memory = bytearray(count * size)
        sink = pair.here.register(memory)
        ours = pattern(count * size, 33)
        source = pair.here.register(bytearray(ours), Access.REMOTE_READ)
        back = await stage.peer.register(count * size, ALL_RIGHTS)
        for _ in range(3):
            memory[:] = bytes(len(memory))
            posts = [
                pair.there.post_read(n, Part(back, n * size, size), source[n * size :].remote()) for n in range(count)
            ]
            reads = [
                pair.here.read(sink[n * size : (n + 1) * size], there.remote(n * size)) for n in reversed(range(count))
            ]
            await asyncio.gather(*posts, *reads)
            stage.check(memory == pattern(count * size, 32), "our Reads brought something else")
            check_done(stage, await pair.there.completions(count), range(count), "its Reads")
            await check_memory(stage, back, 0, ours, "its Reads")


@scenario("read")
async def read_at_the_limit(stage: Stage) -> None:
    """With an ORD of 2 each way no side has more than two Reads outstanding (RFC 5040 §6.1)."""
    await _within_the_limit(stage, 2)


@scenario("read")
async def read_at_an_odd_limit(stage: Stage) -> None:
    """The same with an ORD of 3 (RFC 5040 §6.1)."""
    await _within_the_limit(stage, 3)


async def _within_the_limit(stage: Stage, limit: int) -> None:
    count, size = 12, 60_000  # long enough for more Requests to come before the first answer has gone
    options = stage.options(ird=limit, ord=limit, profile=stage.peer.kind.profile)
    async with stage.pair(options, peer=PeerOptions(Depths(limit, limit))) as pair:
        there = await stage.peer.register(count * size, ALL_RIGHTS)
        await stage.peer.fill(there, 34)
        sink = pair.here.register(bytearray(count * size))
        await asyncio.gather(
            *(pair.here.read(sink[n * size : (n + 1) * size], there.remote(n * size)) for n in range(count))
        )
        stage.check(sink.view == pattern(count * size, 34), "our Reads brought something else")
        source = pair.here.register(bytearray(pattern(count * size, 35)), Access.REMOTE_READ)
        await asyncio.gather(
            *(pair.there.post_read(n, Part(there, n * size, size), source[n * size :].remote()) for n in range(count))
        )
        done = await pair.there.completions(count)
        good = [each.wr_id for each in done if each.ok] == [*range(count)]
        stage.compare("the peer's Reads", "done" if good else cause(pair.here.close_reason), "done")
        if good:
            await check_memory(stage, there, 0, pattern(count * size, 35), "its Reads")
    agreed = pair.here.agreement.ord
    stage.check(_most_outstanding(stage) <= agreed, f"we had more than {agreed} Reads outstanding")


def _most_outstanding(stage: Stage) -> int:
    """The most Read Requests of our side that had no whole answer at one time."""
    most = outstanding = 0
    for frame in stage.frames():
        if frame.opcode == Opcode.READ_REQUEST and frame.sent:
            outstanding += 1
            most = max(most, outstanding)
        elif frame.opcode == Opcode.READ_RESPONSE and not frame.sent and frame.last:
            outstanding -= 1
    return most


@scenario("read")
async def read_nothing_from_nowhere(stage: Stage) -> None:
    """Reads without octets name no memory (RFC 5040 §5.2.1)."""
    nowhere = RemoteRegion(0, 0x0123_4567, 0)
    async with stage.pair() as pair:
        await _read_nothing(pair.here, nowhere)
        await pair.there.post_read(1, None, nowhere)
        check_done(stage, await pair.there.completions(1), [1], "its Read")


async def _read_nothing(connection: Connection, remote: RemoteRegion) -> None:
    sink = connection.register(bytearray(1))
    await connection.read(RegionSlice(sink, 0, 0), remote)


@scenario("read", alone=True)
async def read_nothing_behind_another(stage: Stage) -> None:
    """A Read without octets behind one with octets (RFC 5040 §5.2.1)."""
    async with stage.pair() as pair:
        size = 200_000  # the first is still being answered when the second comes
        there = await stage.peer.register(size, ALL_RIGHTS)
        await stage.peer.fill(there, 36)
        sink = pair.here.register(bytearray(size))
        first = asyncio.ensure_future(pair.here.read(sink[:], there.remote()))
        second = asyncio.ensure_future(_read_nothing(pair.here, there.remote(0, 0)))
        results = await asyncio.gather(first, second, return_exceptions=True)
        failed = [type(result).__name__ for result in results if result is not None]
        stage.compare("the two Reads", ", ".join(failed) or "done", "done")


@scenario("read")
async def read_behind_write(stage: Stage) -> None:
    """A Read sees what a Write before it wrote (RFC 5040 §5.5)."""
    async with stage.pair() as pair:
        there = await stage.peer.register(5000, ALL_RIGHTS)
        sink = pair.here.register(bytearray(5000))
        for seed in range(20):
            write = asyncio.ensure_future(pair.here.write(pattern(5000, seed), there.remote()))
            await asyncio.sleep(0)  # the Write is posted
            await pair.here.read(sink[:], there.remote())
            await write
            stage.check(sink.view == pattern(5000, seed), f"Read {seed} brought older octets")
