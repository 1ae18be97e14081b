"""docs/verbs.md: every name in its table is there to be used, and every row has something that shows it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from pyiwarp.verbs import Context, Device

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "verbs.md"
APPLIES, REST = PAGE.read_text().split("## What does not apply")
ROWS = [line.split(" | ") for line in APPLIES.splitlines() if re.match(r"\| `", line)]
LEFT_OUT = [line.split(" | ") for line in REST.splitlines() if re.match(r"\| `", line)]


def names(cell: str) -> list[str]:
    """The code in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def calls(rows: list[list[str]]) -> list[str]:
    return [name for row in rows for name in names(row[0])]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: names(row[0])[0])
def test_what_a_row_names_is_there(row: list[str]) -> None:
    _, form, shown = row
    for dotted in [name for name in names(form) if re.fullmatch(r"[a-z]+(\.\w+)+", name)]:
        module, *rest = dotted.split(".")
        found: object = importlib.import_module(f"pyiwarp.{module}")
        for name in rest:
            found = getattr(found, name)
    links = re.findall(r"\[([\w.]+)\]\(([^)]+)\)", shown)
    assert links, "each row is exercised"
    for text, target in links:
        path = (PAGE.parent / target).resolve()
        source = path.read_text()
        if "tests" in path.parts:
            assert re.search(rf"^(async )?def {text}\(", source, re.MULTILINE), f"{target} has no {text}"
        else:
            assert path.parent == ROOT / "examples" or path.suffix == ".md"


def test_each_call_has_one_place() -> None:
    listed = calls(ROWS) + calls(LEFT_OUT)
    twice = {name for name in listed if listed.count(name) > 1} - {"rdma_create_id"}  # for datagrams it is left out
    assert not twice
    assert len(ROWS) > 50
    assert len(listed) > 150


def test_every_name_of_the_verbs_is_in_the_table() -> None:
    """What `pyiwarp.verbs` offers has a row, or is the value of one that has."""
    from pyiwarp import verbs

    values = {"AccessRecord", "AsyncEvent", "ContextCounters", "QpCounters", "RegionSlice", "RemoteRegion"}
    values |= {"SendRequest", "Sge", "SrqAttributes", "WorkOpcode"}
    missing = {name for name in verbs.__all__ if f"verbs.{name}" not in APPLIES} - values
    assert not missing


def test_a_device_is_queried() -> None:
    device = Device("small", max_sge=3, max_mr=7)
    assert Context(device).query_device() is device
    assert device.open().query_device().max_sge == 3
