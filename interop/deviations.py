"""Declared deviations: what a peer is known to do otherwise, as data with a reason and a reference."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .errors import InteropError
from .peer import Role
from .stage import Difference

FILE = Path(__file__).with_name("deviations.toml")

_KEYS = {"reason", "reference", "peers", "scenarios", "aspect", "seen"}
_OPTIONAL = {"roles", "sometimes"}


@dataclass(frozen=True)
class Deviation:
    """One thing that some peers do otherwise, wherever its patterns fit.

    `aspect` is what a scenario compares, `seen` what is seen there instead of what should be. One that is declared
    to happen `sometimes` need not happen in every run: a race that the peer loses now and then.
    """

    reason: str
    reference: str
    peers: tuple[str, ...]
    scenarios: tuple[str, ...]
    roles: tuple[Role, ...]
    aspect: str
    seen: str
    sometimes: bool = False

    def concerns(self, peer: str, scenario: str, role: Role) -> bool:
        """Whether it is declared for this cell of the matrix."""
        return (
            role in self.roles
            and any(fnmatchcase(peer, pattern) for pattern in self.peers)
            and any(fnmatchcase(scenario, pattern) for pattern in self.scenarios)
        )

    def explains(self, difference: Difference) -> bool:
        """Whether that is what was declared."""
        return self.aspect == difference.aspect and self.seen == difference.seen


def load(file: Path = FILE) -> list[Deviation]:
    """All that are declared in `file`; raises `InteropError` for an entry that is not complete."""
    entries: list[dict[str, Any]] = tomllib.loads(file.read_text()).get("deviation", [])
    return [_deviation(entry) for entry in entries]


def _deviation(entry: dict[str, Any]) -> Deviation:
    if missing := _KEYS - entry.keys():
        raise InteropError(f"a declared deviation lacks {', '.join(sorted(missing))}: {entry}")
    if unknown := entry.keys() - _KEYS - _OPTIONAL:
        raise InteropError(f"a declared deviation has {', '.join(sorted(unknown))}, which mean nothing: {entry}")
    return Deviation(
        entry["reason"],
        entry["reference"],
        tuple(entry["peers"]),
        tuple(entry["scenarios"]),
        tuple(Role(name) for name in entry.get("roles", [role.value for role in Role])),
        entry["aspect"],
        entry["seen"],
        entry.get("sometimes", False),
    )


def judge(
    declared: Iterable[Deviation], differences: Sequence[Difference]
) -> tuple[list[Deviation], list[Difference], list[Deviation]]:
    """Split what was seen: deviations that count, differences nobody declared, deviations that should have happened.

    One that happens sometimes counts in any case, so that the table does not depend on chance.
    """
    declared = list(declared)
    counting = [each for each in declared if each.sometimes or any(map(each.explains, differences))]
    undeclared = [difference for difference in differences if not any(each.explains(difference) for each in counting)]
    return counting, undeclared, [each for each in declared if each not in counting]
