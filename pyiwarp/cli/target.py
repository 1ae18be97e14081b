"""`pyiwarp target`: the endpoint that a conformance tester tests and controls."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Final

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import HostOption, JsonOption, LoopOption
from pyiwarp.cli.running import LoopName, run

__all__ = ["target"]

PORT: Final = 4421


def target(
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="TCP port for iWARP; 0 is any.")] = PORT,
    control: Annotated[
        int | None, typer.Option(min=0, max=65535, help="TCP port for commands; by default the one after --port.")
    ] = None,
    json: JsonOption = False,
    loop: LoopOption = LoopName.AUTO,
) -> None:
    """Be the endpoint of a conformance test.

    It does and reports what the tester commands.
    """
    if control is None:
        control = port + 1 if port else 0
    if control > 65535:
        raise typer.BadParameter("there is no port after 65535 for commands; name one with --control")
    run(_serve(host, port, control, json=json), loop, keep_going=True)


async def _serve(host: str, port: int, control: int, *, json: bool) -> None:
    """Until SIGINT or SIGTERM."""
    import asyncio
    import json as jsonlib

    from pyiwarp.target import Target

    async with Target(host) as server:
        await server.start(port, control)
        places = (Address(host, server.port), Address(host, server.control_port))
        if json:
            facts = {"event": "listening", "host": host, "port": server.port, "control": server.control_port}
            print(jsonlib.dumps(facts), flush=True)
        else:
            print(f"a target for conformance tests at {places[0]}, commands at {places[1]}; Ctrl-C stops", flush=True)
        with suppress(asyncio.CancelledError):
            await asyncio.get_running_loop().create_future()
