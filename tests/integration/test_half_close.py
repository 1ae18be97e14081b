"""With `half_close` this side goes on sending when the peer has closed its half (RFC 5041 §6.2.1)."""

from __future__ import annotations

import asyncio

import pytest

import pyiwarp
from pyiwarp import Access, Disconnected, Options, RemoteRegion
from pyiwarp.errors import WrongState
from tests.integration.loops import Runner, run
from tests.patience import PATIENCE

__all__ = ["run"]


def test_sending_goes_on_after_the_peers_fin(run: Runner) -> None:  # DDP-5041-6.2.1-04, DDP-5041-6.2.1-07
    async def main() -> None:
        heard: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        memory = bytearray(100_000)

        async def listener(conn: pyiwarp.Connection) -> None:
            """Closes its own half of TCP at once, and then only listens."""
            region = conn.register(memory, Access.LOCAL_WRITE | Access.REMOTE_WRITE)
            await conn.send(region.advertise())
            await conn.recv()
            assert conn._llp is not None
            assert conn._llp._transport is not None
            conn._llp._transport.write_eof()
            heard.set_result([message async for message in conn])
            await region.aclose()

        options = Options(half_close=True, linger=PATIENCE)
        async with await pyiwarp.serve(listener, "127.0.0.1") as server:
            conn = await pyiwarp.connect("127.0.0.1", server.port, options=options)
            remote = RemoteRegion.parse(await conn.recv())
            await conn.send(b"thanks")
            with pytest.raises(Disconnected, match="its half"):
                await conn.recv()
            await conn.send(b"still")
            await conn.write(bytes(range(256)), remote)
            await conn.send(b"here")
            with pytest.raises(WrongState, match="answer nothing"):
                await conn.fetch_add(remote, 1)
            await conn.close()
            assert await heard == [b"still", b"here"]
            assert memory[:256] == bytes(range(256))

    run(main)


def test_without_it_the_end_of_one_half_is_the_end(run: Runner) -> None:
    async def main() -> None:
        async def leaver(conn: pyiwarp.Connection) -> None:
            await conn.recv()

        async with (
            await pyiwarp.serve(leaver, "127.0.0.1") as server,
            pyiwarp.connect("127.0.0.1", server.port) as conn,
        ):
            await conn.send(b"bye")
            with pytest.raises(Disconnected):
                await conn.recv()
            with pytest.raises(Disconnected):
                await conn.send(b"too late")

    run(main)
