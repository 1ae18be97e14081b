"""A file that is received: without a name until it is complete, then put in its place in one step.

The temporary file is made in the directory of the destination without a name (O_TMPFILE), so that even a killed
process leaves nothing behind. File systems that cannot do that get a hidden name, which is removed.
"""

from __future__ import annotations

import errno
import os
import secrets
from contextlib import suppress
from typing import Final

from pyiwarp.files import directories
from pyiwarp.files.attributes import NOTHING, Attributes, ReplacedFile
from pyiwarp.files.directories import Place
from pyiwarp.files.errors import Refusal
from pyiwarp.files.room import reserve

__all__ = ["Destination"]

_NO_TMPFILE: Final = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT)
_OPEN_FILES: Final = "/proc/self/fd"
_TMPFILE: Final = getattr(os, "O_TMPFILE", 0)
_NEW: Final = 0o666
_PRIVATE: Final = 0o600


class Destination:
    """The future file `name` in the directory `place`. It owns `place`.

    `prepare`, then `write` all of it, then `keep`; `close` in every case. Until `keep` returns, a file that was there
    before is unchanged. With `fsync` the octets and the name are on the disk when `keep` returns; without, they
    are when the system writes them.
    """

    def __init__(self, place: Place, name: str, *, fsync: bool = False) -> None:
        self._place = place
        self._open = True
        self._name = name
        self._fsync = fsync
        self._fd = -1
        self._hidden: str | None = None

    def __enter__(self) -> Destination:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def prepare(self, nbytes: int, mode: int | None = None) -> bool:
        """Make the temporary file and reserve its room on the disk; raises `OSError`.

        A new file has the permissions `mode`, or all but those to execute, without what the umask forbids. Returns
        whether the room is reserved: some file systems cannot.
        """
        replaces = ReplacedFile.look(self._place, self._name) is not None
        self._make(_PRIVATE if replaces else _NEW if mode is None else mode)
        return reserve(self._fd, nbytes, self._place)

    def write(self, piece: memoryview, offset: int) -> None:
        """Write octets at `offset`; raises `OSError`."""
        written = 0
        while written < piece.nbytes:
            with piece[written:] as rest:
                written += _write(self._fd, rest, offset + written)

    def keep(self, attributes: Attributes = NOTHING) -> None:
        """Put the complete file in its place; raises `OSError`, and then nothing has changed.

        It keeps what a file that it replaces has (see `ReplacedFile`), but for the `attributes` that are given.
        """
        old = ReplacedFile.look(self._place, self._name)
        if not isinstance(self._place, int):  # Windows renames no open file, and its times change when it is closed
            self._close_file()
        if old is None:
            attributes = attributes._replace(mode=None)  # it was made with that mode
        else:
            old.give(self._file())
        attributes.give(self._file())
        if self._fsync and self._fd >= 0:
            os.fsync(self._fd)
        if self._hidden is not None or not self._link(self._name):
            self._replace()
        if self._fsync:
            directories.sync(self._place)

    def close(self) -> None:
        """Close the file, and remove it if it was not kept. Closing twice does nothing."""
        if not self._open:
            return
        self._open = False
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._hidden is not None:
            with suppress(OSError):
                directories.unlink(self._hidden, self._place)
        directories.close(self._place)

    def _make(self, mode: int) -> None:
        flags = os.O_RDWR
        if _TMPFILE and isinstance(self._place, int) and os.path.isdir(_OPEN_FILES):
            try:
                self._fd = os.open(".", flags | _TMPFILE, mode, dir_fd=self._place)
            except OSError as error:
                if error.errno not in _NO_TMPFILE:
                    raise
            else:
                return
        hidden = _hidden_name()
        self._fd = directories.open_file(hidden, flags | os.O_CREAT | os.O_EXCL, self._place, mode)
        self._hidden = hidden

    def _close_file(self) -> None:
        if self._fsync:
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1

    def _file(self) -> int | str:
        """The file for calls that take a descriptor or, where directories have none, a path."""
        if isinstance(self._place, int):
            return self._fd
        assert self._hidden is not None, "a file in a directory without a descriptor has a name"
        return os.path.join(self._place, self._hidden)

    def _link(self, name: str) -> bool:
        """Give the nameless file a name; False if the name is taken."""
        directory = self._place
        assert isinstance(directory, int), "a file without a name is in a directory with a descriptor"
        try:
            os.link(f"{_OPEN_FILES}/{self._fd}", name, dst_dir_fd=directory, follow_symlinks=True)
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
            directories.replace(self._hidden, self._name, self._place)
        except IsADirectoryError:
            raise Refusal("it is a directory; only regular files are transferred") from None
        self._hidden = None


def _hidden_name() -> str:
    return f".pyiwarp-{secrets.token_hex(8)}.part"


def _write(fd: int, piece: memoryview, offset: int) -> int:
    """Write at `offset` as far as one call does. One thread at a time writes, so the file's position is free to use."""
    if hasattr(os, "pwrite"):
        return os.pwrite(fd, piece, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.write(fd, piece)
