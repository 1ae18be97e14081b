"""pyiwarp beside what a user would pick instead, and beside the limit that a bare socket sets; all in one run.

    python -m benchmarks.compare [--quick] [--only ROW]… [--rounds N] [--runs N] [--seconds S] [--mib N]
                                 [--readme] [--json FILE] [--plot FILE]

Every measurement is made by two new processes on loopback, each on a processor of its own. The candidates of a row
take turns, so that a noisy moment hits them alike; printed are the medians of all rounds, their spread, each
candidate's proportion to the first, and for each target whether it was reached. That is told, not judged: the exit
code is 0 unless a candidate broke, which is told in its line and does not stop the others. `--runs 3` does all of it
three times, and then prints for each row how far the proportions of the runs lie apart: that is what is quoted.
`--readme` measures the rows that the README quotes, three runs of three short rounds, and prints its table.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from rich.table import Table

from benchmarks.machine import Machine, describe
from benchmarks.pairs import BUSY, Absent, Sample
from benchmarks.quoted import QUOTED, markdown
from benchmarks.rows import ROWS, Candidate, Row
from benchmarks.spread import Ratios, show_spread, spreads
from benchmarks.table import figure, wide_console
from benchmarks.targets import Verdict

__all__ = ["main"]

ROUNDS, SECONDS = 5, 1.0
README_RUNS, README_ROUNDS, README_SECONDS = 3, 3, 0.5
IF_BUSY: Final = "if busy"
QUICK_SECONDS: Final = 0.02
QUICK_CONNECTIONS: Final = 20
FILE_MIB, QUICK_FILE_MIB = 1024, 4


@dataclass(slots=True)
class Result:
    """What one candidate of a row has shown: its samples, or why there are none, or how it broke."""

    samples: list[Sample] = field(default_factory=list)
    absent: str = ""
    broken: str = ""

    @property
    def counts(self) -> bool:
        """Whether it has figures that stand beside those of others."""
        return bool(self.samples) and not self.absent and not self.broken

    def values(self, figure_name: str) -> list[float]:
        return [sample[figure_name] for sample in self.samples]

    @property
    def medians(self) -> dict[str, float]:
        """Of each figure that all samples have."""
        names = [name for name in self.samples[0] if all(name in sample for sample in self.samples)]
        return {name: statistics.median(self.values(name)) for name in names}


Results = dict[str, Result]


def measure(row: Row, rounds: int, *, quick: bool, seconds: float, mib: int) -> Results:
    """All rounds of a row; a file that is moved has `mib` MiB."""
    job = replace(row.job, seconds=seconds, warmup=min(row.job.warmup, seconds / 2))
    if job.kind == "file":
        job = replace(job, size=mib << 20)
    if quick:
        job = replace(job, connections=QUICK_CONNECTIONS)
    results = {candidate.name: Result() for candidate in row.candidates}
    for _ in range(rounds):
        for candidate in row.candidates:
            result = results[candidate.name]
            if result.absent or result.broken:
                continue
            try:
                result.samples.append(_with_rate_if_busy(candidate.measure(job), row))
            except Absent as absent:
                result.absent = str(absent)
            except Exception as error:  # whatever it is, the other candidates and rows are measured
                print(f"{row.name}: {candidate.name} broke: {error!r}\n{error}", file=sys.stderr)
                result.broken = _last_line(error)
    return results


def _last_line(error: Exception) -> str:
    """What a table has room for: of a process that failed this is the exception behind its traceback."""
    lines = str(error).strip().splitlines()
    said = lines[-1] if lines else "no message"
    return said if isinstance(error, RuntimeError) else f"{type(error).__name__}: {said}"


def _with_rate_if_busy(sample: Sample, row: Row) -> Sample:
    """Add what a rate would be if the busier process had its processor for itself."""
    busy = sample.get(BUSY)
    return {**sample, IF_BUSY: sample[row.figure] / busy} if busy and row.more_is_better else sample


def judge(row: Row, results: Results) -> list[Verdict]:
    """Which targets were reached."""
    medians = {name: result.medians for name, result in results.items() if result.counts}
    return [target.judge(medians, row.figure, more_is_better=row.more_is_better) for target in row.targets]


def ratios(row: Row, results: Results) -> Ratios:
    """The medians of those that have figures, in proportion to the first candidate's; nothing if it has none."""
    first = results[row.candidates[0].name]
    base = first.medians[row.figure] if first.counts else 0.0
    if not base:
        return {}
    return {name: result.medians[row.figure] / base for name, result in results.items() if result.counts}


def figures(row: Row, results: Results) -> Ratios:
    """The medians themselves, the first candidate's first; 0 for one that has none."""
    return {name: result.medians[row.figure] if result.counts else 0.0 for name, result in results.items()}


def row_data(row: Row, results: Results) -> dict[str, object]:
    """A row as JSON takes it."""
    candidates: dict[str, object] = {}
    for name, result in results.items():
        if result.absent:
            candidates[name] = {"absent": result.absent}
        elif result.broken:
            candidates[name] = {"broken": result.broken}
        else:
            candidates[name] = {"medians": result.medians, "samples": [dict(sample) for sample in result.samples]}
    verdicts = [asdict(verdict) for verdict in judge(row, results)]
    return {"title": row.title, "figure": row.figure, "candidates": candidates, "targets": verdicts}


# --- showing ---------------------------------------------------------------------------------------------------------


def show(row: Row, results: Results) -> None:
    console = wide_console()
    table = Table(title=f"{row.name}: {row.title}", title_justify="left", min_width=100)
    reference = results[row.candidates[0].name]
    for heading in ("candidate", f"median {row.figure}", "lowest", "highest", "÷ first", "busy", "if busy"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for candidate in row.candidates:
        table.add_row(*_line(candidate, row.figure, results[candidate.name], reference))
    console.print(table)
    for verdict in judge(row, results):
        mark = {True: "[green]reached[/]", False: "[red]not reached[/]", None: "unknown"}[verdict.met]
        console.print(f"  {verdict.wanted} — {verdict.seen}: {mark}", highlight=False)
    console.print()


def _line(candidate: Candidate, figure_name: str, result: Result, reference: Result) -> tuple[str, ...]:
    if result.absent:
        return candidate.name, "absent", result.absent, "", "", "", ""
    if result.broken:
        return candidate.name, "broke", result.broken, "", "", "", ""
    values = result.values(figure_name)
    median = statistics.median(values)
    first = statistics.median(reference.values(figure_name)) if reference.counts else 0.0
    ratio = figure(median / first) if first > 0 else ""
    name = f"{candidate.name} ({candidate.note})" if candidate.note else candidate.name
    busy = result.medians.get(BUSY)
    share = "" if busy is None else f"{busy:.0%}"
    alone = figure(result.medians[IF_BUSY]) if IF_BUSY in result.medians else ""
    return name, figure(median), figure(min(values)), figure(max(values)), ratio, share, alone


def summarize(rows: list[Row], results: dict[str, Results], machine: Machine) -> None:
    """All targets on one page."""
    table = Table(title="targets", title_justify="left", min_width=100)
    for heading in ("row", "wanted", "seen", "reached"):
        table.add_column(heading)
    for row in rows:
        for verdict in judge(row, results[row.name]):
            met = {True: "[green]yes[/]", False: "[red]no[/]", None: "?"}[verdict.met]
            table.add_row(row.name, verdict.wanted, verdict.seen, met)
    console = wide_console()
    if table.row_count:
        console.print(table)
    console.print(machine.line, highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round: whether it works, not how fast it is")
    parser.add_argument("--only", action="append", metavar="ROW", help=f"one of {', '.join(row.name for row in ROWS)}")
    parser.add_argument("--rounds", type=int, help=f"measurements of each candidate (default {ROUNDS})")
    parser.add_argument("--runs", type=int, help="do all of it so many times, and print the spread (default 1)")
    parser.add_argument("--readme", action="store_true", help="the rows that the README quotes, and its table")
    parser.add_argument("--seconds", type=float, help=f"how long one measurement takes (default {SECONDS:g})")
    parser.add_argument("--mib", type=int, help=f"size of the file that is moved, in MiB (default {FILE_MIB})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw all rows to this PNG or SVG")
    options = parser.parse_args(arguments)
    names = {row.name for row in ROWS}
    if unknown := set(options.only or ()) - names:
        parser.error(f"no row is called {', '.join(sorted(unknown))}; there are {', '.join(row.name for row in ROWS)}")
    chosen = options.only or ({quoted.row for quoted in QUOTED} if options.readme else names)
    rows = [row for row in ROWS if row.name in chosen]
    usual = (README_RUNS, README_ROUNDS, README_SECONDS) if options.readme else (1, ROUNDS, SECONDS)
    rounds = options.rounds or (1 if options.quick else usual[1])
    seconds = options.seconds or (QUICK_SECONDS if options.quick else usual[2])
    mib = options.mib or (QUICK_FILE_MIB if options.quick else FILE_MIB)
    runs: list[dict[str, Results]] = []
    machines: list[Machine] = []
    for _ in range(options.runs or usual[0]):
        machines.append(describe())
        runs.append({})
        for row in rows:
            runs[-1][row.name] = measure(row, rounds, quick=options.quick, seconds=seconds, mib=mib)
            show(row, runs[-1][row.name])
            sys.stdout.flush()
        summarize(rows, runs[-1], machines[-1])
    quoted = {row.name: [ratios(row, run[row.name]) for run in runs] for row in rows}
    if len(runs) > 1:
        for row in rows:
            show_spread(f"{row.name}: {len(runs)} runs", quoted[row.name])
    if options.readme:
        print(markdown([{row.name: figures(row, run[row.name]) for row in rows} for run in runs]))
        print(f"\nload average before each run: {', '.join(f'{each.load:.1f}' for each in machines)}")
    machine = machines[-1]
    data = {row.name: row_data(row, runs[-1][row.name]) for row in rows}
    if options.json:
        facts = {"machine": machine.data(), "rounds": rounds, "seconds": seconds, "rows": data}
        facts["loads"] = [each.load for each in machines]
        facts["spreads"] = {name: spreads(each) for name, each in quoted.items()}
        options.json.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    if options.plot:
        from benchmarks.plot import draw_rows

        draw_rows(data, machine.line, options.plot)
    return int(any(result.broken for run in runs for row in run.values() for result in row.values()))


if __name__ == "__main__":
    raise SystemExit(main())
