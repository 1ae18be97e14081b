"""A file that is sent: opened, mapped for reading, checked for changes."""

from __future__ import annotations

import mmap
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from pyiwarp.files.errors import Refusal

__all__ = ["READING", "Identity", "Source", "check_regular", "release"]

READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags for opening files: without waiting for the other end of a FIFO."""

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISLNK, "a symbolic link"),
)


class Identity(NamedTuple):
    """A file in one state: any write through the file system changes it."""

    device: int
    inode: int
    nbytes: int
    mtime_ns: int
    ctime_ns: int


def _identity(status: os.stat_result) -> Identity:
    return Identity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def check_regular(mode: int) -> None:
    """Raise `Refusal` for everything that is not a regular file."""
    if not stat.S_ISREG(mode):
        kind = next((name for test, name in _KINDS if test(mode)), "not a regular file")
        raise Refusal(f"it is {kind}; only regular files are transferred")


class Source:
    """An open file as memory. It owns `fd`.

    A file that another program shortens while its mapping is read ends this process (SIGBUS). `check` is called before
    each piece is used; the moment between the check and the use remains.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            status = os.fstat(fd)
            check_regular(status.st_mode)
            self.identity = _identity(status)
            self.nbytes = status.st_size
            self._mapping = mmap.mmap(fd, self.nbytes, access=mmap.ACCESS_READ) if self.nbytes else None
        except BaseException:
            os.close(fd)
            raise
        self.view = memoryview(self._mapping) if self._mapping is not None else memoryview(b"")
        if self._mapping is not None:
            self._mapping.madvise(mmap.MADV_SEQUENTIAL)

    @classmethod
    def open(cls, path: Path) -> Source:
        """Open and map the file of that path; raises `OSError`, or `Refusal` if it is no regular file."""
        check_regular(os.stat(path).st_mode)  # opening a device can already do something
        return cls(os.open(path, READING))

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def check(self) -> None:
        """Raise `Refusal` if the file has another size, or was written to, since it was opened."""
        now = _identity(os.fstat(self.fd))
        if now.nbytes != self.nbytes or now.mtime_ns != self.identity.mtime_ns:  # ctime changes with each new link
            raise Refusal("the file changed while it was being sent")

    def close(self) -> None:
        """Unmap and close the file. Closing twice does nothing."""
        if self.fd < 0:
            return
        os.close(self.fd)
        self.fd = -1
        self.view.release()
        if self._mapping is not None:
            release(self._mapping)


def release(mapping: mmap.mmap) -> None:
    """Unmap now, or when the transport of an aborted connection drops its last view of it."""
    with suppress(BufferError):
        mapping.close()
