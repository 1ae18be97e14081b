"""docs/siw-conformance.md: what a run of the conformance tester against siw has shown, told as a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import Final, NamedTuple

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.case import Case, Verdict
from pyiwarp.conformance.clauses import Clause
from pyiwarp.conformance.profiles import Deviation, Profile

from .campaign import Outcome
from .race import Race

ROLES: Final = {Direction.CONNECT: "Responder", Direction.LISTEN: "Initiator"}
"""What siw is when the bench connects, and when it listens."""

WIDTH: Final = 118
MARKS: Final = {
    Verdict.PASSED: "pass",
    Verdict.DEVIATES: "differs",
    Verdict.FAILED: "FAIL",
    Verdict.ERROR: "ERROR",
    Verdict.CANNOT: "cannot",
    Verdict.SKIPPED: "–",
}

HEAD: Final = """\
# Linux soft-iWARP, clause by clause

This page is written by `python -m interop.conform`; a change by hand is lost with the next run.

siw, the soft-iWARP driver of the Linux kernel, was tested by [`pyiwarp conform`](conformance.md), which plays a raw
peer that may send anything, and compares what comes back with what the RFCs allow. siw ran unchanged in a virtual
machine with the [target program](target.md) on librdmacm and libibverbs to tell what arrived. Each case was played with
the bench as Initiator, where siw is the Responder, and the other way round, as far as it concerns both roles. What
did not go as declared in the profile `siw` was played once more in a machine of its own, and that verdict counts.

The kernel: {kernel}.
"""

ALLOWANCES: Final = """\
## Allowances

Two things that siw does otherwise would hide everything behind them. The bench makes allowance for both.

* **It waits {settle:.0f} ms between siw's Reply and its own first FPDU.** siw installs its receiver only after its
  Reply has left; what comes in between stays in the socket until more comes.
{race}
* **It reads siw's Terminate messages in siw's layout.** The Terminate Control is written with C bit-fields, whose
  order on a little-endian machine is not that of RFC 5040 §4.8: EType comes before Layer, and the bits M, D and R are
  the lowest of the third octet and not the highest. The codes named below are what siw means; the octets are as they
  came.
"""


class Run(NamedTuple):
    """A whole run; it took so many `seconds`."""

    outcomes: Sequence[Outcome]
    profile: Profile
    race: Race
    seconds: float


def write_page(path: Path, run: Run) -> None:
    """Write the page about a whole run."""
    path.write_text("\n".join(_page(run)).replace("\n\n\n", "\n\n") + "\n")


def _page(run: Run) -> Iterator[str]:
    outcomes = run.outcomes
    yield HEAD.format(kernel=run.race.kernel)
    yield from _verdict(outcomes, run.seconds)
    yield ALLOWANCES.format(
        settle=run.profile.allowances.settle * 1000, race=_paragraph(run.race.sentence, "  ").rstrip()
    )
    yield from _differences(outcomes)
    yield from _unseen(outcomes, run.profile)
    yield from _failures(outcomes)
    yield from _abilities(outcomes)
    yield from _appendix(outcomes)


# --- the numbers -----------------------------------------------------------------------------------------------------


def _verdict(outcomes: Sequence[Outcome], seconds: float) -> Iterator[str]:
    counts = Counter(outcome.result.verdict for outcome in outcomes)
    ran = counts[Verdict.PASSED] + counts[Verdict.DEVIATES] + counts[Verdict.FAILED] + counts[Verdict.ERROR]
    cases = len({outcome.result.case.id for outcome in outcomes})
    yield "## The verdict\n"
    yield _paragraph(
        f"{cases} cases were played, most in both roles: {len(outcomes)} in all. siw could take part in {ran} of them "
        f"and passed {counts[Verdict.PASSED]}. It differed in {counts[Verdict.DEVIATES] + counts[Verdict.FAILED]}, "
        f"for the {len(_by_reason(outcomes))} reasons below. For {counts[Verdict.CANNOT]} it lacks what they take. "
        f"The run took {seconds:.0f} s."
    )
    yield "| | siw as | pass | differs | cannot |"
    yield "| --- | --- | --- | --- | --- |"
    groups = dict.fromkeys(outcome.result.case.group for outcome in outcomes)
    for group in groups:
        for direction, role in ROLES.items():
            chosen = Counter(
                outcome.result.verdict
                for outcome in outcomes
                if outcome.direction is direction and outcome.result.case.group == group
            )
            differs = chosen[Verdict.DEVIATES] + chosen[Verdict.FAILED] + chosen[Verdict.ERROR]
            yield f"| {group} | {role} | {chosen[Verdict.PASSED]} | {differs} | {chosen[Verdict.CANNOT]} |"
    yield ""


# --- what differs ----------------------------------------------------------------------------------------------------


def _by_reason(outcomes: Sequence[Outcome]) -> Mapping[str, list[Outcome]]:
    """The declared deviations: their reasons, and where each was seen."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        if outcome.result.verdict is Verdict.DEVIATES:
            found.setdefault(outcome.result.reason, []).append(outcome)
    return found


def _differences(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## Where siw differs\n"
    for reason, seen in _by_reason(outcomes).items():
        title, _, rest = reason.partition(". ")
        yield f"### {title.rstrip('.')}\n"
        if rest:
            yield _paragraph(rest)
        yield from _evidence(seen)


def _unseen(outcomes: Sequence[Outcome], profile: Profile) -> Iterator[str]:
    """What is declared to happen now and then, and did not happen this time although its cases were played."""
    reasons = _by_reason(outcomes)
    unseen: dict[Deviation, list[Case]] = {}
    for each in profile.deviations:
        if each.sometimes and not any(reason.startswith(each.reason) for reason in reasons):
            played = [
                outcome.result.case for outcome in outcomes if each.concerns(outcome.result.case, outcome.direction)
            ]
            if played:
                unseen[each] = [*dict.fromkeys(played)]
    if not unseen:
        return
    yield "## Seen in other runs\n"
    yield "What depends on chance did not happen in this run, and counts all the same.\n"
    for deviation, chosen in unseen.items():
        title, _, rest = deviation.reason.partition(". ")
        yield f"### {title.rstrip('.')}\n"
        yield _paragraph(rest)
        yield _quoted(chosen[0].clause)
        yield from (f"* `{case.id}`: {case.title}. Allowed: {_inline(case.accepts)}." for case in chosen)
        yield ""


def _evidence(seen: Sequence[Outcome]) -> Iterator[str]:
    """The cases that show it: the first at length, the others in a line each."""
    yield from _at_length(seen[0], [outcome for outcome in seen if outcome.result.case.id == seen[0].result.case.id])
    others: dict[str, list[Outcome]] = {}
    for outcome in seen:
        if outcome.result.case.id != seen[0].result.case.id:
            others.setdefault(outcome.result.case.id, []).append(outcome)
    if others:
        yield "The same is seen in\n"
        for each in others.values():
            result = each[0].result
            yield f"* `{result.case.id}` ({_roles(each)}): {result.case.title}. Came: {_inline(result.seen)}."
        yield ""


def _at_length(outcome: Outcome, same: Sequence[Outcome]) -> Iterator[str]:
    result = outcome.result
    yield _quoted(result.case.clause)
    yield f"`{result.case.id}`, “{result.case.title}” (siw as {_roles(same)}).\n"
    yield f"* **Sent:** {_inline(result.case.sends)}."
    yield f"* **Allowed:** {_inline(result.case.accepts)}."
    yield f"* **Came:** {_inline(result.seen)}.\n"
    if result.octets:
        yield "```text"
        yield from (line.rstrip() for line in result.octets)
        yield "```\n"


def _quoted(clause: Clause) -> str:
    return _paragraph(f"{clause.text} — RFC {clause.rfc} §{clause.section}, {clause.level}", "> ")


def _roles(outcomes: Sequence[Outcome]) -> str:
    return " and ".join(dict.fromkeys(ROLES[outcome.direction] for outcome in outcomes))


def _paragraph(text: str, indent: str = "") -> str:
    return fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) + "\n"


def _inline(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").rstrip(".")


def _failures(outcomes: Sequence[Outcome]) -> Iterator[str]:
    bad = [outcome for outcome in outcomes if outcome.result.verdict.bad]
    if not bad:
        return
    yield "## Not declared\n"
    yield "These were not expected: the run failed for them.\n"
    for outcome in bad:
        yield f"### {outcome.result.case.id}, siw as {ROLES[outcome.direction]}\n"
        yield "```text"
        yield from (line.rstrip() for line in outcome.result.details())
        yield "```\n"


# --- the rest --------------------------------------------------------------------------------------------------------


def _abilities(outcomes: Sequence[Outcome]) -> Iterator[str]:
    reasons = Counter(outcome.result.reason for outcome in outcomes if outcome.result.verdict is Verdict.CANNOT)
    if not reasons:
        return
    yield "## What could not be tested\n"
    yield "No case counts against siw that takes what an application cannot ask of it, or what it does not have.\n"
    yield "| Cases | Why |"
    yield "| --- | --- |"
    for reason, count in reasons.most_common():
        yield f"| {count} | {_inline(reason)} |"
    yield ""


def _appendix(outcomes: Sequence[Outcome]) -> Iterator[str]:
    yield "## Every case\n"
    yield "| Case | | siw as Responder | as Initiator |"
    yield "| --- | --- | --- | --- |"
    verdicts: dict[Case, dict[Direction, Verdict]] = {}
    for outcome in outcomes:
        verdicts.setdefault(outcome.result.case, {})[outcome.direction] = outcome.result.verdict
    for case, found in verdicts.items():
        marks = " | ".join(MARKS[found[role]] if role in found else "" for role in ROLES)
        yield f"| `{case.id}` | {_inline(case.title)} | {marks} |"
