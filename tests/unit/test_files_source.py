"""Files that are sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyiwarp.files.errors import Refusal
from pyiwarp.files.source import Source


def test_a_file_is_memory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"octets")
    with Source.open(tmp_path / "file") as source:
        source.check()
        assert (source.nbytes, bytes(source.view), source.view.readonly) == (6, b"octets", True)
    source.close()


def test_an_empty_file_is_no_memory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with Source.open(tmp_path / "file") as source:
        source.check()
        assert (source.nbytes, source.view.nbytes) == (0, 0)


@pytest.mark.parametrize("change", ["shorter", "longer", "written to"])
def test_a_change_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"octets")
    os.utime(path, ns=(0, 0))
    with Source.open(path) as source:
        if change == "written to":
            with path.open("r+b") as file:
                file.write(b"O")
        else:
            os.truncate(path, 5 if change == "shorter" else 7)
            os.utime(path, ns=(0, 0))
        with pytest.raises(Refusal, match="changed"):
            source.check()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in ((tmp_path, "a directory"), (tmp_path / "fifo", "a FIFO"), (Path("/dev/null"), "a device")):
        with pytest.raises(Refusal, match=why):
            Source.open(path)
    with pytest.raises(FileNotFoundError):
        Source.open(tmp_path / "none")
