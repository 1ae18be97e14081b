"""The words of `pyiwarp conform`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "ControlOption",
    "HostArgument",
    "JsonOption",
    "JunitOption",
    "LevelName",
    "LevelOption",
    "ListOption",
    "ListenOption",
    "OnlyOption",
    "PatienceOption",
    "PortArgument",
    "ProfileOption",
    "ReachableAtOption",
    "SkipOption",
    "StrictOption",
    "TimeoutOption",
]

WHICH = "Which cases"
REPORT = "Report"
PEER = "The peer"


class LevelName(StrEnum):
    """What the peer runs."""

    BARE = "bare"
    RPING = "rping"
    TARGET = "target"


HostArgument = Annotated[str | None, typer.Argument(help="Where the peer listens.", show_default=False)]
PortArgument = Annotated[int | None, typer.Argument(min=1, max=65535, help="Its TCP port.", show_default=False)]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="[HOST:]PORT", help="Wait here for a peer that connects.", rich_help_panel=PEER),
]
ControlOption = Annotated[
    str | None,
    typer.Option(metavar="[HOST:]PORT", help="Where its target program takes commands.", rich_help_panel=PEER),
]
ReachableAtOption = Annotated[
    str | None,
    typer.Option(metavar="HOST[:PORT]", help="Where the peer finds --listen.", rich_help_panel=PEER),
]
LevelOption = Annotated[
    LevelName | None,
    typer.Option(help="What the peer runs; target with --control, else bare.", rich_help_panel=PEER),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Its known deviations: siw, or a TOML file.", rich_help_panel=PEER),
]
ListOption = Annotated[bool, typer.Option("--list", help="List the cases and end.", rich_help_panel=WHICH)]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CASES", help="Id, its beginning, pattern, group.", rich_help_panel=WHICH),
]
SkipOption = Annotated[list[str] | None, typer.Option(metavar="CASES", help="Leave these out.", rich_help_panel=WHICH)]
StrictOption = Annotated[bool, typer.Option("--strict", help="Hold the peer to SHOULDs too.", rich_help_panel=WHICH)]
TimeoutOption = Annotated[float, typer.Option(min=0.05, help="Seconds that one reaction may take.")]
PatienceOption = Annotated[float, typer.Option(min=0.05, help="Seconds to wait for a peer that connects by itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.", rich_help_panel=REPORT)]
JunitOption = Annotated[
    Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write JUnit XML.", rich_help_panel=REPORT)
]
