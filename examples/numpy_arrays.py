"""NumPy arrays from one process's memory to another's, without a copy in either program.

    python examples/numpy_arrays.py

The array itself is registered. A Read places the peer's numbers directly into our array. A Write places a block of
our rows in the middle of the peer's array. Memory that is not contiguous, such as a column, cannot be registered: it
raises `BadWorkRequest`. `array.data` is the array's memory as a `memoryview`; the array itself can be passed too.
"""

from __future__ import annotations

import asyncio

import numpy as np

import pyiwarp
from pyiwarp import Access, RemoteRegion
from pyiwarp.errors import BadWorkRequest

SHAPE = (1000, 256)
OPEN = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE


async def lend(conn: pyiwarp.Connection) -> None:
    array = np.arange(SHAPE[0] * SHAPE[1], dtype=np.float64).reshape(SHAPE)
    async with conn.register(array.data, OPEN) as region:
        await conn.send(region.advertise())
        await conn.recv()  # the peer's Writes before this Send are placed
        assert (array[100:200] == -1).all()
        assert array[200, 0] == 200 * SHAPE[1]
        print("the peer wrote rows 100 to 199, and no others")
        await conn.send(b"seen")


async def main() -> None:
    async with await pyiwarp.serve(lend, "127.0.0.1") as server:
        async with pyiwarp.connect("127.0.0.1", server.port) as conn:
            remote = RemoteRegion.parse(await conn.recv())
            mine = np.zeros(SHAPE)
            try:
                conn.register(mine[:, 3].data)
            except BadWorkRequest as error:
                print(f"a column: {error}")
            async with conn.register(mine.data) as region:
                await conn.read(region[:], remote)
                assert mine[999, 255] == mine.size - 1
                print(f"read {mine.nbytes:,} octets into the array itself: the mean is {mine.mean():,.1f}")
                rows = slice(100 * mine.strides[0], 200 * mine.strides[0])
                mine[100:200] = -1
                await conn.write(region[rows], remote.at(rows.start))
            await conn.send(b"look")
            await conn.recv()


if __name__ == "__main__":
    asyncio.run(main())
