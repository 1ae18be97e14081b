"""A file moves on loopback: `pyiwarp get` and `put` beside asyncio streams and curl, in one run.

    python -m benchmarks.file_transfer [--mib 1024] [--rounds 5] [--dir DIR] [--json]

The candidates of each direction take turns, each with a server process and a client process of its own, on uvloop:

* pyiwarp: the code of `pyiwarp get` and `put`. CRC32C is on; RDMA Writes go into staging memory, Reads come from it;
  BLAKE3 is computed on both sides if the package is there, else SHA-256.
* pyiwarp, SHA-256: the same with `--sha256`.
* asyncio streams: StreamWriter writes of 1 MiB from mmap, StreamReader reads of 1 MiB into mmap. The same digest as
  pyiwarp's is computed on both sides in threads while the octets travel.
* asyncio streams, not verified: the same without a digest.
* curl: from Python's static server with sendfile. Nothing is verified; its start is in the time.

Every transfer ends with the destination filled and closed. Printed are the median rates, their spread, and
pyiwarp's ratio to each of the others.
"""

from __future__ import annotations

import argparse
import atexit
import json
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks.file_rivals import (
    CHUNK,
    GOT,
    NAME,
    curl_get,
    static_server,
    stream_get,
    stream_put,
    stream_server,
)
from benchmarks.pairs import Absent, Job, Sample
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.digests import Digest
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer

__all__ = ["GETS", "PUTS", "main", "measured"]

KEPT: dict[int, Path] = {}
"""A directory with a source file for each size in MiB, as long as this process lives."""


# --- pyiwarp ---------------------------------------------------------------------------------------------------------


def iwarp_server(directory: Path, announce: Pipe) -> None:
    async def serve() -> None:
        async with FileServer(Root(directory)) as server:
            await server.start("127.0.0.1")
            announce.send(server.port)
            await server.wait_closed()

    uvloop.run(serve())


async def iwarp_get(directory: Path, port: int, *, sha256: bool = False) -> None:
    async with connected("127.0.0.1", port, ClientSettings(sha256=sha256)) as client:
        await client.get(NAME, directory / GOT)


async def iwarp_put(directory: Path, port: int, *, sha256: bool = False) -> None:
    async with connected("127.0.0.1", port, ClientSettings(sha256=sha256)) as client:
        await client.put(directory / NAME, GOT)


# --- who takes part --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contender:
    """A server's process, which announces its port, and what a client does; both know the directory of the files."""

    serve: Callable[[Path, Pipe], None]
    move: Callable[[Path, int], Awaitable[None]]


DIGEST: Final = Digest.BLAKE3 if Digest.BLAKE3.is_here else Digest.SHA256
"""What verifies files here."""


def _streams(kind: Digest | None, *, put: bool) -> Contender:
    move = partial(stream_put, kind=kind) if put else partial(stream_get, kind=kind)
    return Contender(partial(stream_server, put=put, kind=kind), move)


GETS: Final = {
    "asyncio streams": _streams(DIGEST, put=False),
    "asyncio streams, not verified": _streams(None, put=False),
    "curl": Contender(static_server, curl_get),
    "pyiwarp": Contender(iwarp_server, iwarp_get),
    "pyiwarp, SHA-256": Contender(iwarp_server, partial(iwarp_get, sha256=True)),
}
PUTS: Final = {
    "asyncio streams": _streams(DIGEST, put=True),
    "asyncio streams, not verified": _streams(None, put=True),
    "pyiwarp": Contender(iwarp_server, iwarp_put),
    "pyiwarp, SHA-256": Contender(iwarp_server, partial(iwarp_put, sha256=True)),
}


# --- running ---------------------------------------------------------------------------------------------------------


def fetch(contender: Contender, directory: Path, port: int, report: Pipe) -> None:
    async def timed() -> float:
        began = time.perf_counter()
        await contender.move(directory, port)
        return time.perf_counter() - began

    try:
        report.send(uvloop.run(timed()))
    except Absent as absent:
        report.send(str(absent))


def one_transfer(contender: Contender, directory: Path) -> float:
    """Seconds that one transfer took, each side in a new process; raises `Absent` if what it needs is not there."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    server = context.Process(target=contender.serve, args=(directory, there), daemon=True)
    server.start()
    try:
        port = answer(here, server)
        got, send = context.Pipe(duplex=False)
        client = context.Process(target=fetch, args=(contender, directory, port, send), daemon=True)
        client.start()
        seconds = answer(got, client)
        client.join(30)
        if isinstance(seconds, str):
            raise Absent(seconds)
        moved = directory / GOT
        if moved.stat().st_size != (directory / NAME).stat().st_size:
            raise ValueError(f"{moved.stat().st_size} octets were moved")
        moved.unlink()
        return float(seconds)
    finally:
        server.terminate()
        server.join(10)


def measured(contender: Contender, job: Job) -> Sample:
    """One transfer of a file of `job.size` octets, for `compare`."""
    mib = job.size // CHUNK
    if mib not in KEPT:
        KEPT[mib] = Path(tempfile.mkdtemp(prefix="pyiwarp-bench-"))
        atexit.register(shutil.rmtree, KEPT[mib], ignore_errors=True)
        make_source(KEPT[mib] / NAME, mib)
    return {"GB/s": job.size / one_transfer(contender, KEPT[mib]) / 1e9}


def answer(pipe: Pipe, process: multiprocessing.process.BaseProcess) -> Any:
    for _ in range(1200):
        if pipe.poll(0.1):
            return pipe.recv()
        if not process.is_alive():
            break
    raise RuntimeError("a process of the benchmark gave no answer")


def make_source(path: Path, mib: int) -> None:
    with open(path, "wb") as file:
        for _ in range(mib):
            file.write(os.urandom(CHUNK))


Rates = dict[str, list[float]]


def measure(contenders: dict[str, Contender], directory: Path, mib: int, rounds: int) -> Rates:
    """GB/s of every transfer; the candidates take turns, so that a noisy moment hits them alike."""
    rates: Rates = {}
    for name, contender in contenders.items():
        try:
            one_transfer(contender, directory)  # warms the page cache and the interpreter's files
        except Absent as absent:
            print(f"{name} is absent: {absent}", file=sys.stderr)
        else:
            rates[name] = []
    for _ in range(rounds):
        for name, values in rates.items():
            values.append(mib * CHUNK / one_transfer(contenders[name], directory) / 1e9)
    return rates


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file in MiB (default 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="transfers by each candidate (default 5)")
    parser.add_argument("--dir", type=Path, help="where the files lie (default: the system's temporary directory)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="pyiwarp-bench-") as name:
        directory = Path(name)
        make_source(directory / NAME, arguments.mib)
        rates = {
            direction: measure(contenders, directory, arguments.mib, arguments.rounds)
            for direction, contenders in (("get", GETS), ("put", PUTS))
        }
    show(rates, arguments.mib, arguments.rounds, as_json=arguments.json)
    return 0


def show(rates: dict[str, Rates], mib: int, rounds: int, *, as_json: bool) -> None:
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, uvloop {version('uvloop')}, {DIGEST.title}"
    if as_json:
        json.dump({"mib": mib, "machine": machine, "rates": rates}, sys.stdout)
        print()
        return
    for direction, values_of in rates.items():
        table = Table(title=f"{direction}: {mib} MiB on loopback, {rounds} rounds ({machine})")
        for heading in ("candidate", "median GB/s", "lowest", "highest", "pyiwarp ÷ this"):
            table.add_column(heading, justify="left" if heading == "candidate" else "right")
        ours = statistics.median(values_of["pyiwarp"])
        for name, values in values_of.items():
            median = statistics.median(values)
            figures = (median, min(values), max(values))
            table.add_row(name, *(f"{each:.3f}" for each in figures), f"{ours / median:.2f}")
        Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
