"""The command line, `pyiwarp`: arguments in, calls of the library, results printed.

Each command imports the library when it runs, so that `--help` and `--version` are quick. Read in this order: `options`
(shared arguments), `streams` (standard streams), `running` (the event loop, signals and errors), `files` and
`transfers`, `ping`, `perf`, `conform`, `tunnel`, `rstream`, `rcopy`, `run`, `explain`,
`lab`, `wireshark`.
`rping/`, `perftest/` and `rsockets/` hold the protocols of those programs, `tunnels/` what a tunnel does.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final, NoReturn

import typer

from pyiwarp.cli import streams
from pyiwarp.cli.conform import conform
from pyiwarp.cli.demo import demo
from pyiwarp.cli.explain import explain
from pyiwarp.cli.files import get, ls, put, serve
from pyiwarp.cli.info import info
from pyiwarp.cli.lab import lab
from pyiwarp.cli.perf import perf
from pyiwarp.cli.ping import ping
from pyiwarp.cli.rcopy import rcopy
from pyiwarp.cli.rstream import rstream
from pyiwarp.cli.run import PythonsCommand, run
from pyiwarp.cli.target import target
from pyiwarp.cli.tunnel import tunnel
from pyiwarp.cli.wireshark import wireshark

__all__ = ["app", "main"]

_KEYBOARD_INTERRUPT: Final = 130
"""The exit code that Typer gives Ctrl-C while no event loop runs; Typer prints nothing then."""

app = typer.Typer(
    name="pyiwarp",
    help="iWARP in userspace: RDMA over ordinary TCP sockets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    serve,
    get,
    put,
    ls,
    ping,
    perf,
    conform,
    target,
    tunnel,
    rstream,
    rcopy,
    explain,
    lab,
    wireshark,
    info,
    demo,
):
    app.command()(command)
app.command(cls=PythonsCommand)(run)


def _version(asked: bool) -> None:
    if asked:
        from pyiwarp import __version__

        print(f"pyiwarp {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Options before any command."""


def main() -> None:
    """The entry point of the `pyiwarp` command."""
    streams.prepare()
    try:
        try:
            app()
        finally:
            error = streams.flush(sys.stdout)
            streams.flush(sys.stderr)
            if error is not None:
                raise error
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # its reader has seen enough
            print(f"pyiwarp: {error.strerror or error}", file=sys.stderr)
        streams.flush(sys.stdout)
        sys.exit(1)
    except SystemExit as end:
        if end.code != _KEYBOARD_INTERRUPT:
            raise
        _interrupted()
    except KeyboardInterrupt:
        _interrupted()


def _interrupted() -> NoReturn:
    print("pyiwarp: interrupted", file=sys.stderr)
    sys.exit(1)
