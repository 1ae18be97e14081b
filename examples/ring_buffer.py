"""A ring buffer in the consumer's memory, filled by the producer: a stream of records without a message for each.

    python examples/ring_buffer.py

The ring and two counters lie in the consumer's memory. The producer Writes records one after another, then the counter
of octets written. Writes are placed in order (RFC 5041 §5.3), so when the counter has changed the octets before it are
placed. The consumer polls its own memory, and counts what it has taken. The producer Reads that number only when the
ring is full by its own count.
"""

from __future__ import annotations

import asyncio
from itertools import count

import pyiwarp
from pyiwarp import Access, RemoteRegion

SIZE = 4096
WRITTEN, TAKEN, RING = 0, 8, 16
OPEN = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE
RECORDS = [bytes([n % 251]) * (1 + n * 7 % 300) for n in range(2000)]


def number(memory: bytearray, at: int) -> int:
    return int.from_bytes(memory[at : at + 8], "big")


async def consume(conn: pyiwarp.Connection) -> None:
    memory = bytearray(RING + SIZE)
    taken = 0
    received = bytearray()
    async with conn.register(memory, OPEN) as region:
        await conn.send(region.advertise())
        while len(received) < sum(map(len, RECORDS)):
            written = number(memory, WRITTEN)
            while taken < written:
                start = taken % SIZE
                nbytes = min(written - taken, SIZE - start)
                received += memory[RING + start : RING + start + nbytes]
                taken += nbytes
                memory[TAKEN : TAKEN + 8] = taken.to_bytes(8, "big")
            await asyncio.sleep(0)  # let the loop place more
        assert received == b"".join(RECORDS)
        await conn.send(b"all taken")


class Producer:
    """Writes into the peer's ring, as much as it has room for."""

    def __init__(self, conn: pyiwarp.Connection, remote: RemoteRegion) -> None:
        self.conn = conn
        self.remote = remote
        self.written = self.taken = 0
        self.looks = 0

    async def put(self, record: bytes) -> None:
        while self.written + len(record) - self.taken > SIZE:
            self.taken = await self._look()
        start = self.written % SIZE
        head, tail = record[: SIZE - start], record[SIZE - start :]
        await self.conn.write(head, self.remote.at(RING + start))
        if tail:
            await self.conn.write(tail, self.remote.at(RING))
        self.written += len(record)
        await self.conn.write(self.written.to_bytes(8, "big"), self.remote.at(WRITTEN))

    async def _look(self) -> int:
        """How far the consumer has come."""
        self.looks += 1
        octets = bytearray(8)
        async with self.conn.register(octets) as local:
            await self.conn.read(local[:], self.remote.at(TAKEN))
        return number(octets, 0)


async def main() -> None:
    async with await pyiwarp.serve(consume, "127.0.0.1") as server:
        async with pyiwarp.connect("127.0.0.1", server.port) as conn:
            producer = Producer(conn, RemoteRegion.parse(await conn.recv()))
            for record, done in zip(RECORDS, count(1), strict=False):
                await producer.put(record)
                if done % 500 == 0:
                    print(
                        f"{done} records, {producer.written:,} octets, {producer.looks} looks at the consumer's count"
                    )
            assert await conn.recv() == b"all taken"


if __name__ == "__main__":
    asyncio.run(main())
