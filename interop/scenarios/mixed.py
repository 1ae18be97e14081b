"""Ten thousand operations of all kinds, with a model of both memories (RFC 5040 §5.5).

They are posted in batches by both sides at once. In a batch each side writes to one half of the other's region and
reads from the other half; the halves change places between batches. That, with each source of octets constant, makes
every octet's value certain whatever the order in which the two directions meet.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from dataclasses import dataclass, field

from interop.peer import Part, PeerRegion, numbers
from interop.stage import Pair, Stage
from pyiwarp import Access, MemoryRegion, RemoteRegion

from .data import ALL_RIGHTS, PAGE, SHORT, check_done, pattern
from .registry import LIMIT, scenario

_OPERATIONS = 10_000
_EACH = 100  # operations of each side in a batch; a peer's queues hold 128
_HALF = 48 * 1024
_SENDS = 3000  # octets in a Send at most
_SIZES = (0, 1, 2, 3, 17, 64, 500, 1431, 1432, 1433, 1436, 2900)


@dataclass
class _Side:
    """What one side's memory should hold: its region, of two halves, and what its own Reads brought."""

    region: bytearray = field(default_factory=lambda: bytearray(2 * _HALF))
    sink: bytearray = field(default_factory=lambda: bytearray(_HALF))


@dataclass(frozen=True)
class _Step:
    """One operation: its kind, where it begins in the remote half and in local memory, and how long it is."""

    kind: str
    remote: int
    local: int
    size: int


def _batch(chance: random.Random) -> list[_Step]:
    steps = []
    reads = 0  # sinks do not overlap: responses may come while later Reads are posted
    for _ in range(_EACH):
        kind, size = chance.choice(("send", "write", "read")), chance.choice(_SIZES)
        if kind == "read" and (size == 0 or reads + size > _HALF):
            kind = "write"  # an empty Read behind another has a scenario of its own
        local = reads if kind == "read" else _place(chance, size)
        reads += size if kind == "read" else 0
        steps.append(_Step(kind, _place(chance, size), local, size))
    return steps


def _place(chance: random.Random, size: int) -> int:
    """Anywhere; but a few octets that lie in two pages have a scenario of their own."""
    place = chance.randrange(_HALF - size)
    return place - size if size <= SHORT and place // PAGE != (place + size) // PAGE else place


class _Mixed:
    """The state of the scenario: both memories, both models."""

    def __init__(self, stage: Stage, pair: Pair) -> None:
        self.stage, self.pair = stage, pair
        self.ours, self.peers = _Side(), _Side()
        self.our_source, self.peer_source = pattern(_HALF, 51), pattern(_HALF, 52)
        self.memory, self.sunk = bytearray(2 * _HALF), bytearray(_HALF)
        self.region: MemoryRegion = pair.here.register(self.memory, ALL_RIGHTS)
        self.sink: MemoryRegion = pair.here.register(self.sunk, Access.LOCAL_WRITE)
        self.source: MemoryRegion = pair.here.register(self.our_source, Access(0))
        self.there: dict[str, PeerRegion] = {}
        self.in_order = True

    async def prepare(self) -> None:
        """Register the peer's memory."""
        for name, size in (("region", 2 * _HALF), ("sink", _HALF), ("source", _HALF), ("inbox", _EACH * _SENDS)):
            self.there[name] = await self.stage.peer.register(size, ALL_RIGHTS)
        await self.stage.peer.fill(self.there["source"], 52)

    async def batch(self, number: int, chance: random.Random) -> None:
        """One batch: post everything, wait for everything, compare everything."""
        written, read = (0, _HALF) if number % 2 else (_HALF, 0)
        ours, peers = _batch(chance), _batch(chance)
        await asyncio.gather(
            *(
                self.pair.there.post_receive(n, self.there["inbox"], n * _SENDS, _SENDS)
                for n in range(sum(step.kind == "send" for step in ours))
            )
        )
        hearing = asyncio.ensure_future(self._hear(peers))
        await asyncio.gather(
            hearing,
            *(self._ours(step, written, read) for step in ours),
            *(self._peers(1000 + n, step, written, read) for n, step in enumerate(peers)),
        )
        await self._finish(ours, peers)
        self._model(ours, self.ours, self.peers, self.our_source, written, read)
        self._model(peers, self.peers, self.ours, self.peer_source, written, read)
        await self._compare(ours, peers, hearing.result())

    async def _hear(self, peers: list[_Step]) -> list[bytes]:
        return [await self.pair.here.recv() for step in peers if step.kind == "send"]

    async def _ours(self, step: _Step, written: int, read: int) -> None:
        here, there = self.pair.here, self.there["region"]
        local = slice(step.local, step.local + step.size)
        if step.kind == "send":
            await here.send(self.source[local])
        elif step.kind == "write":
            await here.write(self.source[local], there.remote(written + step.remote, step.size))
        else:
            await here.read(self.sink[local], there.remote(read + step.remote, step.size))

    async def _peers(self, number: int, step: _Step, written: int, read: int) -> None:
        there = self.pair.there
        part = Part(self.there["source" if step.kind != "read" else "sink"], step.local, step.size)
        if step.kind == "send":
            await there.post_send(number, part if step.size else None)
        elif step.kind == "write":
            await there.post_write(number, part if step.size else None, self._remote(written + step.remote))
        else:
            await there.post_read(number, part, self._remote(read + step.remote))

    def _remote(self, offset: int) -> RemoteRegion:
        return self.region[offset:].remote()

    async def _finish(self, ours: list[_Step], peers: list[_Step]) -> None:
        """All completions of the peer, and a message each way behind everything else."""
        receives = sum(step.kind == "send" for step in ours)
        done = await self.pair.there.completions(_EACH + receives)
        check_done(self.stage, [each for each in done if each.wr_id < 1000], range(receives), "our Sends")
        work = [each for each in done if each.wr_id >= 1000]
        self.in_order = self.in_order and numbers(work) == sorted(numbers(work))
        check_done(self.stage, sorted(work), range(1000, 1000 + _EACH), "its work")
        await self.pair.there.post_receive(_EACH, self.there["inbox"], 0, 0 + 8)
        await self.pair.here.send(b"")
        await self.pair.there.post_send(2000, None)
        await self.pair.here.recv()
        last = {each.wr_id for each in await self.pair.there.completions(2) if each.ok}
        self.stage.check(last == {_EACH, 2000}, "the last messages of a batch did not arrive")

    def _model(self, steps: list[_Step], own: _Side, other: _Side, source: bytes, written: int, read: int) -> None:
        for step in steps:
            if step.kind == "write":
                at = written + step.remote
                other.region[at : at + step.size] = source[step.local : step.local + step.size]
            elif step.kind == "read":
                at = read + step.remote
                own.sink[step.local : step.local + step.size] = other.region[at : at + step.size]

    async def _compare(self, ours: list[_Step], peers: list[_Step], heard: list[bytes]) -> None:
        check, peer = self.stage.check, self.stage.peer
        check(self.memory == self.ours.region, "the peer's Writes are not where they belong")
        check(self.sunk == self.ours.sink, "our Reads brought something else")
        check(await peer.digest(self.there["region"]) == zlib.crc32(self.peers.region), "our Writes went astray")
        check(await peer.digest(self.there["sink"]) == zlib.crc32(self.peers.sink), "the peer's Reads went astray")
        sent = [self.peer_source[s.local : s.local + s.size] for s in peers if s.kind == "send"]
        check(heard == sent, "the peer's Sends arrived changed or out of order")
        await self._compare_inbox([s for s in ours if s.kind == "send"])

    async def _compare_inbox(self, sends: list[_Step]) -> None:
        """Our Sends, octet for octet, where the peer received them; the digest of each would take longer."""
        inbox = self.there["inbox"]
        digests = await asyncio.gather(
            *(self.stage.peer.digest(inbox, n * _SENDS, step.size) for n, step in enumerate(sends))
        )
        wanted = [zlib.crc32(self.our_source[s.local : s.local + s.size]) for s in sends]
        # the last message of a batch is empty, so it changes nothing
        self.stage.check(digests == wanted, "our Sends arrived changed or out of order")


@scenario("mixed", timeout=5 * LIMIT)
async def mixed_10000(stage: Stage) -> None:
    """10,000 Sends, Writes and Reads from both sides at once, every octet checked against a model (RFC 5040 §5.5)."""
    chance = random.Random(7)
    options = stage.options(recv_depth=128, recv_size=_SENDS, send_depth=_EACH)
    async with stage.pair(options) as pair:
        mixed = _Mixed(stage, pair)
        await mixed.prepare()
        for number in range(_OPERATIONS // (2 * _EACH)):
            await mixed.batch(number, chance)
    stage.compare("the peer's work completes in the order in which it was posted", mixed.in_order, True)
