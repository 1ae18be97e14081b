"""The repository's own rules: who imports whom, what is public, how long things may be, what is cited."""

from __future__ import annotations

import ast
import csv
import importlib
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyiwarp

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pyiwarp"
SOURCES = sorted(PACKAGE.rglob("*.py"))
STACK = [
    path
    for path in SOURCES
    if path.relative_to(PACKAGE).parts[0]
    not in ("conformance", "explain", "lab", "wireshark", "files", "pyverbs", "target", "run", "cli")
]

ROWS = """
    codes buffers exports extent crc forks
    errors pump capture faststartup
    wire fastwire access check_errors bounds profile drivers/
    negotiation mpa ddp rdmap mr decode/
    startup memory/
    engine/
    queues/
    verbs
    cm/ devices
    connections/ rdmacm blockingcm
    blocking __init__
    files/ sockets/ pyverbs/ lab/ wireshark/
    target/ run/ explain/
    cli/
    __main__
"""
RANK = {name.rstrip("/"): row for row, line in enumerate(ROWS.strip().splitlines(), 1) for name in line.split()}
ALONE = "conformance"  # it checks other stacks as it checks this one, and shares nothing with it but the formats
FORMATS = {"codes", "errors", "wire", "decode"}
DRIVING = {"pump", "capture", "buffers", "errors", "exports", "forks"}


def name_of(path: Path) -> str:
    """The module of a file, below the package: `queues.qp`; a folder's own name for its `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {name_of(path): path for path in SOURCES}


def home_of(module: str) -> str:
    """Where a module has its row: itself if it lies at the top, or else its folder."""
    return module.partition(".")[0]


def modules_named(node: ast.AST, path: Path) -> list[str]:
    """The modules of the package that an import names, as `FILES` has them."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"{path.name}: imports are absolute"
        base = node.module or ""
        names = [f"{base}.{alias.name}" for alias in node.names]
        names = [name if name.partition(".")[2] in FILES else base for name in names]
    else:
        return []
    within = [name.partition(".")[2] or "__init__" for name in names if name.partition(".")[0] == "pyiwarp"]
    return list(dict.fromkeys(within))


def imports(path: Path) -> list[str]:
    """What a file imports, wherever in it: lazily and for types alone count too."""
    return [name for node in ast.walk(ast.parse(path.read_text())) for name in modules_named(node, path)]


def imports_when_loaded(path: Path) -> list[str]:
    """What is imported before the file is done, leaving out what is for types alone."""
    found: list[str] = []
    nodes: list[ast.AST] = [ast.parse(path.read_text())]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        found += modules_named(node, path)
        nodes += ast.iter_child_nodes(node)
    return found


def test_every_module_has_its_row() -> None:
    assert {home_of(name) for name in FILES} == set(RANK) | {ALONE}


@pytest.mark.parametrize("name", FILES)
def test_imports_only_look_up(name: str) -> None:
    """A module imports only from rows above its own, and from its own folder."""
    home = home_of(name)
    for imported in imports(FILES[name]):
        if home == ALONE:
            allowed = home_of(imported) in FORMATS | {ALONE}
        elif home in ("cli", "lab") and home_of(imported) == ALONE:
            allowed = True
        else:
            allowed = RANK.get(home_of(imported), 99) < RANK[home] or ("." in imported and home_of(imported) == home)
            allowed = allowed or (home, imported) == ("target", "__init__") or imported == home in ("cli", "files")
        assert allowed, f"{FILES[name].relative_to(ROOT)} must not import {FILES[imported].relative_to(ROOT)}"


def test_drivers_know_the_pump_and_nothing_of_the_stack() -> None:
    for name, path in FILES.items():
        if home_of(name) == "drivers":
            for imported in imports(path):
                assert imported in DRIVING or home_of(imported) == "drivers", f"{name} must not import {imported}"


def test_no_modules_import_each_other() -> None:
    """No circle, by whatever way; what is imported for types alone does not count, as nothing is loaded by it."""
    arrows = {name: [each for each in imports_when_loaded(path) if each != name] for name, path in FILES.items()}
    done: set[str] = set()

    def follow(name: str, way: list[str]) -> None:
        assert name not in way, f"a circle: {' imports '.join([*way[way.index(name) :], name])}"
        if name not in done:
            for imported in arrows[name]:
                follow(imported, [*way, name])
            done.add(name)

    for name in FILES:
        follow(name, [])


def test_the_layers_do_not_know_each_other() -> None:
    layers = {"mpa", "ddp", "rdmap", "mr"}
    for layer in layers:
        assert not layers & set(imports(FILES[layer]))


ON_ASYNCIO = {
    f"sockets.{name}"
    for name in (
        *("connecting", "delivery", "serving", "streams", "transport"),
        *("family.bridge", "family.directwrites", "family.enginethread", "family.startupbridge"),
    )
}
OF_SOCKETS = {name for name in FILES if name.startswith("sockets.family.")} - ON_ASYNCIO


def test_sockets_stand_on_public_names() -> None:
    public = {"__init__", "bounds", "cm", "codes", "errors", "exports", "verbs"}
    for name, path in FILES.items():
        if home_of(name) == "sockets":
            within = {each for each in imports(path) if home_of(each) != "sockets"}
            assert within <= public, f"{name} imports {within - public}"


def test_pyverbs_stands_on_public_names() -> None:
    """The stand-in reaches for nothing inside: what it needs is public, and `test_private` holds it to that."""
    public = {"__init__", "blocking", "blockingcm", "cm", "codes", "errors", "exports", "profile", "verbs"}
    for name, path in FILES.items():
        if home_of(name) == "pyverbs":
            within = {each for each in imports(path) if home_of(each) != "pyverbs"}
            assert within <= public, f"{name} imports {within - public}"


def test_no_sockets_and_no_clocks_in_the_core() -> None:
    waiting = {"drivers", "cm", "connections", "capture", "rdmacm", "blockingcm", "blocking"}
    apart = {
        "queues.waiting",
        "queues.thread_checks",
        *ON_ASYNCIO,
        *OF_SOCKETS,
    }  # the first ask which loop or thread is the caller's
    forbidden = re.compile(
        r"^\s*(?:import|from) (asyncio|socket|select|selectors|time|threading|uvloop)\b", re.MULTILINE
    )
    for path in STACK:
        name = name_of(path)
        if home_of(name) not in waiting and name not in apart:
            found = set(forbidden.findall(path.read_text()))
            assert found <= ({"threading"} if name == "memory.atomics" else set()), f"{name} imports {found}"


def test_asyncio_lives_where_the_page_says() -> None:
    """Elsewhere it is imported when somebody waits, and not before: programs that poll never load it."""
    imported = re.compile(r"^(?:import|from) asyncio\b", re.MULTILINE)
    found = {name_of(path) for path in STACK if imported.search(path.read_text())}
    managers = {"cm.asyncio_cm", "cm.asyncio_dialing"}
    assert found == managers | ON_ASYNCIO | {
        "drivers.asyncio_driver",
        "connections.awaitable",
        "connections.serving",
        "rdmacm",
    }


def test_what_is_compiled_exists_and_is_of_the_stack() -> None:
    text = (ROOT / "setup.py").read_text()
    compiled = re.findall(r'^    "([\w/]+)",$', text, re.MULTILINE)
    assert len(compiled) > 15
    assert {PACKAGE / f"{name}.py" for name in compiled} <= set(STACK)


PUBLIC = """
    Access Closed Connection ConnectionLost Context Device Disconnected IwarpError Listener MemoryRegion Message Options
    ProtectionDomain ProtocolViolation Region RegionSlice Rejected RemoteRegion Request Server StartupError
    TerminatedByPeer UsageError WorkFailed connect listen serve
"""


def test_the_public_names_are_these() -> None:
    assert pyiwarp.__all__ == PUBLIC.split()
    assert all(hasattr(pyiwarp, name) for name in pyiwarp.__all__)


DOORS = [
    "pyiwarp",
    "blocking",
    "blockingcm",
    "capture",
    "cm",
    "devices",
    "errors",
    "profile",
    "rdmacm",
    "sockets",
    "verbs",
]


@pytest.mark.parametrize("door", DOORS)
def test_the_public_modules_stay_where_they_are(door: str) -> None:
    """The import paths that programs use; the pages list them."""
    module = importlib.import_module("pyiwarp" if door == "pyiwarp" else f"pyiwarp.{door}")
    assert module.__all__
    assert all(hasattr(module, name) for name in module.__all__)
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert f"`{module.__name__}`" in page


EXPORTING = [name_of(path) for path in STACK if "__all__ = " in path.read_text()]


@pytest.mark.parametrize("name", EXPORTING)
def test_what_a_module_exports_exists_and_is_sorted(name: str) -> None:
    module = importlib.import_module("pyiwarp" if name == "__init__" else f"pyiwarp.{name}")
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


def test_functions_of_the_stack_are_short() -> None:
    lengths = [(node.end_lineno or 0) - node.lineno + 1 for path in STACK for node in functions(path)]
    assert statistics.median(lengths) <= 6
    assert statistics.quantiles(lengths, n=10)[-1] <= 20


def handlers(path: Path) -> Iterator[ast.ExceptHandler]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ExceptHandler):
            yield node


def caught(handler: ast.ExceptHandler) -> set[str]:
    return {node.id for node in ast.walk(handler.type) if isinstance(node, ast.Name)} if handler.type else set()


def test_a_violation_is_caught_in_one_place() -> None:
    """Raise deep, catch once: `Stream.resume` turns a violation into a Terminate, and nobody else looks at one."""
    core = [path for path in SOURCES if path.relative_to(PACKAGE).parts[0] not in ("cli", ALONE)]
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
    listed = {name.rstrip("/"): int(row) for row, name in re.findall(r"^\| (\d+) \| `([\w/]+)` \|", page, re.MULTILINE)}
    assert listed == {name: row for name, row in RANK.items() if name not in ("__init__", "__main__")}


def test_the_architecture_page_names_every_file_of_a_folder() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = {name.replace("/", ".") for name in re.findall(r"^\| `(\w+(?:/\w+)+)` \|", page, re.MULTILINE)}
    names = {name_of(path) for path in STACK}
    assert listed == {name for name in names if "." in name}
