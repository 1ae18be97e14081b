"""Whether the tests that cite a rule notice when it is broken: the breakages, each against the cited tests alone.

    python -m tests.meta.audit [RULE ...] [--missing] [--seconds N] [--jobs N]

RULE is an id, or its beginning as `MPA-5044` or `MPA-5044-7.1`; without one all are audited. First the cited tests run
on the code as it is; one that fails there proves nothing and is left out. Then each breakage is made in a copy of the
project. A rule has noticed it if a test failed that cites this very rule.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from tests.meta import compliance
from tests.meta.breakages import MUTATIONS, UNBROKEN, Mutation
from tests.meta.trial import Trial, Verdict, copy_of_the_project, failed_lines, run, share_bytecode

SECONDS: Final = 90.0
SOUND_SECONDS: Final = 900.0
HUNG: Final = 15.0  # a test that takes so many seconds more than four times what it took before has failed
NOTICED: Final = "noticed"


class Result(NamedTuple):
    """What one rule's tests said of one breakage."""

    mutation: Mutation
    rule: str
    said: str
    by: str
    took: float


def wanted(rules: Iterable[str], of: Iterable[str]) -> list[str]:
    """Those ids that are named, or begin with what is named; all of them if nothing is."""
    names = tuple(rules)
    return [
        each
        for each in of
        if not names or any(each == name or each.startswith((f"{name}-", f"{name}.")) for name in names)
    ]


def missing(shown: Mapping[str, Sequence[str]]) -> list[str]:
    """The rules that tests cite, and that no breakage breaks, and of which nothing says why."""
    broken = {rule for mutation in MUTATIONS for rule in mutation.rules}
    return [rule for rule in shown if shown[rule] and rule not in broken and rule not in UNBROKEN]


def sound(tests: Sequence[str], places: Sequence[Path]) -> dict[str, float]:
    """The tests that pass on the code as it is, and how long each takes; what fails is told."""
    files: dict[str, list[str]] = defaultdict(list)
    for test in tests:
        files[test.partition("::")[0]].append(test)
    shares: list[list[str]] = [[] for _ in places]
    for _, each in sorted(files.items(), key=lambda item: -len(item[1])):
        min(shares, key=len).extend(each)
    trials = [Trial("as it is", share) for share in shares if share]
    seconds: dict[str, float] = {}
    for _, verdict in run(trials, places, SOUND_SECONDS, remember=True):
        seconds |= {test: took for test, took in verdict.seconds.items() if test not in verdict.failed}
        for line in failed_lines(verdict).values():
            print(f"fails on the code as it is, and proves nothing: {line}")
        if verdict.status is None or not verdict.ran:
            print(verdict.output[-2000:])
            raise SystemExit(f"the tests did not run on the code as it is (status {verdict.status})")
    return seconds


def all_noticed(citing: Mapping[str, set[str]], failed: set[str]) -> bool:
    """Whether a test of each rule is among those that failed."""
    return all(failed & tests for tests in citing.values())


def judged(trial: Trial, verdict: Verdict, citing: Mapping[str, set[str]]) -> list[Result]:
    """What each rule's tests said."""
    mutation = trial.mutation
    assert mutation is not None
    results = []
    for rule, tests in citing.items():
        by = sorted(verdict.failed & tests)
        if by:
            said = NOTICED
        elif verdict.status is None:
            said = f"no end after {verdict.took:.0f} s"
        elif not verdict.ran:
            said = "no test ran"
        else:
            said = "NOT NOTICED"
        results.append(Result(mutation, rule, said, by[0] if by else "", verdict.took))
    return results


def audit(mutations: Sequence[Mutation], rules: Iterable[str], seconds: float, jobs: int) -> list[Result]:
    """Every breakage against the tests of each of its rules that is among `rules`."""
    shown = compliance.read().shown
    asked = set(rules)
    with tempfile.TemporaryDirectory(prefix="audit-") as base:
        places = [copy_of_the_project(Path(base) / str(number)) for number in range(jobs)]
        concerned = {rule for mutation in mutations for rule in mutation.rules} & asked
        takes = sound(sorted({test for rule in concerned for test in shown.get(rule, ())}), places)
        share_bytecode(places)
        citing = {
            mutation.name: {rule: {*shown.get(rule, ())} & {*takes} for rule in mutation.rules if rule in asked}
            for mutation in mutations
        }

        def trials() -> Iterator[Trial]:
            for mutation in mutations:
                groups = citing[mutation.name]
                tests = sorted({test for group in groups.values() for test in group}, key=takes.__getitem__)
                enough = partial(all_noticed, groups)
                yield Trial(mutation.name, tests, mutation, enough, {test: HUNG + 4 * takes[test] for test in tests})

        results = []
        for trial, verdict in run(trials(), places, seconds):
            for result in judged(trial, verdict, citing[trial.name]):
                results.append(result)
                test = result.by.partition("::")[2]
                print(
                    f"{result.said:14} {result.rule:20} {result.mutation.name}  [{test or '-'}, {result.took:.1f} s]",
                    flush=True,
                )
        return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit, and say what was not noticed and which rules have no breakage."""
    parser = argparse.ArgumentParser(prog="python -m tests.meta.audit", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("rules", nargs="*", metavar="RULE", help="an id, or the beginning of ids")
    parser.add_argument("--missing", action="store_true", help="only list the rules without a breakage")
    parser.add_argument("--name", default="", help="only breakages whose name has this in it")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="the time limit of a breakage (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    shown = compliance.read().shown
    without = wanted(options.rules, missing(shown))
    if options.missing:
        print("\n".join(without))
        return 0
    rules = wanted(options.rules, shown)
    mutations = [each for each in MUTATIONS if options.name in each.name and set(each.rules) & set(rules)]
    results = audit(mutations, rules, options.seconds, options.jobs)
    unnoticed = [result for result in results if result.said != NOTICED]
    print(f"\n{len(results) - len(unnoticed)} of {len(results)} noticed, of {len(mutations)} breakages")
    for result in unnoticed:
        print(f"  {result.said}: {result.rule}: {result.mutation.name}")
    print(f"{len(without)} rules without a breakage{': ' + ', '.join(without) if without else ''}")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
