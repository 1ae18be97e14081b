"""perftest's client and server played from a script: every message as it was seen between two of its own programs.

Nothing of pyiwarp's perftest is used here, only connections: so the two cannot be wrong alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from pyiwarp import Access, Connection, Context, Options, Region, RemoteRegion, connect
from pyiwarp.codes import Rtr
from pyiwarp.connections.serving import Listener, listen
from pyiwarp.negotiation import Offer
from pyiwarp.verbs import ProtectionDomain
from tests.hosts import HOST
from tests.patience import PATIENCE

VERSION = bytes.fromhex("362e3036 00000000 00000000 00000000")
STEPS = (VERSION, bytes.fromhex("00001000"), bytes.fromhex("00000040"))  # then the MTU, which each has for itself
MTU = bytes.fromhex("3300")
OUR_MTU = bytes.fromhex("3500")
NOTHING = bytes(56)
EVERYTHING = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE


class Passive(Options):
    """Connects as the kernel's siw does: says nothing on a connection until its program does."""

    def offer(self, private_data: bytes) -> Offer:
        return replace(super().offer(private_data), rtr=Rtr(0), open_at_once=False)


def record(rkey: int, vaddr: int, reads: int = 1) -> bytes:
    """A record with every field as seen, the uncleared gap included, but for the memory that it names."""
    return b"".join(
        (
            bytes.fromhex("00000000"),
            reads.to_bytes(4, "big"),
            bytes.fromhex("00000003 00113cb6"),
            rkey.to_bytes(4, "big"),
            bytes.fromhex("f37f0000"),
            vaddr.to_bytes(8, "big"),
            bytes.fromhex("52540012345600000000000000000000 00000000 00000000"),
        )
    )


def memory_in(record: bytes, nbytes: int) -> RemoteRegion:
    """The memory that a record names."""
    assert len(record) == 56
    assert record[:4] == record[20:24] == bytes(4)
    assert record[32:] == bytes(24)
    return RemoteRegion(int.from_bytes(record[24:32], "big"), int.from_bytes(record[16:20], "big"), nbytes)


@dataclass
class Side:
    """One side of a scripted session: its connections, and the memory that it tells of."""

    pd: ProtectionDomain
    control: Connection
    memory: Region
    data: Connection | None = None

    @property
    def own(self) -> bytes:
        return record(self.memory.stag, self.memory.to)

    async def ask(self, mine: bytes) -> bytes:
        """A client's step."""
        await self.control.send(mine)
        return await self.control.recv()

    async def answer(self, mine: bytes) -> bytes:
        """A server's step."""
        theirs = await self.control.recv()
        await self.control.send(mine)
        return theirs

    def lane(self) -> Connection:
        assert self.data is not None
        return self.data


def options() -> Options:
    return Options(recv_depth=1, recv_size=56, ird=0, ord=0)


def data_options(receives: int, size: int, reads: int) -> Passive:
    return Passive(recv_depth=max(receives, 1), recv_size=size, ird=reads, ord=reads)


@asynccontextmanager
async def client_side(
    port: int, *, keys: int, size: int, receives: int = 0, reads: int = 0
) -> AsyncIterator[tuple[Side, RemoteRegion]]:
    """A scripted client up to where the test begins, `keys` exchanges of records later; then the test's."""
    pd = Context().alloc_pd()
    async with connect(HOST, port, options=options(), pd=pd) as control:
        side = Side(pd, control, control.register(bytearray(4096), EVERYTHING))
        for step in STEPS:
            assert await side.ask(step) == step
        assert await side.ask(MTU) == OUR_MTU
        assert await side.ask(NOTHING) == NOTHING
        side.data = await connect(HOST, port, options=data_options(receives, size, reads), pd=pd)
        try:
            assert await side.ask(NOTHING) == NOTHING
            told = {await side.ask(side.own) for _ in range(keys)}
            assert len(told) == 1
            yield side, memory_in(told.pop(), 4096)
        finally:
            await side.data.close()


@asynccontextmanager
async def server_side(
    listener: Listener, *, keys: int, size: int, receives: int = 0, reads: int = 0
) -> AsyncIterator[tuple[Side, RemoteRegion]]:
    """A scripted server up to where the test begins; then the test's."""
    pd = listener._pd
    assert pd is not None
    async with await (await anext(listener)).accept(options=options()) as control:
        side = Side(pd, control, control.register(bytearray(4096), EVERYTHING))
        for step in STEPS:
            assert await side.answer(step) == step
        assert await side.answer(MTU) == OUR_MTU
        assert await side.answer(NOTHING) == NOTHING
        side.data = await (await anext(listener)).accept(options=data_options(receives, size, reads))
        try:
            assert await side.answer(NOTHING) == NOTHING
            told = {await side.answer(side.own) for _ in range(keys)}
            assert len(told) == 1
            yield side, memory_in(told.pop(), 4096)
        finally:
            await side.data.close()


async def listening(port: int = 0) -> Listener:
    """Where a scripted server waits; both of its connections share one protection domain."""
    return await listen(HOST, port, pd=Context().alloc_pd())


async def flagged(octets: memoryview, value: int) -> None:
    """Until the last octet of `octets` is `value`: how write_lat notices a Write."""
    async with asyncio.timeout(PATIENCE):
        while octets[-1] != value:  # noqa: ASYNC110 - nothing tells of a Write
            await asyncio.sleep(0)
