"""What reports say of a run: JUnit XML, JSON, and the story of a failure."""

from __future__ import annotations

import json
from xml.etree import ElementTree

from pyiwarp.codes import Opcode
from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.patterns import message, reply, request
from pyiwarp.conformance.case import Verdict
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.junit import junit
from pyiwarp.conformance.results import Report, Result
from tests.conformance.breakers.generic import OTHER_CODE, TURNS_R_ROUND
from tests.conformance.breakers.placement import OTHER_STAG, OTHER_VALUE, T_READ_COPY
from tests.conformance.test_every_case_can_fail import try_case

(CASE,) = select(["MPA-5044-8-10"])
PASSED = Result(CASE, Verdict.PASSED)
ERROR = Result(CASE, Verdict.ERROR, reason="the control connection failed")


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


def test_junit_has_one_suite_for_a_group_wherever_its_cases_stand() -> None:
    report = Report("somewhere", "connect", "bare")
    (other,) = select(["MPA2-6581-10-01"])
    report.results = [PASSED, Result(other, Verdict.PASSED), PASSED]
    suites = ElementTree.fromstring(junit(report)).findall("testsuite")
    assert [(suite.get("name"), suite.get("tests")) for suite in suites] == [(CASE.group, "2"), (other.group, "1")]


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


async def test_a_failure_tells_everything() -> None:
    (told,) = select(["MPA-5044-8-02"])[:1]
    result = await try_case(told, OTHER_CODE, Direction.CONNECT)
    story = "\n".join(result.details())
    assert "expected  Terminate 2/0/02" in story
    assert "came      Terminate 1/0/00 (DDP: local catastrophic error (RFC 5041 §7.2))" in story
    assert "Terminate Control: Layer=1, EType=0, Error Code=0, M=1, D=1" in story
    assert "Terminated DDP Header" in story
    assert "CRC: CRC32C 0x" in story
    assert str(told.clause) in story
    sent = story.partition("sent last")[2]
    assert sent.count("MPA ID Req Frame") == 1
    assert sent.count("ULPDU_Length: 14") == 2
    assert sent.count(" is right") == 1, "the case sends a wrong CRC"


async def test_a_failure_names_the_field_that_differs() -> None:
    (idle,) = select(["DDP-5041-6.2-01/2"])
    result = await try_case(idle, OTHER_STAG, Direction.CONNECT)
    assert result.expected == "a Read Response to STag 0x50524f42 in Read response of 0 octets (RDMAP-5040-4.4-02)"
    assert result.seen == "to STag 0x50524f43"


async def test_a_read_request_that_a_terminate_quotes_is_told_field_by_field() -> None:
    (copied,) = select(["RDMAP-5040-4.8-13"])
    result = await try_case(copied, T_READ_COPY, Direction.CONNECT)
    story = "\n".join(result.details())
    assert "Data Sink STag: STag 0xdeadbeef" in story
    assert "Data Source Tagged Offset: TO 0x1122334455667788" in story


async def test_where_no_octets_failed_those_that_came_last_are_shown() -> None:
    value, r = select(["EXT-7306-5.2.2-02"]) + select(["MPA-5044-7.1.2-05"])
    octets = (await try_case(value, OTHER_VALUE, Direction.CONNECT)).octets
    assert octets[0] == "what came last:"
    assert any("Original Remote Data Value: 0 was there before" in line for line in octets)
    assert any("R=" in line for line in (await try_case(r, TURNS_R_ROUND, Direction.CONNECT)).octets)


def test_what_is_expected_names_each_field() -> None:
    assert message(Opcode.SEND, msn=3, last=True).text == "Send with msn=3, last=1"
    assert request(revision=2, private_data=b"").text == "an MPA Request with revision=2, no private data"
    assert reply().text == "an MPA Reply"
