"""Cases that find no peer: here and there they are results, three in a row are the end of the run."""

from __future__ import annotations

from dataclasses import replace

import pytest

import pyiwarp
from pyiwarp.conformance.bench.abilities import Cannot, Direction, Level, Need
from pyiwarp.conformance.bench.patterns import Failed
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.case import Case, CaseFunction, Strictness, Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.results import Report
from pyiwarp.conformance.runner import Runner
from pyiwarp.errors import ConnectionLost

HOST = "127.0.0.1"
LOST_IN_A_ROW = 3


async def passes(bench: object) -> None:
    """The peer does what it should."""


async def loses(bench: object) -> None:
    raise ConnectionResetError("the peer is gone")


async def loses_startup(bench: object) -> None:
    raise ConnectionLost("the peer closed the connection")


async def cannot(bench: object) -> None:
    raise Cannot("no such thing here")


KINDS: dict[str, CaseFunction] = {".": passes, "E": loses, "C": loses_startup, "c": cannot}
WORDS = {".": "passed", "E": "error", "C": "error", "c": "peer cannot", "s": "skipped"}


def cases(plan: str) -> list[Case]:
    """One case for each letter; `s` is one of a level that is not run."""
    one = replace(select()[0], level=Level.BARE, needs=frozenset(), strictness=Strictness.MUST)
    one = replace(one, directions=frozenset((Direction.CONNECT,)))
    return [
        replace(
            one, title=f"{number}", run=KINDS.get(letter, passes), level=Level.RPING if letter == "s" else one.level
        )
        for number, letter in enumerate(plan)
    ]


async def listens(conn: pyiwarp.Connection) -> None:
    await conn.recv()


async def run(plan: str) -> Report:
    async with await pyiwarp.serve(listens, HOST) as server:
        return await Runner(Settings(Direction.CONNECT, Level.BARE, HOST, server.port)).run(cases(plan))


@pytest.mark.parametrize(
    "plan", ["E.E.E.E.E", "EE.EE.EE.", "..EC.CE", "EEcEEcEE", "CC.CC", "E" * (LOST_IN_A_ROW - 1), "s.EE.s"]
)
async def test_errors_here_and_there_do_not_end_the_run(plan: str) -> None:
    report = await run(plan)
    assert report.abandoned == ""
    assert [result.verdict for result in report.results] == [Verdict(WORDS[letter]) for letter in plan]
    assert [result.case.title for result in report.results] == [str(number) for number in range(len(plan))]
    assert not report.passed, "an error is no success, whatever passed beside it"
    assert report.counts[Verdict.ERROR] == sum(plan.count(letter) for letter in "EC")


@pytest.mark.parametrize(("plan", "ran"), [("EEE...", 3), (".EE.CEC.", 7), ("EsEsE.", 5), ("E" * 9, 3)])
async def test_errors_in_a_row_end_it(plan: str, ran: int) -> None:
    report = await run(plan)
    assert report.abandoned.startswith("the peer was lost: ")
    assert len(report.results) == ran
    assert [result.verdict for result in report.results] == [Verdict(WORDS[letter]) for letter in plan[:ran]]
    assert not report.passed


async def test_an_error_says_what_happened() -> None:
    report = await run("E.C")
    assert [result.reason for result in report.results] == [
        "the peer is gone",
        "",
        "the peer closed the connection",
    ]
    assert all(result.seconds >= 0 for result in report.results)


async def test_a_run_that_is_stopped_keeps_the_results_so_far() -> None:
    async with await pyiwarp.serve(listens, HOST) as server:
        runner = Runner(
            Settings(Direction.CONNECT, Level.BARE, HOST, server.port),
            begun=lambda case: runner.stop() if case.title == "1" else None,
        )
        report = await runner.run(cases("....."))
    assert report.abandoned == "interrupted"
    assert [(result.case.title, result.verdict) for result in report.results] == [("0", Verdict.PASSED)]
    assert not report.passed


@pytest.mark.parametrize("octets", [None, ["an FPDU"]])
async def test_a_failure_keeps_what_the_case_told(octets: list[str] | None) -> None:
    async def fails(bench: object) -> None:
        raise Failed("silence", "an answer", octets)

    (case,) = cases(".")
    async with await pyiwarp.serve(listens, HOST) as server:
        report = await Runner(Settings(Direction.CONNECT, Level.BARE, HOST, server.port)).run(
            [replace(case, run=fails)]
        )
    (result,) = report.results
    assert (result.verdict, result.expected, result.seen) == (Verdict.FAILED, "silence", "an answer")
    assert list(result.octets) == (octets or [])
    assert report.abandoned == ""


async def test_abilities_that_were_declared_stay_beside_those_that_are_found() -> None:
    settings = Settings(Direction.CONNECT, Level.BARE, HOST, needs={Need.REGION})
    async with await pyiwarp.serve(listens, HOST) as server:
        settings.port = server.port
        await Runner(settings).run(cases("."))
    assert settings.needs >= {Need.REGION, Need.ENHANCED}
