"""The table of breakages fits the code, and holds a breakage of each rule that a test cites, or says why not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from tests.meta import audit, compliance
from tests.meta.breakages import MUTATIONS, UNBROKEN, Mutation
from tests.meta.breakages.found import FOUND, Found
from tests.meta.compliance import ROOT


@pytest.fixture(scope="module")
def shown() -> Mapping[str, Sequence[str]]:
    return compliance.read().shown


def test_there_are_enough_and_they_differ() -> None:
    assert len(MUTATIONS) >= 60
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_breakage_is_one_of_this_code(mutation: Mutation, shown: Mapping[str, Sequence[str]]) -> None:
    texts: dict[str, str] = {}
    for module, old, new in mutation.replacements:
        text = texts.get(module) or (ROOT / "pyiwarp" / f"{module}.py").read_text(encoding="utf-8")
        assert text.count(old) == 1, f"{module}: the piece to break occurs once"
        texts[module] = text.replace(old, new)
        assert texts[module] != text
        compile(texts[module], module, "exec")
    assert mutation.rules
    for rule in mutation.rules:
        assert shown.get(rule), f"no test cites {rule}"


def test_each_rule_that_a_test_cites_has_a_breakage(shown: Mapping[str, Sequence[str]]) -> None:
    assert audit.missing(shown) == []


def test_the_reasons_are_those_of_rules_without_a_breakage(shown: Mapping[str, Sequence[str]]) -> None:
    broken = {rule for mutation in MUTATIONS for rule in mutation.rules}
    assert [rule for rule in UNBROKEN if rule in broken or not shown.get(rule)] == []
    assert all(reason.strip() for reason in UNBROKEN.values())


@pytest.mark.parametrize("found", FOUND, ids=lambda found: found.name)
def test_what_was_found_by_reading_is_of_this_code_and_has_its_test(found: Found) -> None:
    text = (ROOT / "pyiwarp" / f"{found.module}.py").read_text(encoding="utf-8")
    assert text.count(found.old) == 1, f"{found.module}: the piece to break occurs once"
    compile(text.replace(found.old, found.new), found.module, "exec")
    file, _, test = found.test.partition("::")
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")
