"""`pyiwarp explain`: a captured session told message by message, field by field, octet by octet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import JsonOption
from pyiwarp.cli.running import LoopName, complain, fail, run

if TYPE_CHECKING:
    from pathlib import Path

    from pyiwarp.explain.story import Conversation

__all__ = ["explain"]

NARROWEST: Final = 60
WIDEST: Final = 120


def explain(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A capture: pcapng or pcap, of pyiwarp, Wireshark or tcpdump."),
    ] = None,
    demo: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Play a session on this machine and tell it: startup, send, write, read, terminate, atomic, markers.",
        ),
    ] = None,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show each field; -vv shows each octet.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Tell a captured session: who sent what, what each octet means, and what is wrong.

    A capture may begin anywhere. Each connection that carries MPA is a ladder of its messages; every octet belongs to a
    field, which is named as the RFC's figure names it.
    """
    if (file is None) is (demo is None):
        fail("name either a capture or a demo: pyiwarp explain FILE, pyiwarp explain --demo write")
    conversations, said = _told(file) if file is not None else _played(demo or "")
    if json:
        _print_json(conversations)
    else:
        _print(conversations, verbose)
    if said:
        complain(said)
    if not conversations:
        fail("no connection in it carries MPA")


def _told(file: str) -> tuple[list[Conversation], str]:
    from pathlib import Path

    return _read(Path(file))


def _read(path: Path) -> tuple[list[Conversation], str]:
    from pyiwarp.cli import terminal
    from pyiwarp.errors import UsageError
    from pyiwarp.explain.story import read_capture

    try:
        return read_capture(path)
    except (OSError, UsageError) as error:
        fail(terminal.explain(error))


def _played(demo: str) -> tuple[list[Conversation], str]:
    import tempfile
    from pathlib import Path

    from pyiwarp.explain.demos import DEMOS, play

    if demo not in DEMOS:
        fail(f"no demo is called {demo!r}; there are {', '.join(DEMOS)}")
    with tempfile.TemporaryDirectory(prefix="pyiwarp-explain-") as scratch:
        path = Path(scratch) / "session.pcapng"
        run(play(demo, path), LoopName.AUTO)
        return _read(path)


def _print_json(conversations: list[Conversation]) -> None:
    import json

    from pyiwarp.explain.records import record

    print(json.dumps([record(each) for each in conversations]))


def _print(conversations: list[Conversation], detail: int) -> None:
    import shutil

    from pyiwarp.cli.terminal import shown_whole
    from pyiwarp.explain.ladder import lines

    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    for number, conversation in enumerate(conversations):
        if number:
            print()
        for line in lines(conversation, width=width, detail=detail):
            print(shown_whole(line))
