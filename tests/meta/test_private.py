"""Private means private: what begins with an underscore is used by its own class alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.meta.test_structure import PACKAGE, SOURCES

OF_NAMED_TUPLES = {"_asdict", "_fields", "_make", "_replace"}  # public in spite of the underscore
EXCEPTIONS = {
    ("__main__.py", "os._exit"): "ends a process whose imports are half done; documented by Python",
    (
        "run/process.py",
        "os._exit",
    ): "the only way to another exit status when the interpreter ends; documented by Python",
    ("drivers/interrupts.py", "sys._getframe"): "the only way to the frames that wait; documented by Python",
}
"""Where another object's private attribute is used all the same, and why."""


def owned(node: ast.ClassDef) -> set[str]:
    """The attributes that a class defines: methods, fields, what is assigned to `self` and what slots name."""
    found = {each.name for each in ast.walk(node) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and own(each.value):
            found.add(each.attr)
        elif isinstance(each, ast.AnnAssign | ast.NamedExpr) and isinstance(each.target, ast.Name):
            found.add(each.target.id)
    return found


def own(value: ast.expr) -> bool:
    """Whether an expression stands for the object whose method this is."""
    if isinstance(value, ast.Call):
        value = value.func
        return isinstance(value, ast.Name) and value.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls")


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def foreign(node: ast.AST, mine: set[str], classes: dict[str, set[str]]) -> Iterator[ast.Attribute]:
    """The private attributes that are used below `node` by a class that does not define them.

    A table beside a class may name its methods: `Class._method` in the file that defines the class.
    """
    if isinstance(node, ast.ClassDef):
        mine = mine | owned(node)
    if isinstance(node, ast.Attribute) and private(node.attr):
        beside = isinstance(node.value, ast.Name) and node.attr in classes.get(node.value.id, ())
        if not own(node.value) and not beside and node.attr not in mine | OF_NAMED_TUPLES:
            yield node
    for child in ast.iter_child_nodes(node):
        yield from foreign(child, mine, classes)


def reached_for(source: str) -> list[str]:
    tree = ast.parse(source)
    classes = {node.name: owned(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = [ast.unparse(node) for node in foreign(tree, set(), classes)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [alias.name for alias in node.names if private(alias.name)]
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nobody_reaches_for_what_is_private(path: Path) -> None:
    where = path.relative_to(PACKAGE).as_posix()
    found = [name for name in reached_for(path.read_text()) if (where, name) not in EXCEPTIONS]
    assert not found, f"{where} uses what is private elsewhere: {found}"


def test_the_exceptions_are_needed() -> None:
    for (where, name), reason in EXCEPTIONS.items():
        assert name in reached_for((PACKAGE / where).read_text())
        assert reason


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("def f(other):\n    other._secret()", ["other._secret"]),
        ("class A:\n    def f(self):\n        return self.other._secret", ["self.other._secret"]),
        ("from pyiwarp.mr import _release", ["_release"]),
        ("class A:\n    def _secret(self): ...\nclass B:\n    def f(self, a):\n        a._secret()", ["a._secret"]),
        ("class A:\n    def _secret(self): ...\nTABLE = {1: A._secret}", []),
        ("class A:\n    def _secret(self): ...\n    def f(self, other):\n        other._secret()", []),
        ("x._replace(a=1).__class__", []),
    ],
)
def test_what_counts_as_reaching(source: str, found: list[str]) -> None:
    assert reached_for(source) == found
