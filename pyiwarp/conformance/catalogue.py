"""All cases, in the order in which they run: RFC by RFC, from the bottom of the stack up."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Final

from pyiwarp.conformance.case import REGISTRY, Case
from pyiwarp.errors import UsageError

__all__ = ["case_modules", "cases", "load_cases", "matches", "select"]

ORDER: Final = ("rfc5044", "rfc6581", "rfc5041", "rfc5040", "rfc7306", "rfc5042")
"""The RFCs from the bottom of the stack up; modules that hold cases are named after theirs, as `rfc5044_fpdu`."""


def case_modules() -> list[str]:
    """The names of the modules that hold cases, in the order in which they run."""
    names = [info.name for info in iter_modules([str(Path(__file__).parent / "cases")]) if info.name.startswith("rfc")]
    return sorted(names, key=lambda name: (ORDER.index(name.partition("_")[0]), name))


def cases() -> Sequence[Case]:
    """Every case there is."""
    for name in case_modules():
        import_module(f"{__package__}.cases.{name}")
    return [*REGISTRY.values()]


def load_cases(path: Path) -> Sequence[Case]:
    """Register the cases of a Python file of the user's, behind those of the package; returns them.

    Raises `UsageError` if the file cannot be read or run, or registers no case.
    """
    cases()
    before = [*REGISTRY]
    try:
        code = compile(path.read_bytes(), str(path), "exec")
        module = ModuleType(f"own_cases_{path.stem}")
        module.__file__ = str(path)
        sys.modules[module.__name__] = module
        exec(code, vars(module))  # a file that its user names on the command line
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:
        for id in REGISTRY.keys() - before:
            del REGISTRY[id]
        raise UsageError(f"{path} cannot be run: {type(error).__name__}: {error}") from error
    own = [case for id, case in REGISTRY.items() if id not in before]
    if not own:
        raise UsageError(f"{path} registers no case; docs/own-cases.md shows how one is written")
    return own


def matches(case: Case, pattern: str) -> bool:
    """Whether `pattern` names the case: a whole id, the beginning of one, a shell pattern, or words of its group."""
    return (
        fnmatchcase(case.id, pattern)
        or case.id.startswith(pattern)
        or pattern.lower() in case.group.lower()
        or fnmatchcase(case.id, pattern + "*")
    )


def select(only: Iterable[str] = (), skip: Iterable[str] = ()) -> list[Case]:
    """The cases that `only` names (all, if it names none) without those that `skip` names.

    Raises `UsageError` for a pattern that names no case at all.
    """
    all_cases = cases()
    only, skip = tuple(only), tuple(skip)
    for pattern in (*only, *skip):
        if not any(matches(each, pattern) for each in all_cases):
            raise UsageError(f"{pattern!r} names no case; `pyiwarp conform --list` shows all")
    return [
        each
        for each in all_cases
        if (not only or any(matches(each, pattern) for pattern in only))
        and not any(matches(each, pattern) for pattern in skip)
    ]
