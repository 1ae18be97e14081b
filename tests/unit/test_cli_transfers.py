"""What users may ask of get and put."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from pyiwarp.cli.address import Address
from pyiwarp.cli.transfers import Get, Put, _HarmlessFormatter, plan_gets, plan_puts

PLACE = Address("alpha", 1, "dir")


def test_into_a_directory_files_keep_their_last_name(tmp_path: Path) -> None:
    assert plan_gets(["x", "a/y"], str(tmp_path)) == [Get("x", tmp_path / "x"), Get("a/y", tmp_path / "y")]


def test_one_file_may_get_a_new_name(tmp_path: Path) -> None:
    assert plan_gets(["x"], str(tmp_path / "new")) == [Get("x", tmp_path / "new")]


@pytest.mark.parametrize(
    ("names", "output", "why"),
    [
        ([], "", "name a file"),
        (["x", "y"], "new", "not a directory; several"),
        (["x"], "new/", "new/ is not a directory$"),
        (["sub/"], "", "sub/ names a directory"),
        (["a/x", "b/x"], "", "2 files would become"),
    ],
)
def test_what_get_cannot_mean(tmp_path: Path, names: list[str], output: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        plan_gets(names, f"{tmp_path}/{output}")


def test_files_are_put_below_the_path() -> None:
    assert plan_puts(["/tmp/x", "y"], PLACE, "") == [Put("dir/x", Path("/tmp/x")), Put("dir/y", Path("y"))]
    assert plan_puts(["x"], PLACE, "z") == [Put("dir/z", Path("x"))]
    assert plan_puts(["a/x", "y"], PLACE, "z/") == [Put("dir/z/x", Path("a/x")), Put("dir/z/y", Path("y"))]


@pytest.mark.parametrize(
    ("paths", "name", "why"),
    [(["x", "y"], "z", "one file"), (["a/x", "b/x"], "", "would become"), (["x/"], "", "names a directory")],
)
def test_what_put_cannot_mean(paths: list[str], name: str, why: str) -> None:
    with pytest.raises(typer.BadParameter, match=why):
        plan_puts(paths, PLACE, name)


class FakeClient:
    """A client of files that has sent its Commit, or not."""

    def __init__(self, committed: bool) -> None:
        self.committed = committed


def test_what_is_said_of_a_transfer_that_failed(tmp_path: Path) -> None:
    put, get = Put("x", tmp_path / "x"), Get("x", tmp_path / "x")
    assert put.state(cast("Any", FakeClient(False))) == "the server has stored nothing"
    assert put.state(cast("Any", FakeClient(True))) == "whether the server stored it is not known"
    assert get.state(cast("Any", FakeClient(False))) == "nothing was stored"
    (tmp_path / "x").write_bytes(b"old")
    assert get.state(cast("Any", FakeClient(False))) == f"the old {tmp_path / 'x'} is unchanged"


def test_a_line_of_the_log_does_not_control_the_terminal() -> None:
    """It may quote what a peer has sent."""
    record = logging.LogRecord("pyiwarp.files", logging.INFO, __file__, 1, "%s", ("\x1b[2Jname\r",), None)
    line = _HarmlessFormatter("%(message)s").format(record)
    assert "name" in line
    assert line.isprintable()
