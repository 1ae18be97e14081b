"""What `serve` does: a file server until the user stops it, a line for each file that it moved."""

from __future__ import annotations

import asyncio
import json as jsonlib
import logging
import sys
import time
from contextlib import suppress
from pathlib import Path

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.fileserver import FileServer, ServerSettings
from pyiwarp.cli.onscreen import shown
from pyiwarp.cli.report import Report
from pyiwarp.cli.root import Root

__all__ = ["serve_until_stopped"]


async def serve_until_stopped(directory: Path, host: str, port: int, settings: ServerSettings, *, json: bool) -> None:
    """Serve until SIGINT or SIGTERM, which end with 0 if no transfer was underway and with 1 if one was broken off."""
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("pyiwarp.cli").setLevel(logging.INFO)
    with Root(directory) as root:
        async with FileServer(root, settings, _tell_as_json if json else _tell) as server:
            await server.start(host, port)
            _announce(root, Address(host, server.port), settings, json=json)
            with suppress(asyncio.CancelledError):
                await server.wait_closed()
            broken_off = server.transfers
    plural = "" if broken_off == 1 else "s"
    print(f"pyiwarp: stopped; {broken_off} transfer{plural} broken off", file=sys.stderr)
    if broken_off:
        raise typer.Exit(1)


def _announce(root: Root, place: Address, settings: ServerSettings, *, json: bool) -> None:
    if json:
        print(jsonlib.dumps({"event": "listening", "host": place.host, "port": place.port}), flush=True)
        return
    mode = "read-only" if settings.read_only else "get and put"
    print(f"serving {shown(str(root.path))} at {place}, {mode}; Ctrl-C stops", flush=True)


def _tell(report: Report) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {report.peer}  {report}", flush=True)


def _tell_as_json(report: Report) -> None:
    print(jsonlib.dumps({"event": "transfer"} | report.data()), flush=True)
