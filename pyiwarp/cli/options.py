"""The options that several commands share, and the connection options that they give."""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.running import LoopName

if TYPE_CHECKING:
    from pyiwarp import Options
    from pyiwarp.capture import Capture
    from pyiwarp.sockets import StreamOptions

__all__ = [
    "CrcOption",
    "EitherCrcOption",
    "FsyncOption",
    "HostOption",
    "JsonOption",
    "LoopOption",
    "MarkersOption",
    "MaxFileOption",
    "ModeOption",
    "MulpduOption",
    "PcapngOption",
    "PeerOption",
    "ReserveOption",
    "RevisionOption",
    "ServerArgument",
    "Sha256Option",
    "TimeoutOption",
    "TimesOption",
    "address",
    "capture_in",
    "connection_options",
    "endpoint_address",
    "listening_address",
    "octets",
    "peer_port",
    "stream_options",
    "tool_options",
]

STARTUP_TIMEOUT = 10.0
LINGER = 5.0

ServerArgument = Annotated[str, typer.Argument(metavar="HOST[:PORT][/PATH]", help="The file server; [IPv6]:PORT too.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print data, one JSON object per line.")]
FsyncOption = Annotated[
    bool, typer.Option("--fsync", help="Write received files to the disk (fsync) before reporting them.")
]
Sha256Option = Annotated[
    bool, typer.Option("--sha256", help="Verify files by SHA-256, also where both sides have the faster BLAKE3.")
]
ModeOption = Annotated[
    bool,
    typer.Option(
        "--mode", help="Give the new file the permissions of the sent one; a new name is subject to the umask."
    ),
]
TimesOption = Annotated[bool, typer.Option("--times", help="The new file gets the time of change of the file.")]
TimeoutOption = Annotated[
    float, typer.Option(min=0.1, help="Seconds without progress after which a peer that owes an answer is given up.")
]
LoopOption = Annotated[LoopName, typer.Option(help="The event loop.")]
CrcOption = Annotated[
    bool,
    typer.Option("--crc/--no-crc", help="CRC32C; it is off only if both sides ask for that."),
]
MarkersOption = Annotated[bool, typer.Option("--markers", help="Ask the peer for MPA markers.")]
RevisionOption = Annotated[int, typer.Option(min=1, max=2, help="MPA revision of the Request.")]
MulpduOption = Annotated[
    int | None,
    typer.Option(
        min=128,
        max=64768,
        help="MULPDU in octets; follows TCP's segment size if not given.",
    ),
]

PcapngOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        dir_okay=False,
        help="Write every octet to a capture for Wireshark; - is standard output, and text goes to standard error.",
    ),
]


def capture_in(path: Path | None) -> Capture | None:
    """A capture in the file `path`, or None without one, closed when the command ends; raises a usage error.

    For `-` it has standard output to itself: what is printed later goes to standard error.
    """
    if path is None:
        return None
    from pyiwarp.capture import Capture

    try:
        capture = Capture(_standard_output() if path == Path("-") else path)
    except OSError as error:
        raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from None
    atexit.register(capture.close)  # when every connection has ended, however the command does
    return capture


_UNITS: Final[dict[str, int]] = {"": 1, "B": 1}
for _power, _unit in enumerate("KMGT", 1):
    _UNITS.update({_unit: 1000**_power, f"{_unit}B": 1000**_power, f"{_unit}IB": 1024**_power})


def octets(text: str) -> int:
    """Parse a size, as 1000, 500M (10^6 octets) or 2GiB (2^30 octets); raises a usage error."""
    digits = text.rstrip("KMGTIBkmgtib")
    unit = text[len(digits) :].upper()
    if not digits.isdecimal() or not digits.isascii() or unit not in _UNITS:
        raise typer.BadParameter(f"{text!r} is no size; write 1000, 500M or 2GiB")
    return int(digits) * _UNITS[unit]


MaxFileOption = Annotated[
    int | None,
    typer.Option(parser=octets, metavar="SIZE", help="The largest file that a client may send, as 500M or 2GiB."),
]
ReserveOption = Annotated[
    int | None,
    typer.Option(parser=octets, metavar="SIZE", help="Disk space that stays free: 1GiB or 5 % of the disk by default."),
]


def _standard_output() -> int:
    """A file descriptor for standard output, which is standard error from now on; raises `OSError` if it is closed."""
    descriptor = os.dup(1)
    os.dup2(2, 1)
    return descriptor


def address(text: str) -> Address:
    """Parse HOST[:PORT][/PATH]; raises a usage error."""
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
    """Options of a connection that carries the messages of the file service."""
    from pyiwarp import Options
    from pyiwarp.files.messages import MESSAGE_LIMIT

    return Options(
        recv_size=MESSAGE_LIMIT,
        timeout=min(timeout, STARTUP_TIMEOUT),
        first_fpdu_timeout=timeout,
        fpdu_timeout=timeout,
        linger=min(timeout, LINGER),
        crc=crc,
        markers=markers,
        revision=revision,
        mulpdu=mulpdu,
        capture=capture_in(pcapng),
    )


def _profiles() -> list[str]:
    """The names of the profiles, for the shell to complete."""
    from pyiwarp.profile import PROFILES

    return list(PROFILES)


PeerOption = Annotated[
    str,
    typer.Option(
        metavar="PROFILE",
        autocompletion=_profiles,
        help="The peer's profile: rfc, or siw for the Linux kernel's soft-iWARP.",
    ),
]
EitherCrcOption = Annotated[
    bool | None,
    typer.Option("--crc/--no-crc", help="CRC32C; by default as the peer's profile has it."),
]
HostOption = Annotated[str, typer.Option(help="Address to listen on as server; 0.0.0.0 or :: for all.")]


def endpoint_address(text: str, port: int) -> Address:
    """Parse HOST[:PORT], with `port` as the default; raises a usage error."""
    try:
        place = Address.parse(text, port)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.path:
        raise typer.BadParameter(f"{text!r} has a path; write HOST or HOST:PORT")
    peer_port(place.port)
    return place


def listening_address(text: str, host: str = "127.0.0.1") -> tuple[str, int]:
    """Parse [HOST:]PORT, with `host` as the default; raises a usage error."""
    named, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        raise typer.BadParameter(f"{text!r} is not [HOST:]PORT")
    return named.strip("[]") or host, int(port)


def peer_port(port: int) -> int:
    """The port of a peer; raises a usage error for 0, by which a server lets the system choose."""
    if not port:
        raise typer.BadParameter("port 0 is for servers")
    return port


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
    """Options of a connection to a peer with the profile `peer`; raises a usage error."""
    from pyiwarp import Options
    from pyiwarp.errors import UsageError
    from pyiwarp.profile import profile_named

    try:
        profile = profile_named(peer)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    return Options(
        timeout=min(timeout, STARTUP_TIMEOUT),
        first_fpdu_timeout=timeout,
        fpdu_timeout=timeout,
        linger=min(timeout, LINGER),
        crc=crc,
        markers=markers,
        revision=revision,
        mulpdu=mulpdu,
        profile=profile,
        capture=capture_in(pcapng),
    )


def stream_options(
    peer: str,
    timeout: float,
    crc: bool | None,
    *,
    mulpdu: int | None = None,
    pcapng: Path | None = None,
    keepalive: float | None = None,
    iomaps: int = 0,
) -> StreamOptions:
    """Options of a stream to a peer with the profile `peer`, which may be silent; raises a usage error."""
    from dataclasses import replace

    from pyiwarp.errors import UsageError
    from pyiwarp.sockets import StreamOptions

    below = tool_options(peer, timeout, crc, mulpdu=mulpdu, pcapng=pcapng)
    try:
        below = replace(below, ird=1, ord=1, first_fpdu_timeout=None, extensions=False, keepalive=keepalive)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    return StreamOptions(connection=below, iomaps=iomaps)
