"""A file that is received: without a name until it is complete, then put in its place in one step.

The temporary file is made in the directory of the destination without a name (O_TMPFILE), so that even a killed
process leaves nothing behind. File systems that cannot do that get a hidden name, which is removed.
"""

from __future__ import annotations

import errno
import mmap
import os
import secrets
from contextlib import suppress
from typing import Final

from pyiwarp.files.errors import Refusal
from pyiwarp.files.source import release

__all__ = ["Destination"]

_NO_TMPFILE: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_NO_FALLOCATE: Final = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_OPEN_FILES: Final = "/proc/self/fd"


class Destination:
    """The future file `name` in the directory `dir_fd`. It owns `dir_fd`.

    `prepare`, then fill `view`, then `keep`; `close` in every case. Until `keep` returns, a file that was there
    before is unchanged. With `fsync` the octets and the name are on the disk when `keep` returns; without, they
    are when the system writes them.
    """

    def __init__(self, dir_fd: int, name: str, *, fsync: bool = False) -> None:
        self._dir_fd = dir_fd
        self._name = name
        self._fsync = fsync
        self._fd = -1
        self._hidden: str | None = None
        self._mapping: mmap.mmap | None = None
        self.view = memoryview(bytearray())

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def prepare(self, nbytes: int) -> None:
        """Make the temporary file, reserve its room on the disk, and map it; raises `OSError`."""
        self._open()
        if nbytes:
            reserve(self._fd, nbytes)
            self._mapping = mmap.mmap(self._fd, nbytes)
            self.view = memoryview(self._mapping)

    def keep(self) -> None:
        """Put the complete file in its place; raises `OSError`, and then nothing has changed."""
        if self._fsync:
            if self._mapping is not None:
                self._mapping.flush()
            os.fsync(self._fd)
        if self._hidden is not None or not self._link(self._name):
            self._replace()
        if self._fsync:
            os.fsync(self._dir_fd)

    def close(self) -> None:
        """Unmap and close the file, and remove it if it was not kept. Closing twice does nothing."""
        if self._dir_fd < 0:
            return
        if self._hidden is not None:
            with suppress(OSError):
                os.unlink(self._hidden, dir_fd=self._dir_fd)
        for fd in (self._fd, self._dir_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._dir_fd = -1
        self.view.release()
        if self._mapping is not None:
            release(self._mapping)

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CLOEXEC
        if os.path.isdir(_OPEN_FILES):
            try:
                self._fd = os.open(".", flags | os.O_TMPFILE, 0o666, dir_fd=self._dir_fd)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
            else:
                return
        hidden = _hidden_name()
        self._fd = os.open(hidden, flags | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=self._dir_fd)
        self._hidden = hidden

    def _link(self, name: str) -> bool:
        """Give the nameless file a name; False if the name is taken."""
        try:
            os.link(f"{_OPEN_FILES}/{self._fd}", name, dst_dir_fd=self._dir_fd, follow_symlinks=True)
        except FileExistsError:
            return False
        return True

    def _replace(self) -> None:
        """A link cannot replace a file, a rename can: link to a hidden name first, then rename it."""
        if self._hidden is None:
            hidden = _hidden_name()
            self._link(hidden)
            self._hidden = hidden
        try:
            os.replace(self._hidden, self._name, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        except IsADirectoryError:
            raise Refusal("it is a directory; only regular files are transferred") from None
        self._hidden = None


def _hidden_name() -> str:
    return f".pyiwarp-{secrets.token_hex(8)}.part"


def reserve(fd: int, nbytes: int) -> None:
    """Give the file its size and reserve its space on the disk, so that a store to its mapping cannot fail (SIGBUS).

    Where the file system cannot reserve space, its free space is compared with `nbytes`. Raises `OSError`.
    """
    try:
        os.posix_fallocate(fd, 0, nbytes)
    except OSError as error:
        if error.errno not in _NO_FALLOCATE:
            raise
        room = os.fstatvfs(fd)
        if nbytes > room.f_bavail * room.f_frsize:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        os.ftruncate(fd, nbytes)
