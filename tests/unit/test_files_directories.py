"""Files in directories that have no descriptor, as on Windows: the same results, and no link is followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pyiwarp.files import directories
from pyiwarp.files import root as module
from pyiwarp.files.attributes import Attributes
from pyiwarp.files.destination import Destination
from pyiwarp.files.errors import Refusal
from pyiwarp.files.root import Root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.setattr(directories, "by_descriptor", lambda: False)
    served = tmp_path / "served"
    (served / "sub").mkdir(parents=True)
    (served / "sub" / "file").write_bytes(b"content")
    (tmp_path / "secret").write_bytes(b"secret")
    return Root(served)


def test_a_file_below_is_opened(root: Root) -> None:
    with root.open_file("sub/file") as source:
        assert source.octets == b"content"


@pytest.mark.parametrize("fsync", [False, True])
def test_a_file_is_kept_with_what_is_asked_for(root: Root, fsync: bool) -> None:
    path = root.path / "sub" / "file"
    path.chmod(0o640)
    place, name = root.directory_for("sub/file")
    assert place == str(root.path / "sub")
    with Destination(place, name, fsync=fsync) as arriving:
        arriving.prepare(3)
        arriving.write(memoryview(b"new"), 0)
        arriving.keep(Attributes(None, 1_000_000_000))
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.stat().st_mtime_ns == 1_000_000_000
    assert os.listdir(root.path / "sub") == ["file"]


def test_a_file_that_is_not_kept_leaves_nothing(root: Root) -> None:
    place, name = root.directory_for("sub/other")
    with Destination(place, name) as arriving:
        arriving.prepare(3)
        assert len(os.listdir(root.path / "sub")) == 2
    assert os.listdir(root.path / "sub") == ["file"]


def test_a_directory_is_not_replaced(root: Root) -> None:
    with Destination(str(root.path), "sub") as arriving:
        arriving.prepare(0)
        with pytest.raises(Refusal, match="it is a directory"):
            arriving.keep()
    assert os.listdir(root.path) == ["sub"]


@pytest.mark.parametrize("link", ["../secret", "sub/file"])
def test_no_link_to_a_file_is_followed(root: Root, link: str) -> None:
    (root.path / "link").symlink_to(link)
    with pytest.raises(Refusal, match="symbolic links are not followed on this system"):
        root.open_file("link")


def test_no_link_to_a_directory_is_followed(root: Root) -> None:
    (root.path / "link").symlink_to("sub")
    with pytest.raises(NotADirectoryError):
        root.open_file("link/file")
    with pytest.raises(NotADirectoryError):
        root.directory_for("link/file")


def test_a_file_that_becomes_a_link_is_not_opened(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def exchange_and_open(path: str, flags: int, mode: int = 0o777) -> int:
        os.unlink(path)
        os.symlink(root.path.parent / "secret", path)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", exchange_and_open)
    with pytest.raises(OSError, match="symbolic link"):
        root.open_file("sub/file")


@pytest.mark.parametrize("name", ["..\\secret", "C:file", "file:stream", "sub/C:\\secret"])
def test_what_separates_names_on_windows(root: Root, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(module, "_SEPARATORS", "\\:")
    for call in (root.open_file, root.directory_for):
        with pytest.raises(Refusal, match="names with a backslash or a colon are not served"):
            call(name)


def test_a_directory_must_be_one(root: Root) -> None:
    with pytest.raises(NotADirectoryError):
        Root(root.path / "sub" / "file")
