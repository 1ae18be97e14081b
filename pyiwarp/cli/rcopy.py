"""`pyiwarp rcopy`: librdmacm's rcopy, with rcopy or with itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import (
    EitherCrcOption,
    HostOption,
    JsonOption,
    LoopOption,
    MaxFileOption,
    MulpduOption,
    PcapngOption,
    PeerOption,
    ReserveOption,
    TimeoutOption,
    peer_port,
    stream_options,
)
from pyiwarp.cli.running import LoopName, run

if TYPE_CHECKING:
    from pyiwarp.cli.rsockets.rcopy import Copier
    from pyiwarp.cli.rsockets.rcopy_server import CopySettings

__all__ = ["rcopy"]

PORT: Final = 7427
PATIENCE: Final = 30.0


def rcopy(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="The file to send.")] = None,
    server: Annotated[
        str | None,
        typer.Argument(metavar="HOST[:NAME]", help="The server, and the file's name there; [IPv6]:NAME too."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", exists=True, file_okay=False, help="Be the server: files go below DIR, nothing outside it."
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="TCP port.")] = PORT,
    clients: Annotated[int, typer.Option(min=1, help="The most clients of the server at once.")] = 64,
    max_file: MaxFileOption = None,
    reserve: ReserveOption = None,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    peer: PeerOption = "rfc",
    loop: LoopOption = LoopName.AUTO,
    crc: EitherCrcOption = None,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Copy a file to a server over a stream, as librdmacm's rcopy.

    With --root this is the server. There is no authentication: anyone who can connect may write below DIR.
    """
    if (root is None) == (source is None) or (source is None) != (server is None):
        raise typer.BadParameter("name a file and a server, or --root DIR to be the server")
    options = stream_options(peer, timeout, crc, mulpdu=mulpdu, pcapng=pcapng)
    if root is not None:
        from pyiwarp.cli.rsockets.rcopy_server import CopySettings

        settings = CopySettings(clients, timeout, max_file, reserve, options)
        run(_serve(root, host, port, settings, json=json), loop, keep_going=True)
        return
    assert source is not None
    assert server is not None
    from pyiwarp.cli.rsockets.rcopy import Copier

    there, name = _place(server)
    copier = Copier(options, timeout, _nothing if json else _tell)
    run(_copy(copier, Path(source), there, peer_port(port), name or source, json=json), loop, keep_going=True)


def _place(text: str) -> tuple[str, str]:
    """Host and name of HOST[:NAME]; raises a usage error."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise typer.BadParameter(f"{text!r} is not an address; write [IPv6]:NAME")
        return host, rest[1:]
    host, _, name = text.partition(":")
    if not host:
        raise typer.BadParameter(f"{text!r} has no host; write HOST or HOST:NAME")
    return host, name


def _tell(words: str) -> None:
    print(words, end="", flush=True)


def _nothing(words: str) -> None:
    """With --json there is one object at the end."""


async def _serve(root: Path, host: str, port: int, settings: CopySettings, *, json: bool) -> None:
    from pyiwarp.cli.rsockets.rcopy_server import CopyServer
    from pyiwarp.files.root import Root

    with Root(root) as directory:
        await CopyServer(directory, settings, json=json).run(host, port)


async def _copy(copier: Copier, source: Path, host: str, port: int, name: str, *, json: bool) -> None:
    nbytes, seconds = await copier.copy(source, host, port, name)
    gigabits = nbytes * 8 / max(seconds, 1e-9) / 1e9
    if json:
        from json import dumps

        facts = {"event": "copied", "name": name, "octets": nbytes, "seconds": round(seconds, 6)}
        print(dumps(facts | {"gbit_per_s": round(gigabits, 4)}), flush=True)
    else:
        print(f"{nbytes} bytes in {seconds:.2f} seconds = {gigabits:.2f} Gb/sec", flush=True)
