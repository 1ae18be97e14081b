"""Cases as such: what registers, what does not, and how they are chosen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.testbench import Bench
from pyiwarp.conformance.case import REGISTRY, Strictness, case
from pyiwarp.conformance.catalogue import case_modules, cases, select
from pyiwarp.errors import UsageError


async def good(bench: Bench) -> None:
    """Something.

    Accepts: anything.
    """


async def without_accepts(bench: Bench) -> None:
    """Something."""


@pytest.mark.parametrize(
    ("id", "function", "words"),
    [
        ("-".join(("MPA-5044-99.9", "01")), good, "99.9"),
        ("MPA 5044", good, "no id of a case"),
        ("MPA-5044-8-02", good, "two cases"),
        ("MPA-5044-8-02/77", without_accepts, "Accepts:"),
    ],
)
def test_what_is_no_case(id: str, function: Callable[[Bench], Awaitable[None]], words: str) -> None:
    cases()
    with pytest.raises((ValueError, KeyError), match=words):
        case(id, "title")(function)
    assert id == "MPA-5044-8-02" or id not in REGISTRY


def test_how_strict_a_case_is_follows_from_its_clause() -> None:
    everything = {each.id: each for each in cases()}
    assert everything["MPA-5044-8-02"].strictness is Strictness.MUST
    assert everything["MPA-5044-7.1.2-22"].strictness is Strictness.SHOULD
    assert all(each.sends and each.accepts and each.title for each in everything.values())


def test_there_are_many_and_they_run_from_the_bottom_of_the_stack_up() -> None:
    assert len(cases()) >= 700
    assert case_modules()[0].startswith("rfc5044")
    assert {each.level for each in cases()} == set(Level)
    assert {direction for each in cases() for direction in each.directions} == set(Direction)


@pytest.mark.parametrize(
    ("only", "found"),
    [
        (["MPA-5044-8-02"], {"MPA-5044-8-02", "MPA-5044-8-02/2"}),
        (["MPA-5044-8-02/2"], {"MPA-5044-8-02/2"}),
        (["MPA2-6581-9.2-1[47]"], {"MPA2-6581-9.2-14", "MPA2-6581-9.2-17", "MPA2-6581-9.2-17/2"}),
    ],
)
def test_cases_are_chosen(only: list[str], found: set[str]) -> None:
    assert {each.id for each in select(only)} == found


def test_groups_are_chosen_and_left_out() -> None:
    assert {each.group for each in select(["enhanced startup"])} == {"MPA enhanced startup (RFC 6581)"}
    assert not any("RFC 6581" in each.group for each in select((), ["RFC 6581"]))
    with pytest.raises(UsageError, match="names no case"):
        select(["MPA-9999"])
