"""Which tests run which function, measured once for each test file and remembered until the file changes."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypedDict

import coverage

__all__ = ["Measured", "functions", "measure"]

# These read the source, run breakages of their own, or need a virtual machine.
LEFT_OUT = ("tests/meta/", "tests/interop/")
SETTINGS = """[run]
source = pyiwarp
plugins = mutants.children
patch = subprocess
parallel = true
sigterm = true
data_file = {data}
"""


class Measured(TypedDict):
    """One test file: its digest, the seconds of each test, and the tests of each function as `path::name`."""

    digest: str
    seconds: dict[str, float]
    functions: dict[str, list[str]]


def functions(text: str) -> Iterator[tuple[str, range, range]]:
    """Each function with its lines, and those of its body, which importing the module does not run."""

    def below(node: ast.AST, name: str) -> Iterator[tuple[str, range, range]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                inner = f"{name}.{child.name}"
                if not isinstance(child, ast.ClassDef):
                    end = (child.end_lineno or child.lineno) + 1
                    yield inner, range(child.lineno, end), range(child.body[0].lineno, end)
                yield from below(child, inner)
            else:
                yield from below(child, name)

    yield from below(ast.parse(text), "")


def measure(tree: Path, known: Path, only: Sequence[str] = ()) -> dict[str, Measured]:
    """What each test file of `tree` runs, or those of `only` that it names.

    `known` keeps it; what is there and has not changed is not run again.
    """
    old: dict[str, Measured] = json.loads(known.read_text()) if known.exists() else {}
    digests = {
        str(path.relative_to(tree)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted((tree / "tests").rglob("test_*.py"))
        if not str(path.relative_to(tree)).startswith(LEFT_OUT)
    }
    kept = {name: one for name, one in old.items() if digests.get(name) == one["digest"]}
    chosen = [name for name in digests if not only or name in only]
    folders: dict[str, list[str]] = defaultdict(list)
    for name in chosen:
        if name not in kept:
            folders[str(Path(name).parent)].append(name)
    for folder, names in folders.items():
        print(f"measuring which functions the tests of {folder} run: {len(names)} files", flush=True)
        kept |= run(tree, names, digests)
        known.write_text(json.dumps(kept))
    return {name: kept[name] for name in chosen}


def run(tree: Path, names: list[str], digests: dict[str, str]) -> dict[str, Measured]:
    """Run some test files under coverage.py."""
    place = tree.parent
    now, settings, data = place / "now", place / "coveragerc", place / "coverage"
    settings.write_text(SETTINGS.format(data=data))
    now.write_text("")
    for old in place.glob("coverage.*"):
        old.unlink()
    start = [
        sys.executable,
        "-m",
        "coverage",
        "run",
        f"--rcfile={settings}",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:randomly",
        "-p",
    ]
    environment = os.environ | {"PYTHONPATH": str(tree), "MUTANTS_NOW": str(now)}
    command = [*start, "mutants.contexts", *names]
    done = subprocess.run(command, cwd=tree, env=environment, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # all passed, or some did not
        raise RuntimeError(f"the tests cannot be measured:\n{done.stdout}{done.stderr}")
    noted = json.loads(now.with_suffix(".json").read_text())
    for failed in noted["failed"]:
        print(f"  not used, since it fails or is skipped here: {failed}")
    files = coverage.Coverage(data_file=str(data), config_file=str(settings))
    files.combine(strict=True)
    return by_file(files.get_data(), tree, names, digests, noted["seconds"])


def by_file(
    data: coverage.CoverageData, tree: Path, names: list[str], digests: dict[str, str], seconds: dict[str, float]
) -> dict[str, Measured]:
    """The same, for each test file."""
    measured: dict[str, Measured] = {
        name: {"digest": digests[name], "seconds": {}, "functions": defaultdict(list)} for name in names
    }
    for test, took in seconds.items():
        measured[test.partition("::")[0]]["seconds"][test] = took
    for source in data.measured_files():
        path = Path(source)
        contexts = data.contexts_by_lineno(source)
        for function, _, body in functions(path.read_text()):
            for test in {test.split("|")[0] for line in body for test in contexts.get(line, ())} & seconds.keys():
                key = f"{path.relative_to(tree)}::{function}"
                measured[test.partition("::")[0]]["functions"].setdefault(key, []).append(test)
    return measured
