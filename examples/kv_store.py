"""A key-value store that clients read by RDMA Read: the server's program takes no part in a `get`.

    python examples/kv_store.py

The table lies in registered memory. A client hashes the key, Reads its bucket, and then the next ones until it finds
the key or an empty bucket. The server may change a bucket during a Read, so each bucket has a checksum: if it does not
match, the client Reads the bucket again. `put` is a message, so only the server writes.
"""

from __future__ import annotations

import asyncio
import hashlib
from struct import Struct
from zlib import crc32

import pyiwarp
from pyiwarp import Access, RemoteRegion

BUCKETS = 256
BUCKET = Struct(">I28s32s")  # checksum of the rest, key, value
EMPTY = bytes(BUCKET.size)


def home_of(key: bytes) -> int:
    """The bucket where a key is looked for first; the same on every machine, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=4).digest(), "big") % BUCKETS


def sealed(key: bytes, value: bytes) -> bytes:
    rest = key.ljust(28, b"\0") + value.ljust(32, b"\0")
    return crc32(rest).to_bytes(4, "big") + rest


class Store:
    """The server's side."""

    def __init__(self) -> None:
        self.table = bytearray(BUCKETS * BUCKET.size)

    def put(self, key: bytes, value: bytes) -> None:
        for step in range(BUCKETS):
            at = (home_of(key) + step) % BUCKETS * BUCKET.size
            old = bytes(self.table[at : at + BUCKET.size])
            if old == EMPTY or BUCKET.unpack(old)[1].rstrip(b"\0") == key:
                self.table[at : at + BUCKET.size] = sealed(key, value)
                return
        raise RuntimeError("the table is full")

    async def serve(self, conn: pyiwarp.Connection) -> None:
        async with conn.register(self.table, Access.REMOTE_READ) as region:
            await conn.send(region.advertise())
            async for message in conn:
                key, _, value = message.partition(b"=")
                self.put(key, value)
                await conn.send(b"stored")


class Client:
    """Finds the buckets itself."""

    def __init__(self, conn: pyiwarp.Connection, table: RemoteRegion) -> None:
        self.conn = conn
        self.table = table
        self.reads = 0

    async def get(self, key: bytes) -> bytes | None:
        bucket = bytearray(BUCKET.size)
        async with self.conn.register(bucket) as local:
            for step in range(BUCKETS):
                at = (home_of(key) + step) % BUCKETS * BUCKET.size
                while True:
                    await self.conn.read(local[:], self.table.at(at))
                    self.reads += 1
                    checksum, found, value = BUCKET.unpack(bucket)
                    if bucket == EMPTY:
                        return None
                    if checksum == crc32(bucket[4:]):
                        break
                if found.rstrip(b"\0") == key:
                    return bytes(value.rstrip(b"\0"))
        return None


async def main() -> None:
    async with await pyiwarp.serve(Store().serve, "127.0.0.1") as server:
        async with pyiwarp.connect("127.0.0.1", server.port) as conn:
            client = Client(conn, RemoteRegion.parse(await conn.recv()))
            for number in range(100):
                await conn.send(f"key {number}=value {number}".encode())
                assert await conn.recv() == b"stored"
            values = [await client.get(f"key {number}".encode()) for number in range(100)]
            assert values == [f"value {number}".encode() for number in range(100)]
            assert await client.get(b"nobody put this") is None
            print(f"100 keys found with {client.reads} Reads, and none of the server's time")


if __name__ == "__main__":
    asyncio.run(main())
