"""Debian packages without installing them: which versions apt would take, their files, their content."""

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from urllib.parse import unquote

from . import host
from .errors import PreparationError

_ONLY_DEPENDS = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
_URI = re.compile(r"^'[^']+' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})$", re.MULTILINE)
_UPDATE = "run as root first: apt-get update"
_DOWNLOAD_PATIENCE = 1800.0


@dataclass(frozen=True)
class Package:
    """One binary package as apt's index describes it."""

    name: str
    version: str
    file: str
    size: int
    sha256: str


def parse_uris(text: str) -> list[Package]:
    """The packages in the output of `apt-get --print-uris download`."""
    found = []
    for match in _URI.finditer(text):
        name, version, _ = match["file"].split("_")
        found.append(Package(name, unquote(version), match["file"], int(match["size"]), match["sha256"]))
    return found


def parse_depends(text: str) -> dict[str, list[str]]:
    """Package -> what it depends on, from the output of `apt-cache depends --recurse`.

    Of alternatives (`|Depends`) the last is kept; a virtual package (`<name>`) is left out.
    """
    graph: dict[str, list[str]] = {}
    current: list[str] = []
    for line in text.splitlines():
        if line and not line.startswith(" "):
            current = graph.setdefault(line.strip(), [])
        elif match := re.match(r"  (?:Pre)?Depends: ([^<\s]\S*)$", line):
            current.append(match[1])
    return graph


def shared_libraries(graph: dict[str, list[str]], roots: Iterable[str]) -> list[str]:
    """`roots` and all the libraries under them.

    Only libraries are followed: what else a package depends on (debconf, passwd, ...) serves its installation, and
    nothing is installed here.
    """
    wanted: list[str] = []
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name in wanted:
            continue
        wanted.append(name)
        waiting += [other for other in graph.get(name, []) if _is_library(other)]
    return sorted(wanted)


def _is_library(name: str) -> bool:
    return name.startswith(("lib", "zlib")) and not name.endswith(("-bin", "-common"))


class Apt:
    """Apt's view of the packages. It installs nothing and needs no privilege."""

    def __init__(self, cache: Path) -> None:
        """Let apt keep its parsed index in `cache`: without one of its own each question takes it a second."""
        cache.mkdir(parents=True, exist_ok=True)
        self._options = [f"-oDir::Cache::pkgcache={cache / 'pkgcache'}", "-oDir::Cache::srcpkgcache="]
        if os.geteuid() == 0:
            # or apt warns that its user _apt may not write where root lets it download
            self._options.append("-oAPT::Sandbox::User=root")

    def depends(self, names: Sequence[str], *, recurse: bool = False) -> dict[str, list[str]]:
        """What `names` depend on, at every depth with `recurse`."""
        options = [*_ONLY_DEPENDS, "--recurse"] if recurse else _ONLY_DEPENDS
        return parse_depends(self._ask(["apt-cache", "depends", *options], names))

    def candidates(self, names: Sequence[str]) -> list[Package]:
        """The packages apt would download for `names`, each a name or `name=version`."""
        found = parse_uris(self._ask(["apt-get", "--print-uris", "download"], names))
        absent = {name.partition("=")[0] for name in names} - {package.name for package in found}
        if absent:
            raise PreparationError(f"apt has no package {' '.join(sorted(absent))}: {_UPDATE}")
        return sorted(found, key=lambda package: package.name)

    def _ask(self, question: list[str], names: Sequence[str]) -> str:
        try:
            return host.run([*question, *self._options, *names])
        except PreparationError as error:
            raise PreparationError(f"apt does not know {' '.join(names)}: {_UPDATE}\n({error})") from error

    def download(self, packages: Iterable[Package], directory: Path) -> None:
        """Bring `packages` into `directory`, each checked against its SHA-256; those already there are kept."""
        directory.mkdir(parents=True, exist_ok=True)
        missing = [package for package in packages if not _intact(package, directory)]
        if not missing:
            return
        wanted = [f"{package.name}={package.version}" for package in missing]
        try:
            host.run(["apt-get", "download", *self._options, *wanted], cwd=directory, timeout=_DOWNLOAD_PATIENCE)
        except PreparationError as error:
            raise PreparationError(f"download failed; if the package index is old, {_UPDATE}\n{error}") from error
        for package in missing:
            if not _intact(package, directory):
                raise PreparationError(f"{package.file} is not what the package index promised: {_UPDATE}")


def _intact(package: Package, directory: Path) -> bool:
    path = directory / package.file
    if not path.exists():
        return False
    with path.open("rb") as file:
        digest = sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest() == package.sha256


def unpack(packages: Iterable[Package], directory: Path, destination: Path) -> None:
    """Unpack `packages`, downloaded to `directory`, over each other into `destination`."""
    destination.mkdir(parents=True, exist_ok=True)
    for package in packages:
        host.run(["dpkg-deb", "-x", directory / package.file, destination])
