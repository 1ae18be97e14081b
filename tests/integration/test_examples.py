"""The examples run, say what they should, and stay short enough to be read."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.children import finished
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

SAID = {
    "echo": "4096 octets came back",
    "kv_store": "100 keys found with",
    "lock_and_counter": "8 clients drew 200 tickets, no two the same, and added up to 900",
    "numpy_arrays": "read 2,048,000 octets into the array itself: the mean is 127,999.5",
    "rpc_srq": "16 clients made 416 calls; ",
    "ring_buffer": "2000 records, 299,400 octets",
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    run = finished([sys.executable, "-W", "error", str(path)], timeout=2 * PATIENCE, cwd=ROOT)
    assert (run.returncode, run.stderr) == (0, "")
    assert SAID[path.stem] in run.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_is_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 100


def test_each_example_is_known() -> None:
    assert {path.stem for path in EXAMPLES} == set(SAID)
