"""What a file keeps that is replaced, and what a new one gets."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyiwarp.files import destination as module
from pyiwarp.files import room
from pyiwarp.files.attributes import Attributes
from pyiwarp.files.destination import Destination


@pytest.fixture(params=["nameless", "hidden"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of temporary file; the second also without a way to reserve room, as on other platforms."""
    if request.param == "hidden":
        monkeypatch.setattr(module, "_TMPFILE", 0)
        monkeypatch.setattr(room, "_SYSTEM_CALL", None)
        monkeypatch.delattr(os, "posix_fallocate")
    return str(request.param)


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def replace(path: Path, permissions: int | None = None, mtime: int | None = None) -> None:
    with Destination(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY), path.name) as arriving:
        arriving.prepare(3, permissions)
        arriving.write(memoryview(b"new"), 0)
        arriving.keep(Attributes(permissions, mtime))
    assert path.read_bytes() == b"new"
    assert not [name for name in os.listdir(path.parent) if name[0] == "."]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o755, 0o644, 0o400, 0o000, 0o666])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(mode)
    with Destination(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY), "file") as arriving:
        arriving.prepare(3)
        arriving.write(memoryview(b"new"), 0)
        for name in os.listdir(tmp_path):
            if name != "file":
                assert mode_of(tmp_path / name) == 0o600, "nobody else reads it while it arrives"
        arriving.keep()
    assert mode_of(tmp_path / "file") == mode


def test_the_right_to_run_as_the_owner_is_not_kept(tmp_path: Path) -> None:
    """It was given to the old content; a write to the file would have removed it too."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o6755)
    replace(tmp_path / "file")
    assert mode_of(tmp_path / "file") == 0o755


@pytest.mark.parametrize(("sent", "expected"), [(None, 0o644), (0o755, 0o755), (0o777, 0o755), (0o600, 0o600), (0, 0)])
def test_the_mode_of_a_new_file(tmp_path: Path, sent: int | None, expected: int) -> None:
    replace(tmp_path / "file", sent)
    assert mode_of(tmp_path / "file") == expected


def test_the_sender_s_mode_if_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o600)
    replace(tmp_path / "file", 0o750)
    assert mode_of(tmp_path / "file") == 0o750


@pytest.mark.parametrize("mtime", [1_000_000_000_123_456_789, -5_000_000_000])
def test_the_time_of_change(tmp_path: Path, mtime: int) -> None:
    replace(tmp_path / "file", mtime=mtime)
    assert (tmp_path / "file").stat().st_mtime_ns == mtime


def test_extended_attributes_and_acl(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    acl = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *entry)
        for entry in [(1, 6, 0xFFFFFFFF), (2, 4, 12345), (4, 0, 0xFFFFFFFF), (16, 4, 0xFFFFFFFF), (32, 0, 0xFFFFFFFF)]
    )
    kept = {"user.origin": b"somewhere", "system.posix_acl_access": acl}
    for name, value in dict(kept).items():
        try:
            os.setxattr(path, name, value)
        except OSError:
            del kept[name]
    if not kept:
        pytest.skip("this file system has no extended attributes")
    before = mode_of(path)
    replace(path)
    assert {name: os.getxattr(path, name) for name in kept} == kept
    assert mode_of(path) == before


def test_the_owner_where_it_may(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    if os.geteuid() == 0:
        os.chown(path, 12345, 54321)
    owner = (path.stat().st_uid, path.stat().st_gid)
    replace(path)
    assert (path.stat().st_uid, path.stat().st_gid) == owner


def test_other_names_of_the_old_file_keep_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    os.link(tmp_path / "file", tmp_path / "other")
    replace(tmp_path / "file")
    assert (tmp_path / "other").read_bytes() == b"old"


def test_a_link_lends_nothing(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "target").chmod(0o777)
    (tmp_path / "file").symlink_to("target")
    replace(tmp_path / "file")
    assert not (tmp_path / "file").is_symlink()
    assert mode_of(tmp_path / "file") == 0o644
    assert (tmp_path / "target").read_bytes() == b"old"
