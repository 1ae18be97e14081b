"""The served directory, and every way out of it that is closed."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyiwarp.files.errors import Refusal
from pyiwarp.files.messages import Entry
from pyiwarp.files.root import Root


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    served = tmp_path / "served"
    (served / "sub" / "deep").mkdir(parents=True)
    (served / "file").write_bytes(b"inside")
    (served / "sub" / "deep" / "file").write_bytes(b"deep")
    (tmp_path / "secret").write_bytes(b"outside")
    (tmp_path / "served-too").mkdir()
    return served


@pytest.fixture
def root(directory: Path) -> Iterator[Root]:
    with Root(directory) as root:
        yield root


def content(root: Root, name: str) -> bytes:
    with root.open_file(name) as source:
        piece = bytearray(source.nbytes)
        source.read_into(memoryview(piece), 0)
        return bytes(piece)


@pytest.mark.parametrize(
    ("name", "octets"), [("file", b"inside"), ("sub/deep/file", b"deep"), ("./sub//deep/file", b"deep")]
)
def test_files_inside_are_served(root: Root, name: str, octets: bytes) -> None:
    assert content(root, name) == octets


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("/etc/passwd", "absolute"),
        ("/", "absolute"),
        ("..", r"\.\."),
        ("../secret", r"\.\."),
        ("sub/../../secret", r"\.\."),
        ("sub/..", r"\.\."),
        ("", "not the name"),
        (".", "not the name"),
        ("file\0", "not the name"),
        ("\udc80", "not the name"),
        ("sub", "a directory"),
        ("sub/deep/", "a directory"),
    ],
)
def test_other_names_are_refused(root: Root, name: str, why: str) -> None:
    with pytest.raises(Refusal, match=why):
        root.open_file(name)


@pytest.mark.parametrize("name", ["", "/x", "../x", "sub/../x", ".", "x/..", "x\0", "sub", "a/"[:0]])
def test_other_names_are_not_written(root: Root, name: str) -> None:
    with pytest.raises(Refusal):
        root.directory_for(name)


def test_what_is_not_there_is_said_so(root: Root) -> None:
    for name in ("none", "none/file", "file/file"):
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            root.open_file(name)
        with pytest.raises(OSError, match=r"No such file|Not a directory"):
            root.directory_for(name + "/x")


@pytest.mark.parametrize(
    "target",
    ["../secret", "/etc/passwd", "sub/../../secret", "..", "../served-too/../secret", "sub/deep/../../../secret"],
)
def test_links_that_lead_out_are_refused(root: Root, directory: Path, target: str) -> None:
    (directory / "link").symlink_to(target)
    with pytest.raises(Refusal, match="leads out"):
        root.open_file("link")


def test_directory_links_that_lead_out_are_refused(root: Root, directory: Path) -> None:
    (directory / "up").symlink_to("..")
    (directory / "sub" / "upup").symlink_to("../..")
    for name in ("up/secret", "sub/upup/secret"):
        with pytest.raises(Refusal, match="leads out"):
            root.open_file(name)
    with pytest.raises(Refusal, match="leads out"):
        root.directory_for("up/new")
    with pytest.raises(Refusal, match="leads out"), root.listing("up"):
        pass


def test_links_that_stay_inside_work(root: Root, directory: Path) -> None:
    (directory / "a").symlink_to("sub/deep")
    (directory / "sub" / "b").symlink_to("../file")
    (directory / "sub" / "deep" / "c").symlink_to("../../a/file")
    assert content(root, "a/file") == b"deep"
    assert content(root, "sub/b") == b"inside"
    assert content(root, "a/c") == b"deep"


def test_links_in_a_circle_end(root: Root, directory: Path) -> None:
    (directory / "x").symlink_to("y")
    (directory / "y").symlink_to("x")
    with pytest.raises(Refusal, match="too many"):
        root.open_file("x")


def test_a_directory_exchanged_for_a_link_does_not_help(
    root: Root, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange happens between two steps of the walk: what was opened stays what it was."""
    real_open = os.open

    def open_and_exchange(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = real_open(path, flags, mode, dir_fd=dir_fd)
        if path == "sub":
            (directory / "sub").rename(directory / "gone")
            (directory / "sub").symlink_to("..")
        return fd

    monkeypatch.setattr(os, "open", open_and_exchange)
    assert content(root, "sub/deep/file") == b"deep"


def test_a_file_exchanged_for_a_link_after_the_look(
    root: Root, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real_stat = os.stat

    def stat_and_exchange(path: str, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        status = real_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if path == "file":
            (directory / "file").unlink()
            (directory / "file").symlink_to("../secret")
        return status

    monkeypatch.setattr(os, "stat", stat_and_exchange)
    with pytest.raises(Refusal, match="leads out"):
        root.open_file("file")


def test_special_files_are_refused(root: Root, directory: Path) -> None:
    os.mkfifo(directory / "fifo")
    with socket.socket(socket.AF_UNIX) as server:
        here = os.getcwd()
        os.chdir(directory)  # socket names must be short
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        for name, why in (("fifo", "a FIFO"), ("socket", "a socket")):
            with pytest.raises(Refusal, match=why):
                root.open_file(name)
            with pytest.raises(Refusal, match=why):
                root.directory_for(name)


def test_devices_are_refused() -> None:
    with Root(Path("/dev")) as root:
        with pytest.raises(Refusal, match="a device"):
            root.open_file("null")
        with pytest.raises(Refusal, match="a device"):
            root.directory_for("null")


def test_a_place_for_a_file(root: Root, directory: Path) -> None:
    (directory / "link").symlink_to("../secret")
    for name, leaf in (("new", "new"), ("sub/new", "new"), ("file", "file"), ("link", "link")):
        fd, last = root.directory_for(name)
        assert isinstance(fd, int)
        assert last == leaf
        assert os.path.samestat(os.fstat(fd), os.stat((directory / name).parent))
        os.close(fd)


def test_a_listing_is_sorted_and_follows_nothing(root: Root, directory: Path) -> None:
    (directory / "link").symlink_to("../secret")
    os.mkfifo(directory / "fifo")
    with open(os.fsencode(directory) + b"/\xff", "wb"):
        pass
    with root.listing() as entries:
        listed = list(entries)
    assert [(entry.name, entry.kind, entry.nbytes) for entry in listed] == [
        ("fifo", "other", 0),
        ("file", "file", 6),
        ("link", "link", 0),
        ("sub", "directory", 0),
    ]
    with root.listing("sub/deep") as entries:
        assert list(entries) == [Entry("file", "file", 4, int((directory / "sub/deep/file").stat().st_mtime))]
    with pytest.raises(OSError, match="Not a directory"), root.listing("file"):
        pass


def test_no_descriptor_is_lost(root: Root, directory: Path) -> None:
    (directory / "a").symlink_to("sub/deep")
    before = len(os.listdir("/proc/self/fd"))
    content(root, "a/file")
    for name in ("a", "sub", "none", "a/../../x", "sub/none"):
        with pytest.raises((Refusal, OSError)):
            root.open_file(name)
        with pytest.raises((Refusal, OSError)), root.listing(name + "/none"):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
