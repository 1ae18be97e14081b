"""The clauses that the package carries are those of `spec/requirements.tsv`."""

from __future__ import annotations

import csv
from pathlib import Path

from pyiwarp.conformance.clauses import Clause, clauses

REQUIREMENTS = Path(__file__).parents[2] / "spec" / "requirements.tsv"


def test_the_clauses_are_those_of_the_specification() -> None:
    with REQUIREMENTS.open(encoding="utf-8", newline="") as table:
        rows = csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE)
        due = {
            row["id"]: Clause(row["id"], row["rfc"], row["section"], row["level"], row["requirement"]) for row in rows
        }
    assert clauses() == due
