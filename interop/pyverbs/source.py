"""Where rdma-core's tests come from: the source distribution of `pyverbs`, which pip downloads, or a directory."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from interop.pyverbs.errors import NoTests
from interop.siw.locks import locked

VERSION: Final = "59.0"
"""The version that the table is about."""

PINNED: Final[Mapping[str, str]] = {VERSION: "b30d56bb620b3d3b4301876f9a04c964be1c76cc6553a451e1465f1c6ac9f20e"}
"""SHA-256 of source distributions."""

_INSIDE: Final = ("rdma-core", "tests")
_PATIENCE: Final = 900.0  # seconds for pip, and for another run that downloads the same


def given(path: Path) -> Path:
    """The directory of the tests at or below `path`: `tests`, or `rdma-core/tests`. Raises `NoTests`."""
    for directory in (path, path / "tests", path / "rdma-core" / "tests"):
        if (directory / "run_tests.py").exists():
            return directory.resolve()
    raise NoTests(f"{path} has no run_tests.py, nor has a directory tests in it")


def download(version: str, cache: Path) -> Path:
    """The directory of the tests of a version, downloaded and unpacked once. Raises `NoTests`."""
    cache.mkdir(parents=True, exist_ok=True)
    directory = cache / f"{version}-{PINNED.get(version, 'any')[:16]}"
    with locked(cache / "lock", _PATIENCE, lambda: None):
        if not directory.exists():
            with tempfile.TemporaryDirectory(dir=cache, prefix="part-") as part:
                _unpack(_fetch(version, Path(part)), Path(part) / "unpacked")
                (Path(part) / "unpacked").rename(directory)
    return given(directory)


def _fetch(version: str, directory: Path) -> Path:
    """Let pip download it: with a pinned hash, pip judges it before anything of it is run."""
    requirement = f"pyverbs=={version}"
    if version in PINNED:
        requirement += f" --hash=sha256:{PINNED[version]}"
    (directory / "requirements.txt").write_text(requirement + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input", "download"]
    what = [
        "--no-deps",
        "--no-binary=pyverbs",
        f"--dest={directory}",
        f"--requirement={directory / 'requirements.txt'}",
    ]
    try:
        ended = subprocess.run(
            [*pip, *what], capture_output=True, text=True, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise NoTests(f"pip does not download pyverbs {version} within {_PATIENCE:.0f} s") from error
    found = sorted(directory.glob("pyverbs-*.tar.gz"))
    if ended.returncode or len(found) != 1:
        raise NoTests(f"pip cannot download the source of pyverbs {version}:\n{ended.stderr[-2000:]}")
    return found[0]


def _unpack(archive: Path, directory: Path) -> None:
    """Unpack nothing but the files of the tests, without the name of the version above them."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = PurePosixPath(member.name).parts[1:]
            content = tar.extractfile(member) if inside[:2] == _INSIDE and ".." not in inside else None
            if content is not None:
                file = directory.joinpath(*inside)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content.read())
