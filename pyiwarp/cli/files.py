"""The commands of the file transfer: serve, get, put, ls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyiwarp.cli.address import DEFAULT_PORT
from pyiwarp.cli.options import (
    CrcOption,
    FsyncOption,
    JsonOption,
    LoopOption,
    MarkersOption,
    MulpduOption,
    PcapngOption,
    RevisionOption,
    ServerArgument,
    TimeoutOption,
    address,
    connection_options,
)
from pyiwarp.cli.running import LoopName, run

__all__ = ["get", "ls", "put", "serve"]

PATIENCE = 30.0


def serve(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="The directory; nothing else is served.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: is every one.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 lets the system choose.")] = DEFAULT_PORT,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every put.")] = False,
    clients: Annotated[int, typer.Option(min=1, help="Reject more clients at once than this.")] = 64,
    fsync: FsyncOption = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Serve the files of DIR: get by RDMA Write, put by RDMA Read. Anyone who can connect may use it."""
    from pyiwarp.cli.fileserver import ServerSettings
    from pyiwarp.cli.serving import serve_until_stopped

    options = connection_options(timeout=timeout, crc=crc, markers=markers, mulpdu=mulpdu, pcapng=pcapng)
    settings = ServerSettings(read_only=read_only, fsync=fsync, patience=timeout, clients=clients, options=options)
    run(serve_until_stopped(directory, host, port, settings, json=json), loop)


def get(
    server: ServerArgument,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Files below PATH.")] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DEST", help="A directory, or for one file its new name.")
    ] = Path(),
    fsync: FsyncOption = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Get files: the server RDMA Writes each into memory here, which becomes the file once its SHA-256 is right."""
    from pyiwarp.cli.errands import getting, run_errands

    place = address(server)
    errands = getting(place.names(names or []), output)
    options = connection_options(
        timeout=timeout, crc=crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng
    )
    run(run_errands(place, errands, options, patience=timeout, fsync=fsync, json=json), loop)


def put(
    server: ServerArgument,
    paths: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Files of this machine.")],
    name: Annotated[str, typer.Option("--as", metavar="NAME", help="For one file its name on the server.")] = "",
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Put files: the server RDMA Reads each from its mapped memory here, and keeps it below PATH."""
    from pyiwarp.cli.errands import putting, run_errands

    place = address(server)
    errands = putting(paths, place, name)
    options = connection_options(
        timeout=timeout, crc=crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng
    )
    run(run_errands(place, errands, options, patience=timeout, json=json), loop)


def ls(
    server: ServerArgument,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
) -> None:
    """List what the server's directory holds, or its subdirectory PATH."""
    from pyiwarp.cli.listing import print_listing

    run(print_listing(address(server), connection_options(timeout=timeout), patience=timeout, json=json), loop)
