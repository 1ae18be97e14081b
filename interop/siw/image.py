"""A built image of the guest, and where images are kept."""

import os
from dataclasses import dataclass
from pathlib import Path

CACHE_VARIABLE = "PYIWARP_CACHE"
"""Environment variable: the directory to keep images in, instead of the user's cache."""

MANIFEST = "manifest.json"
"""Written last: a directory with it is a whole image."""


@dataclass(frozen=True)
class Image:
    """A kernel and an initial root file system that boot to a ready siw."""

    directory: Path

    @property
    def key(self) -> str:
        """The hash of all it was built from."""
        return self.directory.name

    @property
    def kernel(self) -> Path:
        """The kernel, as Debian built it."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The archive that the kernel unpacks as its root."""
        return self.directory / "initrd.cpio"

    @property
    def whole(self) -> bool:
        """Whether it was built to the end."""
        return (self.directory / MANIFEST).exists()


def cache_directory(override: Path | None = None) -> Path:
    """Where images are kept: `override`, else `$PYIWARP_CACHE`, else pyiwarp in the user's cache directory."""
    if override is not None:
        return override.resolve() / "siw"
    if configured := os.environ.get(CACHE_VARIABLE):
        return Path(configured).resolve() / "siw"
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home).resolve() / "pyiwarp" / "siw"
