"""`pyiwarp ping`: round trips of Send, Read and Write, with rping or with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import (
    EitherCrcOption,
    HostOption,
    JsonOption,
    LoopOption,
    MarkersOption,
    MulpduOption,
    PcapngOption,
    PeerOption,
    RevisionOption,
    TimeoutOption,
    endpoint_address,
    tool_options,
)
from pyiwarp.cli.rping.limits import MAX_SIZE, MIN_SIZE, PORT
from pyiwarp.cli.running import LoopName, run

if TYPE_CHECKING:
    from pyiwarp import Options

__all__ = ["ping"]

PATIENCE: Final = 30.0


def ping(
    server: Annotated[
        str | None, typer.Argument(metavar="HOST[:PORT]", help="The server: rping -s or pyiwarp ping --serve.")
    ] = None,
    count: Annotated[int, typer.Option("--count", "-C", min=0, help="Number of pings; 0 is until Ctrl-C.")] = 0,
    size: Annotated[int, typer.Option("--size", "-S", min=MIN_SIZE, max=MAX_SIZE, help="Octets of a ping.")] = 64,
    verify: Annotated[bool, typer.Option("--verify", "-V", help="Compare the octets that come back.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print the text of each ping.")] = False,
    serve: Annotated[bool, typer.Option("--serve", "-s", help="Be the server of rping -c or pyiwarp ping.")] = False,
    persistent: Annotated[
        bool, typer.Option("--persistent", "-P", help="Serve any number of clients until Ctrl-C instead of one.")
    ] = False,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="TCP port.")] = PORT,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    peer: PeerOption = "rfc",
    loop: LoopOption = LoopName.AUTO,
    crc: EitherCrcOption = None,
    markers: MarkersOption = False,
    revision: RevisionOption = 2,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Ping an iWARP peer with rping's protocol.

    The server Reads a text from here and Writes it back.
    """
    if serve == (server is not None):
        raise typer.BadParameter("name a server to ping, or --serve")
    if persistent and not serve:
        raise typer.BadParameter("--persistent is for servers")
    options = _options(
        tool_options(peer, timeout, crc, markers=markers, revision=revision, mulpdu=mulpdu, pcapng=pcapng)
    )
    if server is None:
        from pyiwarp.cli.rping.server import PingServer

        pings = PingServer(options, timeout, verbose=verbose, json=json)
        run(pings.run(host, port, persistent=persistent), loop, keep_going=True)
        return
    from pyiwarp.cli.rping.client import PingClient

    place = endpoint_address(server, port)
    client = PingClient(size, timeout, verify=verify, verbose=verbose, json=json)
    run(client.run(place.host, place.port, options, count), loop)


def _options(options: Options) -> Options:
    """One Read at a time each way and messages of 16 octets, as rping has it."""
    from dataclasses import replace

    from pyiwarp.cli.rping.protocol import MESSAGE_SIZE

    return replace(options, recv_depth=2, recv_size=MESSAGE_SIZE, send_depth=16, ird=1, ord=1)
