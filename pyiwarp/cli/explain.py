"""`pyiwarp explain`: a captured session told message by message, field by field, octet by octet."""

from __future__ import annotations

from pathlib import Path  # for typer at run time
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import JsonOption
from pyiwarp.cli.running import LoopName, complain, fail, run
from pyiwarp.files import DEFAULT_PORT

if TYPE_CHECKING:
    from pyiwarp.explain.story import Conversation, Message

__all__ = ["explain"]

KEPT: Final = 8  # FPDUs of one message, unless each octet is to be shown
LOCALHOST: Final = "127.0.0.1"
NARROWEST: Final = 60
WIDEST: Final = 120


DemoOption = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Play a session on this machine and tell it: startup, send, write, read, terminate, atomic, markers, "
        "files.",
    ),
]
HtmlOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write it as one page for a browser, which needs no network; FILE may be an earlier page.",
    ),
]


def explain(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="A capture: pcapng or pcap, of pyiwarp, Wireshark or tcpdump."),
    ] = None,
    demo: DemoOption = None,
    live: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Stand between two programs: pass each client on to this place."),
    ] = None,
    listen: Annotated[
        str | None,
        typer.Option(metavar="[HOST:]PORT", help="Where the clients of --live come; a free port if not given."),
    ] = None,
    html: HtmlOption = None,
    force: Annotated[bool, typer.Option("--force", help="--html replaces any file.")] = False,
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show each field; -vv shows each octet.")
    ] = 0,
    json: JsonOption = False,
) -> None:
    """Tell a captured session: who sent what, what each octet means, and what is wrong.

    A capture may begin anywhere. With --live the session is told as it passes, until Ctrl-C; the page and JSON are
    written then. Each connection that carries MPA is a ladder of its messages; every octet belongs to a
    field, which is named as the RFC's figure names it.
    """
    from pyiwarp.cli import terminal

    _check_asked(file, demo, live, listen)
    _check_replaced(html, force=force)
    keep = None if verbose > 1 else KEPT
    if file is not None:
        conversations, said = _read(Path(file), keep)
    elif live is not None:
        conversations, said = _watched(live, listen, keep, verbose, quiet=json)
    else:
        conversations, said = _played(demo or "", keep)
    if html is not None and conversations:
        _write_page(html, _title(file, demo, live), conversations)
    elif json:
        _print_json(conversations)
    elif html is None and live is None:
        _print(conversations, verbose)
    if said:
        complain(terminal.shown(said))
    if not conversations:
        fail("no connection in it carries MPA")


def _check_asked(file: str | None, demo: str | None, live: str | None, listen: str | None) -> None:
    if sum(each is not None for each in (file, demo, live)) != 1:
        fail(
            "name either a capture or a demo, or a place: pyiwarp explain FILE, or with --demo write, --live HOST:PORT"
        )
    if listen is not None and live is None:
        fail("--listen is for --live")


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


def _watched(
    live: str, listen: str | None, keep: int | None, detail: int, *, quiet: bool
) -> tuple[list[Conversation], str]:
    """Pass clients on to `live` until Ctrl-C; the connections, and what is to be said of them."""
    from pyiwarp.cli.options import endpoint_address, listening_address
    from pyiwarp.cli.terminal import shown, shown_whole
    from pyiwarp.explain.ladder import heading, message_lines
    from pyiwarp.explain.live import LiveProxy

    there = endpoint_address(live, DEFAULT_PORT)
    host, port = listening_address(listen) if listen is not None else (LOCALHOST, 0)
    width, last = _width(), None

    def tell(conversation: Conversation, messages: list[Message]) -> None:
        nonlocal last
        if quiet:
            return
        if conversation is not last:
            print(shown_whole(heading(conversation)))
            last = conversation
        for message in messages:
            for line in message_lines(message, width=width, detail=detail):
                print(shown_whole(line), flush=True)

    async def watch() -> tuple[list[Conversation], str]:
        from asyncio import CancelledError

        proxy = LiveProxy(there.host, there.port, tell, lambda line: complain(shown(line)), keep=keep)
        try:
            await proxy.run(host, port, lambda *place: complain(f"clients come to {Address(*place)}; Ctrl-C ends this"))
        except CancelledError:
            said = f"{proxy.forgotten:,} connections more were told and not kept" if proxy.forgotten else ""
            return proxy.conversations, said
        raise AssertionError("it listens until it is cancelled")

    return run(watch())


def _title(file: str | None, demo: str | None, live: str | None) -> str:
    return file or "pyiwarp explain " + (f"--live {live}" if live is not None else f"--demo {demo}")


def _check_replaced(path: Path | None, *, force: bool) -> None:
    """End the command if a page would replace a file that is none."""
    from pyiwarp.cli import terminal
    from pyiwarp.explain.page import is_page

    try:
        if path is not None and not force and path.is_file() and path.stat().st_size and not is_page(path):
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
    from pyiwarp.cli.terminal import shown_whole
    from pyiwarp.explain.ladder import lines

    width = _width()
    for number, conversation in enumerate(conversations):
        if number:
            print()
        for line in lines(conversation, width=width, detail=detail):
            print(shown_whole(line))


def _width() -> int:
    """Columns of a line."""
    import shutil

    return min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
