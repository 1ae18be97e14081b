"""Writes of every size, to every offset, many at once (RFC 5040 §5.1)."""

from __future__ import annotations

import asyncio
import random
import zlib

from interop.peer import Part
from interop.stage import Pair, Stage
from pyiwarp import Access, Options, RegionSlice, RemoteRegion

from .data import ALL_RIGHTS, LARGE, PAGE, SHORT, SLACK, check_done, check_memory, pattern, sizes
from .registry import LIMIT, scenario

_HEADER = 14  # of a tagged segment (RFC 5041 §4.2)
_OFFSETS = (0, 1, 7, 63)
_REMOTE_WRITE = Access.LOCAL_WRITE | Access.REMOTE_WRITE


async def _write_sizes(stage: Stage, options: Options) -> None:
    async with stage.pair(options) as pair:
        there = await stage.peer.register(LARGE + SLACK, ALL_RIGHTS)
        mulpdu = pair.here.qp.stream.mulpdu
        for number, size in enumerate(sizes(mulpdu, _HEADER)):
            offset = _OFFSETS[number % len(_OFFSETS)]
            await pair.here.write(pattern(size, number), there.remote(offset))
            await flush(pair, there.remote())
            await check_memory(stage, there, offset, pattern(size, number), "our Write")
        memory = bytearray(LARGE + SLACK)
        region = pair.here.register(memory, _REMOTE_WRITE)
        await stage.peer.fill(there, 20)
        whole = pattern(LARGE + SLACK, 20)
        for number, size in enumerate(sizes(mulpdu, _HEADER)):
            offset = _OFFSETS[number % len(_OFFSETS)]
            memory[:] = bytes(len(memory))
            part = Part(there, 5, size) if size else None
            await pair.there.post_write(number, part, region[offset:].remote())
            await peer_flush(stage, pair, number)
            wanted = bytes(offset) + whole[5 : 5 + size] + bytes(LARGE + SLACK - offset - size)
            stage.check(memory == wanted, f"the peer's Write of {size} octets to offset {offset} arrived changed")


async def flush(pair: Pair, remote: RemoteRegion) -> None:
    """Wait until the peer has placed what was written: a Read behind it has its answer (RFC 5040 §5.5)."""
    sink = pair.here.register(bytearray(1))
    await pair.here.read(RegionSlice(sink, 0, 1), remote)


async def peer_flush(stage: Stage, pair: Pair, *numbers: int) -> None:
    """Wait until our side has placed what the peer wrote: a Send behind it was received (RFC 5040 §5.5)."""
    await pair.there.post_send(9999, None)
    await pair.here.recv()
    check_done(stage, await pair.there.completions(len(numbers) + 1), [*numbers, 9999], "its Writes and a Send")


@scenario("write", timeout=2 * LIMIT)
async def write_sizes(stage: Stage) -> None:
    """Writes of 0, 1, MULPDU-1, MULPDU, MULPDU+1 and 2^20 octets at odd offsets, both ways (RFC 5041 §5.2)."""
    await _write_sizes(stage, stage.options())


@scenario("write", timeout=2 * LIMIT)
async def write_sizes_ethernet(stage: Stage) -> None:
    """The same with FPDUs for segments of 1448 octets (RFC 5044 §4.5)."""
    await _write_sizes(stage, stage.options(mulpdu=1442))


@scenario("write")
async def write_nothing_to_nowhere(stage: Stage) -> None:
    """Writes without octets name no memory: their STag is not looked at (RFC 5041 §5.2)."""
    nowhere = RemoteRegion(0, 0x0123_4567, 0)
    async with stage.pair() as pair:
        there = await stage.peer.register(100, ALL_RIGHTS)
        await pair.here.write(b"", nowhere)
        await flush(pair, there.remote())
        await pair.there.post_write(1, None, nowhere)
        await peer_flush(stage, pair, 1)


@scenario("write")
async def write_many(stage: Stage) -> None:
    """Hundreds of Writes of all sizes at once, both ways (RFC 5040 §5.5)."""
    count, room = 100, 64 * 1024
    chance = random.Random(5)
    async with stage.pair() as pair:
        there = await stage.peer.register(room, ALL_RIGHTS)
        source = await stage.peer.register(room, ALL_RIGHTS)
        await stage.peer.fill(source, 21)
        memory, ours = bytearray(room), pattern(room, 22)
        region = pair.here.register(memory, _REMOTE_WRITE)
        model_here, model_there = bytearray(room), bytearray(room)
        for _ in range(3):
            mine = [_piece(chance, room) for _ in range(count)]
            theirs = [_piece(chance, room) for _ in range(count)]
            posts = [
                pair.there.post_write(number, Part(source, start, size), region[start:].remote())
                for number, (start, size) in enumerate(theirs)
            ]
            writes = [pair.here.write(ours[start : start + size], there.remote(start)) for start, size in mine]
            await asyncio.gather(*posts, *writes)
            await flush(pair, there.remote())
            await peer_flush(stage, pair, *range(count))
            for start, size in mine:
                model_there[start : start + size] = ours[start : start + size]
            for start, size in theirs:
                model_here[start : start + size] = pattern(room, 21)[start : start + size]
            stage.check(memory == model_here, "the peer's Writes were not placed as they were sent")
            seen = await stage.peer.digest(there)
            stage.check(seen == zlib.crc32(model_there), "our Writes were not placed as they were sent")


@scenario("write")
async def short_across_pages(stage: Stage) -> None:
    """Short Writes, Sends and Read Responses of a busy peer's, from memory that crosses the end of a page."""
    sizes = range(2, SHORT + 1, 2)
    async with stage.pair(stage.options(recv_depth=len(sizes))) as pair:
        source = await stage.peer.register(2 * PAGE, ALL_RIGHTS)
        await stage.peer.fill(source, 23)
        bulk = await stage.peer.register(LARGE, ALL_RIGHTS)
        region = pair.here.register(bytearray(LARGE), _REMOTE_WRITE)
        parts = [Part(source, PAGE - 1 - size // 4, size) for size in sizes]
        wanted = [pattern(2 * PAGE, 23)[part.offset : part.offset + part.length] for part in parts]
        await asyncio.gather(  # what is posted behind so much is not sent by the one who posts it
            *(pair.there.post_write(number, Part(bulk, 0, LARGE), region[:].remote()) for number in range(3)),
            *(pair.there.post_write(10, part, region[n * SHORT :].remote()) for n, part in enumerate(parts)),
            *(pair.there.post_send(20, part) for part in parts),
        )
        sent = [await pair.here.recv() for _ in sizes]
        written = [bytes(region.view[n * SHORT :][: len(each)]) for n, each in enumerate(wanted)]
        done = await pair.there.completions(3 + 2 * len(sizes))
        stage.check(len(done) == 3 + 2 * len(sizes) and all(each.ok for each in done), f"it completed as {done}")
        for n, part in enumerate(parts):
            sink = region[n * SHORT : n * SHORT + part.length]
            await pair.here.read(sink, source.remote(part.offset, part.length))
        read = [bytes(region.view[n * SHORT :][: len(each)]) for n, each in enumerate(wanted)]
        for kind, seen in (("Writes", written), ("Sends", sent), ("Read Responses", read)):
            stage.compare(f"short {kind} of the peer's", "whole" if seen == wanted else "damaged", "whole")


def _piece(chance: random.Random, room: int) -> tuple[int, int]:
    size = chance.choice((1, 2, 3, 61, 500, 1435, 1436, 1437, 5000))
    return chance.randrange(room - size), size
