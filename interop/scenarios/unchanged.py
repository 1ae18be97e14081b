"""Ordinary Python programs, unchanged, over `pyiwarp run`, and C programs on librdmacm's rsockets at the other end.

The Python programs know the module `socket` alone. `--check` ends one with another status if anything was not over MPA.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from interop.peer import HERE, Can, Role
from interop.stage import Stage

from .commands import Ours, port_of, process, program, server
from .preloaded import AMOUNT, IPERF_PORT, PRELOAD
from .registry import LIMIT, scenario

_PROGRAMS = Path(__file__).parents[1] / "programs"
_RSTREAM_PORT = 7471
_RSTREAM = ("4096", "20", "3")


@asynccontextmanager
async def _unchanged(stage: Stage, file: str, *words: str) -> AsyncIterator[Ours]:
    """A Python program with its sockets over iWARP; it has ended, well, when the block has."""
    run = (sys.executable, "-m", "pyiwarp", "run", "--check", "--peer", stage.peer.kind.profile.name)
    async with process(*run, str(_PROGRAMS / file), *words) as running:
        yield running


@scenario("unchanged", roles=(Role.PEER_CONNECTS,), needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def http_server_and_curl(stage: Stage) -> None:
    """http.server with `socket` over iWARP gives curl 1,000,003 octets, twice."""
    octets = random.Random("unchanged").randbytes(1_000_003)
    digest = hashlib.sha256(octets).hexdigest()
    with tempfile.TemporaryDirectory() as directory:
        await asyncio.to_thread((Path(directory) / "file").write_bytes, octets)
        async with _unchanged(stage, "http_once.py", directory, "2") as here:
            place = f"{stage.peer.programs().host_address}:{(await here.tells())['port']}"
            for _ in range(2):
                said = await program(stage, f"{PRELOAD} curl -sS -o /tmp/got http://{place}/file && sha256sum /tmp/got")
                stage.check(said.split()[0] == digest, "curl got other octets")


@scenario("unchanged", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def iperf_and_sockets(stage: Stage) -> None:
    """A Python program receives what iperf 2 sends, or sends 1 MiB to iperf's server."""
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"{PRELOAD} iperf -s -P 1 -p {IPERF_PORT} -f k", IPERF_PORT) as place,
            _unchanged(stage, "pour.py", HERE, str(port_of(place)), str(AMOUNT)),
        ):
            return
    async with _unchanged(stage, "count.py") as here:
        address, port = stage.peer.programs().host_address, (await here.tells())["port"]
        await program(stage, f"{PRELOAD} iperf -c {address} -p {port} -n {AMOUNT}")
        came = (await here.tells())["came"]
        stage.check(AMOUNT <= came < 2 * AMOUNT, f"iperf sent {came} octets")


@scenario("unchanged", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def rstream_and_sockets(stage: Stage) -> None:
    """rstream and a Python program: 3 × 20 messages of 4,096 octets each way, every octet verified."""
    size, count, iterations = _RSTREAM
    theirs = f"rstream -S {size} -C {count} -I {iterations} -T b -T v"
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"{theirs} -b {stage.peer.programs().address} -p {_RSTREAM_PORT}", _RSTREAM_PORT) as place,
            _unchanged(stage, "rstream.py", *_RSTREAM, HERE, str(port_of(place))) as here,
        ):
            told = await here.tells()
    else:
        async with _unchanged(stage, "rstream.py", *_RSTREAM) as here:
            address, port = stage.peer.programs().host_address, (await here.tells())["port"]
            said = await program(stage, f"{theirs} -s {address} -p {port}")
            stage.check("verification failed" not in said, f"rstream said: {said}")
            told = await here.tells()
    stage.check(told == {"played": int(iterations)}, f"ours tells {told}")
