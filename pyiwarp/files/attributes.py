"""What a file has beside its octets, and what of it stays when the file is replaced: mode, owner, ACL, attributes.

Bits that run a program with other rights (set-user-ID, set-group-ID, file capabilities) belong to the old content, and
are not kept; a write to the old file would have removed them too.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import Final, NamedTuple

from pyiwarp.files import directories
from pyiwarp.files.directories import Place

__all__ = ["NOTHING", "Attributes", "ReplacedFile"]

PERMISSIONS: Final = 0o777
_ACL: Final = "system.posix_acl_access"
_OPEN_FILES: Final = "/proc/self/fd"


class Attributes(NamedTuple):
    """What a file may take over from the sender's: permissions, and time of change in ns since 1970."""

    mode: int | None = None
    mtime: int | None = None

    @classmethod
    def of(cls, status: os.stat_result, *, mode: bool, times: bool) -> Attributes:
        """Those of a file, as far as they are wanted."""
        return cls(
            stat.S_IMODE(status.st_mode) & PERMISSIONS if mode else None,
            status.st_mtime_ns if times else None,
        )

    def give(self, file: int | str) -> None:
        """Give them to a file, open or named; raises `OSError`."""
        if self.mode is not None:
            os.chmod(file, self.mode)
        if self.mtime is not None:
            os.utime(file, ns=(self.mtime, self.mtime))


NOTHING: Final = Attributes()


class ReplacedFile:
    """What the regular file `name` in the directory `place` has, before another file takes its name."""

    def __init__(self, status: os.stat_result, extended: dict[str, bytes]) -> None:
        self.mode = stat.S_IMODE(status.st_mode) & PERMISSIONS
        self._owner = (status.st_uid, status.st_gid)
        self._extended = extended

    @classmethod
    def look(cls, place: Place, name: str) -> ReplacedFile | None:
        """None if there is none, or something else has that name."""
        try:
            status = directories.status(name, place)
        except FileNotFoundError:
            return None
        return cls(status, _extended(place, name)) if stat.S_ISREG(status.st_mode) else None

    def give(self, file: int | str) -> None:
        """Give it to a file, open or named: the mode always, the rest as far as this process may. Raises `OSError`.

        The owner first: who owns a file decides who may set its mode, and a change of owner clears bits of it.
        """
        now = os.stat(file)
        if (now.st_uid, now.st_gid) != self._owner:
            with suppress(OSError):
                os.chown(file, *self._owner)
        os.chmod(file, self.mode)
        for name, value in self._extended.items():
            with suppress(OSError):
                os.setxattr(file, name, value)


def _extended(place: Place, name: str) -> dict[str, bytes]:
    """The ACL and the user's attributes; none where the system or the file system has none."""
    found = dict[str, bytes]()
    if not isinstance(place, int) or not hasattr(os, "O_PATH") or not hasattr(os, "listxattr"):
        return found
    with suppress(OSError):
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place)  # needs no right to read it
        try:
            path = f"{_OPEN_FILES}/{fd}"
            for attribute in os.listxattr(path):
                if attribute == _ACL or attribute.startswith("user."):
                    with suppress(OSError):
                        found[attribute] = os.getxattr(path, attribute)
        finally:
            os.close(fd)
    return found
