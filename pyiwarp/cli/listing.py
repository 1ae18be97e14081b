"""What `ls` prints: a line for each entry, as it comes, so that a directory of any size needs no memory."""

from __future__ import annotations

import json as jsonlib
from datetime import datetime

from pyiwarp.cli.address import Address
from pyiwarp.cli.fileclient import ClientSettings, connected
from pyiwarp.cli.onscreen import shown
from pyiwarp.cli.root import Entry
from pyiwarp.connections.awaitable import Options

__all__ = ["print_listing"]

MARKS = {"directory": "/", "link": "@", "other": "?"}


async def print_listing(place: Address, options: Options, *, patience: float, json: bool) -> None:
    """Ask for the directory and print it."""
    async with connected(place.host, place.port, ClientSettings(patience=patience, options=options)) as client:
        async for entry in client.entries(place.path):
            print(jsonlib.dumps(entry._asdict()) if json else _line(entry))


def _line(entry: Entry) -> str:
    try:
        modified = datetime.fromtimestamp(entry.modified).strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):
        modified = "?"
    size = f"{entry.nbytes:,}" if entry.kind == "file" else "-"
    return f"{size:>19}  {modified:16}  {shown(entry.name)}{MARKS.get(entry.kind, '')}"
