"""Where CPython's tests come from: the Python that runs, or else Debian's package of the same version.

Debian's Python leaves the tests out. `libpythonX.Y-testsuite` has them; it is downloaded with apt's own check of its
SHA-256 and unpacked into the cache, without any privilege.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from interop.cpython.errors import NoTests
from interop.siw import host
from interop.siw.errors import PreparationError
from interop.siw.image import cache_directory
from interop.siw.locks import locked
from interop.siw.packages import Apt, unpack

_PATIENCE = 600.0  # seconds for another run that downloads the same


def find(cache: Path | None = None) -> Path | None:
    """The directory to add to the package `test`; None if this Python has the tests. Raises `NoTests`."""
    if importlib.util.find_spec("test") is None:
        raise NoTests(f"{sys.executable} has no package `test` at all: libpython3.N-stdlib brings it with Debian's")
    if importlib.util.find_spec("test.test_socket") is not None:
        return None
    name = f"libpython{sys.version_info.major}.{sys.version_info.minor}-testsuite"
    try:
        return _of_debian(name, cache_directory(cache).parent / "cpython")
    except PreparationError as error:
        raise NoTests(f"{sys.executable} has no test.test_socket, and {name} cannot be had: {error}") from error


def _of_debian(name: str, directory: Path) -> Path:
    host.require(host.APT)
    directory.mkdir(parents=True, exist_ok=True)
    with locked(directory / "lock", _PATIENCE, lambda: None):
        apt = Apt(directory / "apt")
        (package,) = apt.candidates([name])
        unpacked = directory / f"{package.name}-{package.sha256[:16]}"
        if not unpacked.exists():
            apt.download([package], directory / "debs")
            part = unpacked.with_suffix(".part")
            unpack([package], directory / "debs", part)
            part.rename(unpacked)
    return unpacked / "usr" / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "test"
