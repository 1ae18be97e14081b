"""The host's tools: which are needed, whether they are there, and running them."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .errors import PreparationError

TRIPLET = "x86_64-linux-gnu"
"""The only architecture built for: siw is a driver for any, but one guest is enough."""

_SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"  # depmod lives there, and users do not have it in PATH
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
_HOUR = 3600.0


@dataclass(frozen=True)
class Need:
    """Something the host must have: a program in the path or a file, and the package that brings it."""

    name: str
    package: str

    def met(self) -> bool:
        """Whether it is there."""
        return Path(self.name).exists() if self.name.startswith("/") else find(self.name) is not None


APT = (Need("apt-get", "apt"), Need("apt-cache", "apt"), Need("dpkg-deb", "dpkg"))
RUN = (Need("qemu-system-x86_64", "qemu-system-x86"), Need("setpriv", "util-linux"))
BUILD = (
    Need("make", "make"),
    Need("gcc", "gcc"),
    Need("readelf", "binutils"),
    Need("strip", "binutils"),
    Need("depmod", "kmod"),
    Need("xz", "xz-utils"),
    Need("tar", "tar"),
    Need(f"/usr/lib/{TRIPLET}/libc.a", "libc6-dev"),
    Need(f"/usr/lib/{TRIPLET}/libelf.so.1", "libelf1"),
)


def find(tool: str) -> str | None:
    """Path of `tool`, also where only root usually looks; None if there is none."""
    return shutil.which(tool, path=os.environ.get("PATH", os.defpath) + ":" + _SYSTEM_DIRECTORIES)


def require(needs: Iterable[Need]) -> None:
    """Raise a `PreparationError` that says in one line what to install, unless all `needs` are met."""
    missing = [need for need in needs if not need.met()]
    if any(need in APT for need in missing):
        raise PreparationError(
            "the siw guest is made from Debian packages: this needs a Debian system with apt-get and dpkg-deb"
        )
    if missing:
        packages = " ".join(sorted({need.package for need in missing}))
        names = ", ".join(need.name for need in missing)
        raise PreparationError(f"missing on this host: {names}. Install with: apt-get install {packages}")


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = _HOUR,
) -> str:
    """Run a host command and give its standard output.

    Raises `PreparationError` with the command and the last lines it printed when it fails or takes longer than
    `timeout` seconds.
    """
    program = find(os.fspath(argv[0])) or os.fspath(argv[0])
    words = [program, *(os.fspath(word) for word in argv[1:])]
    env = {**os.environ, **_ENVIRONMENT, **(environment or {})}
    try:
        done = subprocess.run(
            words, cwd=cwd, env=env, timeout=timeout, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PreparationError(f"{words[0]}: {error}") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise PreparationError(f"{' '.join(words)[:200]}\nended with status {done.returncode}:\n{tail}")
    return done.stdout
