"""A distributed lock and a counter: eight clients share memory, and the server's program takes no part.

    python examples/lock_and_counter.py

FetchAdd gives each client a number of its own. CmpSwap takes a lock: a client that finds 0 puts its own number there.
Under the lock each client Reads a sum, adds to it and Writes it back; without the lock, additions would be lost. An
Atomic or Read that follows a Write on the same connection sees what the Write placed (RFC 5040 §5.5), so the lock can
be released right after the Write.
"""

from __future__ import annotations

import asyncio
import random

import pyiwarp
from pyiwarp import Access, RemoteRegion

LOCK, TICKETS, SUM = 0, 8, 16  # where each number of eight octets lies
CLIENTS, ROUNDS = 8, 25
SHARED = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC


class Shared:
    """The server's side: 24 octets of memory; it waits for the clients."""

    def __init__(self) -> None:
        self.memory = bytearray(24)

    async def serve(self, conn: pyiwarp.Connection) -> None:
        async with conn.register(self.memory, SHARED) as region:
            await conn.send(region.advertise())
            async for _ in conn:
                pass


class Lock:
    """`async with` holds it; `identity` is never 0."""

    def __init__(self, conn: pyiwarp.Connection, word: RemoteRegion, identity: int) -> None:
        self.conn = conn
        self.word = word
        self.identity = identity

    async def __aenter__(self) -> None:
        pause = 0.0001
        while await self.conn.compare_swap(self.word, 0, self.identity) != 0:
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(2 * pause, 0.01)

    async def __aexit__(self, *exc: object) -> None:
        found = await self.conn.compare_swap(self.word, self.identity, 0)
        assert found == self.identity, "somebody else let our lock go"


async def work(port: int, identity: int) -> list[int]:
    tickets = []
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        remote = RemoteRegion.parse(await conn.recv())
        lock = Lock(conn, remote.at(LOCK), identity)
        number = bytearray(8)
        async with conn.register(number) as local:
            for _ in range(ROUNDS):
                tickets.append(await conn.fetch_add(remote.at(TICKETS), 1))
                async with lock:
                    await conn.read(local[:], remote.at(SUM))
                    number[:] = (int.from_bytes(number, "little") + identity).to_bytes(8, "little")
                    await conn.write(local[:], remote.at(SUM))
    return tickets


async def main() -> None:
    shared = Shared()
    async with await pyiwarp.serve(shared.serve, "127.0.0.1") as server:
        drawn = await asyncio.gather(*(work(server.port, identity) for identity in range(1, CLIENTS + 1)))
    tickets = sorted(ticket for one in drawn for ticket in one)
    assert tickets == list(range(CLIENTS * ROUNDS))
    total = int.from_bytes(shared.memory[SUM : SUM + 8], "little")
    assert total == ROUNDS * sum(range(1, CLIENTS + 1))
    print(f"{CLIENTS} clients drew {len(tickets)} tickets, no two the same, and added up to {total}")


if __name__ == "__main__":
    asyncio.run(main())
