"""The options that several commands share, and what they make of a connection."""

from __future__ import annotations

import atexit
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.running import LoopName

if TYPE_CHECKING:
    from pyiwarp.capture import Capture
    from pyiwarp.connections.awaitable import Options

__all__ = [
    "CrcOption",
    "FsyncOption",
    "JsonOption",
    "LoopOption",
    "MarkersOption",
    "MulpduOption",
    "PcapngOption",
    "RevisionOption",
    "ServerArgument",
    "TimeoutOption",
    "address",
    "capture_in",
    "connection_options",
]

CONNECTION = "Connection"
STARTUP_TIMEOUT = 10.0

ServerArgument = Annotated[
    str, typer.Argument(metavar="HOST[:PORT][/PATH]", help="Where the file server is; \\[IPv6]:PORT works too.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data, one JSON object per line.")]
FsyncOption = Annotated[bool, typer.Option("--fsync", help="Have received files on the disk before saying so.")]
TimeoutOption = Annotated[
    float, typer.Option(min=0.1, help="Give a peer up that owes something and is silent for so many seconds.")
]
LoopOption = Annotated[LoopName, typer.Option(help="The event loop.", rich_help_panel=CONNECTION)]
CrcOption = Annotated[
    bool, typer.Option("--crc/--no-crc", help="CRC32C; off only if both sides say so.", rich_help_panel=CONNECTION)
]
MarkersOption = Annotated[
    bool, typer.Option("--markers", help="Ask the peer for MPA markers.", rich_help_panel=CONNECTION)
]
RevisionOption = Annotated[
    int, typer.Option(min=1, max=2, help="MPA revision of the Request.", rich_help_panel=CONNECTION)
]
MulpduOption = Annotated[
    int | None,
    typer.Option(min=128, max=64768, help="Octets of an FPDU; follows TCP if not given.", rich_help_panel=CONNECTION),
]

PcapngOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", dir_okay=False, help="Take down every octet for Wireshark.", rich_help_panel=CONNECTION
    ),
]


def capture_in(path: Path | None) -> Capture | None:
    """A capture in the file `path`, if one is wanted, finished when the command ends; a usage error if it cannot be."""
    if path is None:
        return None
    from pyiwarp.capture import Capture

    try:
        capture = Capture(path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from None
    atexit.register(capture.close)  # when every connection has ended, however the command does
    return capture


def address(text: str) -> Address:
    """What the user wrote as HOST[:PORT][/PATH], or a usage error."""
    try:
        return Address.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def connection_options(
    *,
    timeout: float,
    crc: bool = True,
    markers: bool = False,
    revision: int = 2,
    mulpdu: int | None = None,
    pcapng: Path | None = None,
) -> Options:
    """Options of a connection that carries the file transfer's messages."""
    from pyiwarp.cli.fileproto import MESSAGE_LIMIT
    from pyiwarp.connections.awaitable import Options

    return Options(
        recv_size=MESSAGE_LIMIT,
        timeout=min(timeout, STARTUP_TIMEOUT),
        first_fpdu_timeout=timeout,
        linger=min(timeout, 5.0),
        crc=crc,
        markers=markers,
        revision=revision,
        mulpdu=mulpdu,
        capture=capture_in(pcapng),
    )
