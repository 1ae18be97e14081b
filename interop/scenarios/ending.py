"""How connections end: by either side, by both, by a program that dies, by a machine that dies (RFC 5040 §6.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from interop.peer import Can, Part
from interop.stage import PATIENCE, Pair, Stage, cause, end_of, outcome
from pyiwarp import Closed, Disconnected

from .data import ALL_RIGHTS, LARGE, check_done, check_memory, pattern
from .registry import scenario


async def _three_receives(stage: Stage, pair: Pair) -> None:
    region = await stage.peer.register(300, ALL_RIGHTS)
    for number in range(3):
        await pair.there.post_receive(number, region)


async def _flushed(stage: Stage, pair: Pair) -> None:
    """The peer's program hears of the end, and its receives come back."""
    stage.compare("the peer's program hears", await pair.there.ended(), "disconnected")
    done = await pair.there.completions(3)
    stage.check([each.status for each in done] == 3 * ["flushed"], f"the peer's receives ended as {done}")


@scenario("ending")
async def close_by_us(stage: Stage) -> None:
    """Our side closes; the peer's receives are flushed (RFC 5041 §6.2.1)."""
    async with stage.pair() as pair:
        await _three_receives(stage, pair)
        await pair.here.close()
        stage.compare("our close", cause(pair.here.close_reason), "gracefully")
        await _flushed(stage, pair)
        stage.check(await outcome(pair.here.send(b"late")) == Closed.__name__, "a closed connection sends")


@scenario("ending")
async def close_by_peer(stage: Stage) -> None:
    """The peer closes; our program sees a graceful end (RFC 5041 §6.2.1)."""
    async with stage.pair() as pair:
        await _three_receives(stage, pair)
        await pair.there.disconnect()
        stage.compare("our end", await end_of(pair.here), "gracefully")
        stage.compare("our reason", pair.here.close_reason, None)
        stage.check(await outcome(pair.here.send(b"late")) == Disconnected.__name__, "an ended connection sends")
        await _flushed(stage, pair)


@scenario("ending")
async def close_by_both(stage: Stage) -> None:
    """Both close at the same time."""
    async with stage.pair() as pair:
        await _three_receives(stage, pair)
        await asyncio.gather(pair.here.close(), pair.there.disconnect())
        await _flushed(stage, pair)


@scenario("ending")
async def close_behind_data(stage: Stage) -> None:
    """What was posted before our close arrives, all of it (RFC 5041 §6.2.1)."""
    async with stage.pair() as pair:
        region = await stage.peer.register(LARGE, ALL_RIGHTS)
        message = await stage.peer.register(100, ALL_RIGHTS)
        await pair.there.post_receive(1, message)
        write = asyncio.ensure_future(pair.here.write(pattern(LARGE, 1), region.remote()))
        send = asyncio.ensure_future(pair.here.send(pattern(100, 2)))
        await asyncio.sleep(0)
        await pair.here.close()
        await asyncio.gather(write, send)
        check_done(stage, await pair.there.completions(1), [1], "our Send")
        await check_memory(stage, region, 0, pattern(LARGE, 1), "our Write")
        await check_memory(stage, message, 0, pattern(100, 2), "our Send")


@scenario("ending")
async def close_behind_data_of_peer(stage: Stage) -> None:
    """What the peer's program was told is sent arrives, though it closes at once (RFC 5041 §6.2.1)."""
    async with stage.pair(stage.options(recv_size=LARGE, recv_depth=2)) as pair:
        region = await stage.peer.register(LARGE, ALL_RIGHTS)
        await stage.peer.fill(region, 3)
        await pair.there.post_send(1, Part(region, 0, LARGE))
        check_done(stage, await pair.there.completions(1), [1], "its Send")
        await pair.there.disconnect()
        stage.check(await pair.here.recv() == pattern(LARGE, 3), "the peer's Send arrived changed")
        stage.compare("our end", await end_of(pair.here), "gracefully")


@scenario("ending")
async def close_with_reads(stage: Stage) -> None:
    """Our side closes while Reads are outstanding: they are answered first (RFC 5041 §6.2.1)."""
    async with stage.pair() as pair:
        region = await stage.peer.register(LARGE, ALL_RIGHTS)
        await stage.peer.fill(region, 4)
        sink = pair.here.register(bytearray(LARGE))
        read = asyncio.ensure_future(pair.here.read(sink[:], region.remote()))
        await asyncio.sleep(0)
        view = memoryview(sink.view)
        await pair.here.close()
        stage.compare("our Read", await outcome(read), "done")
        stage.check(view == pattern(LARGE, 4), "our Read brought something else")


@scenario("ending")
async def abort_by_us(stage: Stage) -> None:
    """Our side goes away without a word."""
    async with stage.pair() as pair:
        await _three_receives(stage, pair)
        pair.here.abort()
        await _flushed(stage, pair)


@scenario("ending")
async def kill_the_peer(stage: Stage) -> None:
    """The peer's program is killed while nothing happens: our side ends and says so."""
    async with stage.pair() as pair:
        await stage.peer.kill()
        stage.check(await end_of(pair.here) in ("gracefully", "ConnectionLost"), f"it ended {pair.here.close_reason!r}")


@scenario("ending")
async def kill_the_busy_peer(stage: Stage) -> None:
    """The peer's program is killed while Reads and Writes are under way: all of them end."""
    await _die_busy(stage, stage.peer.kill)


@scenario("ending", needs=Can.DIE, alone=True)
async def crash_the_peer(stage: Stage) -> None:
    """The peer's whole machine dies while Reads and Writes are under way: all of them end."""
    await _die_busy(stage, stage.peer.crash)


_BEGUN = 40
"""Octets of the peer's answers that arrive before it dies: less than the first FPDU of a Read Response."""


async def _die_busy(stage: Stage, die: Callable[[], Awaitable[None]]) -> None:
    """The gate keeps the first Read Response from arriving whole, so no Read is done, however fast the peer is."""
    async with stage.gate() as gate, stage.pair(gate=gate) as pair:
        region = await stage.peer.register(LARGE, ALL_RIGHTS)
        sink = pair.here.register(bytearray(LARGE))
        gate.hold(_BEGUN)
        reads, writes = [], []
        for _ in range(8):
            reads.append(asyncio.ensure_future(outcome(pair.here.read(sink[:], region.remote()))))
            writes.append(asyncio.ensure_future(outcome(pair.here.write(bytes(LARGE), region.remote()))))
        async with asyncio.timeout(PATIENCE):
            await gate.shut()
        await die()
        gate.peer_ended()
        broken = {"ConnectionLost", "Disconnected"}
        for what, operations, lawful in (("Reads", reads, broken), ("Writes", writes, {"done", *broken})):
            ends = set(await asyncio.gather(*operations))
            stage.check(ends <= lawful, f"our {what} ended as {sorted(ends)}")
        stage.compare("our end", await end_of(pair.here), "ConnectionLost")
