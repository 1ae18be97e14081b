"""`pyiwarp explain`: a captured session told message by message, field by field, octet by octet."""

from __future__ import annotations

from pathlib import Path  # for typer at run time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.options import JsonOption
from pyiwarp.cli.running import LoopName, complain, fail, run

if TYPE_CHECKING:
    from pyiwarp.explain.story import Conversation

__all__ = ["explain"]

KEPT: Final = 8  # FPDUs of one message, unless each octet is to be shown
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
            help="Play a session on this machine and tell it: startup, send, write, read, terminate, atomic, markers, "
            "files.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write it as one page for a browser, which needs no network; FILE may be an earlier page.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="--html replaces any file.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show each field; -vv shows each octet.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Tell a captured session: who sent what, what each octet means, and what is wrong.

    A capture may begin anywhere. Each connection that carries MPA is a ladder of its messages; every octet belongs to a
    field, which is named as the RFC's figure names it.
    """
    from pyiwarp.cli import terminal

    if (file is None) is (demo is None):
        fail("name either a capture or a demo: pyiwarp explain FILE, pyiwarp explain --demo write")
    if html is not None and not force:
        _check_replaced(html)
    keep = None if verbose > 1 else KEPT
    conversations, said = _read(Path(file), keep) if file is not None else _played(demo or "", keep)
    if html is not None and conversations:
        _write_page(html, file or f"pyiwarp explain --demo {demo}", conversations)
    elif json:
        _print_json(conversations)
    elif html is None:
        _print(conversations, verbose)
    if said:
        complain(terminal.shown(said))
    if not conversations:
        fail("no connection in it carries MPA")


def _read(path: Path, keep: int | None) -> tuple[list[Conversation], str]:
    from pyiwarp.cli import terminal
    from pyiwarp.errors import UsageError
    from pyiwarp.explain.story import read_capture

    try:
        return read_capture(path, keep=keep)
    except (OSError, UsageError) as error:
        fail(terminal.explain(error))


def _played(demo: str, keep: int | None) -> tuple[list[Conversation], str]:
    import tempfile

    from pyiwarp.explain.demos import DEMOS, play

    if demo not in DEMOS:
        fail(f"no demo is called {demo!r}; there are {', '.join(DEMOS)}")
    with tempfile.TemporaryDirectory(prefix="pyiwarp-explain-") as scratch:
        path = Path(scratch) / "session.pcapng"
        run(play(demo, path), LoopName.AUTO)
        return _read(path, keep)


def _check_replaced(path: Path) -> None:
    """End the command if a page would replace a file that is none."""
    from pyiwarp.cli import terminal
    from pyiwarp.explain.page import is_page

    try:
        if path.is_file() and path.stat().st_size and not is_page(path):
            fail(terminal.shown(f"{path} is there and is no page of pyiwarp explain; --force replaces it"))
    except OSError as error:
        fail(terminal.explain(error))


def _write_page(path: Path, title: str, conversations: list[Conversation]) -> None:
    from pyiwarp.cli import terminal
    from pyiwarp.conformance.clauses import clauses
    from pyiwarp.explain.page import page

    try:
        path.write_text(page(title, conversations, {id: str(each) for id, each in clauses().items()}), encoding="utf-8")
    except OSError as error:
        fail(terminal.explain(error))


def _print_json(conversations: list[Conversation]) -> None:
    import json

    from pyiwarp.explain.records import record

    for each in conversations:
        print(json.dumps(record(each)))


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
