"""FPDUs are as large as TCP's segments allow, as TCP itself says it (RFC 5044 §4.5, §5.1)."""

from __future__ import annotations

import socket

import pyiwarp
from pyiwarp import Options
from pyiwarp.mpa import mulpdu_for
from tests.integration.loops import Runner, run

__all__ = ["run"]


def test_the_mulpdu_follows_tcps_segment_size(run: Runner) -> None:  # MPA-5044-4.5-06, MPA-5044-5.1-01, MPA-5044-3-02
    async def main() -> None:
        async def echo(conn: pyiwarp.Connection) -> None:
            async for message in conn:
                await conn.send(message)

        async with (
            await pyiwarp.serve(echo, "127.0.0.1") as server,
            pyiwarp.connect("127.0.0.1", server.port) as conn,
            pyiwarp.connect("127.0.0.1", server.port, options=Options(mulpdu=128)) as small,
        ):
            for each in (conn, small):
                await each.send(b"once there and back")
                await each.recv()
            assert conn._llp is not None
            assert conn._llp._socket is not None
            emss = conn._llp._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            now = mulpdu_for(emss, markers=False)  # loopback's segments grow as data flows; it is asked now and then
            assert 1000 < now / 2 <= conn.qp.stream.mulpdu <= now * 2
            assert small.qp.stream.mulpdu == 128  # what the program fixes stays

    run(main)
