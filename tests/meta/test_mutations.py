"""Each breakage of `mutations` is noticed by a test that cites the rule that it breaks.

The package and its tests are copied; for each mutation the copy is broken, the tests that cite the broken rules are
run there, and at least one must fail. Before that the same tests pass in the copy as it is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from tests.meta import compliance
from tests.meta.breakages import MUTATIONS, Mutation
from tests.meta.trial import broken as breakage

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
COPIED = ("pyiwarp", "tests", "spec", "pyproject.toml")
SECONDS = 180
ALL_PASSED, SOME_FAILED = 0, 1  # pytest's exit codes; any other means that nothing was tested


def citing(shown: Mapping[str, list[str]], rules: Iterable[str]) -> list[str]:
    """The tests that cite one of the rules."""
    return sorted({test for rule in rules for test in shown.get(rule, ())})


def copy_of_the_project(place: Path) -> Path:
    place.mkdir()
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, place / name)
    return place


def run_tests(place: Path, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """Run some tests of the copy at `place`, stopping at the first that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", *tests]
    own = {"PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", "PYIWARP_HYPOTHESIS": "unshrunk"}
    try:
        return subprocess.run(
            command, cwd=place, env=os.environ | own, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:  # the others have their verdicts all the same
        return subprocess.CompletedProcess(command, -1, f"stopped after {SECONDS} seconds", "")


def broken(place: Path, mutation: Mutation, tests: list[str]) -> subprocess.CompletedProcess[str]:
    """What the tests say of the copy with one breakage, which is mended afterwards."""
    with breakage(place, mutation):
        return run_tests(place, tests)


@pytest.fixture(scope="module")
def shown() -> Mapping[str, list[str]]:
    return compliance.read().shown


@pytest.fixture(scope="module")
def verdicts(
    shown: Mapping[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, subprocess.CompletedProcess[str]]:
    """What became of each mutation, by its name; as many copies work at once as there are processors."""
    base = tmp_path_factory.mktemp("mutations")
    workers = os.cpu_count() or 1
    copies: SimpleQueue[Path] = SimpleQueue()
    for number in range(workers):
        copies.put(copy_of_the_project(base / str(number)))

    def judge(mutation: Mutation) -> tuple[str, subprocess.CompletedProcess[str]]:
        place = copies.get()
        try:
            return mutation.name, broken(place, mutation, citing(shown, mutation.rules))
        finally:
            copies.put(place)

    with ThreadPoolExecutor(workers) as pool:
        return dict(pool.map(judge, MUTATIONS))


def test_the_copy_is_sound(shown: Mapping[str, list[str]], tmp_path: Path) -> None:
    place = copy_of_the_project(tmp_path / "sound")
    done = run_tests(place, citing(shown, (rule for mutation in MUTATIONS for rule in mutation.rules)))
    assert done.returncode == ALL_PASSED, done.stdout + done.stderr


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_citing_test_notices(mutation: Mutation, verdicts: Mapping[str, subprocess.CompletedProcess[str]]) -> None:
    done = verdicts[mutation.name]
    assert done.returncode == SOME_FAILED, f"{mutation.name}: {mutation.rules}\n{done.stdout}{done.stderr}"
