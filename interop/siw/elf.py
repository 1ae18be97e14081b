"""Which shared libraries a program needs, found in an unpacked tree and not on the host."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import host
from .errors import PreparationError

_NEEDED = re.compile(r"\(NEEDED\)\s+Shared library: \[(?P<name>[^\]]+)\]")
_PLACES = (f"usr/lib/{host.TRIPLET}", f"lib/{host.TRIPLET}", "usr/lib", "lib")


def parse_needed(text: str) -> list[str]:
    """The libraries named in the output of `readelf --dynamic`."""
    return [match["name"] for match in _NEEDED.finditer(text)]


def libraries(root: Path, programs: Iterable[Path]) -> dict[str, Path]:
    """Library name -> file under `root`, for all that `programs` need, directly or not."""
    found: dict[str, Path] = {}
    waiting = list(programs)
    while waiting:
        for name in parse_needed(host.run(["readelf", "--dynamic", waiting.pop()])):
            if name not in found:
                found[name] = find_library(root, name)
                waiting.append(found[name])
    return found


def find_library(root: Path, name: str) -> Path:
    """The file of the library `name` under `root`; raises `PreparationError` if there is none."""
    for path in _existing(root, name):
        return path
    raise PreparationError(f"no unpacked package has the library {name}")


def _existing(root: Path, name: str) -> Iterator[Path]:
    return (path for place in _PLACES if (path := root / place / name).exists())
