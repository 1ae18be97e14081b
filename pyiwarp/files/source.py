"""A file that is sent: opened, read piece by piece, checked for changes."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, NamedTuple

from pyiwarp.files.errors import Refusal

__all__ = ["READING", "Identity", "Source", "check_regular"]

WHOLE: Final = 1 << 16
"""Octets up to which a file is read when it is opened, and does not change any more."""

UNTOLD_LIMIT: Final = 64 << 20
"""The most octets of a file whose file system does not tell its size: they are held in memory."""

TRIES: Final = 3
_CHANGED: Final = "the file changed while it was being sent"

READING: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
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
    """An open file whose octets are read, never mapped. It owns `fd`.

    A file of at most `WHOLE` octets is read when it is opened, to its end: a file of /proc tells the size 0 and has
    content, one of /sys tells 4,096 octets and has some. `octets` holds the content then, and `nbytes` says how much
    that is.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        try:
            status = os.fstat(fd)
            check_regular(status.st_mode)
            self.status = status
            self.identity = _identity(status)
            self.octets = self._read_whole() if status.st_size <= WHOLE else None
        except BaseException:
            os.close(fd)
            raise
        self.nbytes = status.st_size if self.octets is None else len(self.octets)

    @classmethod
    def open(cls, path: Path) -> Source:
        """Open the file of that path; raises `OSError`, or `Refusal` if it is no regular file."""
        check_regular(os.stat(path).st_mode)  # opening a device can already do something
        return cls(os.open(path, READING))

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def tells_its_size(self) -> bool:
        """Whether the size that the file system tells is that of the content; then its times tell of changes too."""
        return self.nbytes == self.identity.nbytes

    def read_into(self, piece: memoryview, offset: int) -> None:
        """Fill `piece` with the octets from `offset` on; raises `OSError`, or `Refusal` if there are not so many."""
        self.check()
        if self.octets is not None:
            piece[:] = self.octets[offset : offset + piece.nbytes]
            return
        filled = 0
        while filled < piece.nbytes:
            with piece[filled:] as rest:
                got = _read_into(self.fd, rest, offset + filled)
            if not got:
                raise Refusal(_CHANGED)
            filled += got

    def check(self) -> None:
        """Raise `Refusal` if the file has another size, or was written to, since it was opened.

        A file that was read when it was opened may change: what is sent is what it was.
        """
        if self.octets is not None:
            return
        now = _identity(os.fstat(self.fd))
        if now.nbytes != self.nbytes or now.mtime_ns != self.identity.mtime_ns:  # ctime changes with each new link
            raise Refusal(_CHANGED)

    def check_end(self) -> None:
        """Raise `Refusal` as `check` does, and if the file has more octets than its file system tells."""
        self.check()
        if self.octets is None and _read(self.fd, 1, self.nbytes):
            raise Refusal("the file has more octets than its size says")

    def close(self) -> None:
        """Close the file. Closing twice does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _read_whole(self) -> bytes:
        """All octets of a small file, in one state of it."""
        for _ in range(TRIES):
            before = _identity(os.fstat(self.fd))
            octets = self._read_to_end()
            if _identity(os.fstat(self.fd)) == before or not before.nbytes:
                self.identity = before
                return octets
        raise Refusal("the file changes too often to be sent")

    def _read_to_end(self) -> bytes:
        pieces = list[bytes]()
        nbytes = 0
        while piece := _read(self.fd, WHOLE, nbytes):
            pieces.append(piece)
            nbytes += len(piece)
            if nbytes > UNTOLD_LIMIT:
                raise Refusal(f"its size is told as {self.identity.nbytes}, and it has more than {UNTOLD_LIMIT} octets")
        return b"".join(pieces)


def _read_into(fd: int, piece: memoryview, offset: int) -> int:
    """Fill `piece` from `offset` on as far as one call does; returns the number of octets."""
    if hasattr(os, "preadv"):
        return os.preadv(fd, [piece], offset)
    octets = _read(fd, piece.nbytes, offset)
    piece[: len(octets)] = octets
    return len(octets)


def _read(fd: int, nbytes: int, offset: int) -> bytes:
    """At most `nbytes` octets from `offset` on. One thread at a time reads a source, so its position is free to use."""
    if hasattr(os, "pread"):
        return os.pread(fd, nbytes, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, nbytes)
