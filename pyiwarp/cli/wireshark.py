"""`pyiwarp wireshark`: what this package adds to Wireshark, written to its folder for plug-ins."""

from __future__ import annotations

from pathlib import Path  # for typer at run time
from typing import Annotated

import typer

from pyiwarp.cli.running import fail

__all__ = ["wireshark"]


def wireshark(
    install: Annotated[
        bool, typer.Option("--install", help="Write the dissector to the folder of your plug-ins in Lua.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Remove it from there.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="This folder instead of the one that `tshark -G folders` names."),
    ] = None,
) -> None:
    """Let Wireshark show what it lacks of iWARP.

    That is Immediate Data, the words of MPA revision 2, and pyiwarp's protocols. Without --install and --uninstall the
    dissector, a Lua script, is printed.
    """
    from pyiwarp.cli import terminal
    from pyiwarp.errors import UsageError
    from pyiwarp.wireshark import folders

    if install and uninstall:
        raise typer.BadParameter("--install and --uninstall do not go together")
    if not install and not uninstall:
        if folder is not None:
            raise typer.BadParameter("--folder goes with --install or --uninstall")
        print(folders.dissector(), end="")
        return
    try:
        place = folder or folders.plugin_folder()
        path = folders.install(place) if install else folders.uninstall(place)
    except (UsageError, OSError) as error:
        fail(terminal.explain(error))
    if path is None:
        print(f"nothing to remove in {terminal.shown_whole(str(place))}")
    else:
        print(f"{'wrote' if install else 'removed'} {terminal.shown_whole(str(path))}")
