"""Directories that stay open: by a descriptor, or where the system has none of directories (Windows), by their path.

Names are relative to a descriptor, so that a directory that is renamed meanwhile is still the same. By a path it need
not be; there links are refused, and a file that was opened must be the one that was looked at.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

__all__ = ["Disk", "Place", "by_descriptor", "close", "disk", "enter", "names", "open_file", "open_top", "replace"]
__all__ += ["status", "sync", "target_of", "unlink"]

Place: TypeAlias = int | str
"""An open directory."""

_OPENING: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
_BINARY: Final = getattr(os, "O_BINARY", 0)
_NOFOLLOW: Final = getattr(os, "O_NOFOLLOW", 0)
_NO_FSYNC: Final = (errno.EINVAL, errno.EOPNOTSUPP)


class Disk(NamedTuple):
    """A file system, in octets: its size, and what this process may still write."""

    size: int
    free: int


def by_descriptor() -> bool:
    """Whether this system opens directories."""
    return os.open in os.supports_dir_fd and hasattr(os, "O_DIRECTORY") and hasattr(os, "O_NOFOLLOW")


def open_top(path: Path) -> Place:
    """The directory of that path; raises `OSError`."""
    if by_descriptor():
        return os.open(path, _OPENING)
    if not path.is_dir():
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    return os.path.abspath(path)


def enter(name: str, place: Place) -> Place:
    """The directory `name` in `place`; raises `OSError`: ELOOP or ENOTDIR if it is a link."""
    if isinstance(place, int):
        return os.open(name, _OPENING | _NOFOLLOW, dir_fd=place)
    if not stat.S_ISDIR(status(name, place).st_mode):
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), name)
    return os.path.join(place, name)


def open_file(name: str, flags: int, place: Place, mode: int = 0o777) -> int:
    """Open the file `name` in `place`; raises `OSError`: ELOOP if it is a link."""
    if isinstance(place, int):
        return os.open(name, flags | _NOFOLLOW, mode, dir_fd=place)
    path = os.path.join(place, name)
    looked_at = None if flags & os.O_CREAT else os.lstat(path)
    fd = os.open(path, flags | _BINARY, mode)
    if looked_at is not None and not os.path.samestat(looked_at, os.fstat(fd)):
        os.close(fd)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return fd


def status(name: str, place: Place) -> os.stat_result:
    """What `name` in `place` is; a link is looked at itself. Raises `OSError`."""
    if isinstance(place, int):
        return os.stat(name, dir_fd=place, follow_symlinks=False)
    return os.lstat(os.path.join(place, name))


def target_of(name: str, place: Place) -> str | None:
    """Where the link `name` leads; None if it is none, or links are refused."""
    if not isinstance(place, int):
        return None
    try:
        return os.readlink(name, dir_fd=place)
    except OSError:
        return None


def names(place: Place) -> list[str]:
    """The names in `place`; raises `OSError`."""
    return os.listdir(place)


def unlink(name: str, place: Place) -> None:
    """Remove the file `name` in `place`; raises `OSError`."""
    if isinstance(place, int):
        os.unlink(name, dir_fd=place)
    else:
        os.unlink(os.path.join(place, name))


def replace(old: str, new: str, place: Place) -> None:
    """Rename a file in `place`; one that has the name `new` goes. Raises `OSError`."""
    if isinstance(place, int):
        os.replace(old, new, src_dir_fd=place, dst_dir_fd=place)
    elif os.path.isdir(os.path.join(place, new)):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), new)
    else:
        os.replace(os.path.join(place, old), os.path.join(place, new))


def sync(place: Place) -> None:
    """Have the names of a directory on the disk; some file systems (CIFS, FUSE) have nothing to do for that."""
    if not isinstance(place, int):
        return
    try:
        os.fsync(place)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def disk(place: Place) -> Disk:
    """The file system of a directory, or of an open file; raises `OSError`."""
    if isinstance(place, int):
        told = os.fstatvfs(place)
        return Disk(told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize)
    usage = shutil.disk_usage(place)
    return Disk(usage.total, usage.free)


def close(place: Place) -> None:
    """Close the directory."""
    if isinstance(place, int):
        os.close(place)
