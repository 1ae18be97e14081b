"""docs/reference.md is current and complete, and its table of exceptions has all that calls raise."""

from __future__ import annotations

import builtins
import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

import pyiwarp
from pyiwarp import blocking, errors, files
from tests.meta import reference, test_structure
from tests.meta.reference import DOORS, PAGE, Page, Reference
from tests.meta.reference_catches import CATCHES

TEXT = PAGE.read_text(encoding="utf-8")
SECTIONS = {found[1]: found[2] for found in re.finditer(r"^### (\S+)\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)}
HEADINGS = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
ERRORS = re.findall(r"^\| `(\w+)` \| `\w+`(?:, `\w+`)* \| .+ \|$", TEXT, re.MULTILINE)


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(Reference())


def test_the_page_is_up_to_date(page: Page) -> None:
    assert str(page) == TEXT, "run: make reference"


def test_everything_has_a_sentence_and_a_type(page: Page) -> None:
    assert page.bare == []


def test_every_public_module_is_in_it() -> None:
    assert set(DOORS) == {f"pyiwarp.{door}".removesuffix(".pyiwarp") for door in (*test_structure.DOORS, "files")}


def public(cls: type) -> Iterator[str]:
    """What a class of the package has for programs, found without the generator's reader."""
    hidden = set(reference.INTERNAL)
    for each in cls.__mro__:
        if each.__module__.partition(".")[0] == "pyiwarp":
            module = vars(importlib.import_module(each.__module__))
            said = re.search(r"public_names\(self, (\w+)\)", inspect.getsource(each))
            hidden |= module[said[1]] if said else set()
    for each in cls.__mro__:
        if each.__module__.partition(".")[0] == "pyiwarp":
            yield from (name for name in vars(each) if name[0] != "_" and name not in hidden)


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_and_every_member_is_in_it(door: str) -> None:
    module = importlib.import_module(door)
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            assert name in ERRORS
            continue
        homes = [home for home in DOORS if f"{home}.{name}" in SECTIONS]
        homes = [home for home in homes if getattr(importlib.import_module(home), name) is thing]
        assert len(homes) == 1, f"{door}.{name} stands under {homes}"
        if inspect.isclass(thing) and thing.__name__ == name:  # not another word for one that stands elsewhere
            section = SECTIONS[f"{homes[0]}.{name}"]
            missing = [word for word in public(thing) if not re.search(rf"`(async )?{word}[`(]", section)]
            assert not missing, f"{door}.{name}"


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = [re.sub(r"[^\w -]", "", heading).replace(" ", "-").lower() for heading in HEADINGS]
    assert len(set(anchors)) == len(anchors)
    linked = re.findall(r"\]\(#([^)]+)\)", TEXT)
    assert len(linked) > 100
    assert set(linked) <= set(anchors)


# --- what to catch ---------------------------------------------------------------------------------------------------

ROWS = {name: row for row in CATCHES for name in row.names}
ROOT = "IwarpError"


def exception(name: str) -> type[BaseException] | None:
    """The exception of a name, if it is one."""
    for module in (errors, files, builtins):
        found = getattr(module, name, None)
        if inspect.isclass(found) and issubclass(found, BaseException):
            return found
    return None


def row_of(cls: type[BaseException]) -> str | None:
    """The row that covers an exception: its own, or that of the nearest class that it is a kind of."""
    return next((each.__name__ for each in cls.__mro__ if each.__name__ in ROWS), None)


def test_each_row_names_exceptions_and_is_in_the_page() -> None:
    for name, row in ROWS.items():
        assert exception(name) is not None, name
        assert re.search(rf"^\| `{name}` \| {'yes' if 'client' in row.sides else ''} ", TEXT, re.MULTILINE)


def test_every_error_of_connections_has_a_row() -> None:
    """One nearer than the root of all."""
    raised = [getattr(errors, name) for name in errors.__all__]
    for cls in raised:
        if inspect.isclass(cls) and issubclass(cls, errors.IwarpError) and cls is not errors.IwarpError:
            assert row_of(cls) not in (None, ROOT), cls


def said_to_be_raised(*things: Any) -> Iterator[tuple[str, str]]:
    """What docstrings say that calls raise: the call and the name of the exception."""
    for thing in things:
        calls = [(thing.__name__, thing)]
        if inspect.isclass(thing):
            calls += [(f"{thing.__name__}.{name}", getattr(thing, name)) for name in public(thing)]
        for call, what in calls:
            for sentence in re.findall(r"[Rr]aises? [^.;]*", inspect.getdoc(what) or ""):
                yield from ((call, name) for name in re.findall(r"`(\w+)`", sentence) if exception(name))


CALLS = (
    *(pyiwarp.connect, pyiwarp.listen, pyiwarp.serve, pyiwarp.Connection, pyiwarp.Listener, pyiwarp.Request),
    *(pyiwarp.Server, pyiwarp.Region, pyiwarp.RemoteRegion, blocking.connect, blocking.listen, blocking.Connection),
    *(blocking.Listener, blocking.Request, blocking.Region, blocking.wait),
)


def test_what_calls_are_said_to_raise_has_a_row() -> None:
    found = list(said_to_be_raised(*CALLS))
    assert len(found) > 30
    for call, name in found:
        cls = exception(name)
        assert cls is not None
        assert row_of(cls) not in (None, ROOT), f"{call} raises {name}"
