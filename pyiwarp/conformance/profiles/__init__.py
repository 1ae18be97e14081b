"""Profiles: what a peer is known to do otherwise, as data, so that a run tells of it without failing for it.

A declared deviation is reported as such, with its reason; one that is not declared fails; one that is declared and does
not happen any more fails too. `docs/conformance.md` tells how to write one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pyiwarp.conformance.case import Case, Direction, Verdict
from pyiwarp.conformance.manners import PLAIN, Manners
from pyiwarp.conformance.results import Result
from pyiwarp.errors import UsageError

__all__ = ["Deviation", "Profile", "load_profile", "profile_names"]

LAYOUTS: Final = {"rfc": False, "little-endian bit-fields": True}


@dataclass(frozen=True, slots=True)
class Deviation:
    """One way of the peer's own.

    `cases` are ids or shell patterns for them, `seen` patterns for what a failing case says that it saw; without `seen`
    anything will do. One that happens `sometimes` may as well not happen.
    """

    reason: str
    cases: tuple[str, ...]
    directions: frozenset[Direction] = frozenset(Direction)
    seen: tuple[str, ...] = ("*",)
    sometimes: bool = False

    def concerns(self, case: Case, direction: Direction) -> bool:
        """Whether it is about this case."""
        return direction in self.directions and any(fnmatchcase(case.id, pattern) for pattern in self.cases)

    def explains(self, seen: str) -> bool:
        """Whether it is what was seen."""
        return any(fnmatchcase(seen, pattern) for pattern in self.seen)


@dataclass(frozen=True, slots=True)
class Profile:
    """A peer: `about` it in a sentence, allowances that the bench makes for it, and its deviations."""

    name: str
    about: str = ""
    manners: Manners = PLAIN
    deviations: tuple[Deviation, ...] = ()

    def judge(self, result: Result, direction: Direction) -> Result:
        """The result with the verdict that it deserves in view of what is declared."""
        declared = [each for each in self.deviations if each.concerns(result.case, direction)]
        if result.verdict is Verdict.FAILED:
            for each in declared:
                if each.explains(result.seen):
                    return replace(result, verdict=Verdict.DEVIATES, reason=each.reason)
        elif result.verdict is Verdict.PASSED:
            for each in declared:
                if not each.sometimes:
                    expected = f"what the profile {self.name} declares: {each.reason}"
                    return replace(result, verdict=Verdict.FAILED, expected=expected, seen="a lawful reaction")
        return result


def profile_names() -> list[str]:
    """The profiles that come with the package."""
    here = files(__package__)
    return sorted(path.name.removesuffix(".toml") for path in here.iterdir() if path.name.endswith(".toml"))


def load_profile(name: str) -> Profile:
    """The profile of that name, or of the file `name`; raises `UsageError` for what is none."""
    if name in profile_names():
        return _read(name, files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    path = Path(name)
    try:
        return _read(path.stem, path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(profile_names())
        raise UsageError(f"{name!r} is neither a profile ({known}) nor a file: {error.strerror}") from None


def _read(name: str, text: str) -> Profile:
    try:
        return _profile(name, tomllib.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # whatever shape the data has
        raise UsageError(f"the profile {name} cannot be read: {error}") from None


def _profile(name: str, data: dict[str, Any]) -> Profile:
    peer = data.pop("peer", {})
    manners = Manners(
        settle=float(peer.pop("settle", 0.0)),
        little_endian_terminates=LAYOUTS[peer.pop("terminate_layout", "rfc")],
    )
    deviations = tuple(_deviation(each) for each in data.pop("deviation", []))
    about = str(data.pop("about", ""))
    _none_left(data, "in a profile")
    _none_left(peer, "in [peer]")
    return Profile(name, about, manners, deviations)


def _deviation(table: dict[str, Any]) -> Deviation:
    deviation = Deviation(
        reason=" ".join(str(table.pop("reason")).split()),
        cases=_strings(table.pop("cases")),
        directions=frozenset(Direction(each) for each in table.pop("directions", Direction)),
        seen=_strings(table.pop("seen", "*")),
        sometimes=bool(table.pop("sometimes", False)),
    )
    _none_left(table, "in [[deviation]]")
    return deviation


def _strings(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(str(each) for each in value)


def _none_left(table: Mapping[str, object], where: str) -> None:
    if table:
        raise ValueError(f"there is no {', '.join(table)} {where}")
