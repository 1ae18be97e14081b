"""The whole suite again and again, each time under other circumstances; prints a table of what each run gave.

    python -m tests.endurance [NAME ...] [--times N] [--seed N] [--tests PATH ...] [--logs DIRECTORY]

NAME is one of the circumstances below; without one all are tried that this machine allows, and what it does not allow
is a line that says why. `shuffled` and `load` are run `--times` each. Every run has an order of its own, whose seed is
in the table. `make pythons` runs other interpreters.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[1]
BUSY: Final = 4
LIMIT: Final = 90 * 60.0
TMPFS: Final = Path("/dev/shm")
NOBODY: Final = 65534
CLOSING: Final = re.compile(r"^(?:=+ )?(\d+ (?:passed|failed|error).* in [\d.]+s.*?)(?: =+)?$", re.MULTILINE)
PYTEST: Final = (
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:cacheprovider",
    "--maxprocesses",
    "8",
    "--dist",
    "worksteal",
    "-n",
    "auto",
)


@dataclass(frozen=True, kw_only=True)
class Circumstance:
    """How a run differs from the usual one."""

    what: str
    before: tuple[str, ...] = ()
    """What starts the run, such as `taskset -c 0`."""
    environment: Mapping[str, str] = field(default_factory=dict)
    busy: int = 0
    """Processes that do nothing but compute meanwhile."""
    tmpfs: bool = False
    ordinary: bool = False
    """As a user without rights, from a copy that belongs to it."""
    sigint_ignored: bool = False


NO_IPV6: Final = 'ip link set lo up && echo 1 >/proc/sys/net/ipv6/conf/all/disable_ipv6 && exec "$@"'
"""The loopback interface of a new network namespace is down, and has IPv6 again when it goes up."""

CIRCUMSTANCES: Final[Mapping[str, Circumstance]] = {
    "shuffled": Circumstance(what="an order of its own"),
    "load": Circumstance(what=f"beside {BUSY} busy processes", busy=BUSY),
    "sigint": Circumstance(what="with SIGINT ignored, as a background job has it", sigint_ignored=True),
    "one-cpu": Circumstance(what="with one processor", before=("taskset", "-c", "0")),
    "hash-0": Circumstance(what="PYTHONHASHSEED=0", environment={"PYTHONHASHSEED": "0"}),
    "hash-4711": Circumstance(what="PYTHONHASHSEED=4711", environment={"PYTHONHASHSEED": "4711"}),
    "no-ipv6": Circumstance(what="without IPv6", before=("unshare", "--net", "sh", "-c", NO_IPV6, "sh")),
    "tmpfs": Circumstance(what="temporary files on tmpfs", tmpfs=True),
    "user": Circumstance(what="as an ordinary user, in a copy", ordinary=True),
}
OFTEN: Final = ("shuffled", "load")
AS_NOBODY: Final = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--")


class Run(NamedTuple):
    """What a run gave."""

    name: str
    seed: int
    said: str
    took: float = 0.0
    good: bool = False


def lacking(circumstance: Circumstance) -> str:
    """Why a circumstance cannot be made here, or nothing. It is tried: what is there may be forbidden."""
    if circumstance.tmpfs and not TMPFS.is_mount():
        return f"{TMPFS} is no mount"
    command = [*starter(circumstance), "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = done.stderr.strip().splitlines() or [f"{command[0]} ended with {done.returncode}"]
    return lines[-1] if done.returncode else ""


def starter(circumstance: Circumstance) -> tuple[str, ...]:
    """What stands before the command."""
    return AS_NOBODY if circumstance.ordinary and os.geteuid() == 0 else circumstance.before


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    with contextlib.ExitStack() as all_of_them:
        for _ in range(count):
            process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            all_of_them.callback(process.wait, 60)
            all_of_them.callback(process.kill)
        yield


@contextlib.contextmanager
def place_for(circumstance: Circumstance) -> Iterator[tuple[Path, Path]]:
    """Where the run takes place, and its temporary directory."""
    with tempfile.TemporaryDirectory(prefix="endurance-", dir=TMPFS if circumstance.tmpfs else None) as name:
        temporary, project = Path(name), ROOT
        if circumstance.ordinary:
            project = temporary / "project"
            hidden = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build")
            shutil.copytree(ROOT, project, ignore=hidden)
            for path in (temporary, *temporary.rglob("*")) if os.geteuid() == 0 else ():
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        yield project, temporary


def run(name: str, seed: int, tests: Sequence[str], log: Path) -> Run:
    """The suite under these circumstances; what it printed is in `log`."""
    circumstance = CIRCUMSTANCES[name]
    if why := lacking(circumstance):
        return Run(name, seed, f"cannot be made here: {why}", good=True)
    began = time.monotonic()
    with place_for(circumstance) as (project, temporary), busy_processes(circumstance.busy), log.open("wb") as output:
        environment = {**os.environ, **circumstance.environment, "TMPDIR": str(temporary), "PYTHONPATH": str(project)}
        python = sys.executable
        if circumstance.ordinary:
            environment["HOME"] = str(temporary)
            python, made = str(project / ".venv/bin/python"), [*starter(circumstance), "make", ".venv/.test"]
            if subprocess.run(
                made, cwd=project, env=environment, stdout=output, stderr=output, timeout=LIMIT
            ).returncode:
                return Run(name, seed, "no environment could be made for this user")
        process = subprocess.Popen(
            [*starter(circumstance), python, *PYTEST, f"--randomly-seed={seed}", *tests],
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ignore_sigint if circumstance.sigint_ignored else None,
        )
        try:
            status = process.wait(LIMIT)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            return Run(name, seed, f"no end after {LIMIT:.0f} s", LIMIT)
    return Run(name, seed, closing_line(log) or f"ended with {status}", time.monotonic() - began, status == 0)


def ignore_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def closing_line(log: Path) -> str:
    lines = CLOSING.findall(log.read_text(encoding="utf-8", errors="replace"))
    return lines[-1] if lines else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CIRCUMSTANCES))
    parser.add_argument("--times", type=int, default=5, help="runs of shuffled and of load (default: %(default)s)")
    parser.add_argument("--seed", type=int, help="that of the first run; the next ones count on from it")
    parser.add_argument("--tests", nargs="+", default=["tests"], metavar="PATH", help="default: all")
    parser.add_argument("--logs", type=Path, default=ROOT / ".endurance", help="where the output is kept")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(CIRCUMSTANCES):
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(CIRCUMSTANCES)}")
    names = [name for name in CIRCUMSTANCES if name in (options.names or CIRCUMSTANCES)]
    runs = [name for name in names for _ in range(options.times if name in OFTEN else 1)]
    first = random.randrange(1 << 31) if options.seed is None else options.seed
    options.logs.mkdir(exist_ok=True, parents=True)
    done = []
    for number, name in enumerate(runs):
        print(f"{name}: {CIRCUMSTANCES[name].what}, seed {first + number}", flush=True)
        done.append(run(name, first + number, options.tests, options.logs / f"{number:02}-{name}.log"))
        print(f"    {done[-1].said}", flush=True)
    print(f"\n{'run':12} {'seed':>10} {'seconds':>7}  result")
    for each in done:
        print(f"{each.name:12} {each.seed:10} {each.took:7.0f}  {each.said}")
    return 0 if all(each.good for each in done) else 1


if __name__ == "__main__":
    sys.exit(main())
