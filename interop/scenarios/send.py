"""Sends of every size and kind (RFC 5040 §5.3)."""

from __future__ import annotations

import asyncio
import zlib

from interop.peer import Can, Part, PeerRegion, numbers
from interop.stage import PATIENCE, Pair, Stage, end_of
from pyiwarp import Access, Options

from .data import ALL_RIGHTS, LARGE, SLACK, check_done, check_memory, pattern, sizes
from .registry import LIMIT, scenario

_HEADER = 18  # of an untagged segment (RFC 5041 §4.3)
_ODD = 3


async def _send_sizes(stage: Stage, options: Options) -> None:
    async with stage.pair(options) as pair:
        region = await stage.peer.register(LARGE + SLACK, ALL_RIGHTS)
        for number, size in enumerate(sizes(pair.here.qp.stream.mulpdu, _HEADER)):
            await _we_send(stage, pair, region, number, size)
        await stage.peer.fill(region, 9)
        whole = pattern(LARGE + SLACK, 9)
        for number, size in enumerate(sizes(pair.here.qp.stream.mulpdu, _HEADER)):
            await pair.there.post_send(number, Part(region, _ODD, size) if size else None)
            data = await pair.here.recv()
            stage.check(data == whole[_ODD : _ODD + size], f"the peer's Send of {size} octets arrived changed")
            check_done(stage, await pair.there.completions(1), [number], f"its Send of {size} octets")


async def _we_send(stage: Stage, pair: Pair, region: PeerRegion, number: int, size: int) -> None:
    await pair.there.post_receive(number, region, _ODD, size + 1)
    await pair.here.send(pattern(size, number))
    done = await pair.there.completions(1)
    check_done(stage, done, [number], f"our Send of {size} octets")
    stage.check(done[0].nbytes == size, f"our Send of {size} octets came as {done[0].nbytes}")
    await check_memory(stage, region, _ODD, pattern(size, number), "our Send")


def _roomy(stage: Stage, **changes: object) -> Options:
    return stage.options(recv_size=LARGE + SLACK, recv_depth=2, **changes)


@scenario("send", timeout=2 * LIMIT)
async def send_sizes(stage: Stage) -> None:
    """Sends of 0, 1, MULPDU-1, MULPDU, MULPDU+1 and 2^20 octets, FPDUs as large as TCP likes them (RFC 5041 §5.2)."""
    await _send_sizes(stage, _roomy(stage))


@scenario("send", timeout=2 * LIMIT)
async def send_sizes_ethernet(stage: Stage) -> None:
    """The same with FPDUs for segments of 1448 octets (RFC 5044 §4.5)."""
    await _send_sizes(stage, _roomy(stage, mulpdu=1442))


@scenario("send", timeout=2 * LIMIT)
async def send_sizes_smallest(stage: Stage) -> None:
    """Sends with FPDUs as small as MPA allows (RFC 5044 §3)."""
    async with stage.pair(stage.options(mulpdu=128)) as pair:
        region = await stage.peer.register(20_000, ALL_RIGHTS)
        for number, size in enumerate((0, 1, 109, 110, 111, 220, 221, 10_000)):
            await _we_send(stage, pair, region, number, size)


@scenario("send", needs=Can.RECEIVE_WITHOUT_MEMORY)
async def send_nothing_to_nowhere(stage: Stage) -> None:
    """An empty Send meets a receive without memory (RFC 5040 §5.3)."""
    async with stage.pair() as pair:
        region = await stage.peer.register(8, ALL_RIGHTS)
        await pair.there.post_receive(1, region, 0, 0)
        await pair.here.send(b"")
        check_done(stage, await pair.there.completions(1), [1], "our Send")


@scenario("send")
async def send_solicited(stage: Stage) -> None:
    """A Send with Solicited Event raises one, a plain Send does not (RFC 5040 §5.3)."""
    async with stage.pair() as pair:
        region = await stage.peer.register(100, ALL_RIGHTS)
        await pair.there.post_send(1, Part(region, 0, 10), solicited=True)
        stage.check((await pair.here.recv_message()).solicited, "the peer's Send did not solicit an event")
        await pair.there.post_send(2, Part(region, 0, 10))
        stage.check(not (await pair.here.recv_message()).solicited, "the peer's Send solicited an event")
        check_done(stage, await pair.there.completions(2), [1, 2], "its Sends")
        for number in (3, 4):
            await pair.there.post_receive(number, region)
        await pair.there.arm_solicited()
        await pair.here.send(b"plain")
        stage.check(not await pair.there.solicited_event(0.2), "our plain Send raised a solicited event")
        await pair.here.send(b"solicited", solicited=True)
        stage.compare("a Send with Solicited Event raises one", await pair.there.solicited_event(1.0), True)
        check_done(stage, await pair.there.completions(2), [3, 4], "our Sends")


@scenario("send")
async def send_with_invalidate_of_ours(stage: Stage) -> None:
    """The peer's Send invalidates our STag, which it cannot use any more (RFC 5040 §5.3)."""
    async with stage.pair() as pair:
        region = await stage.peer.register(100, ALL_RIGHTS)
        target = pair.here.register(bytearray(100), Access.LOCAL_WRITE | Access.REMOTE_WRITE)
        remote = target[:].remote()
        await pair.there.post_send(1, Part(region, 0, 10), invalidate=target.stag)
        message = await pair.here.recv_message()
        stage.check(message.inval_stag == target.stag, f"our program was told of {message.inval_stag}")
        stage.check(not target.is_open, "our region is still open")
        check_done(stage, await pair.there.completions(1), [1], "its Send")
        await pair.there.post_write(2, Part(region, 0, 10), remote)
        stage.compare("our end, after a Write to it", await end_of(pair.here), "InvalidStag, 1/1/00")


@scenario("send")
async def send_with_invalidate_of_peers(stage: Stage) -> None:
    """Our Send invalidates the peer's STag, which we cannot use any more (RFC 5040 §5.3)."""
    async with stage.pair() as pair:
        region, target = await stage.peer.register(100, ALL_RIGHTS), await stage.peer.register(100, ALL_RIGHTS)
        await pair.there.post_receive(1, region)
        await pair.here.send(b"yours", invalidate=target.stag)
        done = await pair.there.completions(1)
        check_done(stage, done, [1], "our Send")
        told = done[0].invalidated == target.stag if Can.TELL_INVALIDATED in stage.peer.kind.can else True
        stage.check(told, f"the peer's program was told of {done[0].invalidated}")
        await pair.here.write(b"again", target.remote(0, 5))
        stage.compare("our end, after a Write to it", await end_of(pair.here), "terminated by the peer, 1/1/00")


@scenario("send")
async def send_with_invalidate_solicited(stage: Stage) -> None:
    """A Send with Solicited Event and Invalidate each way (RFC 5040 §5.3)."""
    async with stage.pair() as pair:
        region, target = await stage.peer.register(100, ALL_RIGHTS), await stage.peer.register(100, ALL_RIGHTS)
        ours = pair.here.register(bytearray(100), Access.LOCAL_WRITE | Access.REMOTE_WRITE)
        await pair.there.post_receive(1, region)
        await pair.here.send(b"yours", invalidate=target.stag, solicited=True)
        check_done(stage, await pair.there.completions(1), [1], "our Send")
        await pair.there.post_send(2, Part(region, 0, 10), invalidate=ours.stag, solicited=True)
        message = await pair.here.recv_message()
        stage.check((message.solicited, message.inval_stag) == (True, ours.stag), f"our program was told {message}")


@scenario("send")
async def send_many(stage: Stage) -> None:
    """Six hundred Sends each way at the same time, all in order (RFC 5040 §5.5)."""
    count, depth, size = 600, 100, 40
    async with stage.pair(stage.options(recv_depth=128, recv_size=64)) as pair:
        region = await stage.peer.register(depth * size, ALL_RIGHTS)
        source = await stage.peer.register(256, ALL_RIGHTS)
        await stage.peer.fill(source, 11)
        for start in range(0, count, depth):
            for number in range(depth):
                await pair.there.post_receive(number, region, number * size, size)
            ours = [pattern(count + size, 10)[n : n + size] for n in range(start, start + depth)]
            # siw's send queue has room for as many, and one list of completions shows them in any order
            await asyncio.gather(
                *(pair.here.send(each) for each in ours),
                *(pair.there.post_send(1000 + n, Part(source, n, size)) for n in range(depth)),
            )
            heard = [await pair.here.recv() for _ in range(depth)]
            stage.check(heard == [pattern(256, 11)[n : n + size] for n in range(depth)], "Sends of the peer's differ")
            done = await pair.there.completions(2 * depth)
            stage.check(sorted(numbers(done)) == [*range(depth), *range(1000, 1000 + depth)], "completions are missing")
            stage.check(all(each.ok for each in done), f"some failed: {[each for each in done if not each.ok]}")
            seen = await stage.peer.digest(region)
            stage.check(seen == zlib.crc32(b"".join(ours)), "our Sends were not placed in order")


@scenario("send")
async def send_waits_for_receives(stage: Stage) -> None:
    """The peer sends more than our program takes: our side holds it up and loses nothing (RFC 5041 §6.1)."""
    count = 60
    async with stage.pair(stage.options(recv_depth=4, recv_size=1000)) as pair:
        region = await stage.peer.register(2000, ALL_RIGHTS)
        await stage.peer.fill(region, 12)
        for number in range(count):
            await pair.there.post_send(number, Part(region, number, 1000))
        await asyncio.sleep(0.3)
        for number in range(count):
            async with asyncio.timeout(PATIENCE):
                data = await pair.here.recv()
            stage.check(data == pattern(2000, 12)[number : number + 1000], f"Send {number} of the peer's differs")
        check_done(stage, await pair.there.completions(count), range(count), "its Sends")
