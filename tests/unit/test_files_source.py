"""Files that are sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyiwarp.files import source as module
from pyiwarp.files.errors import Refusal
from pyiwarp.files.source import Source

LARGE = bytes(range(256)) * 300
"""More than what is read when a file is opened."""


@pytest.mark.parametrize("octets", [b"", b"octets", LARGE])
def test_the_octets_of_a_file(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "file").write_bytes(octets)
    with Source.open(tmp_path / "file") as source:
        assert source.nbytes == len(octets)
        assert source.tells_its_size
        memory = bytearray(len(octets))
        for start in range(0, len(octets), 1000):
            with memoryview(memory)[start : start + 1000] as piece:
                source.read_into(piece, start)
        source.check_end()
    assert memory == octets
    source.close()


def test_a_small_file_is_sent_as_it_was_when_it_was_opened(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"octets")
    with Source.open(path) as source:
        path.write_bytes(b"other")
        piece = bytearray(6)
        source.read_into(memoryview(piece), 0)
        source.check_end()
    assert piece == b"octets"


@pytest.mark.parametrize("path", ["/proc/cpuinfo", "/proc/self/status", "/sys/class/net/lo/mtu"])
def test_files_that_tell_no_size(path: str) -> None:
    """Their octets are what `cat` gives; the size that the file system tells is 0, or a page."""
    if not os.path.exists(path):
        pytest.skip(f"there is no {path}")
    with Source.open(Path(path)) as source:
        assert not source.tells_its_size
        piece = bytearray(source.nbytes)
        source.read_into(memoryview(piece), 0)
        source.check_end()
    with open(path, "rb") as file:
        expected = file.read()
    assert len(piece) > 0
    if "cpuinfo" not in path and "status" not in path:  # they change all the time
        assert piece == expected
    assert piece[:5] == expected[:5]


def test_a_file_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UNTOLD_LIMIT", 1000)
    with pytest.raises(Refusal, match="size is told as 0"):
        Source.open(Path("/proc/self/smaps"))


def test_more_octets_than_the_size_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As FUSE may tell: the size of the file is that of an earlier state, or of a compressed one."""
    (tmp_path / "file").write_bytes(LARGE)
    real = os.fstat

    def shorter(fd: int) -> os.stat_result:
        fields = list(real(fd))
        fields[6] = 70_000
        return os.stat_result(fields)

    monkeypatch.setattr(os, "fstat", shorter)
    with Source.open(tmp_path / "file") as source:
        source.read_into(memoryview(bytearray(70_000)), 0)
        with pytest.raises(Refusal, match="more octets than its size says"):
            source.check_end()


@pytest.mark.parametrize("change", ["shorter", "longer", "written to"])
def test_a_change_is_noticed(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(LARGE)
    os.utime(path, ns=(0, 0))
    with Source.open(path) as source:
        if change == "written to":
            with path.open("r+b") as file:
                file.write(b"O")
        else:
            os.truncate(path, len(LARGE) - 1 if change == "shorter" else len(LARGE) + 1)
            os.utime(path, ns=(0, 0))
        with pytest.raises(Refusal, match="changed"):
            source.read_into(memoryview(bytearray(5)), 0)
        with pytest.raises(Refusal, match="changed"):
            source.check_end()


def test_a_file_that_gets_shorter_under_the_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look at its size and the reading."""
    (tmp_path / "file").write_bytes(LARGE)
    with Source.open(tmp_path / "file") as source:
        monkeypatch.setattr(source, "check", lambda: os.truncate(tmp_path / "file", 4096))
        with pytest.raises(Refusal, match="changed"):
            source.read_into(memoryview(bytearray(5000)), 0)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, why in ((tmp_path, "a directory"), (tmp_path / "fifo", "a FIFO"), (Path("/dev/null"), "a device")):
        with pytest.raises(Refusal, match=why):
            Source.open(path)
    with pytest.raises(FileNotFoundError):
        Source.open(tmp_path / "none")
