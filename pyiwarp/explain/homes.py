"""Where pyiwarp obeys a requirement: the lines of its source that cite the requirement's id."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyiwarp

__all__ = ["lines_that_cite"]

_CITED: Final = re.compile(r"\b[A-Z0-9]+-\d{4}-[0-9.]+-\d\d\b")
_SHOWN: Final = 3  # places of one requirement
_TELLING: Final = ("decode", "explain", "conformance", "lab")  # what tells of octets, and neither makes nor checks them


def lines_that_cite(rules: Iterable[str]) -> dict[str, list[str]]:
    """The first places in the source that cite each of these ids, as `pyiwarp/mpa.py:12 code`; none without source."""
    wanted = set(rules)
    found: dict[str, list[str]] = {}
    root = Path(pyiwarp.__file__).parent
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if name.parts[0] in _TELLING:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for rule in wanted.intersection(_CITED.findall(line)):
                places = found.setdefault(rule, [])
                if len(places) < _SHOWN:
                    places.append(f"pyiwarp/{name.as_posix()}:{number}  {line.partition('  # ')[0].strip()}")
    return found
