"""What users may ask of get and put."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.errands import Get, Put, getting, putting

PLACE = Address("alpha", 1, "dir")


def test_into_a_directory_files_keep_their_last_name(tmp_path: Path) -> None:
    assert getting(["x", "a/y"], tmp_path) == [Get("x", tmp_path / "x"), Get("a/y", tmp_path / "y")]


def test_one_file_may_get_a_new_name(tmp_path: Path) -> None:
    assert getting(["x"], tmp_path / "new") == [Get("x", tmp_path / "new")]


@pytest.mark.parametrize(
    ("names", "output", "why"),
    [([], "", "name a file"), (["x", "y"], "new", "no directory"), (["a/x", "b/x"], "", "2 files would become")],
)
def test_what_get_cannot_mean(tmp_path: Path, names: list[str], output: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        getting(names, tmp_path / output)


def test_files_are_put_below_the_path() -> None:
    assert putting([Path("/tmp/x"), Path("y")], PLACE, "") == [Put("dir/x", Path("/tmp/x")), Put("dir/y", Path("y"))]
    assert putting([Path("x")], PLACE, "z") == [Put("dir/z", Path("x"))]


@pytest.mark.parametrize(
    ("paths", "name", "why"), [(["x", "y"], "z", "one file"), (["a/x", "b/x"], "", "would become")]
)
def test_what_put_cannot_mean(paths: list[str], name: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        putting([Path(path) for path in paths], PLACE, name)
