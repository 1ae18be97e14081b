"""Profiles: what a peer is known to do otherwise, as data with a reason.

A declared deviation is reported as such. What nobody declared fails, and so does what was declared and does not happen
any more: a profile tells the truth about its peer or the run fails.

    name = "siw"
    about = "Linux 6.1 soft-iWARP"

    [peer]                             # optional: allowances without which little else could be tested
    settle = 0.02                      # seconds to wait behind its Reply
    terminate_layout = "little-endian bit-fields"

    [[deviation]]
    cases = ["MPA-5044-4.3-01", "*-12-01"]  # ids or shell patterns
    directions = ["connect"]           # optional; both, if it is not there
    seen = "reset"                     # shell patterns for what comes instead, one or a list; anything, if not there
    sometimes = true                   # optional: it need not happen in every run
    reason = "siw cannot send markers"
    reference = "drivers/infiniband/sw/siw/siw_cm.c"
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.allowances import PLAIN, Manners
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.results import Result
from pyiwarp.errors import UsageError

__all__ = ["Deviation", "Profile", "built_in_profiles", "load_profile"]

_NEEDED: Final = {"cases", "reason"}
_KNOWN: Final = _NEEDED | {"directions", "seen", "sometimes", "reference"}
_LAYOUTS: Final = {"rfc": False, "little-endian bit-fields": True}


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that the peer does otherwise, wherever its patterns fit."""

    cases: tuple[str, ...]
    reason: str
    reference: str
    directions: frozenset[Direction]
    seen: tuple[str, ...]
    sometimes: bool

    def concerns(self, case: Case, direction: Direction) -> bool:
        """Whether it is declared for that case."""
        return direction in self.directions and any(fnmatchcase(case.id, pattern) for pattern in self.cases)

    def explains(self, result: Result) -> bool:
        """Whether what came is what was declared."""
        seen = f"error: {result.reason}" if result.verdict is Verdict.ERROR else result.seen
        return any(fnmatchcase(seen, pattern) for pattern in self.seen)


@dataclass(frozen=True, slots=True)
class Profile:
    """The declared deviations of one peer, and the allowances that the bench makes for it."""

    name: str
    about: str
    deviations: tuple[Deviation, ...]
    manners: Manners = PLAIN

    def judge(self, result: Result, direction: Direction) -> Result:
        """The result in the light of what is declared."""
        declared = [each for each in self.deviations if each.concerns(result.case, direction)]
        if not declared or result.verdict not in (Verdict.PASSED, Verdict.FAILED, Verdict.ERROR):
            return result
        if result.verdict is Verdict.PASSED:
            return self._judge_pass(result, declared)
        for each in declared:
            if each.explains(result):
                reason = each.reason + (f" ({each.reference})" if each.reference else "")
                return replace(result, verdict=Verdict.DEVIATES, reason=reason)
        others = "; ".join(pattern for each in declared for pattern in each.seen)
        return replace(
            result, reason=f"the profile {self.name} declares something else: {others}. {result.reason}".strip()
        )

    def _judge_pass(self, result: Result, declared: Sequence[Deviation]) -> Result:
        gone = [each for each in declared if not each.sometimes]
        if not gone:
            return result
        return replace(
            result,
            verdict=Verdict.FAILED,
            expected=f"the deviation that the profile {self.name} declares: {gone[0].reason}",
            seen="what the clause demands",
            reason="the profile is out of date: take the deviation out",
        )


def built_in_profiles() -> list[str]:
    """The names of the profiles that come with the package."""
    return sorted(
        entry.name.removesuffix(".toml")
        for entry in files(__package__).joinpath("profiles").iterdir()
        if entry.name.endswith(".toml")
    )


def load_profile(name: str) -> Profile:
    """A profile that comes with the package, by its name, or one in a TOML file; raises `UsageError`."""
    if name in built_in_profiles():
        text = files(__package__).joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")
        return _parse(name, text)
    try:
        return _parse(Path(name).stem, Path(name).read_text(encoding="utf-8"))
    except OSError as error:
        there = ", ".join(built_in_profiles())
        raise UsageError(f"no profile {name!r}: {error.strerror}; those of the package are {there}") from error


def _parse(name: str, text: str) -> Profile:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile {name} is no TOML: {error}") from error
    entries: list[dict[str, Any]] = data.get("deviation", [])
    deviations = tuple(_deviation(name, entry) for entry in entries)
    return Profile(data.get("name", name), data.get("about", ""), deviations, _manners(name, data.get("peer", {})))


def _manners(name: str, peer: dict[str, Any]) -> Manners:
    layout, settle = peer.get("terminate_layout", "rfc"), peer.get("settle", 0.0)
    if unknown := peer.keys() - {"terminate_layout", "settle"}:
        raise UsageError(f"[peer] in the profile {name} has {', '.join(sorted(unknown))}, which mean nothing")
    if layout not in _LAYOUTS or not isinstance(settle, int | float):
        raise UsageError(f"[peer] in the profile {name}: settle is in seconds, a layout one of {', '.join(_LAYOUTS)}")
    return Manners(settle=settle, little_endian_terminates=_LAYOUTS[layout])


def _deviation(name: str, entry: dict[str, Any]) -> Deviation:
    if missing := _NEEDED - entry.keys():
        raise UsageError(f"a deviation in the profile {name} lacks {', '.join(sorted(missing))}: {entry}")
    if unknown := entry.keys() - _KNOWN:
        raise UsageError(
            f"a deviation in the profile {name} has {', '.join(sorted(unknown))}, which mean nothing: {entry}"
        )
    try:
        directions = frozenset(Direction(word) for word in entry.get("directions", [*Direction]))
    except ValueError as error:
        raise UsageError(f"a deviation in the profile {name} has {error}: connect and listen are meant") from error
    return Deviation(
        _patterns(entry["cases"]),
        " ".join(entry["reason"].split()),
        entry.get("reference", ""),
        directions,
        _patterns(entry.get("seen", "*")),
        entry.get("sometimes", False),
    )


def _patterns(value: str | Sequence[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)
