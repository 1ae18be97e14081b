"""Profiles: the known deviations of a peer, as data, each with a reason.

A declared deviation is reported as such. A deviation that is not declared fails, and so does a declared one that does
not occur: a profile describes its peer correctly or the run fails.

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
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.allowances import PLAIN, Allowances
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.catalogue import cases
from pyiwarp.conformance.clauses import clauses
from pyiwarp.conformance.results import Result
from pyiwarp.errors import UsageError

__all__ = ["Deviation", "Profile", "built_in_profiles", "load_profile"]

T = TypeVar("T")

LONGEST_SETTLE: Final = 60.0  # seconds
_TOP: Final = {"name", "about", "peer", "deviation"}
_PEER: Final = {"settle", "terminate_layout", "not_judged"}
_DEVIATION: Final = {"cases", "reason", "directions", "seen", "sometimes", "reference"}
_KINDS: Final[Mapping[object, str]] = {
    str: "a string",
    bool: "true or false",
    float: "a number",
    list: "an array of tables, [[...]]",
    dict: "a table, [...]",
}
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
    allowances: Allowances = PLAIN

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
    """A profile that comes with the package, by its name, or one in a TOML file.

    Raises `UsageError` for a file that cannot be read, has a wrong shape or names a case that does not exist.
    """
    if name in built_in_profiles():
        text = files(__package__).joinpath("profiles", f"{name}.toml").read_text(encoding="utf-8")
        return _parse(name, text)
    try:
        return _parse(Path(name).stem, Path(name).read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise UsageError(f"the profile {name} is no UTF-8 text: octet {error.start}") from error
    except OSError as error:
        there = ", ".join(built_in_profiles())
        raise UsageError(f"no profile {name!r}: {error.strerror}; those of the package are {there}") from error


def _parse(name: str, text: str) -> Profile:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"the profile {name} is no TOML: {error}") from error
    table = _Table(f"the profile {name}", data, _TOP)
    entries, peer = table.get("deviation", list, []), table.get("peer", dict, {})
    where = f"a deviation in the profile {name}"
    deviations = tuple(_deviation(_Table(where, entry, _DEVIATION)) for entry in entries)
    allowances = _allowances(_Table(f"[peer] in the profile {name}", peer, _PEER))
    return Profile(table.get("name", str, name), table.get("about", str, ""), deviations, allowances)


class _Table:
    """A table of a profile, whose values have the type and the shape that a key takes; all else is a `UsageError`."""

    def __init__(self, where: str, data: object, known: Set[str]) -> None:
        self._where = where
        if not isinstance(data, dict):
            raise self.wrong("deviation", "begins with [[deviation]]")
        self._data: dict[str, Any] = data
        for key in sorted(data.keys() - known):
            raise UsageError(f"{where} has the key {key!r}, which means nothing")

    def wrong(self, key: str, due: str) -> UsageError:
        """The error that says what the value of `key` should be."""
        return UsageError(f"{self._where}: {key} {due}")

    def has(self, key: str) -> bool:
        """Whether `key` is there."""
        return key in self._data

    def get(self, key: str, kind: type[T], otherwise: T | None = None) -> T:
        """The value of `key`, which must be there unless `otherwise` is given."""
        value = self._data.get(key, otherwise)
        if value is None:
            raise self.wrong(key, "is missing")
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise self.wrong(key, f"is {_KINDS[kind]}, not {value!r}")
        return value

    def number(self, key: str, otherwise: float) -> float:
        """An integer or a float, which may not be a boolean."""
        value = self._data.get(key, otherwise)
        return float(value) if type(value) is int else self.get(key, float, otherwise)

    def words(self, key: str, otherwise: Sequence[str] | None = None) -> tuple[str, ...]:
        """One string or several: at least one."""
        value = self._data.get(key, otherwise)
        if value is None:
            raise self.wrong(key, "is missing")
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, Sequence) or not words or not all(isinstance(word, str) and word for word in words):
            raise self.wrong(key, f"is a string or a list of strings, not {value!r}")
        return tuple(words)


def _allowances(peer: _Table) -> Allowances:
    layout = peer.get("terminate_layout", str, "rfc")
    settle = peer.number("settle", 0.0)
    if layout not in _LAYOUTS:
        raise peer.wrong("terminate_layout", f"is one of {', '.join(_LAYOUTS)}, not {layout!r}")
    if not 0 <= settle <= LONGEST_SETTLE:
        raise peer.wrong("settle", f"is a number of seconds from 0 to {LONGEST_SETTLE}, not {settle}")
    not_judged = frozenset(peer.words("not_judged")) if peer.has("not_judged") else frozenset()
    for id in sorted(not_judged - clauses().keys()):
        raise peer.wrong("not_judged", f"has {id!r}, which is the id of no requirement")
    return Allowances(settle=settle, little_endian_terminates=_LAYOUTS[layout], not_judged=not_judged)


def _deviation(entry: _Table) -> Deviation:
    reason = " ".join(entry.get("reason", str).split())
    if not reason:
        raise entry.wrong("reason", "is empty")
    patterns = entry.words("cases")
    for pattern in patterns:
        if not any(fnmatchcase(case.id, pattern) for case in cases()):
            raise entry.wrong("cases", f"has {pattern!r}, which names no case; `pyiwarp conform --list` shows all")
    try:
        directions = frozenset(Direction(word) for word in entry.words("directions", [*Direction]))
    except ValueError as error:
        raise entry.wrong("directions", f"is connect, listen or both: {error}") from error
    return Deviation(
        patterns,
        reason,
        entry.get("reference", str, ""),
        directions,
        entry.words("seen", ["*"]),
        entry.get("sometimes", bool, False),
    )
