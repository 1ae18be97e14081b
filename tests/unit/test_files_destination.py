"""Files that arrive: nothing is seen of them before they are kept, and nothing is left of them if they are not."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

from pyiwarp.files import room as module
from pyiwarp.files.destination import Destination
from pyiwarp.files.errors import Refusal


@pytest.fixture(params=["nameless", "hidden"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both kinds of temporary file: O_TMPFILE, and a hidden name where the file system has no O_TMPFILE."""
    if request.param == "hidden":
        real_open = os.open

        def open_without_tmpfile(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
            return real_open(path, flags, mode, dir_fd=dir_fd)

        monkeypatch.setattr(os, "open", open_without_tmpfile)
    return str(request.param)


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def destination(path: Path, *, fsync: bool = False) -> Destination:
    return Destination(os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY), path.name, fsync=fsync)


@pytest.mark.parametrize("fsync", [False, True])
@pytest.mark.parametrize("old", [None, b"old"])
@pytest.mark.parametrize("octets", [b"", b"new file"])
def test_a_kept_file_is_there(way: str, tmp_path: Path, old: bytes | None, octets: bytes, fsync: bool) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with destination(path, fsync=fsync) as arriving:
        arriving.prepare(len(octets))
        arriving.write(memoryview(octets), 0)
        arriving.keep()
    assert path.read_bytes() == octets
    assert os.listdir(tmp_path) == ["file"]
    assert old is not None or path.stat().st_mode & 0o777 == 0o666 & ~umask()


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_file_not_kept_leaves_no_trace(way: str, tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)
    with destination(path) as arriving:
        arriving.prepare(10)
        arriving.write(memoryview(b"0123456789"), 0)
        assert not path.exists() or path.read_bytes() == old
        assert (len(os.listdir(tmp_path)) == (old is not None)) == (way == "nameless")
    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    arriving.close()


def test_a_directory_is_not_replaced(way: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with destination(tmp_path / "file") as arriving:
        arriving.prepare(1)
        with pytest.raises(Refusal, match="directory"):
            arriving.keep()
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_is_replaced_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "file").symlink_to("other")
    with destination(tmp_path / "file") as arriving:
        arriving.prepare(3)
        arriving.write(memoryview(b"new"), 0)
        arriving.keep()
    assert (tmp_path / "other").read_bytes() == b"other"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


def test_a_full_disk_is_told_before_anything_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_fallocate", full)
    with destination(tmp_path / "file") as arriving, pytest.raises(OSError, match="No space left"):
        arriving.prepare(10)
    assert os.listdir(tmp_path) == []


def test_file_systems_that_cannot_reserve_are_asked_for_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cannot(fd: int, nbytes: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(module, "_fallocate", cannot)
    with (tmp_path / "file").open("wb") as file:
        module.reserve(file.fileno(), 12345)
        assert os.fstat(file.fileno()).st_size == 12345
        with pytest.raises(OSError, match="No space left"):
            module.reserve(file.fileno(), 1 << 62)


def test_a_file_size_limit_is_an_error_not_a_signal(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with destination(tmp_path / "file") as arriving, pytest.raises(OSError, match="File too large"):
            arriving.prepare(10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_the_room_is_never_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The GNU library's posix_fallocate writes to each block where the file system cannot reserve them."""
    monkeypatch.setattr(module, "_SYSTEM_CALL", lambda *_: ctypes.set_errno(errno.EOPNOTSUPP) or -1)
    with (tmp_path / "file").open("wb") as file:
        assert not module.reserve(file.fileno(), 100 << 20)
        status = os.fstat(file.fileno())
        assert (status.st_size, status.st_blocks) == (100 << 20, 0)


def test_a_directory_that_cannot_be_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems (CIFS, FUSE) have nothing to flush for a directory, and say EINVAL."""
    real = os.fsync

    def fsync(fd: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{fd}"):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    with destination(tmp_path / "file", fsync=True) as arriving:
        arriving.prepare(0)
        arriving.keep()
    assert (tmp_path / "file").exists()
