"""The options of the commands that stand in for rping and perftest, and what they make of a connection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import CONNECTION, capture_in

if TYPE_CHECKING:
    from pyiwarp.connections.awaitable import Options

__all__ = ["EitherCrcOption", "HostOption", "PeerOption", "endpoint_address", "tool_options"]

PeerOption = Annotated[
    str,
    typer.Option(
        metavar="PROFILE",
        help="What the peer is: rfc, or siw for the Linux kernel's soft-iWARP.",
        rich_help_panel=CONNECTION,
    ),
]
EitherCrcOption = Annotated[
    bool | None,
    typer.Option("--crc/--no-crc", help="CRC32C; as the peer's profile says if not given.", rich_help_panel=CONNECTION),
]
HostOption = Annotated[str, typer.Option(help="Address that a server listens on; 0.0.0.0 or :: is every one.")]


def endpoint_address(text: str, port: int) -> Address:
    """What the user wrote as HOST[:PORT], or a usage error; `port` is for one who wrote none."""
    try:
        place = Address.parse(text, port)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.path:
        raise typer.BadParameter(f"{text!r} has a path; write HOST or HOST:PORT")
    if not place.port:
        raise typer.BadParameter("port 0 is for servers")
    return place


def tool_options(
    peer: str,
    timeout: float,
    crc: bool | None,
    *,
    markers: bool = False,
    revision: int = 2,
    mulpdu: int | None = None,
    pcapng: Path | None = None,
) -> Options:
    """Options of a connection to a peer whose profile is called `peer`, or a usage error."""
    from pyiwarp.connections.awaitable import Options
    from pyiwarp.errors import UsageError
    from pyiwarp.profile import profile_named

    try:
        profile = profile_named(peer)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    return Options(
        timeout=min(timeout, 10.0),
        first_fpdu_timeout=timeout,
        linger=min(timeout, 5.0),
        crc=crc,
        markers=markers,
        revision=revision,
        mulpdu=mulpdu,
        profile=profile,
        capture=capture_in(pcapng),
    )
