"""Profiles: what is declared is no failure, what is declared in vain is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.profiles import Profile, built_in_profiles, load_profile
from pyiwarp.conformance.results import Result
from pyiwarp.errors import UsageError

CASE, OTHER = cases()[:2]
TEXT = f"""
about = "a peer"
[peer]
settle = 0.5
terminate_layout = "little-endian bit-fields"
[[deviation]]
reason = \"\"\"
It does what it likes.
And does not say so.\"\"\"
cases = "{CASE.id}"
seen = ["close*", "reset"]
directions = ["connect"]
reference = "file.c"
[[deviation]]
reason = "At times."
cases = ["{OTHER.id[:8]}*"]
directions = ["listen"]
sometimes = true
"""


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    (tmp_path / "own.toml").write_text(TEXT)
    return load_profile(str(tmp_path / "own.toml"))


def judged(profile: Profile, result: Result, direction: Direction = Direction.CONNECT) -> Result:
    return profile.judge(result, direction)


def test_it_is_read(profile: Profile) -> None:
    assert (profile.name, profile.about, profile.allowances.settle) == ("own", "a peer", 0.5)
    assert profile.allowances.little_endian_terminates
    assert profile.deviations[0].reason == "It does what it likes. And does not say so."


@pytest.mark.parametrize("seen", ["close", "close behind 2 octets", "reset"])
def test_what_is_declared_differs(profile: Profile, seen: str) -> None:
    result = judged(profile, Result(CASE, Verdict.FAILED, expected="x", seen=seen))
    assert (result.verdict, result.reason) == (Verdict.DEVIATES, "It does what it likes. And does not say so. (file.c)")
    assert not result.verdict.bad


def test_another_reaction_direction_or_case_fails(profile: Profile) -> None:
    failed = Result(CASE, Verdict.FAILED, seen="close")
    assert judged(profile, replace(failed, seen="silence")).verdict is Verdict.FAILED
    assert judged(profile, failed, Direction.LISTEN).verdict is not Verdict.FAILED  # the other one is about it
    assert judged(profile, replace(failed, case=OTHER)).verdict is Verdict.FAILED


def test_what_does_not_happen_any_more_fails(profile: Profile) -> None:
    result = judged(profile, Result(CASE, Verdict.PASSED))
    assert result.verdict is Verdict.FAILED
    assert profile.deviations[0].reason in result.expected


def test_what_happens_sometimes_may_not(profile: Profile) -> None:
    assert judged(profile, Result(OTHER, Verdict.PASSED), Direction.LISTEN).verdict is Verdict.PASSED
    failed = Result(OTHER, Verdict.FAILED, seen="anything")
    assert judged(profile, failed, Direction.LISTEN).verdict is Verdict.DEVIATES


def test_an_error_can_be_declared(profile: Profile) -> None:
    error = Result(CASE, Verdict.ERROR, reason="gone")
    assert judged(profile, error).verdict is Verdict.ERROR
    assert judged(profile, replace(error, case=OTHER), Direction.LISTEN).verdict is Verdict.DEVIATES


@pytest.mark.parametrize("verdict", [Verdict.CANNOT, Verdict.SKIPPED])
def test_other_verdicts_stay(profile: Profile, verdict: Verdict) -> None:
    assert judged(profile, Result(CASE, verdict)) == Result(CASE, verdict)


WHOLE = f"[[deviation]]\ncases = ['{CASE.id}']\nreason = 'x'\n"
WITHOUT_REASON = f"[[deviation]]\ncases = ['{CASE.id}']\n"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("x = [", "TOML"),
        ("name = '\xff'", "UTF-8"),
        ("name = 5", "name"),
        ("about = ['x']", "about"),
        ("color = 'red'", "color"),
        ("peer = 1", "peer"),
        ("[peer]\nsettle = 'long'", "settle"),
        ("[peer]\nsettle = true", "settle"),
        ("[peer]\nsettle = -1", "settle"),
        ("[peer]\nsettle = nan", "settle"),
        ("[peer]\nsettle = inf", "settle"),
        ("[peer]\ncolor = 'red'", "color"),
        ("[peer]\nterminate_layout = 'odd'", "terminate_layout"),
        ("[peer]\nterminate_layout = ['rfc']", "terminate_layout"),
        ("deviation = 1", "deviation"),
        ("deviation = [1]", "deviation"),
        ("[deviation]\nreason = 'x'", "deviation"),
        (WITHOUT_REASON, "reason"),
        (WITHOUT_REASON + "reason = 5", "reason"),
        (WITHOUT_REASON + "reason = ' '", "reason"),
        ("[[deviation]]\nreason = 'x'", "cases"),
        ("[[deviation]]\nreason = 'x'\ncases = 5", "cases"),
        ("[[deviation]]\nreason = 'x'\ncases = [1]", "cases"),
        ("[[deviation]]\nreason = 'x'\ncases = []", "cases"),
        ("[[deviation]]\nreason = 'x'\ncases = ['MPA-5044-8-02/99']", "MPA-5044-8-02/99"),
        (f"[[deviation]]\nreason = 'x'\ncases = ['{CASE.id}', 'x*']", "x[*]"),
        (WHOLE + "directions = ['up']", "directions"),
        (WHOLE + "directions = [1]", "directions"),
        (WHOLE + "directions = []", "directions"),
        (WHOLE + "seen = 5", "seen"),
        (WHOLE + "seen = [5]", "seen"),
        (WHOLE + "seen = []", "seen"),
        (WHOLE + "sometimes = 'yes'", "sometimes"),
        (WHOLE + "reference = 5", "reference"),
        (WHOLE + "color = 'red'", "color"),
    ],
)
def test_a_profile_of_the_wrong_shape_names_the_key(tmp_path: Path, text: str, key: str) -> None:
    (tmp_path / "bad.toml").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=f"bad.*{key}") as raised:
        load_profile(str(tmp_path / "bad.toml"))
    assert "\n" not in str(raised.value)


def test_one_direction_need_not_be_a_list(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text(WHOLE + "directions = 'listen'")
    assert load_profile(str(tmp_path / "one.toml")).deviations[0].directions == {Direction.LISTEN}


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(UsageError, match="siw"):
        load_profile("no-such-thing")


@pytest.mark.parametrize("name", built_in_profiles())
def test_each_profile_of_the_package_is_about_cases_that_there_are(name: str) -> None:
    profile = load_profile(name)
    assert profile.about
    for deviation in profile.deviations:
        for pattern in deviation.cases:
            found = [case for case in cases() if replace(deviation, cases=(pattern,)).concerns(case, Direction.CONNECT)]
            found += [case for case in cases() if replace(deviation, cases=(pattern,)).concerns(case, Direction.LISTEN)]
            assert found, f"{pattern} names no case"
