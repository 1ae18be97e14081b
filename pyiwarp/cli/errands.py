"""What `get` and `put` do: one connection, one file after the other, a line for each."""

from __future__ import annotations

import asyncio
import json as jsonlib
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.faults import ChecksumMismatch, Interrupted, Refusal
from pyiwarp.cli.fileclient import ClientSettings, FileClient, Progress, connected
from pyiwarp.cli.onscreen import explain, shown
from pyiwarp.cli.progress import progress_bar
from pyiwarp.cli.report import Report
from pyiwarp.cli.running import complain
from pyiwarp.connections.awaitable import Connection, Options
from pyiwarp.errors import IwarpError

__all__ = ["Broken", "Get", "Put", "getting", "putting", "run_errands"]


class Broken(IwarpError):
    """A transfer failed and the connection with it."""


class Get(NamedTuple):
    """Get the server's file `name` into the file `path`."""

    name: str
    path: Path

    async def run(self, client: FileClient, progress: Progress) -> Report:
        """Do it."""
        return await client.get(self.name, self.path, progress)

    def state(self, client: FileClient) -> str:
        """What there is now that it failed."""
        with suppress(OSError):
            if self.path.exists():
                return f"the old {shown(str(self.path))} is as it was"
        return "nothing was kept"


class Put(NamedTuple):
    """Put the file `path` on the server as `name`."""

    name: str
    path: Path

    async def run(self, client: FileClient, progress: Progress) -> Report:
        """Do it."""
        return await client.put(self.path, self.name, progress)

    def state(self, client: FileClient) -> str:
        """What there is now that it failed."""
        return "whether the server stored it is not known" if client.committed else "the server has stored nothing"


def getting(names: Sequence[str], output: Path) -> list[Get]:
    """The errands of `get`; raises a usage error for what cannot be meant."""
    if not names:
        raise typer.BadParameter("name a file: HOST/NAME, or HOST NAME...")
    into_directory = output.is_dir()
    if len(names) > 1 and not into_directory:
        raise typer.BadParameter(f"{shown(str(output))} is no directory; several files go into one")
    errands = [Get(name, output / name.rstrip("/").rpartition("/")[2] if into_directory else output) for name in names]
    _check_distinct([str(errand.path) for errand in errands])
    return errands


def putting(paths: Sequence[Path], place: Address, name: str) -> list[Put]:
    """The errands of `put`; raises a usage error for what cannot be meant."""
    if name and len(paths) > 1:
        raise typer.BadParameter("--as names one file")
    errands = [Put(place.names([name or path.name])[0], path) for path in paths]
    _check_distinct([errand.name for errand in errands])
    return errands


def _check_distinct(names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise typer.BadParameter(f"{count} files would become {shown(name)}")


async def run_errands(
    place: Address,
    errands: Sequence[Get | Put],
    options: Options,
    *,
    patience: float,
    fsync: bool = False,
    json: bool = False,
) -> None:
    """Run all; a refused file does not stop the others, but the end is 1 then."""
    failed = False
    settings = ClientSettings(patience=patience, fsync=fsync, options=options)
    async with connected(place.host, place.port, settings) as client:
        if json:
            print(jsonlib.dumps(_agreed(client.connection)), flush=True)
        for errand in errands:
            failed |= not await _run_one(client, errand, json=json)
    if failed:
        raise typer.Exit(1)


async def _run_one(client: FileClient, errand: Get | Put, *, json: bool) -> bool:
    """Whether it went well; raises if the connection can do no more."""
    name = shown(errand.name)
    try:
        with progress_bar(errand.name, visible=not json) as progress:
            report = await errand.run(client, progress)
    except asyncio.CancelledError:
        raise Interrupted(f"{name}: interrupted; {errand.state(client)}") from None
    except (IwarpError, OSError) as error:
        line = f"{name}: {explain(error)}; {errand.state(client)}"
        if isinstance(error, IwarpError) and not isinstance(error, (Refusal, ChecksumMismatch)):
            raise Broken(line) from error
        complain(line)
        return False
    print(jsonlib.dumps({"event": "transfer"} | report.data()) if json else report, flush=True)
    return True


def _agreed(connection: Connection) -> dict[str, object]:
    """What MPA startup settled."""
    agreement = connection.agreement
    return {
        "event": "connected",
        "peer": connection.peername,
        "revision": agreement.revision,
        "crc": agreement.crc,
        "markers_sent": agreement.send_markers,
        "markers_received": agreement.receive_markers,
        "ird": agreement.ird,
        "ord": agreement.ord,
        "private_data": connection.private_data.decode(errors="replace"),
    }
