"""`pyiwarp conform`: test an iWARP endpoint clause by clause."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.options import PcapngOption, capture_in, listening_address
from pyiwarp.cli.running import LoopName, fail, run

if TYPE_CHECKING:
    from pyiwarp.capture import Capture
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


HostArgument = Annotated[
    str | None,
    typer.Argument(metavar="HOST[:PORT]", help="Where the peer listens; [IPv6]:PORT too.", show_default=False),
]
PortArgument = Annotated[
    int | None,
    typer.Argument(min=1, max=65535, help="Its TCP port, if HOST does not name it.", show_default=False),
]
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
ListOption = Annotated[bool, typer.Option("--list", help="List the cases, up to --level if given, and exit.")]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(metavar="CASES", help="Cases by id, prefix, pattern or group."),
]
SkipOption = Annotated[list[str] | None, typer.Option(metavar="CASES", help="Leave these out.")]
CasesOption = Annotated[
    list[Path] | None,
    typer.Option(metavar="FILE", dir_okay=False, help="Python file with cases of your own; repeatable."),
]
FailFastOption = Annotated[bool, typer.Option("--fail-fast", help="End the run at the first failure.")]
StrictOption = Annotated[bool, typer.Option("--strict", help="Test SHOULDs too.")]
TimeoutOption = Annotated[float, typer.Option(min=0.05, help="Seconds that the peer may take to react.")]
PatienceOption = Annotated[float, typer.Option(min=0.05, help="Seconds to wait for a peer that connects by itself.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report, or the list, as JSON.")]
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
    cases: CasesOption = None,
    strict: StrictOption = False,
    fail_fast: FailFastOption = False,
    timeout: TimeoutOption = 5.0,
    patience: PatienceOption = 30.0,
    json: JsonOption = False,
    junit: JunitOption = None,
    pcapng: PcapngOption = None,
) -> None:
    """Test an iWARP endpoint clause by clause.

    The exit code is 0 if nothing failed, 1 if something did, 2 if the peer is not an iWARP endpoint.
    """
    from pyiwarp.conformance.catalogue import load_cases, select
    from pyiwarp.errors import UsageError

    try:
        for file in cases or ():
            load_cases(file)
        chosen = select(only or (), skip or ())
    except UsageError as error:
        raise typer.BadParameter(str(error)) from None
    if list_:
        _list(chosen, level, json=json)
        return
    settings = _settings(host, port, listen, control, level)
    settings.timeout, settings.patience = timeout, patience
    if reachable_at is not None:
        settings.reachable_at = _address(reachable_at)
    if (capture := capture_in(pcapng)) is not None:
        settings.make_tap = lambda initiator: capture.flow(initiator=initiator)
    commands = None if control is None else listening_address(control, settings.host)
    report = _run(chosen, settings, commands, profile, capture, strict=strict, fail_fast=fail_fast, quiet=json)
    _conclude(report, json=json, junit=junit)


def _list(cases: list[Case], level: LevelName | None, *, json: bool) -> None:
    """Print the cases that a run at `level` has; all of them without one."""
    from pyiwarp.cli.conform_screen import list_cases
    from pyiwarp.conformance.bench.abilities import Level

    list_cases([case for case in cases if level is None or case.level <= Level[level.name]], json=json)


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
        return Settings(Direction.LISTEN, chosen, *listening_address(listen, "127.0.0.1"))
    if host is None:
        raise typer.BadParameter("write HOST:PORT of a peer that listens, or --listen PORT for one that connects")
    return Settings(Direction.CONNECT, chosen, *_peer(host, port))


def _peer(text: str, port: int | None) -> tuple[str, int]:
    """The peer's address from HOST PORT or HOST:PORT; raises a usage error."""
    host, named_port = _address(text)
    if named_port and port is not None:
        raise typer.BadParameter(f"the port is given twice: {text} {port}")
    if not named_port and port is None:
        raise typer.BadParameter(f"{text!r} has no port; write HOST:PORT or HOST PORT")
    return host, named_port or port or 0


def _address(text: str) -> tuple[str, int]:
    """Parse HOST[:PORT], with 0 for a port that is not there; raises a usage error."""
    try:
        place = Address.parse(text, 0)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if place.path:
        raise typer.BadParameter(f"{text!r} has a path; write HOST or HOST:PORT")
    return place.host, place.port


def _run(
    cases: list[Case],
    settings: Settings,
    control: tuple[str, int] | None,
    profile: str | None,
    capture: Capture | None,
    *,
    strict: bool,
    fail_fast: bool,
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
        settings.allowances = judge.allowances
    with RunDisplay(len(cases), quiet=quiet) as display:

        def begun(case: Case) -> None:
            display.begun(case)
            if capture is not None:
                capture.comment(f"{case.id}  {case.title}")

        runner = Runner(
            settings,
            control,
            strict=strict,
            fail_fast=fail_fast,
            judge=judge,
            begun=begun,
            ended=display.ended,
            listening=display.listening,
        )
        return run(_work(runner, cases), LoopName.ASYNCIO)


async def _work(runner: Runner, cases: list[Case]) -> Report:
    """Run the cases; Ctrl-C ends the run at once, with the results so far."""
    import asyncio

    task = asyncio.ensure_future(runner.run(cases))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        runner.stop()
        return await task


def _conclude(report: Report, *, json: bool, junit: Path | None) -> None:
    """Print the report and end with its exit code."""
    from pyiwarp.conformance.results import INTERRUPTED

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
    if report.abandoned and not report.results and report.abandoned != INTERRUPTED:
        raise typer.Exit(NOT_IWARP)
    if not report.passed:
        raise typer.Exit(1)
