"""What the documents show runs, and what they point at exists."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.children import finished
from tests.meta.sessions import PAGES as SESSIONS
from tests.meta.sessions import filled
from website.slugs import anchors

ROOT = Path(__file__).parents[2]
PROGRAMS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [*PROGRAMS, *sorted(ROOT.glob("[a-z]*/README.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.relative_to(ROOT)}:{number}")
    for page in PROGRAMS
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL), 1)
]


def test_the_readme_has_an_example_of_twenty_lines_or_so() -> None:
    block = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[0]
    code = [line for line in block.splitlines() if line.strip()]
    assert 10 <= len(code) <= 25


@pytest.mark.parametrize("block", BLOCKS)
def test_every_python_block_runs(block: str, tmp_path: Path) -> None:
    """As a program of its own, with warnings as errors."""
    done = finished([sys.executable, "-W", "error", "-c", block], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_python_block_is_typed(tmp_path: Path) -> None:
    """As `mypy --strict` has it; so are the examples, which `make types` checks."""
    for number, block in enumerate(BLOCKS):
        words = re.sub(r"\W", "_", str(block.id))
        (tmp_path / f"block_{number}_{words}.py").write_text(str(block.values[0]))
    done = finished([sys.executable, "-m", "mypy", "--strict", str(tmp_path)], cwd=ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("page", SESSIONS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_session_has_these_octets(page: Path) -> None:
    """`python -m tests.meta.sessions` writes them anew; lines fit a terminal of 80 columns."""
    text = page.read_text()
    assert filled(text) == text
    for block in re.findall(r"```pycon.*?\n(.*?)```", text, re.DOTALL):
        assert max(map(len, block.splitlines())) <= 80


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and on a page to a heading that is."""
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        if "://" in target:
            continue
        path = page.parent / target if target else page
        assert path.exists(), f"{page.name} points at {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path.read_text()), f"{page.name} points at {target}#{anchor}"
