"""What became of the cases: one `Result` each, and the `Report` of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from pyiwarp.conformance.case import Case, Verdict

__all__ = ["INTERRUPTED", "Report", "Result"]

INTERRUPTED: Final = "interrupted"
"""Why a run was abandoned that the user ended."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case: `expected`, `seen` and `octets` tell of a failure, `reason` why it is no plain pass.

    `octets` are those that came, `sent` those that the bench sent last.
    """

    case: Case
    verdict: Verdict
    seconds: float = 0.0
    expected: str = ""
    seen: str = ""
    octets: tuple[str, ...] = ()
    reason: str = ""
    sent: tuple[str, ...] = ()

    def details(self) -> list[str]:
        """The failure in lines: what was expected, what came, field by field, and the clause."""
        lines = [f"{self.case.id}  {self.case.title}", f"  sends     {self.case.sends}"]
        if self.expected:
            lines += [f"  expected  {self.expected}", f"  came      {self.seen}"]
        lines += [f"    {line}" for line in self.octets]
        if self.sent:
            lines += ["  sent last", *(f"    {line}" for line in self.sent)]
        if self.reason:
            lines.append(f"  {'reason' if self.verdict is Verdict.DEVIATES else 'because'}    {self.reason}")
        return [*lines, f"  clause    {self.case.clause}"]

    def as_data(self) -> dict[str, object]:
        """For JSON."""
        data: dict[str, object] = {
            "id": self.case.id,
            "title": self.case.title,
            "group": self.case.group,
            "level": self.case.level.word,
            "strictness": self.case.strictness.value,
            "verdict": self.verdict.value,
            "seconds": round(self.seconds, 4),
        }
        details = {
            "expected": self.expected,
            "seen": self.seen,
            "octets": list(self.octets),
            "sent": list(self.sent),
            "reason": self.reason,
        }
        data.update({key: value for key, value in details.items() if value})
        if self.verdict is not Verdict.PASSED:
            data.update(sends=self.case.sends, accepts=self.case.accepts, clause=str(self.case.clause))
        return data


@dataclass(slots=True)
class Report:
    """A run: whom it was about, its results in order, and `abandoned` if it could not be carried through."""

    peer: str
    direction: str
    level: str
    results: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    abandoned: str = ""

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many results have each verdict."""
        return Counter(result.verdict for result in self.results)

    @property
    def passed(self) -> bool:
        """Whether cases ran, and none of them failed."""
        ran = any(result.verdict in (Verdict.PASSED, Verdict.DEVIATES) for result in self.results)
        return ran and not self.abandoned and not any(result.verdict.bad for result in self.results)

    def as_data(self) -> dict[str, object]:
        """For JSON."""
        return {
            "peer": self.peer,
            "direction": self.direction,
            "level": self.level,
            "passed": self.passed,
            "abandoned": self.abandoned,
            "seconds": round(self.seconds, 3),
            "counts": {verdict.value: count for verdict, count in self.counts.items()},
            "results": [result.as_data() for result in self.results],
        }
