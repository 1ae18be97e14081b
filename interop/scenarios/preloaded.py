"""Ordinary programs, unchanged, whose TCP sockets librdmacm's librspreload makes rsockets.

Our side speaks nothing but MPA: a program whose library went back to plain TCP gets no answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from interop.peer import HERE, Can, Role
from interop.stage import Stage
from pyiwarp.sockets import StreamOptions, open_connection, start_server

from .commands import PATIENCE, ours, program, server
from .registry import LIMIT, scenario

__all__ = ["AMOUNT", "IPERF_PORT", "PRELOAD"]

PRELOAD: Final = "LD_PRELOAD=/usr/lib/x86_64-linux-gnu/rsocket/librspreload.so:/bin/linebuffer.so"
_OCTETS: Final = random.Random("preloaded").randbytes(1_000_003)
_DIGEST: Final = hashlib.sha256(_OCTETS).hexdigest()
_PEER_CONNECTS: Final = (Role.PEER_CONNECTS,)
IPERF_PORT: Final = 5001
AMOUNT: Final = 1 << 20
_NCAT_PORT: Final = 5002

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def _options(stage: Stage) -> StreamOptions:
    return StreamOptions(connection=stage.options(ird=1, ord=1, first_fpdu_timeout=None, extensions=False))


async def _serve(stage: Stage, handler: Handler, command: str, *, connections: int = 1) -> str:
    """Run `command` in the guest, with HOST and PORT replaced by where `handler` serves; what it said."""
    spoken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal spoken
        spoken += writer.get_extra_info("agreement") is not None
        with suppress(ConnectionError):
            await handler(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with await start_server(serve, HERE, options=_options(stage)) as listening:
        address = stage.peer.programs().host_address
        command = command.replace("HOST", address).replace("PORT", str(listening.port))
        said = await program(stage, command)
        listening.abort_clients()
    stage.check(spoken == connections, f"{spoken} connections by MPA, not {connections}")
    return said


# --- HTTP ------------------------------------------------------------------------------------------------------------


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Gives the octets to GET, and to PUT the digest of what was put."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii", "replace").lower()
    answer = _OCTETS
    if head.startswith("put"):
        if "expect: 100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(head.partition("content-length:")[2].split()[0])
        answer = hashlib.sha256(await reader.readexactly(length)).hexdigest().encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(answer) + answer)
    await writer.drain()


@scenario("preloaded", roles=_PEER_CONNECTS, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def curl(stage: Stage) -> None:
    """curl gets 1,000,003 octets by HTTP, and puts them."""
    get = f"{PRELOAD} curl -sS -o /tmp/got http://HOST:PORT/x && sha256sum /tmp/got"
    stage.check((await _serve(stage, _http, get)).split()[0] == _DIGEST, "curl got other octets")
    put = f"{PRELOAD} curl -sS -T /tmp/got http://HOST:PORT/x"
    stage.check((await _serve(stage, _http, put)).strip() == _DIGEST, "curl put other octets")


@scenario("preloaded", roles=_PEER_CONNECTS, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def curl_through_a_tunnel(stage: Stage) -> None:
    """curl gets 1,000,003 octets through `pyiwarp tunnel` from a server of TCP."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _http(reader, writer)
        writer.close()
        await writer.wait_closed()

    listening = await asyncio.start_server(serve, HERE, 0)
    target = listening.sockets[0].getsockname()[1]
    async with listening, ours(stage, "tunnel", f"iwarp:{HERE}:0", f"tcp:{HERE}:{target}") as here:
        port = (await here.tells())["port"]
        address = stage.peer.programs().host_address
        get = f"{PRELOAD} curl -sS -o /tmp/got http://{address}:{port}/x && sha256sum /tmp/got"
        stage.check((await program(stage, get)).split()[0] == _DIGEST, "curl got other octets")
        told = await here.tells()
        stage.check(told["back"] > len(_OCTETS) and "error" not in told, f"the tunnel tells {told}")
        here.stop()


@scenario("preloaded", roles=_PEER_CONNECTS, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def wget(stage: Stage) -> None:
    """GNU wget gets 1,000,003 octets by HTTP."""
    get = f"{PRELOAD} /bin/wget -q -O /tmp/got http://HOST:PORT/x && sha256sum /tmp/got"
    stage.check((await _serve(stage, _http, get)).split()[0] == _DIGEST, "wget got other octets")


# --- others ----------------------------------------------------------------------------------------------------------


async def _redis(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """ECHO, in Redis' protocol."""
    while head := await reader.readline():
        words = []
        for _ in range(int(head[1:])):
            nbytes = int((await reader.readline())[1:])
            words.append((await reader.readexactly(nbytes + 2))[:-2])
        word = words[-1] if words[0].upper() == b"ECHO" else b""
        writer.write(b"$%d\r\n%b\r\n" % (len(word), word))


@scenario("preloaded", roles=_PEER_CONNECTS, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def redis_cli(stage: Stage) -> None:
    """redis-cli asks twenty times and prints the answers."""
    said = await _serve(stage, _redis, f"{PRELOAD} redis-cli -h HOST -p PORT -r 20 ECHO hello")
    stage.check(said.split() == ["hello"] * 20, f"redis-cli said: {said}")


async def _backwards(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers when all has come."""
    writer.write((await reader.read())[::-1])


@scenario("preloaded", roles=_PEER_CONNECTS, needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def ncat(stage: Stage) -> None:
    """ncat sends, ends its direction, and prints what comes back then."""
    said = await _serve(stage, _backwards, f"seq 1000 | {PRELOAD} ncat HOST PORT 2> /dev/null")
    sent = "".join(f"{number}\n" for number in range(1, 1001))
    stage.check(said == sent[::-1], f"ncat said: {said[-200:]}")


@scenario("preloaded", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def iperf(stage: Stage) -> None:
    """iperf 2 sends 1 MiB, or receives it as a server."""
    if not stage.pyiwarp_connects:
        came = 0

        async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal came
            while octets := await reader.read(1 << 16):
                came += len(octets)

        await _serve(stage, count, f"{PRELOAD} iperf -c HOST -p PORT -n {AMOUNT}")
        stage.check(AMOUNT <= came < 2 * AMOUNT, f"iperf sent {came} octets")
        return
    command = f"{PRELOAD} iperf -s -P 1 -p {IPERF_PORT} -f k"
    async with server(stage, command, IPERF_PORT) as place:
        host, _, port = place.rpartition(":")
        _, writer = await open_connection(host, int(port), options=_options(stage))
        writer.write(bytes(AMOUNT))
        async with asyncio.timeout(PATIENCE):
            await writer.drain()
            writer.close()
            await writer.wait_closed()


@scenario("preloaded", roles=(Role.PYIWARP_CONNECTS,), needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def ncat_that_listens(stage: Stage) -> None:
    """ncat as a server, which waits with select, says hello to its client."""
    programs = stage.peer.programs()
    await programs.start(f"echo hello | {PRELOAD} ncat -l {programs.address} {_NCAT_PORT}", _NCAT_PORT)
    reader, writer = await open_connection(HERE, await programs.reach(_NCAT_PORT), options=_options(stage))
    async with asyncio.timeout(PATIENCE):
        stage.check(await reader.readline() == b"hello\n", "ncat says something else")
        writer.close()
        await writer.wait_closed()
    # its end says nothing: librspreload's select lets it wait, or takes its idle time for over
