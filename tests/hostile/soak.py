"""Good and hostile clients for a long time, on each driver: memory, descriptors and tasks of the server stay flat.

    python -m tests.hostile.soak [--minutes 10] [--driver DRIVER ...] [--every 30] [--seed 1] [--warm-up 40]

Each driver has the time to itself, in rounds. In a round good clients talk, move files and do RDMA while hostile ones
are there: silent, with a part of a Request, with octets of no protocol, with sessions that are cut or have bits
flipped, flooding, and gone without a word. Then all leave, and the server must come to rest; what it has then is
printed every `--every` seconds. At the end stands whether the figures were flat: descriptors and tasks the same as
before, and no more than `GROWTH` MB between the medians of the second and of the last quarter of the rounds. The exit
code is 1 if not.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pyiwarp
from pyiwarp import Options, RemoteRegion
from pyiwarp.files.client import ClientSettings, connected
from pyiwarp.files.messages import MESSAGE_LIMIT
from tests.harness import fpdu, write
from tests.hostile.server import DRIVERS, FILE, Figures, Server, serving
from tests.hostile.sessions import HEADER, Session, sessions_of
from tests.hosts import HOST
from tests.patience import PATIENCE

__all__ = ["Result", "main", "soak"]

GROWTH: Final = 4.0  # MB
LEAST: Final = 8  # rounds, below which nothing is said of memory
GOOD: Final = 4  # good clients in a round
FLOOD: Final = b"".join(fpdu(write().octets(0), crc=0) for _ in range(500))
OPTIONS: Final = Options(crc=False, timeout=PATIENCE, recv_size=MESSAGE_LIMIT)


class Result(NamedTuple):
    """What one driver's server had, each time at rest."""

    driver: str
    seen: list[Figures]

    @property
    def growth(self) -> float:
        """MB between the second and the last quarter; 0 if there were too few rounds."""
        quarter = len(self.seen) // 4
        if len(self.seen) < LEAST:
            return 0.0
        resident = [each.resident for each in self.seen]
        return statistics.median(resident[-quarter:]) - statistics.median(resident[quarter : 2 * quarter])

    @property
    def faults(self) -> list[str]:
        """What was not flat."""
        first, last = self.seen[0], self.seen[-1]
        found = [f"memory grew by {self.growth:.1f} MB"] if self.growth > GROWTH else []
        for name in ("descriptors", "tasks"):
            before, after = getattr(first, name), getattr(last, name)
            if after > before:
                found.append(f"{name}: {before} became {after}")
        if last.faults:
            found.append(f"{last.faults} errors were logged")
        return found

    @property
    def line(self) -> str:
        """For people."""
        last = self.seen[-1]
        told = f"{last.resident:.1f} MB ({self.growth:+.1f}), {last.descriptors} descriptors, {last.tasks} tasks"
        return f"{self.driver:8} {len(self.seen):>6} rounds, {told}: {'; '.join(self.faults) or 'flat'}"


# --- hostile clients -------------------------------------------------------------------------------------------------


def _dial(port: int) -> socket.socket:
    sock = socket.create_connection((HOST, port), PATIENCE)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # it leaves with a reset
    return sock


def _damaged(session: Session, rng: random.Random) -> Session:
    """The session cut somewhere, or with some bits flipped."""
    octets = bytearray(session.octets)
    if rng.random() < 0.5:
        del octets[rng.randrange(len(octets)) :]
    else:
        for _ in range(rng.randint(1, 3)):
            octets[rng.randrange(len(octets))] ^= 1 << rng.randrange(8)
    return session.with_octets(bytes(octets))


def _attack(session: Session, rng: random.Random) -> socket.socket:
    """A hostile client that has sent what it will, and is still there."""
    sock = _dial(session.port)
    with contextlib.suppress(OSError):
        kind = rng.choice(("silent", "part", "noise", "damaged", "damaged", "damaged", "whole", "flood"))
        if kind == "part":
            sock.sendall(session.request[: rng.randrange(len(session.request))])
        elif kind == "noise":
            sock.sendall(rng.randbytes(rng.randint(1, 200)))
        elif kind in ("damaged", "whole", "flood"):
            played = _damaged(session, rng) if kind == "damaged" else session
            sock.sendall(played.request)
            sock.settimeout(0.05)
            sock.recv(HEADER)
            sock.sendall(FLOOD * 20 if kind == "flood" else played.rest)
        if rng.random() < 0.3:
            sock.shutdown(socket.SHUT_WR)
    return sock


@contextlib.contextmanager
def _attackers(sessions: list[Session], number: int, rng: random.Random) -> Iterator[None]:
    socks = [_attack(rng.choice(sessions), rng) for _ in range(number)]
    try:
        yield
    finally:
        for sock in socks:
            sock.close()


# --- good clients ----------------------------------------------------------------------------------------------------


async def _talk(server: Server, rng: random.Random) -> None:
    """Messages, Writes and Reads; raises `AssertionError` if an octet is wrong."""
    async with asyncio.timeout(PATIENCE), pyiwarp.connect(HOST, server.port, options=OPTIONS) as conn:
        await conn.send(b"hello")
        remote = RemoteRegion.parse(await conn.recv())
        for _ in range(3):
            message = rng.randbytes(rng.randint(1, 4000))
            await conn.send(message)
            assert await conn.recv() == message
            await conn.write(message, remote[: len(message)])
            back = bytearray(len(message))
            await conn.read(back, remote[: len(message)])
            assert back == message


async def _move_files(server: Server, place: Path, rng: random.Random) -> None:
    settings = ClientSettings(patience=PATIENCE, options=OPTIONS)
    async with asyncio.timeout(PATIENCE), connected(HOST, server.files, settings) as files:
        name, content = f"{rng.randrange(4)}", rng.randbytes(rng.randint(0, 300_000))
        (place / "sent").write_bytes(content)
        await files.put(place / "sent", name)
        await files.get(name, place / "back")
        assert (place / "back").read_bytes() == content
        await files.get(FILE, place / "back")


def _round(server: Server, place: Path, rng: random.Random) -> Figures:
    """Hostile and good clients together, and what is left."""

    async def good() -> None:
        await asyncio.gather(*(_talk(server, rng) for _ in range(GOOD)))
        if server.files:
            await _move_files(server, place, rng)

    with _attackers(sessions_of(server, crc=False), rng.randint(5, 30), rng):
        asyncio.run(good())
    return server.at_rest()


def soak(driver: str, seconds: float, every: float, seed: int, warm_up: int) -> Result:
    """Rounds for so many seconds, two at least, and before that `warm_up` rounds that do not count."""
    with (
        tempfile.TemporaryDirectory() as served,
        tempfile.TemporaryDirectory() as mine,
        serving(driver, Path(served)) as server,
    ):
        rng = random.Random(seed)
        for _ in range(warm_up):  # what is loaded late, and kept for others to use again, is there after that
            _round(server, Path(mine), rng)
        began = told = time.monotonic()
        result = Result(driver, [])
        while (now := time.monotonic()) < began + seconds or len(result.seen) < 2:
            result.seen.append(_round(server, Path(mine), rng))
            if now >= told + every:
                told = now
                print(f"{now - began:>6.0f} s  {result.line}", flush=True)
    return result


def main(arguments: list[str] | None = None) -> int:
    what = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.soak", description=what)
    parser.add_argument("--minutes", type=float, default=10, help="for each driver (default 10)")
    parser.add_argument("--driver", nargs="+", choices=DRIVERS, default=DRIVERS, help="of the server; all by default")
    parser.add_argument("--every", type=float, default=30, help="seconds between two lines (default 30)")
    parser.add_argument("--seed", type=int, default=1, help="of what hostile clients do (default 1)")
    parser.add_argument("--warm-up", type=int, default=40, help="rounds before that do not count (default 40)")
    options = parser.parse_args(arguments)
    results = []
    for driver in options.driver:
        results.append(soak(driver, 60 * options.minutes, options.every, options.seed, options.warm_up))
        print(f"  done    {results[-1].line}", flush=True)
    return 1 if any(result.faults for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
