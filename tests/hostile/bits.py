"""Sessions of each kind over TCP, cut at every octet and with every bit flipped, on each driver.

    python -m tests.hostile.bits [--driver DRIVER ...] [--session TEXT ...] [--every 1] [--crc]

The server must end each connection, go on serving, log no error, and have no more connections, tasks and descriptors
at the end than before. `--every 7` takes every seventh cut and flip. Without `--crc` a flipped bit reaches DDP and
RDMAP.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.hostile.server import DRIVERS, Server, serving
from tests.hostile.sessions import Session, play, sessions_of

__all__ = ["attack", "main"]


def cuts(session: Session) -> Iterator[Session]:
    """The session without its last octets, for every number of these."""
    for length in range(len(session.octets)):
        yield session.with_octets(session.octets[:length])


def flips(session: Session) -> Iterator[Session]:
    """The session with one bit flipped, for every bit."""
    octets = bytearray(session.octets)
    for bit in range(8 * len(octets)):
        octets[bit >> 3] ^= 1 << (bit & 7)
        yield session.with_octets(bytes(octets))
        octets[bit >> 3] ^= 1 << (bit & 7)


def attack(server: Server, session: Session, every: int) -> int:
    """Play a session in every way; returns in how many. Raises `AssertionError` for what the server should not do."""
    play(session)
    before = server.at_rest()
    played = 0
    for number, changed in enumerate((*cuts(session), *flips(session))):
        if number % every == 0:
            play(changed)
            played += 1
    play(session)
    after = server.at_rest()
    assert after.faults == before.faults, f"{session.name}: the server logged an error"
    assert after.tasks <= before.tasks, f"{session.name}: {before} became {after}"
    assert after.descriptors <= before.descriptors, f"{session.name}: {before} became {after}"
    return played


def main(arguments: list[str] | None = None) -> int:
    what = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.bits", description=what)
    parser.add_argument("--driver", nargs="+", choices=DRIVERS, default=DRIVERS, help="of the server; all by default")
    parser.add_argument("--session", nargs="+", default=[""], metavar="TEXT", help="sessions whose name has TEXT in it")
    parser.add_argument("--every", type=int, default=1, help="every so many cuts and flips (default 1: all)")
    parser.add_argument("--crc", action="store_true", help="with CRC")
    options = parser.parse_args(arguments)
    failed = 0
    for driver in options.driver:
        with tempfile.TemporaryDirectory() as directory, serving(driver, Path(directory)) as server:
            for session in sessions_of(server, crc=options.crc):
                if not any(text in session.name for text in options.session):
                    continue
                began = time.monotonic()
                try:
                    number = attack(server, session, options.every)
                    told = f"{number:>7,} connections in {time.monotonic() - began:.0f} s, nothing found"
                except (AssertionError, TimeoutError) as error:
                    failed += 1
                    told = f"FAILED: {error}"
                print(f"{driver:8} {session.name:12} {len(session.octets):>5} octets {told}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
