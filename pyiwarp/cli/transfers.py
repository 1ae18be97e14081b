"""The commands of the file service: what `serve`, `get`, `put` and `ls` do and print."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import typer

from pyiwarp import Connection, Options
from pyiwarp.cli.address import Address
from pyiwarp.cli.running import Interrupted, complain, end_server, fail
from pyiwarp.cli.terminal import counts_text, explain, progress_bar, rate, shown
from pyiwarp.errors import IwarpError
from pyiwarp.files.client import ClientSettings, FileClient, Progress, connected
from pyiwarp.files.errors import ChecksumMismatch, Refusal
from pyiwarp.files.messages import Entry
from pyiwarp.files.report import Report
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer
from pyiwarp.files.session import ServerSettings

__all__ = [
    "Get",
    "Put",
    "TransferFailed",
    "plan_gets",
    "plan_puts",
    "print_listing",
    "run_transfers",
    "serve_until_stopped",
    "summary",
]

MARKS = {"directory": "/", "link": "@", "other": "?"}


def summary(report: Report) -> str:
    """A transfer in one line."""
    name = shown(report.name)
    if report.error:
        return f"{report.direction} {name}: {shown(report.error)}"
    return (
        f"{report.direction} {name}: {report.nbytes:,} octets in {report.seconds:.2f} s, "
        f"{rate(report.nbytes, report.seconds)}, {report.fpdus_sent + report.fpdus_received:,} FPDUs, "
        f"{report.verified_by} ok"
    )


def _json(event: str, data: dict[str, object]) -> str:
    return jsonlib.dumps({"event": event} | data)


# --- get and put -----------------------------------------------------------------------------------------------------


class TransferFailed(IwarpError):
    """A transfer failed, and the connection with it."""


class Get(NamedTuple):
    """Get the server's file `name` into the file `path`."""

    name: str
    path: Path

    async def run(self, client: FileClient, progress: Progress) -> Report:
        """Do it."""
        return await client.get(self.name, self.path, progress)

    def state(self, client: FileClient) -> str:
        """What is stored after it failed."""
        with suppress(OSError):
            if self.path.exists():
                return f"the old {shown(str(self.path))} is unchanged"
        return "nothing was stored"


class Put(NamedTuple):
    """Put the file `path` on the server as `name`."""

    name: str
    path: Path

    async def run(self, client: FileClient, progress: Progress) -> Report:
        """Do it."""
        return await client.put(self.path, self.name, progress)

    def state(self, client: FileClient) -> str:
        """What is stored after it failed."""
        return "whether the server stored it is not known" if client.committed else "the server has stored nothing"


def plan_gets(names: Sequence[str], output: str) -> list[Get]:
    """The transfers of `get`; raises a usage error for arguments that do not fit together."""
    if not names:
        raise typer.BadParameter("name a file: HOST/NAME, or HOST NAME...")
    for name in names:
        _check_file(name)
    to = Path(output)
    into_directory = to.is_dir()
    if not into_directory and (len(names) > 1 or output.endswith("/")):
        several = "; several files need one" if len(names) > 1 else ""
        raise typer.BadParameter(f"{shown(output)} is not a directory{several}")
    gets = [Get(name, to / name.rpartition("/")[2] if into_directory else to) for name in names]
    _check_distinct([str(get.path) for get in gets])
    return gets


def plan_puts(paths: Sequence[str], place: Address, name: str) -> list[Put]:
    """The transfers of `put`; raises a usage error for arguments that do not fit together."""
    if name and not name.endswith("/") and len(paths) > 1:
        raise typer.BadParameter("--as names one file")
    puts = []
    for path in paths:
        _check_file(path)
        last = Path(path).name
        puts.append(Put(place.names([name + last if name.endswith("/") else name or last])[0], Path(path)))
    _check_distinct([put.name for put in puts])
    return puts


def _check_file(name: str) -> None:
    if name.endswith("/"):
        raise typer.BadParameter(f"{shown(name)} names a directory; only files are transferred")


def _check_distinct(names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            raise typer.BadParameter(f"{count} files would become {shown(name)}")


async def run_transfers(
    place: Address,
    transfers: Sequence[Get | Put],
    settings: ClientSettings,
    *,
    json: bool = False,
) -> None:
    """Run all of them over one connection; a refused file does not stop the others, but the exit code is 1 then."""
    failed = False
    async with connected(place.host, place.port, settings) as client:
        if json:
            print(_json("connected", _agreement(client.connection) | {"digest": client.digest.value}), flush=True)
        for transfer in transfers:
            failed |= not await _run_one(client, transfer, json=json)
    if failed:
        raise typer.Exit(1)


async def _run_one(client: FileClient, transfer: Get | Put, *, json: bool) -> bool:
    """Whether it succeeded; raises if the connection has ended."""
    name = shown(transfer.name)
    try:
        with progress_bar(transfer.name, visible=not json) as progress:
            report = await transfer.run(client, progress)
    except asyncio.CancelledError:
        raise Interrupted(f"{name}: interrupted; {transfer.state(client)}") from None
    except (IwarpError, OSError) as error:
        line = f"{name}: {explain(error)}; {transfer.state(client)}"
        if isinstance(error, IwarpError) and not isinstance(error, (Refusal, ChecksumMismatch)):
            raise TransferFailed(line) from error
        complain(line)
        return False
    print(_json("transfer", report.data()) if json else summary(report), flush=True)
    return True


def _agreement(connection: Connection) -> dict[str, object]:
    """What MPA startup agreed on."""
    agreement = connection.agreement
    return {
        "peer": connection.peername,
        "revision": agreement.revision,
        "crc": agreement.crc,
        "markers_sent": agreement.send_markers,
        "markers_received": agreement.receive_markers,
        "ird": agreement.ird,
        "ord": agreement.ord,
        "private_data": connection.private_data.decode(errors="replace"),
    }


# --- ls --------------------------------------------------------------------------------------------------------------


async def print_listing(place: Address, options: Options, *, patience: float, json: bool) -> None:
    """Print the directory's entries as they arrive, so that a directory of any size needs no memory."""
    async with connected(place.host, place.port, ClientSettings(patience=patience, options=options)) as client:
        try:
            async for entry in client.entries(place.path):
                print(jsonlib.dumps(entry._asdict()) if json else _line(entry))
        except Refusal as error:
            fail(f"{shown(place.path or 'the server')}: {explain(error)}")


def _line(entry: Entry) -> str:
    try:
        modified = datetime.fromtimestamp(entry.modified).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        modified = "?"
    size = f"{entry.nbytes:,}" if entry.kind == "file" else "-"
    return f"{size:>19}  {modified:16}  {shown(entry.name)}{MARKS.get(entry.kind, '')}"


# --- serve -----------------------------------------------------------------------------------------------------------


class _HarmlessFormatter(logging.Formatter):
    """Log lines can quote what a peer sent: characters that control a terminal are escaped."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return shown(super().formatMessage(record))


async def serve_until_stopped(directory: Path, host: str, port: int, settings: ServerSettings, *, json: bool) -> None:
    """Serve until SIGINT or SIGTERM: exit code 0 if no transfer was going on then, 1 if one was interrupted."""
    _log_to_stderr()
    with Root(directory) as root:
        async with FileServer(root, settings, _print_json if json else _print_summary) as server:
            await server.start(host, port)
            _announce(root, Address(host, server.port), settings, json=json)
            with suppress(asyncio.CancelledError):
                await server.wait_closed()
            interrupted = server.transfers
    seen = {"refusals": dict(server.refusals), "listener": server.counters._asdict()}
    refused = server.counters.refusals | server.refusals
    told = f"refused: {counts_text(refused)}" if refused else ""
    end_server(interrupted, "transfer", told, seen if json else None)


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_HarmlessFormatter("%(asctime)s  %(message)s", datefmt="%H:%M:%S"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("pyiwarp.files").setLevel(logging.INFO)


def _announce(root: Root, place: Address, settings: ServerSettings, *, json: bool) -> None:
    if json:
        print(_json("listening", {"host": place.host, "port": place.port}), flush=True)
        return
    mode = "read-only" if settings.read_only else "get and put"
    print(f"serving {shown(str(root.path))} at {place}, {mode}; Ctrl-C stops", flush=True)


def _print_summary(report: Report) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {report.peer}  {summary(report)}", flush=True)


def _print_json(report: Report) -> None:
    print(_json("transfer", report.data()), flush=True)
