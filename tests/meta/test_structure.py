"""The repository's own rules: who imports whom, what is public, how long things may be, what is cited."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyiwarp

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pyiwarp"
MODULES = sorted(path for path in PACKAGE.glob("*.py") if path.stem not in ("__init__", "__main__"))
SOURCES = sorted(PACKAGE.rglob("*.py"))

ROWS = [
    "codes",
    "errors pool",
    "events fastwire wire profile capture qpstate interrupts awaiting ownership accesslog memory",
    "mpa startup ddp rdmap mr atomics eventqueue drain",
    "answers express packing pump tcp asyncevents pages handles",
    "sending fastreg windows",
    "stream",
    "work",
    "admission cq",
    "kinds channel srq counters poller prompt",
    "sendqueue blame",
    "recvqueue confirm",
    "qp",
    "verbs llp polling",
    "handshake devices",
    "cm pollcm",
    "endpoint cmid",
    "connection rdmacm blockingcm",
    "api blocking",
    "target",
    "cli",
]
RANK = {name: row for row, names in enumerate(ROWS) for name in names.split()}
ALONE = "conformance"  # it checks other stacks as it checks this one, and shares nothing with it but the formats
FORMATS = {"codes", "errors", "wire"}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a file imports, wherever in it: lazily and for types alone count too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            whole = node.module == "pyiwarp"
            names = [f"pyiwarp.{alias.name}" for alias in node.names] if whole else [node.module or ""]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("pyiwarp."))


def test_every_module_has_its_row() -> None:
    assert {path.stem for path in MODULES} <= set(RANK)
    assert {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} <= {"target", "cli", ALONE}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_imports_only_look_up(path: Path) -> None:
    for imported in imports(path):
        assert RANK[imported] < RANK[path.stem], f"{path.stem} must not import {imported}"


@pytest.mark.parametrize("package", ["target", "cli"])
def test_packages_only_look_up(package: str) -> None:
    for path in (PACKAGE / package).rglob("*.py"):
        for imported in imports(path):
            row = RANK.get(imported, RANK["api"])  # else a public name, which comes from there
            assert imported == package or row < RANK[package], f"{path.name} must not import {imported}"


def test_the_layers_do_not_know_each_other() -> None:
    layers = {"mpa", "ddp", "rdmap", "mr"}
    for layer in layers:
        assert not layers & set(imports(PACKAGE / f"{layer}.py"))


def test_the_conformance_tests_share_nothing_with_the_engine() -> None:
    for path in (PACKAGE / ALONE).rglob("*.py"):
        assert set(imports(path)) <= FORMATS | {ALONE}, path


def test_no_sockets_and_no_clocks_in_the_core() -> None:
    drivers = {"llp", "cm", "connection", "api", "capture", "awaiting", "ownership"}
    drivers |= {"tcp", "poller", "polling", "interrupts", "pollcm", "cmid", "rdmacm", "blockingcm", "blocking"}
    forbidden = re.compile(
        r"^\s*(?:import|from) (asyncio|socket|select|selectors|time|threading|uvloop)\b", re.MULTILINE
    )
    for path in MODULES:
        if path.stem not in drivers:
            found = set(forbidden.findall(path.read_text()))
            assert found <= ({"threading"} if path.stem == "atomics" else set()), f"{path.stem} imports {found}"


def test_asyncio_lives_where_the_page_says() -> None:
    """Elsewhere it is imported when somebody waits, and not before: programs that poll never load it."""
    imported = re.compile(r"^(?:import|from) asyncio\b", re.MULTILINE)
    found = {path.stem for path in MODULES if imported.search(path.read_text())}
    assert found == {"api", "cm", "connection", "llp", "rdmacm"}


PUBLIC = """
    Access Closed Connection ConnectionLost Context Device Disconnected IwarpError Listener MemoryRegion Message Options
    ProtectionDomain ProtocolViolation Region RegionSlice Rejected RemoteRegion Request Server StartupError
    TerminatedByPeer UsageError WorkFailed connect listen serve
"""


def test_the_public_names_are_these() -> None:
    assert pyiwarp.__all__ == PUBLIC.split()
    assert all(hasattr(pyiwarp, name) for name in pyiwarp.__all__)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_what_a_module_exports_exists_and_is_sorted(path: Path) -> None:
    module = __import__(f"pyiwarp.{path.stem}", fromlist=["__all__"])
    assert len(set(module.__all__)) == len(module.__all__)
    assert all(hasattr(module, name) for name in module.__all__)


LONGEST_FUNCTION = 60
LONGEST_FILE = 600


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_too_long(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= LONGEST_FILE, f"{path.name} has {lines} lines"
    for function in functions(path):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{path.name}:{function.lineno} {function.name} has {length} lines"


def handlers(path: Path) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            yield node


def caught(handler: ast.ExceptHandler) -> set[str]:
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()


def test_a_violation_is_caught_in_one_place() -> None:
    """Raise deep, catch once: `Stream.resume` turns a violation into a Terminate, and nobody else looks at one."""
    core = [path for path in SOURCES if path.is_relative_to(PACKAGE) and path.parent.name not in ("cli", ALONE)]
    places = [path.name for path in core for handler in handlers(path) if "ProtocolViolation" in caught(handler)]
    assert places == ["stream.py"]


def test_nothing_is_caught_silently() -> None:
    for path in SOURCES:
        for handler in handlers(path):
            assert handler.type is not None, f"{path.name}:{handler.lineno} catches everything"


IDS = re.compile(r"\b(?:MPA2?|DDP|RDMAP|SEC|EXT)-[0-9]{4}-[0-9A-Z]+(?:\.[0-9]+)*-[0-9]{2}\b")


def test_every_requirement_that_is_cited_exists() -> None:
    with (ROOT / "spec" / "requirements.tsv").open() as table:
        known = {row["id"] for row in csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)}
    assert len(known) > 700
    cited = 0
    for path in [*SOURCES, *sorted((ROOT / "tests").rglob("*.py"))]:
        ids = set(IDS.findall(path.read_text()))
        cited += len(ids)
        unknown = ids - known
        assert not unknown, f"{path.relative_to(ROOT)} cites {sorted(unknown)}"
    assert cited > 500


def test_every_public_name_is_documented() -> None:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), f"{path.name} begins with a sentence"


def test_the_architecture_page_has_the_same_rows() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = {name: int(row) for row, name in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, re.MULTILINE)}
    assert listed == RANK
