"""What a breakage is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Replacement(NamedTuple):
    """One piece of a file of the package, which occurs there once, and what it becomes."""

    module: str
    old: str
    new: str


class Mutation(NamedTuple):
    """One breakage; `name` says what is wrong then, `rules` which requirements are broken.

    `module` is a file of the package (its path below it, without .py), `old` a piece of it that occurs once, `new` what
    it becomes. What takes more than one replacement has the others in `also`.
    """

    name: str
    module: str
    old: str
    new: str
    rules: tuple[str, ...]
    also: tuple[Replacement, ...] = ()

    @property
    def replacements(self) -> Iterator[Replacement]:
        """Every piece that is replaced, in the order in which this is done."""
        yield Replacement(self.module, self.old, self.new)
        yield from self.also
