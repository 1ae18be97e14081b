"""`python -m tests.fuzz [TARGET ...] --seconds 60`: atheris searches for octets that make a target fail.

Each target has a process of its own, which begins with `corpus/TARGET` and with what earlier runs have kept in
`.fuzz/TARGET/corpus`. It prints how many inputs were tried. What made a target fail lies in `.fuzz/TARGET`: mend the
fault, and put the file into `corpus/TARGET`, where `test_fuzz` runs it ever after.
"""

from __future__ import annotations

import argparse
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
CORPUS: Final = Path(__file__).parent / "corpus"
KEPT: Final = ROOT / ".fuzz"
LONGEST: Final = 4096  # octets of one input
SLOWEST: Final = 30  # seconds for one input
MEMORY: Final = 2048  # MB
STARTING: Final = 120.0  # seconds that a process may take beyond its time


class Outcome(NamedTuple):
    """What one target's search gave."""

    target: str
    inputs: int
    found: list[Path]
    log: Path

    @property
    def line(self) -> str:
        """For people."""
        what = f"{self.inputs:>12,} inputs"
        if self.found:
            return f"{self.target:16}{what}, FAILED: {', '.join(str(path) for path in self.found)}; see {self.log}"
        return (
            f"{self.target:16}{what}, nothing found" if self.inputs else f"{self.target:16}did not run: see {self.log}"
        )

    @property
    def good(self) -> bool:
        """Whether it ran and found nothing."""
        return self.inputs > 0 and not self.found


def search(target: str, seconds: int) -> Outcome:
    """Let atheris search in a process of its own."""
    place = KEPT / target
    kept, log = place / "corpus", place / "log"
    kept.mkdir(parents=True, exist_ok=True)
    before = set(findings(place))
    command = [sys.executable, "-m", "tests.fuzz", "--one", target, "--seconds", str(seconds)]
    with log.open("w") as output:
        try:
            subprocess.run(command, cwd=ROOT, stdout=output, stderr=output, check=False, timeout=seconds + STARTING)
        except subprocess.TimeoutExpired:
            output.write("the process did not end and was killed\n")
    text = log.read_text(errors="replace")
    tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", text)
    return Outcome(target, int(tried[1]) if tried else 0, sorted(set(findings(place)) - before), log)


def findings(place: Path) -> list[Path]:
    """The inputs that made a target fail, take too long, or need too much memory."""
    return [path for kind in ("crash", "timeout", "oom", "slow-unit") for path in place.glob(f"{kind}-*")]


def be_one(target: str, seconds: int) -> None:
    """This process searches, and is ended by libFuzzer."""
    import atheris

    with atheris.instrument_imports(include=["pyiwarp"]):
        function = importlib.import_module("tests.fuzz.targets").TARGETS[target]
    place = KEPT / target
    limits = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOWEST}", f"-rss_limit_mb={MEMORY}"]
    places = [str(place / "corpus"), str(CORPUS / target), f"-artifact_prefix={place}/"]
    atheris.Setup([target, *places, *limits, "-print_final_stats=1"], function)
    atheris.Fuzz()


def main(arguments: list[str] | None = None) -> int:
    names = sorted(path.name for path in CORPUS.iterdir())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="how long each is searched (default 60)")
    parser.add_argument("--one", choices=names, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    unknown = [name for name in options.targets if name not in names]
    if unknown:
        parser.error(f"there is no target {unknown[0]!r}; there are {', '.join(names)}")
    if options.one:
        be_one(options.one, options.seconds)
        return 0
    outcomes = []
    for name in options.targets or names:
        outcomes.append(search(name, options.seconds))
        print(outcomes[-1].line, flush=True)
    print(f"{sum(one.inputs for one in outcomes):,} inputs in all")
    return 0 if all(one.good for one in outcomes) else 1


if __name__ == "__main__":
    raise SystemExit(main())
