"""All cases, in the order in which they run: RFC by RFC, from the bottom of the stack up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from importlib import import_module
from typing import Final

from pyiwarp.conformance.case import REGISTRY, Case
from pyiwarp.errors import UsageError

__all__ = ["FILES", "cases", "matches", "select"]

FILES: Final = (
    "rfc5044_startup",
    "rfc5044_fpdu",
)
"""The modules that hold cases; a new one is added here."""


def cases() -> Sequence[Case]:
    """Every case there is."""
    for name in FILES:
        import_module(f"{__package__}.{name}")
    return [*REGISTRY.values()]


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
