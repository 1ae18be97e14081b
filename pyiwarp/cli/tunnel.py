"""`pyiwarp tunnel`: joins TCP with iWARP, for programs that know sockets alone."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from pyiwarp.bounds import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cli.options import (
    EitherCrcOption,
    JsonOption,
    LoopOption,
    MulpduOption,
    PcapngOption,
    PeerOption,
    TimeoutOption,
    stream_options,
)
from pyiwarp.cli.running import LoopName, run

__all__ = ["tunnel"]

DIAL_TIMEOUT: Final = 10.0
KEEPALIVE: Final = 60.0
IDLE: Final = 43_200.0  # half a day: a session of a database may wait for its user, and no place is lost for good
HALF_CLOSED: Final = 300.0


def tunnel(
    listen: Annotated[
        str, typer.Argument(metavar="LISTEN", help="Where clients come: tcp:HOST:PORT or iwarp:HOST:PORT.")
    ],
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="Where each of them is connected to; of the other kind.")
    ],
    clients: Annotated[int, typer.Option(min=1, help="The most clients at once.")] = 256,
    backlog: Annotated[int, typer.Option(min=1, help="The most connections in startup.")] = DEFAULT_BACKLOG,
    per_address: Annotated[
        int, typer.Option(min=1, help="The most of these from one address, where clients come by iWARP.")
    ] = PER_ADDRESS,
    idle: Annotated[
        float, typer.Option(min=0, help="Seconds without an octet after which both ends are reset; 0 is no limit.")
    ] = IDLE,
    half_closed: Annotated[
        float, typer.Option(min=0, help="The same for a client that has one direction left; 0 is no limit.")
    ] = HALF_CLOSED,
    keepalive: Annotated[
        float, typer.Option(min=1, help="Seconds of silence after which TCP asks whether a peer is there.")
    ] = KEEPALIVE,
    timeout: TimeoutOption = DIAL_TIMEOUT,
    json: JsonOption = False,
    peer: PeerOption = "rfc",
    loop: LoopOption = LoopName.AUTO,
    crc: EitherCrcOption = None,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Join TCP with iWARP, in either direction.

    Each client that comes to the first place is connected to the second one. Programs need not know of it. There is no
    authentication: anyone who can connect may use it.
    """
    from pyiwarp.cli.tunnels.join import Patience
    from pyiwarp.cli.tunnels.place import Place, Startup
    from pyiwarp.cli.tunnels.server import Tunnel, TunnelSettings

    try:
        here, there = Place.parse(listen), Place.parse(target)
        here.check_joins(there)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    options = stream_options(peer, timeout, crc, mulpdu=mulpdu, pcapng=pcapng, keepalive=keepalive)
    patience = Patience(idle or None, half_closed or None, keepalive)
    settings = TunnelSettings(clients, Startup(backlog, per_address), timeout, patience, options)
    run(Tunnel(here, there, settings, json=json).run(), loop, keep_going=True)
