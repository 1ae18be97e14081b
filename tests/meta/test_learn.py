"""docs/learn: fifteen chapters, whose clauses are those of the table and whose code is there; and the glossary."""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from enum import Enum
from pathlib import Path

import pytest

from pyiwarp import codes, verbs
from pyiwarp.conformance.clauses import clauses
from pyiwarp.lab.exercises import EXERCISES
from pyiwarp.negotiation import Role
from pyiwarp.startup import StartupState

ROOT = Path(__file__).parents[2]
LEARN = ROOT / "docs" / "learn"
CHAPTERS = sorted(LEARN.glob("[0-9]*.md"))
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
each_chapter = pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: str(page.stem))


def title(page: Path) -> str:
    return page.read_text().partition("\n")[0].removeprefix("# ")


def test_there_are_fifteen_in_their_order() -> None:
    assert len(CHAPTERS) == 15
    listed = re.findall(r"^(\d+)\. \[([^\]]+)\]\(([^)]+)\)$", (LEARN / "index.md").read_text(), re.MULTILINE)
    assert [(f"{number}. {name}", link) for number, name, link in listed] == [
        (title(page), page.name) for page in CHAPTERS
    ]
    for page, after in itertools.pairwise(CHAPTERS):
        assert f"→]({after.name})" in page.read_text()
        assert f"]({page.name})" in after.read_text()


@each_chapter
def test_its_clauses_are_those_of_the_table(page: Path) -> None:
    lines = re.findall(r"^\* \*\*([A-Z0-9.-]+)\*\*, (.*)$", page.read_text(), re.MULTILINE)
    assert len(lines) > 2
    for id, text in lines:
        assert text == str(clauses()[id])


@each_chapter
def test_its_code_is_there(page: Path) -> None:
    rows = re.findall(r"^\| \[([\w/]+)\.py\]\(([^)]+)\) \| (.*) \|$", page.read_text(), re.MULTILINE)
    assert rows
    for name, link, cell in rows:
        assert (page.parent / link).resolve() == ROOT / "pyiwarp" / f"{name}.py"
        for dotted in re.findall(r"`([\w.]+)`", cell):
            found: object = importlib.import_module(f"pyiwarp.{name.replace('/', '.')}")
            for part in dotted.split("."):
                found = inspect.getattr_static(found, part)


@each_chapter
def test_it_has_a_session(page: Path) -> None:
    assert page.read_text().count("```pycon\n>>> ") > 0


def test_each_exercise_has_its_chapter() -> None:
    text = "".join(page.read_text() for page in CHAPTERS[:-1])
    named = {int(each) for found in re.findall(r"Exercises? ([\d, and]+)", text) for each in re.findall(r"\d+", found)}
    assert named == set(EXERCISES)


# --- the glossary -----------------------------------------------------------------------------------------------------

ROWS = [re.split(r" *(?<!\\)\| *", line)[1:-1] for line in GLOSSARY.splitlines() if re.match(r"^\| (?!Word|---)", line)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row[0]))
def test_each_word_has_its_section(row: list[str]) -> None:
    """A section of an RFC that requirements or formats are from, or a page of this project, or libibverbs."""
    _, meaning, where = row
    assert meaning
    assert re.search(r"RFC \d{4}( §[\d.A-Z]+)?|\]\([\w#/.-]+\)|`?lib(ibverbs|rdmacm)`?", where), where
    sections = {(each.rfc, each.section) for each in clauses().values()}
    for rfc, section in re.findall(r"RFC (\d{4}) §([\d.]+)", where):
        assert any(one == rfc and (other + ".").startswith(section + ".") for one, other in sections), where


def test_no_word_is_explained_twice() -> None:
    words = [word for row in ROWS for word in re.split(r", ", re.sub(r"[*`]", "", row[0]).lower())]
    assert len(words) == len(set(words)), sorted({word for word in words if words.count(word) > 1})


KINDS: list[type[Enum]] = [
    *(codes.Opcode, codes.QueueNumber, codes.Layer, codes.AtomicOpcode, codes.Rtr),
    *(verbs.Status, verbs.WorkOpcode, verbs.QpState, verbs.Access, verbs.WindowType, Role, StartupState),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.__name__))
def test_the_glossary_has_what_the_code_enumerates(kind: type[Enum]) -> None:
    missing = [each for each in kind.__members__ if not re.search(rf"`{each}`", GLOSSARY)]
    assert not missing, f"{kind.__name__}: {missing}"


def test_the_glossary_has_the_names_of_the_verbs() -> None:
    missing = [name for name in verbs.__all__ if not re.search(rf"`{name}`", GLOSSARY)]
    assert not missing
