"""`pyiwarp rstream`: librdmacm's rstream, with rstream or with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import (
    EitherCrcOption,
    JsonOption,
    LoopOption,
    MulpduOption,
    PcapngOption,
    PeerOption,
    TimeoutOption,
    octets,
    peer_port,
    stream_options,
)
from pyiwarp.cli.running import LoopName, run

if TYPE_CHECKING:
    from pyiwarp.cli.rsockets.figures import Trial
    from pyiwarp.sockets import StreamOptions

__all__ = ["rstream"]

PORT: Final = 7471
PATIENCE: Final = 30.0
_ALIKE: Final = ("a", "async", "b", "blocking", "n", "nonblocking")
_ABSENT: Final = {"f": "no process of its own for a client", "r": "no address resolution of rdma_cm's"}


def rstream(
    server: Annotated[str | None, typer.Option("-s", metavar="HOST", help="Connect to this server.")] = None,
    bind: Annotated[
        str | None,
        typer.Option("-b", metavar="HOST", help="Address to listen on, 127.0.0.1 by default, or to leave from."),
    ] = None,
    port: Annotated[int, typer.Option("-p", min=0, max=65535, help="TCP port.")] = PORT,
    buffer: Annotated[
        int | None, typer.Option("-B", parser=octets, metavar="SIZE", help="Octets of each half of the ring.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option("-I", min=1, help="How often all messages go there and back.")
    ] = None,
    count: Annotated[int | None, typer.Option("-C", min=1, help="Messages in each direction.")] = None,
    size: Annotated[
        str | None, typer.Option("-S", metavar="SIZE|all", help="Octets of a message; all: every size of the series.")
    ] = None,
    keepalive: Annotated[
        int | None, typer.Option("-k", min=1, help="Seconds after which an empty Write looks for the peer.")
    ] = None,
    tests: Annotated[
        list[str] | None,
        typer.Option("-T", metavar="OPT", help="v: verify every octet; s: plain TCP; a, b and n are the same here."),
    ] = None,
    direct: Annotated[bool, typer.Option("--io", help="Direct writes, as riostream; both sides.")] = False,
    json: JsonOption = False,
    timeout: TimeoutOption = PATIENCE,
    peer: PeerOption = "rfc",
    loop: LoopOption = LoopName.AUTO,
    crc: EitherCrcOption = None,
    mulpdu: MulpduOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Measure streams of sockets over iWARP, as librdmacm's rstream.

    Without -I, -C and -S two series are played, of latency and of bandwidth. Both sides must be told the same.
    """
    from pyiwarp.cli.rsockets.rstream import Plan, Rstream

    chosen = _letters(tests or [])
    if direct and "s" in chosen:
        raise typer.BadParameter("--io needs iWARP: TCP has no direct writes")
    options = stream_options(peer, timeout, crc, mulpdu=mulpdu, pcapng=pcapng, iomaps=1 if direct else 0)
    plan = Plan(
        series=_series(size, count, iterations),
        options=None if "s" in chosen else _sized(options, buffer, keepalive),
        patience=timeout,
        verify="v" in chosen,
        direct=direct,
        json=json,
    )
    if server is None:
        run(Rstream(plan).serve(bind or "127.0.0.1", port), loop, keep_going=True)
    else:
        run(Rstream(plan).connect(server, peer_port(port), bind), loop)


def _letters(tests: list[str]) -> set[str]:
    """The options of -T by their letters; raises a usage error for one that is not there."""
    chosen = set()
    for test in tests:
        letter = {"verify": "v", "socket": "s", "sockets": "s", "fork": "f", "resolve": "r"}.get(test, test)
        if letter in _ABSENT:
            raise typer.BadParameter(f"-T {test}: there is {_ABSENT[letter]} here")
        if letter not in ("v", "s") and letter not in _ALIKE:
            raise typer.BadParameter(f"-T {test} is not known; write v, s, a, b or n")
        chosen.add(letter)
    return chosen


def _series(size: str | None, count: int | None, iterations: int | None) -> list[list[Trial]]:
    """The tests of each connection; raises a usage error."""
    from pyiwarp.cli.rsockets.figures import Trial, both_series

    every_size = size == "all"
    if count is None and iterations is None and (size is None or every_size):
        return both_series(every_size=every_size)
    usual = Trial()
    octets_of_one = usual.size if size is None or every_size else octets(size)
    if not octets_of_one:
        raise typer.BadParameter("-S is 1 or more")
    return [[Trial(octets_of_one, count or usual.messages, iterations or usual.iterations)]]


def _sized(options: StreamOptions, buffer: int | None, keepalive: int | None) -> StreamOptions:
    """With the sizes of -B, and the keep-alive of -k; raises a usage error."""
    from dataclasses import replace

    from pyiwarp.errors import UsageError

    options = replace(options, keepalive=keepalive)
    if buffer is None:
        return options
    try:
        return replace(options, ring=2 * buffer, send_memory=2 * buffer)
    except UsageError as error:
        raise typer.BadParameter(f"-B {buffer}: {error}") from None
