"""Sessions to look at, each played between two ends in this process over loopback and captured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import pyiwarp
from pyiwarp import Access, Connection, Options, RemoteRegion
from pyiwarp.capture import Capture

__all__ = ["DEMOS", "Demo", "play"]

_TEXT: Final = b"It was written by the peer, and no program took part."
_RIGHTS: Final = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE | Access.REMOTE_ATOMIC


class Demo(NamedTuple):
    """What the client does with memory that the server has lent, what it is to show, and with which options."""

    client: Callable[[Connection, RemoteRegion], Awaitable[object]]
    shows: str
    options: Options = Options()


async def _write(conn: Connection, remote: RemoteRegion) -> None:
    await conn.write(bytearray(_TEXT), remote)
    await conn.send(b"it is there")


async def _read(conn: Connection, remote: RemoteRegion) -> None:
    await conn.read(bytearray(32), remote)


async def _send(conn: Connection, remote: RemoteRegion) -> None:
    await conn.send(b"hello")


async def _startup(conn: Connection, remote: RemoteRegion) -> None:
    return


async def _terminate(conn: Connection, remote: RemoteRegion) -> None:
    with suppress(pyiwarp.TerminatedByPeer):
        await conn.write(bytearray(4), RemoteRegion(remote.to + remote.nbytes, remote.stag, 4))
        await conn.recv()


async def _atomic(conn: Connection, remote: RemoteRegion) -> None:
    await conn.fetch_add(remote, 5)
    await conn.compare_swap(remote, 5, 9)


async def _large(conn: Connection, remote: RemoteRegion) -> None:
    await conn.write(bytearray(range(256)) * 8, remote)


DEMOS: Final[Mapping[str, Demo]] = {
    "startup": Demo(_startup, "two startup frames, and the end"),
    "send": Demo(_send, "a Send into a posted receive"),
    "write": Demo(_write, "an RDMA Write, and a Send that tells of it"),
    "read": Demo(_read, "an RDMA Read Request and its Response"),
    "terminate": Demo(_terminate, "a Write out of bounds, refused with a Terminate"),
    "atomic": Demo(_atomic, "a FetchAdd and a CmpSwap"),
    "markers": Demo(_large, "a Write of 2 KiB with markers", Options(markers=True)),
}
"""The demos by name."""


async def play(name: str, path: Path) -> None:
    """Play a demo and capture it to `path`. Returns when both ends have closed. Raises `OSError` as sockets do."""
    demo = DEMOS[name]

    async def lend(conn: Connection) -> None:
        async with conn.register(bytearray(4096), _RIGHTS) as region:
            await conn.send(region.advertise())
            with suppress(pyiwarp.IwarpError):
                async for _ in conn:
                    pass

    with Capture(path) as capture:
        async with await pyiwarp.serve(lend, "127.0.0.1", options=demo.options) as server:
            options = replace(demo.options, capture=capture)
            async with pyiwarp.connect("127.0.0.1", server.port, options=options) as conn:
                await demo.client(conn, RemoteRegion.parse(await conn.recv()))
