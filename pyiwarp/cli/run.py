"""`pyiwarp run`: a Python program that knows nothing of pyiwarp, with its TCP sockets or its pyverbs over iWARP."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from pyiwarp.cli.options import EitherCrcOption, PeerOption

if TYPE_CHECKING:
    from pyiwarp.sockets.family.installing import Place

__all__ = ["PythonsCommand", "run"]

_ENDING = ("-m", "-c")


class PythonsCommand(TyperCommand):
    """Its own options end where those of `python` do: behind `-m MODULE` or `-c CODE`, or before FILE."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Overrides: what belongs to the program is not looked at."""
        return super().parse_args(ctx, self._ended(args))

    def _ended(self, args: list[str]) -> list[str]:
        takes_value = {
            name: not getattr(parameter, "is_flag", False)
            for parameter in self.params
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        at = 0
        while at < len(args) and args[at] != "--":
            word = args[at]
            if word[:2] in _ENDING:
                at += 1 if len(word) > 2 else 2
                if at > len(args):
                    return args  # nothing is behind it, which is for the parser to say
                return [*args[:at], "--", *args[at:]]
            if word == "-" or not word.startswith("-"):
                return [*args[:at], "--", *args[at:]]
            at += 2 if takes_value.get(word, False) else 1
        return args


def _place(text: str) -> Place:
    """Parse HOST:PORT, HOST: or :PORT; raises a usage error."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    number = int(port) if port.isascii() and port.isdigit() and len(port) <= 5 else None
    if not colon or not (host or port) or (port and (number is None or not 0 < number < 65536)):
        raise typer.BadParameter(f"{text!r} is no place; write HOST:PORT, HOST: or :PORT, and IPv6 as [ADDRESS]:PORT")
    return host or None, number


def run(
    program: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE [ARGUMENT]", help="What `python` takes, in its order."),
    ] = None,
    module: Annotated[str | None, typer.Option("-m", metavar="MODULE", help="Run this module.")] = None,
    code: Annotated[str | None, typer.Option("-c", metavar="CODE", help="Run this code.")] = None,
    only: Annotated[
        list[str],
        typer.Option(
            metavar="HOST:PORT",
            help="Replace only sockets that connect to or listen at this place; HOST: is any port, :PORT any host; "
            "repeatable. All TCP sockets without it.",
        ),
    ] = [],  # noqa: B006
    pyverbs: Annotated[
        bool, typer.Option("--pyverbs", help="Replace pyverbs (`import pyverbs`), and no sockets.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="At the end say how many streams there were; exit status 3 unless all were over MPA."
        ),
    ] = False,
    peer: PeerOption = "rfc",
    crc: EitherCrcOption = None,
) -> NoReturn:
    """Run a Python program with its TCP sockets, or with --pyverbs its RDMA verbs, over iWARP.

    Options stand before FILE, -m or -c. Which sockets stay TCP is said on standard error.
    """
    from pyiwarp.errors import UsageError
    from pyiwarp.profile import profile_named
    from pyiwarp.run.orders import Orders
    from pyiwarp.run.program import Kind

    words = program or []
    if module is not None and code is not None:
        raise typer.BadParameter("-m and -c do not go together")
    if module is not None:
        kind, name, arguments = Kind.MODULE, module, words
    elif code is not None:
        kind, name, arguments = Kind.CODE, code, words
    elif words:
        kind, name, arguments = Kind.FILE, words[0], words[1:]
    else:
        raise typer.BadParameter("there is no program: write FILE, -m MODULE or -c CODE")
    if pyverbs and (only or check or crc is not None):
        raise typer.BadParameter("--pyverbs replaces no sockets: --only, --check and --no-crc do not go with it")
    try:
        profile_named(peer)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    orders = Orders(kind, name, arguments, [_place(each) for each in only], check, peer, crc, pyverbs)
    command = orders.command(_flags())
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _flags() -> list[str]:
    """The options of this interpreter: what stands before `-m pyiwarp` or the command's path."""
    before = sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]
    return before[:-2] if before[-2:-1] == ["-m"] else before[:-1]
