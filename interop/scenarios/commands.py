"""Our own commands, in processes of their own, and programs of the peer's."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from interop.peer import HERE
from interop.stage import Stage

PATIENCE = 90.0


class Ours:
    """One of our own commands, in a process of its own, telling in lines of JSON what it does."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def tells(self) -> dict[str, Any]:
        """The next thing that it tells; an empty one at its end."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)
        return json.loads(line) if line else {}

    async def ended(self) -> None:
        """Wait for its end, which must be a good one."""
        _, complaints = await asyncio.wait_for(self._process.communicate(), PATIENCE)
        if self._process.returncode:
            raise AssertionError(f"it ended with status {self._process.returncode}: {complaints.decode()}")

    def stop(self) -> None:
        """Ask a server to end."""
        self._process.terminate()


@asynccontextmanager
async def ours(stage: Stage, *words: str) -> AsyncIterator[Ours]:
    """A command of ours that suits the peer; it has ended, well, when the block has."""
    profile = stage.peer.kind.profile.name
    async with process(sys.executable, "-m", "pyiwarp", *words, "--peer", profile, "--json") as running:
        yield running


@asynccontextmanager
async def process(*command: str) -> AsyncIterator[Ours]:
    """A process of our side that tells in lines of JSON; it has ended, well, when the block has."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    started = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
    try:
        running = Ours(started)
        yield running
        await running.ended()
    finally:
        if started.returncode is None:
            started.kill()
            await asyncio.wait_for(started.communicate(), PATIENCE)


PYVERBS = Path(__file__).parents[2] / "examples" / "pyverbs"


class OfPyverbs:
    """A program for pyverbs on the stand-in, in a process of its own."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line that it writes."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)).decode().strip()

    async def ended(self) -> str:
        """Wait for its end, which must be a good one; what else it has written."""
        said, complaints = await asyncio.wait_for(self._process.communicate(), PATIENCE)
        if self._process.returncode:
            raise AssertionError(f"it ended with status {self._process.returncode}: {complaints.decode()}")
        return said.decode()


@asynccontextmanager
async def pyverbs(name: str, *words: str) -> AsyncIterator[OfPyverbs]:
    """One of the examples for pyverbs; it ends with the block.

    Whatever the peer's profile is, the stand-in is told that it is siw: the stand-in confirms Sends by Reads of no
    octets, which each siw answers wrongly behind other Reads.
    """
    command = (sys.executable, "-m", "pyiwarp", "run", "--pyverbs", "--peer", "siw", str(PYVERBS / name), *words)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=environment)
    try:
        yield OfPyverbs(process)
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.wait_for(process.communicate(), PATIENCE)


async def program(stage: Stage, command: str) -> str:
    """Run a program of the peer's to its end; what it said."""
    running = await stage.peer.programs().start(command)
    status = await running.wait(PATIENCE)
    stage.check(status == 0, f"{command} ended with status {status}: {running.text}")
    return running.text


@asynccontextmanager
async def server(stage: Stage, command: str, port: int) -> AsyncIterator[str]:
    """A program of the peer's that listens on `port`: where our side reaches it. It must end well."""
    programs = stage.peer.programs()
    running = await programs.start(command, port)
    yield f"{HERE}:{await programs.reach(port)}"
    status = await running.wait(PATIENCE)
    stage.check(status == 0, f"{command} ended with status {status}: {running.text}")


def port_of(place: str) -> int:
    """The port of HOST:PORT."""
    return int(place.rpartition(":")[2])
