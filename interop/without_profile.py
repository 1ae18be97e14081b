"""`python -m interop.without_profile`: how often stock siw fails a correct peer, and what the profile changes.

The figures in docs/peers.md come from here. They depend on the machine: a slower guest fails more often.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from fnmatch import fnmatchcase

import typer

from pyiwarp.codes import Rtr
from pyiwarp.errors import IwarpError
from pyiwarp.profile import PROFILES

from .errors import InteropError
from .guest_pool import GuestPool
from .peer import Peer, Role
from .peers import ALL
from .scenarios.data import ALL_RIGHTS, pattern
from .scenarios.startup import rejected_by_us
from .siw import prepare_image
from .siw.errors import SiwError
from .stage import Stage
from .transcript import Recording

Trial = Callable[[Stage], Awaitable[bool]]

_SOON = 2.0  # seconds within which what was sent must have arrived


async def _established(stage: Stage) -> bool:
    """The peer's program hears that the connection is established, for which siw waits for the opening FPDU."""
    async with asyncio.timeout(_SOON), stage.pair():
        return True


async def _client_server(stage: Stage) -> bool:
    """Without the peer-to-peer model: a message sent at once arrives."""
    region = await stage.peer.register(100, ALL_RIGHTS)
    async with asyncio.timeout(_SOON), stage.pair(stage.options(rtr=Rtr(0))) as pair:
        await pair.there.post_receive(1, region)
        await pair.here.send(b"first")
        return len(await pair.there.completions(1, timeout=_SOON)) == 1


async def _small_writes_with_crc(stage: Stage) -> bool:
    """1 MiB in Writes of 61 octets with CRC arrives: no CRC error is imagined."""
    async with stage.pair(stage.options(crc=True, send_depth=500)) as pair:
        region = await stage.peer.register(1 << 20, ALL_RIGHTS)
        data = pattern(1 << 20, 1)
        pieces = (data[start : start + 61] for start in range(0, len(data) - 61, 61))
        try:
            await asyncio.gather(*(pair.here.write(piece, region.remote()) for piece in pieces))
            await pair.here.read(pair.here.register(bytearray(1))[:], region.remote())
        except IwarpError:
            return False
        return True


async def _large_write_with_crc(stage: Stage) -> bool:
    """The same octets in one Write."""
    async with stage.pair(stage.options(crc=True)) as pair:
        region = await stage.peer.register(1 << 20, ALL_RIGHTS)
        try:
            await pair.here.write(pattern(1 << 20, 1), region.remote())
            await pair.here.read(pair.here.register(bytearray(1))[:], region.remote())
        except IwarpError:
            return False
        return True


async def _rejection(stage: Stage) -> bool:
    """A rejected peer gets the private data that came with the rejection."""
    return await rejected_by_us(stage, b"no") == b"no"


TRIALS: dict[str, tuple[Trial, Role, int]] = {
    "opening FPDU noticed": (_established, Role.PYIWARP_CONNECTS, 100),
    "first message without the peer-to-peer model": (_client_server, Role.PYIWARP_CONNECTS, 100),
    "1 MiB in Writes of 61 octets, CRC": (_small_writes_with_crc, Role.PYIWARP_CONNECTS, 20),
    "1 MiB in one Write, CRC": (_large_write_with_crc, Role.PYIWARP_CONNECTS, 50),
    "rejection with private data": (_rejection, Role.PEER_CONNECTS, 100),
}


async def _count(trial: Trial, role: Role, repetitions: int, profile: str) -> int:
    """How many of the repetitions fail."""
    kind = dataclasses.replace(ALL["siw"], profile=PROFILES[profile])
    pool = GuestPool(await asyncio.to_thread(prepare_image))
    failures = 0
    try:
        for _ in range(repetitions):
            peer: Peer = await pool.open(kind, alone=False)
            with Recording() as recording:
                stage = Stage(role, peer, recording)
                try:
                    good = await asyncio.wait_for(trial(stage), 30)
                except (IwarpError, TimeoutError, SiwError, InteropError):
                    good = False
            failures += not good
            await pool.close(peer, damaged=not good)
    finally:
        await pool.stop()
    return failures


def main(pattern: str = "*") -> None:
    """Count what fits the pattern, once without the profile and once with it."""
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    for name, (trial, role, repetitions) in TRIALS.items():
        if not fnmatchcase(name, pattern):
            continue
        for profile in ("rfc", "siw"):
            failures = asyncio.run(_count(trial, role, repetitions, profile))
            print(f"{name}, profile {profile}: {failures} of {repetitions} fail", flush=True)


if __name__ == "__main__":
    typer.run(main)
