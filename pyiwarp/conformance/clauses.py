"""What the RFCs demand, clause by clause: the text behind a requirement id.

`clauses.tsv` is made from the project's `spec/requirements.tsv` and held equal to it by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

__all__ = ["Clause", "clause", "clauses"]


class Clause(NamedTuple):
    """One requirement: `level` is MUST, MUST NOT, SHOULD, SHOULD NOT or MAY."""

    id: str
    rfc: str
    section: str
    level: str
    text: str

    def __str__(self) -> str:
        if not self.rfc:
            return self.text  # of a case of somebody's own
        return f"RFC {self.rfc} §{self.section} ({self.level}): {self.text}"


@cache
def clauses() -> Mapping[str, Clause]:
    """Every clause by its id."""
    table = files(__package__).joinpath("clauses.tsv").read_text(encoding="utf-8")
    rows = (Clause(*line.split("\t")) for line in table.splitlines()[1:])
    return {row.id: row for row in rows}


def clause(id: str) -> Clause:
    """The clause of a requirement id, or of a case id such as `MPA-5044-7.1.2-16/2`; `KeyError` if there is none."""
    return clauses()[id.partition("/")[0]]
