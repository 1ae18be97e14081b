"""The directory that is served; no name leads out of it.

A name is opened component by component relative to file descriptors, never as a path, and links are followed by this
code: a link that is replaced during the walk leads no further than one that was there before.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, TypeVar

from pyiwarp.files import directories
from pyiwarp.files.directories import Place
from pyiwarp.files.errors import Refusal
from pyiwarp.files.messages import TIME_LIMIT, Entry
from pyiwarp.files.source import READING, Source, check_regular

__all__ = ["Root", "close_directory", "is_text"]

MAX_LINKS: Final = 32
_SEPARATORS: Final = "\\:" if os.name == "nt" else ""
"""What separates directories, drives and the streams of a file on Windows, beside the slash."""

_OUTSIDE: Final = "the name leads out of the directory that is served"

Opened = TypeVar("Opened", int, Place)


class Root:
    """The directory `path`; raises `OSError` if it cannot be opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        """The directory that is served."""
        self._place: Place = directories.open_top(path)
        self._open = True

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the directory. Closing twice does nothing."""
        if self._open:
            self._open = False
            directories.close(self._place)

    def open_file(self, name: str) -> Source:
        """Open the regular file `name` for sending; raises `Refusal` or `OSError`."""
        parts = _file_parts(name)
        with _Walk(self._place, parts) as walk:
            return Source(walk.to_end(_open_regular))

    def directory_for(self, name: str) -> tuple[Place, str]:
        """Open the directory that a file `name` belongs in; returns it and the last component of the name.

        Raises `Refusal` or `OSError`, also if something other than a regular file or a link has that name.
        """
        parts = _file_parts(name)
        leaf = parts.pop()
        with _Walk(self._place, parts) as walk:
            place = walk.to_end(directories.enter)
        try:
            mode = directories.status(leaf, place).st_mode
            if not stat.S_ISLNK(mode):  # a link is replaced, never followed
                check_regular(mode)
        except FileNotFoundError:
            pass
        except BaseException:
            directories.close(place)
            raise
        return place, leaf

    @contextmanager
    def listing(self, name: str = "") -> Iterator[Iterator[Entry]]:
        """The entries of the directory `name`, sorted; names that are not UTF-8 are left out. Raises as `open_file`."""
        with _Walk(self._place, _parts(name) if name else []) as walk:
            place = walk.to_end(directories.enter)
        try:
            yield _entries(place)
        finally:
            directories.close(place)


def close_directory(opened: tuple[Place, str]) -> None:
    """Close what `Root.directory_for` has opened."""
    directories.close(opened[0])


def _entries(directory: Place) -> Iterator[Entry]:
    """A generator: the file system is not asked before the first `next`, which may run in a thread."""
    for name in sorted(name for name in directories.names(directory) if is_text(name)):
        if (entry := _entry(directory, name)) is not None:
            yield entry


class _Walk:
    """Opens `parts` one after the other below `root`; the directories stay open, so that .. in a link goes back."""

    def __init__(self, root: Place, parts: list[str]) -> None:
        self._todo = parts[::-1]
        self._links = 0
        self._opened = ExitStack()
        self._passed = [root]

    def __enter__(self) -> _Walk:
        return self

    def __exit__(self, *exc: object) -> None:
        self._opened.close()

    def to_end(self, opener: Callable[[str, Place], Opened]) -> Opened:
        """Open the last part with `opener`, those before as directories; the caller owns what it gives."""
        while self._todo:
            part = self._todo.pop()
            if part in ("", "."):
                continue
            if part == "..":
                self._back()
                continue
            if not self._todo:
                opened = self._step(part, opener)
                if opened is None:
                    continue
                return opened
            place = self._step(part, directories.enter)
            if place is not None:
                self._opened.callback(directories.close, place)
                self._passed.append(place)
        return opener(".", self._passed[-1])

    def _step(self, part: str, opener: Callable[[str, Place], Opened]) -> Opened | None:
        """Open one part, or follow it if it is a link and return None."""
        try:
            return opener(part, self._passed[-1])
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                raise
            target = directories.target_of(part, self._passed[-1])
            if target is None:
                raise
        self._links += 1
        if self._links > MAX_LINKS:
            raise Refusal("there are too many symbolic links on the way")
        if target.startswith("/"):
            raise Refusal(_OUTSIDE)
        self._todo += target.split("/")[::-1]
        return None

    def _back(self) -> None:
        if len(self._passed) == 1:
            raise Refusal(_OUTSIDE)
        self._passed.pop()


def _parts(name: str) -> list[str]:
    """The components of a name from the peer; raises `Refusal` for one that is not served."""
    if name.startswith("/"):
        raise Refusal("absolute names are not served")
    parts = name.rstrip("/").split("/")
    if ".." in parts:
        raise Refusal("names with .. are not served")
    if any(separator in name for separator in _SEPARATORS):
        raise Refusal("names with a backslash or a colon are not served")
    if "\0" in name or not name or not is_text(name) or parts[-1] in ("", "."):
        raise Refusal("that is not the name of a file")
    return parts


def _file_parts(name: str) -> list[str]:
    """As `_parts`; a name with a slash at its end is that of a directory."""
    parts = _parts(name)
    if name.endswith("/"):
        raise Refusal("a name that ends in a slash is that of a directory; only regular files are transferred")
    return parts


def is_text(name: str) -> bool:
    """Whether UTF-8 can carry the name."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open_regular(part: str, place: Place) -> int:
    """Look at the kind before opening: opening a device can already have an effect."""
    mode = directories.status(part, place).st_mode
    if not stat.S_ISLNK(mode):
        check_regular(mode)
    elif not isinstance(place, int):
        raise Refusal("symbolic links are not followed on this system")
    return directories.open_file(part, READING, place)


def _entry(place: Place, name: str) -> Entry | None:
    """None if it has been removed meanwhile."""
    try:
        status = directories.status(name, place)
    except OSError:
        return None
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(status.st_mode), "other")
    modified = min(max(status.st_mtime_ns // 10**9, 1 - TIME_LIMIT), TIME_LIMIT - 1)
    return Entry(name, kind, status.st_size if kind == "file" else 0, modified)
