"""The arguments of the file commands: serve, get, put, ls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pyiwarp.bounds import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cli.options import (
    CrcOption,
    FsyncOption,
    JsonOption,
    LoopOption,
    MarkersOption,
    MaxFileOption,
    ModeOption,
    MulpduOption,
    PcapngOption,
    ReserveOption,
    RevisionOption,
    ServerArgument,
    Sha256Option,
    TimeoutOption,
    TimesOption,
    address,
    connection_options,
    octets,
)
from pyiwarp.cli.running import LoopName, run
from pyiwarp.files import DEFAULT_PORT

__all__ = ["get", "ls", "put", "serve"]

PATIENCE = 30.0
IDLE = 300.0
IdleOption = Annotated[
    float, typer.Option(min=0.1, help="Seconds without a request after which a client is disconnected.")
]


def serve(
    directory: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", exists=True, file_okay=False, help="The directory; nothing outside it is served."
        ),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 or :: for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 lets the system choose.")] = DEFAULT_PORT,
    read_only: Annotated[bool, typer.Option("--read-only", help="Refuse every put.")] = False,
    clients: Annotated[int, typer.Option(min=1, help="The most clients at once; an idle one makes room.")] = 64,
    backlog: Annotated[
        int, typer.Option(min=1, help="The most connections in startup; the oldest that owes its Request makes room.")
    ] = DEFAULT_BACKLOG,
    per_address: Annotated[int, typer.Option(min=1, help="The most of these from one address.")] = PER_ADDRESS,
    max_file: MaxFileOption = None,
    max_client: Annotated[
        int | None,
        typer.Option(parser=octets, metavar="SIZE", help="The most octets that one host may put at the same time."),
    ] = None,
    reserve: ReserveOption = None,
    fsync: FsyncOption = False,
    sha256: Sha256Option = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    idle: IdleOption = IDLE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Serve the files of a directory.

    get is served by RDMA Write, put by RDMA Read. There is no authentication: anyone who can connect may use it.
    """
    from pyiwarp.cli.transfers import serve_until_stopped
    from pyiwarp.files import ServerSettings

    options = connection_options(timeout=timeout, crc=crc, markers=markers, mulpdu=mulpdu, pcapng=pcapng)
    settings = ServerSettings(
        read_only=read_only,
        fsync=fsync,
        sha256=sha256,
        patience=timeout,
        idle=idle,
        clients=clients,
        backlog=backlog,
        per_address=per_address,
        max_file=max_file,
        max_client=max_client,
        reserve=reserve,
        options=options,
    )
    run(serve_until_stopped(directory, host, port, settings, json=json), loop, keep_going=True)


def get(
    server: ServerArgument,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Files below PATH.")] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DEST", help="A directory, or the new name of a single file.")
    ] = ".",
    mode: ModeOption = False,
    times: TimesOption = False,
    fsync: FsyncOption = False,
    sha256: Sha256Option = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Get files from a server.

    The server RDMA Writes each into memory here; it is stored if its digest (BLAKE3 or SHA-256) is right.
    """
    from pyiwarp.cli.transfers import plan_gets, run_transfers
    from pyiwarp.files import ClientSettings

    place = address(server)
    transfers = plan_gets(place.names(names or []), output)
    options = connection_options(
        timeout=timeout, crc=crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng
    )
    settings = ClientSettings(patience=timeout, fsync=fsync, mode=mode, times=times, sha256=sha256, options=options)
    run(run_transfers(place, transfers, settings, json=json), loop, keep_going=True)


def put(
    server: ServerArgument,
    paths: Annotated[list[str], typer.Argument(metavar="FILE...", help="Local files.")],
    name: Annotated[
        str, typer.Option("--as", metavar="NAME", help="The name of a single file on the server; NAME/ is a directory.")
    ] = "",
    mode: ModeOption = False,
    times: TimesOption = False,
    sha256: Sha256Option = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
    crc: CrcOption = True,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Put files on a server.

    The server RDMA Reads each from memory here, and stores it below PATH if its digest (BLAKE3 or SHA-256) is right.
    """
    from pyiwarp.cli.transfers import plan_puts, run_transfers
    from pyiwarp.files import ClientSettings

    place = address(server)
    transfers = plan_puts(paths, place, name)
    options = connection_options(
        timeout=timeout, crc=crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng
    )
    settings = ClientSettings(patience=timeout, mode=mode, times=times, sha256=sha256, options=options)
    run(run_transfers(place, transfers, settings, json=json), loop, keep_going=True)


def ls(
    server: ServerArgument,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    loop: LoopOption = LoopName.AUTO,
) -> None:
    """List a server's directory."""
    from pyiwarp.cli.transfers import print_listing

    run(print_listing(address(server), connection_options(timeout=timeout), patience=timeout, json=json), loop)
