"""`pyiwarp conform`: test an iWARP endpoint clause by clause."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import PcapngOption, capture_in
from pyiwarp.cli.running import LoopName, fail, run

if TYPE_CHECKING:
    from pyiwarp.conformance.bench.testbench import Settings
    from pyiwarp.conformance.case import Case
    from pyiwarp.conformance.results import Report
    from pyiwarp.conformance.runner import Runner

__all__ = ["conform"]

NOT_IWARP: Final = 2


class LevelName(StrEnum):
    """The program that the peer runs."""

    BARE = "bare"
    RPING = "rping"
    TARGET = "target"


HostArgument = Annotated[str | None, typer.Argument(help="Where the peer listens.", show_default=False)]
PortArgument = Annotated[int | None, typer.Argument(min=1, max=65535, help="Its TCP port.", show_default=False)]
ListenOption = Annotated[
    str | None,
    typer.Option(metavar="[HOST:]PORT", help="Wait here for a peer that connects."),
]
ControlOption = Annotated[
    str | None,
    typer.Option(metavar="[HOST:]PORT", help="Control address of its target program."),
]
ReachableAtOption = Annotated[
    str | None,
    typer.Option(metavar="HOST[:PORT]", help="The address at which the peer reaches --listen."),
]
LevelOption = Annotated[
    LevelName | None,
    typer.Option(help="What the peer runs; target with --control, else bare."),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(metavar="NAME|FILE", help="Known deviations of the peer: siw, or a TOML file."),
]
ListOption = Annotated[bool, typer.Option("--list", help="List the cases and exit.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CASES", help="Cases by id, prefix, pattern or group."),
]
SkipOption = Annotated[list[str] | None, typer.Option(metavar="CASES", help="Leave these out.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Test SHOULDs too.")]
TimeoutOption = Annotated[float, typer.Option(min=0.05, help="Seconds that the peer may take to react.")]
PatienceOption = Annotated[float, typer.Option(min=0.05, help="Seconds to wait for a peer that connects by itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
JunitOption = Annotated[Path | None, typer.Option(metavar="FILE", dir_okay=False, help="Write JUnit XML.")]


def conform(
    host: HostArgument = None,
    port: PortArgument = None,
    listen: ListenOption = None,
    control: ControlOption = None,
    reachable_at: ReachableAtOption = None,
    level: LevelOption = None,
    profile: ProfileOption = None,
    list_: ListOption = False,
    only: OnlyOption = None,
    skip: SkipOption = None,
    strict: StrictOption = False,
    timeout: TimeoutOption = 5.0,
    patience: PatienceOption = 30.0,
    json: JsonOption = False,
    junit: JunitOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Test an iWARP endpoint clause by clause.

    The exit code is 0 if nothing failed, 1 if something did, 2 if the peer is not an iWARP endpoint.
    """
    from pyiwarp.conformance.catalogue import select
    from pyiwarp.errors import UsageError

    try:
        cases = select(only or (), skip or ())
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    if list_:
        from pyiwarp.cli.conform_screen import list_cases

        list_cases(cases)
        return
    settings = _settings(host, port, listen, control, level)
    settings.timeout, settings.patience = timeout, patience
    if reachable_at is not None:
        settings.reachable_at = Address.parse(reachable_at, 0)[:2]
    if (capture := capture_in(pcapng)) is not None:
        settings.make_tap = lambda initiator: capture.flow(initiator=initiator)
    commands = None if control is None else _endpoint(control, settings.host)
    report = _run(cases, settings, commands, profile, strict=strict, quiet=json)
    _conclude(report, json=json, junit=junit)


def _settings(
    host: str | None, port: int | None, listen: str | None, control: str | None, level: LevelName | None
) -> Settings:
    from pyiwarp.conformance.bench.abilities import Direction, Level
    from pyiwarp.conformance.bench.testbench import Settings

    chosen = Level[(level or (LevelName.TARGET if control else LevelName.BARE)).name]
    if chosen is Level.TARGET and control is None:
        raise typer.BadParameter("the level target needs --control, where the target program takes commands")
    if listen is not None:
        if host is not None:
            raise typer.BadParameter("either HOST PORT or --listen: who connects to whom?")
        return Settings(Direction.LISTEN, chosen, *_endpoint(listen, "127.0.0.1"))
    if host is None or port is None:
        raise typer.BadParameter("write HOST PORT of a peer that listens, or --listen PORT for one that connects")
    return Settings(Direction.CONNECT, chosen, host, port)


def _endpoint(text: str, host: str) -> tuple[str, int]:
    """Parse [HOST:]PORT, with `host` as the default; raises a usage error."""
    named, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port[:6]) < 65536):
        raise typer.BadParameter(f"{text!r} is not [HOST:]PORT")
    return named.strip("[]") or host, int(port)


def _run(
    cases: list[Case],
    settings: Settings,
    control: tuple[str, int] | None,
    profile: str | None,
    *,
    strict: bool,
    quiet: bool,
) -> Report:
    from pyiwarp.cli.conform_screen import RunDisplay
    from pyiwarp.conformance.profiles import load_profile
    from pyiwarp.conformance.runner import Runner
    from pyiwarp.errors import UsageError

    try:
        judge = None if profile is None else load_profile(profile)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    if judge is not None:
        settings.manners = judge.manners
    with RunDisplay(len(cases), quiet=quiet) as display:
        runner = Runner(settings, control, strict=strict, judge=judge, begun=display.begun, ended=display.ended)
        return run(_work(runner, cases), LoopName.ASYNCIO)


async def _work(runner: Runner, cases: list[Case]) -> Report:
    """Run the cases; Ctrl-C ends the run with the results so far."""
    import asyncio

    task = asyncio.ensure_future(runner.run(cases))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        runner.stop()
        return await task


def _conclude(report: Report, *, json: bool, junit: Path | None) -> None:
    """Print the report and end with its exit code."""
    if junit is not None:
        from pyiwarp.conformance.junit import junit as as_junit

        try:
            junit.write_bytes(as_junit(report))
        except OSError as error:
            fail(f"cannot write {junit}: {error.strerror}")
    if json:
        import json as jsonlib

        print(jsonlib.dumps(report.as_data(), indent=1))
    else:
        from pyiwarp.cli.conform_screen import show_report

        show_report(report)
    if report.abandoned and not report.results:
        raise typer.Exit(NOT_IWARP)
    if not report.passed:
        raise typer.Exit(1)
