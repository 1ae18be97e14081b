"""A key-value store that clients read and write by themselves, with Atomics: the server only lends the memory.

    python examples/kv_atomics.py

A slot is a version, a key and a value. A client takes a free slot for a key with CmpSwap. A writer makes the version
odd with CmpSwap, Writes the value, and makes the version even with FetchAdd. A reader that finds an odd version, or
another one after the value, Reads again. Numbers are in the byte order of the server's host: here it is this one's.
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pyiwarp
from pyiwarp import Access, RemoteRegion

SLOTS, SLOT, VERSION, KEY, VALUE = 64, 64, 0, 8, 16
OPEN = Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC


@dataclass
class Store:
    """A client's view of the table."""

    conn: pyiwarp.Connection
    table: RemoteRegion

    async def put(self, name: str, value: bytes) -> None:
        for slot in self._slots(key := key_of(name)):
            if await self.conn.compare_swap(slot[KEY:], 0, key) in (0, key):
                version = 1
                while version % 2 or await self.conn.compare_swap(slot, version, version + 1) != version:
                    version = number(await self._read(slot[VERSION:KEY]))
                await self.conn.write(value.ljust(SLOT - VALUE, b"\0"), slot[VALUE:])
                await self.conn.fetch_add(slot, 1)  # behind the Write on the same connection, so after it
                return
        raise RuntimeError("the table is full")

    async def get(self, name: str) -> bytes | None:
        for slot in self._slots(key := key_of(name)):
            found = number(await self._read(slot[KEY:VALUE]))
            if found == 0:
                return None
            while found == key:
                before = await self._read(slot[VERSION:KEY])
                value = await self._read(slot[VALUE:])
                if number(before) % 2 == 0 and before == await self._read(slot[VERSION:KEY]):
                    return value.rstrip(b"\0")
        return None

    def _slots(self, key: int) -> Iterator[RemoteRegion]:
        for step in range(SLOTS):
            at = (key + step) % SLOTS * SLOT
            yield self.table[at : at + SLOT]

    async def _read(self, part: RemoteRegion) -> bytes:
        octets = bytearray(part.nbytes)
        await self.conn.read(octets, part)
        return bytes(octets)


def number(octets: bytes) -> int:
    return int.from_bytes(octets, sys.byteorder)


def key_of(name: str) -> int:  # never 0; a real store would keep the name too
    return number(hashlib.blake2b(name.encode(), digest_size=8).digest()) or 1


async def client(port: int, who: int) -> None:
    async with pyiwarp.connect("127.0.0.1", port) as conn:
        store = Store(conn, RemoteRegion.parse(await conn.recv()))
        for count in range(10):
            await store.put(f"own {who}", str(count).encode())
            await store.put("shared", f"{who}:{count}".encode() * 5)
        assert (await store.get(f"own {who}"), await store.get("nobody put this")) == (b"9", None)
        shared = await store.get("shared") or b""
        assert shared == shared[:3] * 5  # one writer's value, never a mixture


async def main() -> None:
    table = bytearray(SLOTS * SLOT)

    async def lend(conn: pyiwarp.Connection) -> None:
        await conn.send(conn.register(table, OPEN).advertise())
        await conn.wait_closed()

    async with await pyiwarp.serve(lend, "127.0.0.1") as server:
        await asyncio.gather(*(client(server.port, number) for number in range(8)))
    assert sum(any(table[at + KEY : at + VALUE]) for at in range(0, len(table), SLOT)) == 9
    print("8 clients share 9 keys, and every value is whole")


if __name__ == "__main__":
    asyncio.run(main())
