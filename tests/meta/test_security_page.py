"""docs/security.md: it goes through every attack of RFC 5042, and each test that it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()
ATTACKS = """
    5.1.1 5.1.2 5.1.3 5.2 5.3
    6.1.1 6.2.1 6.2.2 6.2.3 6.3.1 6.3.2 6.3.3 6.3.4 6.3.5 6.3.6
    6.4.1 6.4.2 6.4.3.1 6.4.3.2 6.4.3.3 6.4.4 6.4.5 6.4.6 6.5 7.1 7.2 7.3
"""
"""The sections of RFC 5042 that describe an attack."""


@pytest.mark.parametrize("section", ATTACKS.split())
def test_an_attack_is_answered(section: str) -> None:
    assert re.search(rf"§{re.escape(section)}(?![\d.]\d)", PAGE), f"docs/security.md says nothing of §{section}"


@pytest.mark.parametrize(("name", "target"), sorted(set(re.findall(r"\[(test_\w+)\]\(([^)]+)\)", PAGE))))
def test_a_named_test_exists(name: str, target: str) -> None:
    source = (ROOT / "docs" / target).read_text()
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE), f"{target} has no {name}"
