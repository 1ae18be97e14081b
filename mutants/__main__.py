"""`python -m mutants PATH`: break some lines of a module or of a folder, and say what the tests did not notice."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from mutants.breakages import sample
from mutants.judging import Judge, Verdict
from mutants.measuring import measure

ROOT = Path(__file__).parents[1]
PLACE = ROOT / ".mutants"


def copy(tree: Path) -> None:
    """Make the copy of what git knows or would add; what is the same already keeps its time."""
    command = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    names = {name for name in listed if name and (ROOT / name).is_file()}
    for file in [file for file in tree.rglob("*") if file.is_file() and file.suffix in {".py", ".so"}]:
        if str(file.relative_to(tree)) not in names:
            file.unlink()
    for name in names:
        source, target = ROOT / name, tree / name
        if not target.exists() or target.read_bytes() != source.read_bytes():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def main() -> int:
    """The command; its exit code says whether something survived."""
    parser = argparse.ArgumentParser(prog="python -m mutants", description=__doc__)
    parser.add_argument(
        "path", type=Path, nargs="+", help="modules or folders of the package, from the root of the repository"
    )
    parser.add_argument("--sample", type=int, default=20, metavar="N", help="how many breakages (20)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--tests", nargs="+", default=[], metavar="FILE", help="run the tests of these files alone")
    parser.add_argument("--measure", action="store_true", help="measure anew which tests run which function")
    options = parser.parse_args()
    paths = sorted({file for path in options.path for file in ([path] if path.is_file() else path.rglob("*.py"))})
    if not paths:
        parser.error(f"no module in {', '.join(map(str, options.path))}")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born deaf to it
    known = PLACE / "measured.json"
    if options.measure:
        known.unlink(missing_ok=True)
    tree = PLACE / "tree"
    tree.mkdir(parents=True, exist_ok=True)
    copy(tree)
    judge = Judge(tree, measure(tree, known, options.tests))
    chosen = sample(paths, options.sample, options.seed)
    judge.check(chosen[0])
    noticed = 0
    for breakage in chosen:
        began = time.monotonic()
        verdict = judge.judge(breakage)
        if verdict in (Verdict.NOTICED, Verdict.HUNG):
            noticed += 1
        by = f" by {judge.note.read_text()}" if verdict is Verdict.NOTICED else ""
        print(f"{breakage.path}:{breakage.line}: {verdict}{by} ({time.monotonic() - began:.1f} s)", flush=True)
        if verdict in (Verdict.SURVIVED, Verdict.UNTESTED):
            print(breakage.diff, flush=True)
    print(f"noticed {noticed} of {len(chosen)}: {' '.join(map(str, options.path))}, seed {options.seed}")
    return 0 if noticed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main())
