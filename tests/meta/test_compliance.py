"""Every binding statement of the RFCs has a test that cites it, and `docs/compliance.md` tells so truly."""

from __future__ import annotations

import pytest

from tests.meta import compliance
from tests.meta.compliance import ROOT, Ledger, TestsOf, citations


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    return compliance.read()


def test_every_binding_statement_has_a_test(ledger: Ledger) -> None:
    assert [row.id for row in ledger.untested] == []


def test_every_advice_has_a_test_or_a_reason(ledger: Ledger) -> None:
    assert [row.id for row in ledger.unexplained] == []


def test_no_binding_statement_is_excused_that_can_be_observed(ledger: Ledger) -> None:
    binding = {row.id for row in ledger.requirements if row.level in compliance.BINDING and row.observable}
    assert binding & set(ledger.exemptions) == set()


def test_every_statement_that_is_shown_is_obeyed_somewhere(ledger: Ledger) -> None:
    homeless = [row.id for row in ledger.requirements if row.id in ledger.shown and not ledger.home(row)]
    assert homeless == []
    assert all((ROOT / file).exists() for files in ledger.homes.values() for file in files)


def test_no_excuse_is_left_over(ledger: Ledger) -> None:
    """What has a test needs none."""
    assert [each for each in ledger.exemptions if ledger.shown.get(each)] == []
    assert all(reason.strip() for reason in ledger.exemptions.values())


def test_every_citation_names_a_requirement(ledger: Ledger) -> None:
    assert ledger.unknown == []


def test_every_ambiguity_is_decided() -> None:
    rows = compliance.rows_of("ambiguities.tsv")
    assert [row["number"] for row in rows] == [str(number) for number in range(1, 39)]
    assert all(cell.strip() for row in rows for cell in row.values())


def test_the_page_is_up_to_date(ledger: Ledger) -> None:
    assert compliance.PAGE.read_text(encoding="utf-8") == compliance.page(ledger), "run: make compliance"


def test_the_page_names_every_requirement_and_every_test_file(ledger: Ledger) -> None:
    text = compliance.page(ledger)
    assert all(f"| {row.id} |" in text for row in ledger.requirements)
    assert len(ledger.requirements) == len({row.id for row in ledger.requirements}) == 707
    assert all((ROOT / test.partition("::")[0]).exists() for tests in ledger.shown.values() for test in tests)


# --- the reader ------------------------------------------------------------------------------------------------------

PREFIX = "DDP-5041"  # so that what follows is no citation of this file's


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x, -08", []),
        ("{}-7.1-10", ["7.1-10"]),
        ("({}-7.1-10).", ["7.1-10"]),
        ("{}-7.1-10, -11 and -12", ["7.1-10", "7.1-11", "7.1-12"]),
        ("{}-7.1-10..-12", ["7.1-10", "7.1-11", "7.1-12"]),
        ("{}-7.1-10..12, -14", ["7.1-10", "7.1-11", "7.1-12", "7.1-14"]),
        ("{}-7.1-10, -8.3-01, -02", ["7.1-10", "8.3-01", "8.3-02"]),
        ("{}-7.1-10, 8.3-01", ["7.1-10", "8.3-01"]),
        ("{}-7.1-10, 15 octets", ["7.1-10"]),
        ("{}-7.1-10, {}-A-01", ["7.1-10", "A-01"]),
        ("{}-7.1: no number", ["7.1"]),
    ],
)
def test_how_citations_are_read(text: str, found: list[str]) -> None:
    read = [citation.id for citation in citations(text.format(PREFIX, PREFIX))]
    assert read == [f"{PREFIX}-{each}" for each in found]


SOURCE = '''"""A module."""

TABLE = {
    "a": 1,  # in the table
}

UNUSED = 1  # nobody's


def helper() -> int:
    return TABLE["a"]  # in the helper


# above the test
@decorated
def test_first() -> None:  # behind it
    helper()
    # inside


async def test_second() -> None:
    """In its docstring."""
    assert TABLE
'''


@pytest.mark.parametrize(
    ("line", "tests"),
    [
        ("A module", []),
        ("in the table", ["test_first", "test_second"]),
        ("nobody's", []),
        ("in the helper", ["test_first"]),
        ("above the test", ["test_first"]),
        ("behind it", ["test_first"]),
        ("inside", ["test_first"]),
        ("In its docstring", ["test_second"]),
    ],
)
def test_whose_a_citation_is(line: str, tests: list[str]) -> None:
    number = next(n for n, each in enumerate(SOURCE.splitlines(), 1) if line in each)
    assert sorted(TestsOf(SOURCE).at(number)) == tests
