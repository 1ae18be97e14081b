"""Sessions to look at, each played between two ends in this process over loopback and captured."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple

import pyiwarp
from pyiwarp import Access, Connection, Options, RemoteRegion
from pyiwarp.capture import Capture

__all__ = ["DEMOS", "play"]

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


_LENT: Final[Mapping[str, Demo]] = {
    "startup": Demo(_startup, "two startup frames, and the end"),
    "send": Demo(_send, "a Send into a posted receive"),
    "write": Demo(_write, "an RDMA Write, and a Send that tells of it"),
    "read": Demo(_read, "an RDMA Read Request and its Response"),
    "terminate": Demo(_terminate, "a Write out of bounds, refused with a Terminate"),
    "atomic": Demo(_atomic, "a FetchAdd and a CmpSwap"),
    "markers": Demo(_large, "a Write of 2 KiB with markers", Options(markers=True)),
}

DEMOS: Final[Mapping[str, str]] = {
    **{name: demo.shows for name, demo in _LENT.items()},
    "files": "a file that is fetched by RDMA Write and one that is sent by RDMA Read",
}
"""What each demo shows, by its name."""


async def play(name: str, path: Path) -> None:
    """Play a demo and capture it to `path`. Returns when both ends have closed. Raises `OSError` as sockets do."""
    with Capture(path) as capture:
        if name in _LENT:
            await _play_lent(_LENT[name], capture)
        else:
            await _play_files(capture)


async def _play_lent(demo: Demo, capture: Capture) -> None:
    """A server lends memory, and the client does what the demo is about."""

    async def lend(conn: Connection) -> None:
        async with conn.register(bytearray(4096), _RIGHTS) as region:
            await conn.send(region.advertise())
            with suppress(pyiwarp.IwarpError):
                async for _ in conn:
                    pass

    async with await pyiwarp.serve(lend, "127.0.0.1", options=demo.options) as server:
        options = replace(demo.options, capture=capture)
        async with pyiwarp.connect("127.0.0.1", server.port, options=options) as conn:
            await demo.client(conn, RemoteRegion.parse(await conn.recv()))


async def _play_files(capture: Capture) -> None:
    """A client of the file service gets a file and puts one."""
    from pyiwarp.files import ClientSettings, FileServer, Root, connected
    from pyiwarp.files.messages import MESSAGE_LIMIT

    settings = ClientSettings(options=Options(recv_size=MESSAGE_LIMIT, capture=capture))
    with TemporaryDirectory(prefix="pyiwarp-explain-") as scratch:
        served, mine = _make_files(Path(scratch))
        with Root(served) as root:
            async with FileServer(root) as server:
                await server.start("127.0.0.1")
                async with connected("127.0.0.1", server.port, settings) as client:
                    await client.get("letter.txt", Path(mine, "letter.txt"))
                    await client.put(Path(mine, "answer.txt"), "answer.txt")


def _make_files(scratch: Path) -> tuple[Path, Path]:
    """A directory to serve and one of the client, with a file in each."""
    served, mine = scratch / "served", scratch / "mine"
    for directory, name in ((served, "letter.txt"), (mine, "answer.txt")):
        directory.mkdir()
        Path(directory, name).write_bytes(_TEXT)
    return served, mine
