"""Good clients beside thousands of bad ones: how long a request takes, what the server's memory does, how it ends.

    python -m benchmarks.siege [--silent 2000] [--trickling 2000] [--flooding 200] [--seconds 20] [--addresses 1]
                               [--clients N] [--json FILE]

Two servers, each on uvloop and on asyncio: `pyiwarp serve` (a client lists its directory) and `pyiwarp.serve` with a
program that answers each message (a client sends one). Each is asked while nobody else is there, and then beside

* silent connections     TCP is connected, and no octet follows
* trickling connections  the MPA Request comes by one octet a second
* flooding connections   startup is complete, with the private data that the server asks for, and RDMA Writes without
                         payload follow as fast as the kernel takes them

Those that the server ends connect again. With `--addresses 1` the attackers have the good client's address, 127.0.0.1;
with more they have 127.0.0.2 and those that follow, where the system lets them be bound, and the good client has its
own. `--clients` is the option of `pyiwarp serve`; by default the flooding ones do not all find a place there. The
attackers share the machine's processors with the server: a good client waits for its own processor too. Then SIGTERM
ends the server. Nothing is judged but by `benchmarks.targets`: a target that is missed is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import os
import select
import selectors
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Final, NamedTuple, cast

from rich.table import Table

import pyiwarp
from benchmarks.loops import run_on
from benchmarks.machine import describe
from benchmarks.open_files import allow_files
from benchmarks.table import wide_console
from benchmarks.targets import SIEGE
from pyiwarp.buffers import Octets
from pyiwarp.errors import IwarpError
from pyiwarp.files.client import connected
from pyiwarp.files.hello import HELLO
from pyiwarp.mpa import Framer

HOST: Final = "127.0.0.1"
MOST_ADDRESSES: Final = 200
LOOPS: Final = ("uvloop", "asyncio")
PAUSE: Final = 0.02  # seconds between two requests of the good client
PATIENCE: Final = 60.0
SPARE_FILES: Final = 200
ENHANCED: Final = struct.pack(">HH", 0x8010, 0x4010)
HEADER_SIZE: Final = 20  # octets of an MPA Reply before its private data
REJECTED: Final = 0x20  # the R flag of an MPA Reply
PRIVATE_DATA: Final = {"pyiwarp serve": HELLO, "pyiwarp.serve": b""}
AnyEvent = Event | threading.Event
EMPTY_WRITE: Final = bytes((0xC1, 0x40)) + struct.pack(">IQ", 1, 0)


class Attack(NamedTuple):
    """How many connections of each kind, from how many addresses."""

    silent: int
    trickling: int
    flooding: int
    addresses: int = 1


class Ordeal(NamedTuple):
    """What one server did."""

    server: str
    loop: str
    quiet: float  # seconds, the median of a request
    besieged: float
    failed: int
    why: dict[str, int]  # the errors of those, by their text
    answered: int
    growth: float  # MB of resident memory
    ending: float  # seconds from SIGTERM to the end


# --- the attackers: each kind is a process ---------------------------------------------------------------------------


def request_of(private_data: bytes) -> bytes:
    """An MPA Request of revision 2."""
    whole = ENHANCED + private_data
    return b"MPA ID Req Frame" + bytes((0x50, 2)) + struct.pack(">H", len(whole)) + whole


def sources(count: int) -> list[str]:
    """The addresses of the attackers: with one that of the good client, else as many others as can be bound."""
    if count == 1:
        return [HOST]
    found = []
    for last in range(2, 2 + count):
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind((f"127.0.0.{last}", 0))
            found.append(f"127.0.0.{last}")
    return found or [HOST]


def _connected(port: int, source: str) -> socket.socket | None:
    try:
        return socket.create_connection((HOST, port), 5, source_address=(source, 0))
    except OSError:
        return None


def _has_ended(one: socket.socket) -> bool:
    try:
        return one.recv(1 << 16) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def hold(port: int, count: int, addresses: list[str], octets: bytes, over: Event) -> None:
    """Keep `count` connections that send one more of `octets` each second, and open those anew that the server ends."""
    allow_files(count + SPARE_FILES)
    source = itertools.cycle(addresses)
    held: dict[socket.socket, int] = {}
    while not over.is_set():
        began = time.monotonic()
        for one in [one for one in held if _has_ended(one)]:
            one.close()
            del held[one]
        for one, sent in held.items():
            with contextlib.suppress(OSError):
                held[one] = sent + one.send(octets[sent : sent + 1])
        while len(held) < count and time.monotonic() - began < 1:
            if (new := _connected(port, next(source))) is None:
                break
            new.setblocking(False)
            held[new] = 0
        over.wait(max(0.0, 1 - (time.monotonic() - began)))


def flood(port: int, count: int, addresses: list[str], request: bytes, there: AnyEvent, over: AnyEvent) -> None:
    """`count` connections that send empty Writes as fast as TCP takes them; `there` says that no more will come."""
    allow_files(count + SPARE_FILES)
    source = itertools.cycle(addresses)
    pieces: list[Octets] = []
    Framer(crc=True).frame(EMPTY_WRITE, (), 0, pieces)
    fpdus = b"".join(pieces) * 2000
    with selectors.DefaultSelector() as selector:
        sent: dict[socket.socket, int] = {}
        while not over.is_set():
            while len(sent) < count and (new := in_full_operation(port, next(source), request)) is not None:
                sent[new] = 0
                selector.register(new, selectors.EVENT_WRITE)
            there.set()
            for key, _ in selector.select(0.2):
                one = cast("socket.socket", key.fileobj)
                try:
                    sent[one] = (sent[one] + one.send(memoryview(fpdus)[sent[one] :])) % len(fpdus)
                except BlockingIOError:
                    continue
                except OSError:
                    selector.unregister(one)
                    del sent[one]
                    one.close()
        for one in sent:
            one.close()


def in_full_operation(port: int, source: str, request: bytes) -> socket.socket | None:
    """A connection whose startup is complete; None if the server refuses one more."""
    one = _connected(port, source)
    if one is None:
        return None
    try:
        one.sendall(request)
        reply = one.recv(HEADER_SIZE, socket.MSG_WAITALL)
        if len(reply) < HEADER_SIZE or reply[16] & REJECTED:
            raise ConnectionResetError
        one.recv(int.from_bytes(reply[18:], "big"), socket.MSG_WAITALL)
    except OSError:
        one.close()
        return None
    one.setblocking(False)
    return one


@contextlib.contextmanager
def attackers(server: str, port: int, attack: Attack) -> Iterator[None]:
    """All of them, while the block runs."""
    places, request = sources(attack.addresses), request_of(PRIVATE_DATA[server])
    context = multiprocessing.get_context("spawn")
    there, over = context.Event(), context.Event()
    processes = [
        context.Process(target=hold, args=(port, attack.silent, places, b"", over), daemon=True),
        context.Process(target=hold, args=(port, attack.trickling, places, request, over), daemon=True),
        context.Process(target=flood, args=(port, attack.flooding, places, request, there, over), daemon=True),
    ]
    for process in processes:
        process.start()
    try:
        if not there.wait(PATIENCE):
            raise RuntimeError(f"the flooding connections are not there after {PATIENCE:g} s")
        yield
    finally:
        over.set()
        for process in processes:
            process.join(20)
            process.kill()
            process.join(PATIENCE)


# --- the servers -----------------------------------------------------------------------------------------------------


async def answer(connection: pyiwarp.Connection) -> None:
    """The program of `pyiwarp.serve`: each message goes back."""
    async for message in connection:
        await connection.send(message)


def serve_messages(loop: str) -> None:
    """A process that serves until SIGTERM, and prints its port."""

    async def main() -> None:
        stopped = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
        async with await pyiwarp.serve(answer, HOST) as server:
            print(f"serving on {HOST}:{server.port}", flush=True)
            await stopped.wait()

    allow_files(10_000 + SPARE_FILES)
    run_on(loop, main())


def start(server: str, loop: str, directory: Path, options: list[str]) -> tuple[subprocess.Popen[str], int]:
    """The server in a process of its own, and its port; `options` are those of `pyiwarp serve`."""
    commands = {
        "pyiwarp serve": ["-m", "pyiwarp", "serve", str(directory), "--port", "0", "--loop", loop, "--json", *options],
        "pyiwarp.serve": ["-m", "benchmarks.siege", "--serve", loop],
    }
    process = subprocess.Popen(
        [sys.executable, *commands[server]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        if not select.select([process.stdout], [], [], PATIENCE)[0]:
            raise RuntimeError(f"{server} has not said within {PATIENCE:g} s where it listens")
        line = process.stdout.readline()
        port = json.loads(line)["port"] if line.startswith("{") else int(line.rsplit(":", 1)[1])
    except BaseException:
        process.kill()
        process.communicate(timeout=PATIENCE)
        raise
    return process, port


# --- the good client -------------------------------------------------------------------------------------------------


async def list_files(port: int) -> None:
    """One request to `pyiwarp serve`, on a connection of its own."""
    async with connected(HOST, port) as files:
        async for _ in files.entries():
            pass


async def say_something(port: int) -> None:
    """One request to `pyiwarp.serve`, on a connection of its own."""
    async with pyiwarp.connect(HOST, port) as connection:
        await connection.send(b"a request")
        await connection.recv()


REQUESTS: Final = {"pyiwarp serve": list_files, "pyiwarp.serve": say_something}


async def ask(server: str, port: int, seconds: float) -> tuple[list[float], Counter[str]]:
    """The seconds that each request took, and how many failed, by cause."""
    took: list[float] = []
    failed = Counter[str]()
    until = time.monotonic() + seconds
    while time.monotonic() < until or not took:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                await REQUESTS[server](port)
            took.append(time.monotonic() - began)
        except (OSError, IwarpError) as error:
            failed[f"{type(error).__name__}: {error}"] += 1
            if failed.total() > 100 and not took:
                break
        await asyncio.sleep(PAUSE)
    return took, failed


def resident(pid: int) -> int:
    """Octets of memory that a process has in RAM."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def besiege(server: str, loop: str, attack: Attack, seconds: float, options: list[str]) -> Ordeal:
    """One server: quiet, besieged, ended."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "file").write_bytes(b"octets")
        process, port = start(server, loop, Path(directory), options)
        try:
            quiet, _ = asyncio.run(ask(server, port, seconds / 4))
            before = resident(process.pid)
            with attackers(server, port, attack):
                time.sleep(seconds / 2)  # they have filled what they can
                besieged, failed = asyncio.run(ask(server, port, seconds))
                growth = (resident(process.pid) - before) / 1e6
                asked = time.monotonic()
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(PATIENCE)
                ending = time.monotonic() - asked
        finally:
            process.kill()
            process.communicate(timeout=PATIENCE)
    middle = statistics.median(besieged) if besieged else float("inf")
    total = failed.total()
    return Ordeal(server, loop, statistics.median(quiet), middle, total, dict(failed), len(besieged), growth, ending)


# --- showing ---------------------------------------------------------------------------------------------------------


def show(ordeals: list[Ordeal], attack: Attack) -> None:
    places = sources(attack.addresses)
    where = "the good client's address" if places == [HOST] else f"{places[0]} to {places[-1]}"
    numbers = f"{attack.silent:,} silent, {attack.trickling:,} trickling, {attack.flooding:,} flooding connections"
    table = Table(title=f"{numbers} from {where}")
    for heading in ("server", "loop", "quiet, ms", "besieged, ms", "failed", "memory, MB", "SIGTERM, s", "missed"):
        table.add_column(heading, justify="left" if heading in ("server", "loop", "missed") else "right")
    for one in ordeals:
        figures = (
            f"{one.quiet * 1e3:.1f}",
            f"{one.besieged * 1e3:.1f}",
            f"{one.failed} of {one.failed + one.answered}",
        )
        table.add_row(one.server, one.loop, *figures, f"{one.growth:+.1f}", f"{one.ending:.2f}", ", ".join(missed(one)))
    console = wide_console()
    console.print(table)
    for one in ordeals:
        for cause, times in one.why.items():
            console.print(f"{one.server} on {one.loop}: {times} failed: {cause}")
    console.print(describe().line)


def missed(one: Ordeal) -> list[str]:
    """The targets that a server did not reach."""
    judged: dict[str, Callable[[], bool]] = {
        "request": lambda: one.besieged <= SIEGE.slower * one.quiet + SIEGE.delay and not one.failed,
        "memory": lambda: one.growth <= SIEGE.growth,
        "SIGTERM": lambda: one.ending <= SIEGE.ending,
    }
    return [name for name, reached in judged.items() if not reached()]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--silent", type=int, default=2000, help="silent connections (default 2000)")
    parser.add_argument("--trickling", type=int, default=2000, help="trickling connections (default 2000)")
    parser.add_argument("--flooding", type=int, default=200, help="flooding connections (default 200)")
    parser.add_argument("--seconds", type=float, default=20, help="how long the good client asks (default 20)")
    parser.add_argument("--addresses", type=int, default=1, help="addresses of the attackers (default 1)")
    parser.add_argument("--clients", type=int, help="of pyiwarp serve")
    parser.add_argument("--loop", choices=LOOPS, help="this event loop alone")
    parser.add_argument("--server", choices=tuple(REQUESTS), help="this server alone")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--serve", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.serve:
        serve_messages(options.serve)
        return 0
    if not 1 <= options.addresses <= MOST_ADDRESSES:
        parser.error(f"--addresses is 1 to {MOST_ADDRESSES}")
    attack = Attack(options.silent, options.trickling, options.flooding, options.addresses)
    serve_options = [] if options.clients is None else ["--clients", str(options.clients)]
    servers = (options.server,) if options.server else tuple(REQUESTS)
    loops = (options.loop,) if options.loop else LOOPS
    ordeals = [besiege(server, loop, attack, options.seconds, serve_options) for server in servers for loop in loops]
    show(ordeals, attack)
    if options.json:
        facts = {
            "machine": describe().data(),
            "attack": attack._asdict(),
            "sources": sources(attack.addresses),
            "servers": [one._asdict() for one in ordeals],
        }
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
