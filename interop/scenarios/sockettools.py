"""librdmacm's programs on rsockets, unchanged, against our commands of the same names."""

from __future__ import annotations

import asyncio
import hashlib
import random
import tempfile
from pathlib import Path

from interop.peer import HERE, Can, Role
from interop.stage import Stage
from pyiwarp.sockets import StreamOptions, start_server

from .commands import PATIENCE, ours, port_of, program, server
from .registry import LIMIT, scenario

_RSTREAM_PORT, _RCOPY_PORT = 7471, 7427
_OCTETS = 3_000_001


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def _rstream(stage: Stage, theirs: str, *more: str) -> None:
    """Theirs and ours, told the same; every octet is verified at both ends."""
    words = ("-S", "10000", "-C", "20", "-I", "5", "-T", "v")
    theirs = f"{theirs} -T b {' '.join(words)}"
    if stage.pyiwarp_connects:
        async with (
            server(stage, f"{theirs} -b {stage.peer.programs().address}", _RSTREAM_PORT) as place,
            ours(stage, "rstream", "-s", HERE, "-p", str(port_of(place)), *words, *more) as here,
        ):
            told = await here.tells()
    else:
        async with ours(stage, "rstream", "-p", "0", *words, *more) as here:
            port = (await here.tells())["port"]
            said = await program(stage, f"{theirs} -s {stage.peer.programs().host_address} -p {port}")
            stage.check("verification failed" not in said, f"{theirs} said: {said}")
            told = await here.tells()
    stage.check((told["size"], told["messages"], told["iterations"]) == (10_000, 20, 5), f"ours tells {told}")


@scenario("sockettools", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def rstream_and_ours(stage: Stage) -> None:
    """rstream and `pyiwarp rstream`: 5 × 20 messages of 10,000 octets each way, every octet verified."""
    await _rstream(stage, "rstream")


@scenario("sockettools", roles=(Role.PEER_CONNECTS,), needs=Can.RUN_PROGRAMS)
async def rstream_without_inline(stage: Stage) -> None:
    """rstream connects without inline data, as for its bandwidth series."""
    connection = stage.options(ird=1, ord=1, first_fpdu_timeout=None, extensions=False)

    def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await start_server(leave, HERE, options=StreamOptions(connection=connection)) as listening:
        address = stage.peer.programs().host_address
        client = await stage.peer.programs().start(f"rstream -s {address} -p {listening.port} -T b -i 0")
        await client.wait(PATIENCE)
    refused = "rconnect: Operation not supported"
    stage.compare("rstream without inline data", refused if refused in client.text else "connects", "connects")


@scenario("sockettools", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def riostream_and_ours(stage: Stage) -> None:
    """riostream and `pyiwarp rstream --io`: 5 × 20 direct writes of 10,000 octets each way, those due verified."""
    await _rstream(stage, "riostream", "--io")


@scenario("sockettools", needs=Can.RUN_PROGRAMS, timeout=4 * LIMIT)
async def rcopy_and_ours(stage: Stage) -> None:
    """rcopy and `pyiwarp rcopy`: a file of 3,000,001 octets; as a server ours has it below its directory."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "file"
        if stage.pyiwarp_connects:
            file.write_bytes(random.Random(stage.role.value).randbytes(_OCTETS))
            await _copy_there(stage, file)
        else:
            await _copy_here(stage, file)


async def _copy_there(stage: Stage, file: Path) -> None:
    programs = stage.peer.programs()
    await programs.start(f"rcopy -p {_RCOPY_PORT}", _RCOPY_PORT)  # for ever
    port = await programs.reach(_RCOPY_PORT)
    async with ours(stage, "rcopy", str(file), f"{HERE}:/tmp/copied", "-p", str(port)) as here:
        stage.check((await here.tells()).get("octets") == _OCTETS, "ours copied other than all")
    said = await program(stage, "sha256sum /tmp/copied")
    stage.check(said.split()[0] == _digest(file), f"the copy is another: {said}")


async def _copy_here(stage: Stage, file: Path) -> None:
    await program(stage, f"head -c {_OCTETS} /dev/urandom > /tmp/source")
    said = await program(stage, "sha256sum /tmp/source")
    async with ours(stage, "rcopy", "--root", str(file.parent), "-p", "0") as here:
        port = (await here.tells())["port"]
        address = stage.peer.programs().host_address
        text = await program(stage, f"rcopy /tmp/source {address}:/{file.name} -p {port}")
        stage.check("Gb/sec" in text, f"rcopy said: {text}")
        stage.check((await here.tells()).get("octets") == _OCTETS, "ours has other than all")
        here.stop()
    stage.check(said.split()[0] == _digest(file), "the copy is another")
