"""Verdicts in the light of a profile, and what reports say of them."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pyiwarp.conformance.case import Direction, Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.junit import junit
from pyiwarp.conformance.profiles import built_in_profiles, load_profile
from pyiwarp.conformance.results import Report, Result
from pyiwarp.errors import UsageError
from tests.conformance.breakers.generic import OTHER_CODE
from tests.conformance.test_every_case_can_fail import try_case

(CASE,) = select(["MPA-5044-8-10"])
PASSED = Result(CASE, Verdict.PASSED)
FAILED = Result(CASE, Verdict.FAILED, expected="Terminate 2/0/02", seen="reset")
ERROR = Result(CASE, Verdict.ERROR, reason="the control connection failed")

DECLARED = """
name = "other"
about = "a peer"
[[deviation]]
cases = ["MPA-5044-8-*"]
directions = ["connect"]
seen = "reset"
reason = "it never sends a Terminate"
reference = "its manual"
"""


def judged(tmp_path: Path, text: str, result: Result, direction: Direction = Direction.CONNECT) -> Result:
    file = tmp_path / "other.toml"
    file.write_text(text)
    return load_profile(str(file)).judge(result, direction)


def test_a_declared_deviation_is_reported_as_such(tmp_path: Path) -> None:
    result = judged(tmp_path, DECLARED, FAILED)
    assert result.verdict is Verdict.DEVIATES
    assert result.reason == "it never sends a Terminate (its manual)"


def test_an_undeclared_one_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, DECLARED, FAILED, Direction.LISTEN) == FAILED
    other = judged(tmp_path, DECLARED, Result(CASE, Verdict.FAILED, expected="Terminate 2/0/02", seen="silence"))
    assert other.verdict is Verdict.FAILED
    assert other.reason.startswith("the profile other declares something else: reset")


def test_a_declared_one_that_no_longer_happens_fails(tmp_path: Path) -> None:
    result = judged(tmp_path, DECLARED, PASSED)
    assert result.verdict is Verdict.FAILED
    assert "it never sends a Terminate" in result.expected
    assert judged(tmp_path, DECLARED + "sometimes = true\n", PASSED) == PASSED
    assert judged(tmp_path, DECLARED, PASSED, Direction.LISTEN) == PASSED


def test_an_error_can_be_declared(tmp_path: Path) -> None:
    assert judged(tmp_path, DECLARED, ERROR).verdict is Verdict.ERROR
    text = DECLARED.replace('"reset"', '"error: the control connection*"')
    assert judged(tmp_path, text, ERROR).verdict is Verdict.DEVIATES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[deviation]]\ncases = []\n", "lacks reason"),
        ("[[deviation]]\ncases = []\nreason = ''\nwhy = 3\n", "why, which mean nothing"),
        ("[[deviation]]\ncases = []\nreason = ''\ndirections = ['up']\n", "connect and listen"),
        ("[[", "no TOML"),
    ],
)
def test_profiles_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        judged(tmp_path, text, PASSED)


def test_the_profiles_of_the_package_can_be_read() -> None:
    assert "siw" in built_in_profiles()
    ids = {case.id for case in select()}
    for name in built_in_profiles():
        profile = load_profile(name)
        assert profile.name == name
        assert profile.about
        for deviation in profile.deviations:
            assert any(deviation.concerns(case, direction) for case in select() for direction in Direction), deviation
    assert ids
    with pytest.raises(UsageError, match="siw"):
        load_profile("/no/such/profile.toml")


def a_report() -> Report:
    report = Report("127.0.0.1 port 4421", "connect", "bare")
    report.results = [
        PASSED,
        Result(CASE, Verdict.FAILED, 0.5, "Terminate 2/0/02", "reset", ("0x0000  00 16",), ""),
        Result(CASE, Verdict.DEVIATES, 0.5, "Terminate 2/0/02", "reset", (), "it never does"),
        Result(CASE, Verdict.CANNOT, reason="it takes a peer with markers"),
        ERROR,
    ]
    return report


def test_junit() -> None:
    root = ElementTree.fromstring(junit(a_report()))
    (suite,) = root.findall("testsuite")
    counts = {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped")}
    assert counts == {"tests": "5", "failures": "1", "errors": "1", "skipped": "2"}
    (failure,) = suite.iter("failure")
    assert failure.get("message") == "expected Terminate 2/0/02; came reset"
    assert failure.text is not None
    assert str(CASE.clause) in failure.text


def test_junit_of_what_is_no_endpoint_and_sent_odd_octets() -> None:
    report = Report("127.0.0.1 port 7", "connect", "bare", abandoned="not an iWARP endpoint: \x00\x1b[31m")
    root = ElementTree.fromstring(junit(report))
    (error,) = root.iter("error")
    assert error.get("message") == "not an iWARP endpoint: \ufffd\ufffd[31m"


def test_json() -> None:
    data = json.loads(json.dumps(a_report().as_data()))
    assert data["passed"] is False
    assert data["counts"] == {
        "passed": 1,
        "failed": 1,
        "differs as declared": 1,
        "peer cannot": 1,
        "error": 1,
    }
    assert data["results"][1]["octets"] == ["0x0000  00 16"]
    assert data["results"][1]["clause"].startswith("RFC 5044 §8 (MUST NOT)")


def test_a_run_passes_only_if_something_ran() -> None:
    report = Report("somewhere", "connect", "bare")
    assert not report.passed
    report.results = [Result(CASE, Verdict.SKIPPED)]
    assert not report.passed
    report.results = [Result(CASE, Verdict.DEVIATES)]
    assert report.passed
    report.abandoned = "the peer was lost"
    assert not report.passed


async def test_a_failure_tells_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    result = await try_case(CASE, OTHER_CODE, Direction.CONNECT, monkeypatch)
    story = "\n".join(result.story())
    assert "expected  Terminate 2/0/02" in story
    assert "came      Terminate 0/0/77 (RDMAP: local catastrophic error 0x77 (RFC 5040 §4.8))" in story
    assert "control: layer=0, etype=0, code=0x77, has_length=1, has_ddp_header=1" in story
    assert "terminated DDP header" in story
    assert "CRC: 0x" in story
    assert str(CASE.clause) in story
