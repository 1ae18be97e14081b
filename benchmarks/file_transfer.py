"""A file moves on loopback: `pyiwarp get` and `put` beside the same file through asyncio streams, in one run.

    python benchmarks/file_transfer.py [--mib 1024] [--rounds 5] [--dir DIR] [--json]

Four candidates take turns, each with a server process and a client process of its own, both on uvloop:

* pyiwarp    the code of `pyiwarp get`: CRC32C on, RDMA Writes from and into staging memory, SHA-256 on both sides
* put        the code of `pyiwarp put`: the same by RDMA Reads
* streams    StreamWriter writes of 1 MiB from mmap, StreamReader reads of 1 MiB into mmap, nothing verified
* streams+   the same, with SHA-256 computed on both sides while the octets travel, as pyiwarp does

Every transfer ends with the destination filled and closed. Printed are the median rates, their spread, and
pyiwarp's ratio to each of the others.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import hashlib
import json
import mmap
import multiprocessing
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine
from importlib.metadata import version
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvloop
from rich.console import Console
from rich.table import Table

from pyiwarp.files.client import connected
from pyiwarp.files.root import Root
from pyiwarp.files.server import FileServer

if TYPE_CHECKING:  # it runs as a script too, which does not see the others
    from benchmarks.pairs import Job, Sample

CHUNK = 1 << 20
NAME = "source.bin"
KEPT: dict[int, Path] = {}
"""A directory with a source file for each size in MiB, as long as this process lives."""


# --- the streams -----------------------------------------------------------------------------------------------------


class Digest:
    """SHA-256 in a thread behind the transfer, or nothing at all."""

    def __init__(self, wanted: bool, view: memoryview) -> None:
        self._hash = hashlib.sha256() if wanted else None
        self._view = view
        self._done = 0
        self._task: asyncio.Future[None] | None = None

    def advance(self, upto: int) -> None:
        if self._hash is None or (self._task is not None and not self._task.done()):
            return
        loop = asyncio.get_running_loop()
        self._task = loop.run_in_executor(None, self._hash.update, self._view[self._done : upto])
        self._done = upto

    async def finish(self, upto: int) -> str:
        if self._hash is None:
            self._view.release()
            return ""
        if self._task is not None:
            await self._task
        await asyncio.to_thread(self._hash.update, self._view[self._done : upto])
        self._view.release()
        return self._hash.hexdigest()


async def stream_server(directory: Path, announce: Pipe, verify: bool) -> None:
    async def give(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with open(directory / NAME, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as source:
            view = memoryview(source)
            digest = Digest(verify, view[:])
            writer.write(len(view).to_bytes(8, "big"))
            for start in range(0, len(view), CHUNK):
                with view[start : start + CHUNK] as piece:
                    writer.write(piece)
                    await writer.drain()
                digest.advance(min(start + CHUNK, len(view)))
            await writer.drain()
            writer.write((await digest.finish(len(view))).encode())
            writer.close()
            await writer.wait_closed()
            view.release()

    server = await asyncio.start_server(give, "127.0.0.1", 0, limit=2 * CHUNK)
    announce.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


async def stream_get(port: int, to: Path, verify: bool) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * CHUNK)
    size = int.from_bytes(await reader.readexactly(8), "big")
    with open(to, "wb+") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as sink:
            view = memoryview(sink)
            digest = Digest(verify, view[:])
            placed = 0
            while placed < size:
                piece = await reader.read(min(CHUNK, size - placed))
                if not piece:
                    raise ConnectionError("the stream ended early")
                view[placed : placed + len(piece)] = piece
                placed += len(piece)
                digest.advance(placed)
            ours, theirs = await digest.finish(size), (await reader.read()).decode()
            view.release()
            if ours != theirs:
                raise ValueError("SHA-256 differs")
    writer.close()
    await writer.wait_closed()


# --- pyiwarp ---------------------------------------------------------------------------------------------------------


async def iwarp_server(directory: Path, announce: Pipe, verify: bool) -> None:
    async with FileServer(Root(directory)) as server:
        await server.start("127.0.0.1")
        announce.send(server.port)
        await server.wait_closed()


async def iwarp_get(port: int, to: Path, verify: bool) -> None:
    async with connected("127.0.0.1", port) as client:
        await client.get(NAME, to)


async def iwarp_put(port: int, to: Path, verify: bool) -> None:
    async with connected("127.0.0.1", port) as client:
        await client.put(to.parent / NAME, to.name)


# --- running ---------------------------------------------------------------------------------------------------------

ServerMain = Callable[[Path, Pipe, bool], Coroutine[Any, Any, None]]
Get = Callable[[int, Path, bool], Awaitable[None]]

CANDIDATES: dict[str, tuple[ServerMain, Get, bool]] = {
    "pyiwarp": (iwarp_server, iwarp_get, True),
    "put": (iwarp_server, iwarp_put, True),
    "streams": (stream_server, stream_get, False),
    "streams+": (stream_server, stream_get, True),
}


def serve(name: str, directory: Path, announce: Pipe) -> None:
    server, _, verify = CANDIDATES[name]
    uvloop.run(server(directory, announce, verify))


def fetch(name: str, port: int, to: Path, report: Pipe) -> None:
    _, get, verify = CANDIDATES[name]

    async def timed() -> float:
        began = time.perf_counter()
        await get(port, to, verify)
        return time.perf_counter() - began

    report.send(uvloop.run(timed()))


def one_transfer(name: str, directory: Path) -> float:
    """Seconds that one transfer by candidate `name` took, each side in a new process."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    server = context.Process(target=serve, args=(name, directory, there), daemon=True)
    server.start()
    try:
        port = answer(here, server)
        got, send = context.Pipe(duplex=False)
        to = directory / "got.bin"
        client = context.Process(target=fetch, args=(name, port, to, send), daemon=True)
        client.start()
        seconds: float = answer(got, client)
        client.join(30)
        if to.stat().st_size != (directory / NAME).stat().st_size:
            raise ValueError(f"{name} moved {to.stat().st_size} octets")
        to.unlink()
        return seconds
    finally:
        server.terminate()
        server.join(10)


def measured(name: str, job: Job) -> Sample:
    """One transfer of a file of `job.size` octets, for `compare`."""
    mib = job.size // CHUNK
    if mib not in KEPT:
        KEPT[mib] = Path(tempfile.mkdtemp(prefix="pyiwarp-bench-"))
        atexit.register(shutil.rmtree, KEPT[mib], ignore_errors=True)
        make_source(KEPT[mib] / NAME, mib)
    return {"GB/s": job.size / one_transfer(name, KEPT[mib]) / 1e9}


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=1024, help="size of the file in MiB (default 1024)")
    parser.add_argument("--rounds", type=int, default=5, help="transfers by each candidate (default 5)")
    parser.add_argument("--dir", type=Path, help="where the files lie (default: the system's temporary directory)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.dir, prefix="pyiwarp-bench-") as name:
        directory = Path(name)
        make_source(directory / NAME, arguments.mib)
        rates = measure(directory, arguments.mib, arguments.rounds)
    show(rates, arguments.mib, arguments.rounds, as_json=arguments.json)
    return 0


def measure(directory: Path, mib: int, rounds: int) -> dict[str, list[float]]:
    """GB/s of every transfer; the candidates take turns, so that a noisy moment hits them alike."""
    rates: dict[str, list[float]] = {name: [] for name in CANDIDATES}
    for name in CANDIDATES:
        one_transfer(name, directory)  # warms the page cache and the interpreter's files
    for _ in range(rounds):
        for name in CANDIDATES:
            rates[name].append(mib * CHUNK / one_transfer(name, directory) / 1e9)
    return rates


def show(rates: dict[str, list[float]], mib: int, rounds: int, *, as_json: bool) -> None:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {name: medians["pyiwarp"] / median for name, median in medians.items()}
    machine = f"{os.cpu_count()} CPUs, Python {platform.python_version()}, uvloop {version('uvloop')}"
    if as_json:
        json.dump({"mib": mib, "machine": machine, "rates": rates, "medians": medians, "ratios": ratios}, sys.stdout)
        print()
        return
    table = Table(title=f"{mib} MiB on loopback, {rounds} rounds ({machine})")
    for heading in ("candidate", "median GB/s", "lowest", "highest", "pyiwarp ÷ this"):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for name, values in rates.items():
        row = (f"{medians[name]:.3f}", f"{min(values):.3f}", f"{max(values):.3f}", f"{ratios[name]:.2f}")
        table.add_row(name, *row)
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
