"""Whether the tests notice what was found by reading: each breakage of the table `found`, against its test alone.

    python -m tests.meta.found [WORD ...] [--jobs N]

With words only those whose names have one of them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.meta.breakages.found import FOUND, Found
from tests.meta.trial import Trial, copy_of_the_project, run

SECONDS: Final = 120.0


def tried(found: Sequence[Found], jobs: int) -> Iterator[tuple[str, bool]]:
    """The name of each breakage, and whether its test failed."""
    with tempfile.TemporaryDirectory(prefix="found-") as base:
        places = [copy_of_the_project(Path(base) / str(number)) for number in range(jobs)]
        trials = [Trial(each.name, [each.test], each.mutation, enough=bool) for each in found]
        for trial, verdict in run(trials, places, SECONDS):
            yield trial.name, bool(verdict.failed)


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them; the exit code says whether one was not noticed."""
    parser = argparse.ArgumentParser(prog="python -m tests.meta.found", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many at once (default: %(default)s)")
    options = parser.parse_args(arguments)
    chosen = [each for each in FOUND if not options.words or any(word in each.name for word in options.words)]
    missed = 0
    for name, noticed in tried(chosen, options.jobs):
        missed += not noticed
        print(f"{'noticed' if noticed else 'NOT NOTICED':14} {name}", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} noticed")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
