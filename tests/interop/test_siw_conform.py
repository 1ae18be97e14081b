"""The conformance tester against siw: some cases in guests, and the page that a run becomes."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from interop.conform.campaign import HIDDEN, Campaign, Outcome, run_campaigns
from interop.conform.page import Run, write_page
from interop.conform.race import Race
from interop.conform.target_guest import TargetGuest
from interop.siw import GuestStartError, Image
from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import cases, select
from pyiwarp.conformance.profiles import Profile, load_profile
from pyiwarp.conformance.results import Result

FIRST, SECOND, THIRD, FOURTH = cases()[:4]


def page_of(outcomes: Sequence[Outcome], path: Path) -> str:
    write_page(path, Run(outcomes, load_profile("siw"), Race(60, 7, "Linux 0.1"), 12.3))
    return path.read_text()


def test_the_page_tells_what_was_seen(tmp_path: Path) -> None:
    octets = ("0x0000  00 16", "0x0002  41")
    differs = Result(FIRST, Verdict.DEVIATES, expected="a", seen="b | c", octets=octets, reason="It errs. At times.")
    page = page_of(
        [
            Outcome(Direction.CONNECT, differs),
            Outcome(Direction.LISTEN, differs),
            Outcome(Direction.CONNECT, Result(SECOND, Verdict.DEVIATES, seen="d", reason="It errs. At times.")),
            Outcome(Direction.CONNECT, Result(THIRD, Verdict.PASSED)),
            Outcome(Direction.CONNECT, Result(FOURTH, Verdict.CANNOT, reason="it takes wings")),
        ],
        tmp_path / "page.md",
    )
    assert "4 cases were played, most in both roles: 5 in all" in page
    assert "7 of 60 connections hung" in page
    assert page.count("### It errs\n\nAt times.") == 1
    assert f"`{FIRST.id}`, “{FIRST.title}” (siw as Responder and Initiator)." in page
    assert "```text\n0x0000  00 16\n0x0002  41\n```" in page
    assert f"* `{SECOND.id}` (Responder): {SECOND.title}. Came: d." in page
    assert "| 1 | it takes wings |" in page
    assert f"| `{THIRD.id}` | {THIRD.title} | pass |  |" in page
    assert "Not declared" not in page


def test_the_page_shows_what_was_not_declared(tmp_path: Path) -> None:
    failed = Result(FIRST, Verdict.FAILED, expected="this", seen="that")
    page = page_of([Outcome(Direction.LISTEN, failed, confirmed=True)], tmp_path / "page.md")
    assert "## Not declared" in page
    assert f"### {FIRST.id}, siw as Initiator" in page
    assert "  expected  this\n  came      that" in page


def test_the_page_tells_of_what_depends_on_chance_and_did_not_happen(tmp_path: Path) -> None:
    by_id = {case.id: case for case in cases()}
    hung_up, first_octets = by_id["MPA2-6581-12-01"], by_id["MPA-5044-7.1.1-20/2"]
    reason = next(
        each.reason for each in load_profile("siw").deviations if each.concerns(first_octets, Direction.CONNECT)
    )
    page = page_of(
        [
            Outcome(Direction.CONNECT, Result(hung_up, Verdict.PASSED)),
            Outcome(Direction.CONNECT, Result(first_octets, Verdict.DEVIATES, seen="silence", reason=reason)),
        ],
        tmp_path / "page.md",
    )
    assert "must trust everybody who reaches the port" in " ".join(page.partition("## Seen in other runs")[2].split())
    assert page.count("A FIN in the middle of a Request goes unnoticed") == 1
    assert f"* `{hung_up.id}`: {hung_up.title}." in page


def test_what_is_hidden_names_cases() -> None:
    assert set(HIDDEN) <= {case.id for case in cases()}


async def test_the_run_ends_when_no_guest_comes_up(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []

    async def none(*_: object) -> TargetGuest:
        opened.append(1)
        raise GuestStartError("the guest was not ready after 180 s", "its last words")

    monkeypatch.setattr(TargetGuest, "open", none)
    seen: list[Outcome] = []
    profile = load_profile("siw")
    campaign = Campaign(Image(Path("none")), Direction.CONNECT, timeout=1.0, profile=profile, ended=seen.append)
    with pytest.raises(GuestStartError, match="its last words"):
        await run_campaigns([(campaign, select(["MPA-5044-7.1.1-0"], []))])
    assert len(opened) == 1
    assert not seen


class SlowWard:
    """Its target answers after two seconds."""

    guest = SimpleNamespace(alive=True)

    async def run_case(self, case: Case, timeout: float, allowances: object) -> Result:
        return Result(case, Verdict.PASSED if timeout > 2 else Verdict.FAILED)

    async def close(self) -> None:
        """There is nothing to close."""


async def test_a_case_that_fails_runs_again_with_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> SlowWard:
        return SlowWard()

    monkeypatch.setattr(TargetGuest, "open", slow)
    (case,) = [case for case in cases() if Direction.CONNECT in case.directions][:1]
    profile = Profile("none", "", (), load_profile("siw").allowances)
    campaign = Campaign(
        Image(Path("none")), Direction.CONNECT, timeout=1.0, profile=profile, ended=lambda outcome: None
    )
    (outcome,) = await campaign.run([case])
    assert (outcome.result.verdict, outcome.confirmed) == (Verdict.PASSED, True)


@pytest.mark.siw
def test_cases_in_guests_go_as_declared_and_a_crash_is_a_failure(image: Image) -> None:
    declared = load_profile("siw")
    crash = "MPA-5044-7.1.1-21/4"
    chosen = select(["MPA-5044-7.1.1-0", "MPA-5044-8-02", crash])
    seen: list[Outcome] = []

    def campaigns(profile: Profile) -> list[Campaign]:
        return [Campaign(image, each, timeout=2.0, profile=profile, ended=seen.append) for each in Direction]

    outcomes = asyncio.run(run_campaigns([(each, chosen) for each in campaigns(declared)]))
    assert sorted(map(id, seen)) == sorted(map(id, outcomes))
    assert {outcome.direction for outcome in outcomes} == set(Direction)
    bad = [line for outcome in outcomes if outcome.result.verdict.bad for line in outcome.result.details()]
    assert not bad, "\n".join(bad)
    told = {outcome.result.case.id: outcome.result for outcome in outcomes}
    assert told[crash].verdict is Verdict.DEVIATES
    nothing_declared = Profile("none", "", (), declared.allowances)
    (undeclared,) = asyncio.run(run_campaigns([(each, select([crash])) for each in campaigns(nothing_declared)]))
    assert undeclared.result.verdict is Verdict.FAILED
    assert undeclared.confirmed
    assert undeclared.result.seen.startswith("a crash of the kernel: BUG: kernel NULL pointer dereference")
