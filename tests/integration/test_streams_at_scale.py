"""Streams in numbers: many at once, very many small sends, much through little room.

With PYIWARP_WHOLE in the environment the numbers are the whole ones, else some that take a second or two.
"""

from __future__ import annotations

import asyncio
import os
import random
import resource
from dataclasses import replace

import pytest

from pyiwarp.sockets import open_connection
from tests.hosts import HOST
from tests.integration.loops import Runner, run
from tests.integration.streamrig import SMALL, pair, serving

__all__ = ["run"]

WHOLE = "PYIWARP_WHOLE" in os.environ
STREAMS = 500 if WHOLE else 100
SENDS = 100_000
MANY = (10 if WHOLE else 1) << 20
DESCRIPTORS = 2 * STREAMS + 200
"""Two for each stream, as both ends are here, and those that tests need."""


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while octets := await reader.read(4096):
        writer.write(octets)
        await writer.drain()
    writer.close()
    await writer.wait_closed()


def test_hundreds_of_streams_at_once(run: Runner) -> None:
    """All of them are there before the first one says something, and each gets back what it has sent."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < DESCRIPTORS:
        pytest.skip(f"this system allows {hard} descriptors; {DESCRIPTORS} are needed")
    small = replace(SMALL, ring=8192)

    async def main() -> None:
        async with serving(echo, small) as server:
            ends = [await open_connection(HOST, server.port, options=small) for _ in range(STREAMS)]
            for number, (_, writer) in enumerate(ends):
                writer.write(b"%05d" % number * 1000)
            for number, (reader, writer) in enumerate(ends):
                assert await reader.readexactly(5000) == b"%05d" % number * 1000
                writer.write_eof()
            for reader, writer in ends:
                assert await reader.read() == b""
                writer.close()
            for _, writer in ends:
                await writer.wait_closed()

    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, DESCRIPTORS), hard))
    try:
        run(main)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_hundred_thousand_sends_of_one_octet(run: Runner) -> None:
    octets = random.Random(1).randbytes(SENDS)

    async def main() -> None:
        async with pair() as ((_, writer), (reader, _)):
            came = asyncio.ensure_future(reader.readexactly(SENDS))
            for at in range(SENDS):
                writer.write(octets[at : at + 1])
                if at % 100 == 0:
                    await writer.drain()
            assert await came == octets

    run(main)


def test_much_each_way_through_a_ring_of_4_kib_with_16_credits(run: Runner) -> None:
    """Both ways at once: each end gives credit for half a ring, or for eight messages, at a time."""
    there, back = (random.Random(seed).randbytes(MANY) for seed in (2, 3))

    async def main() -> None:
        async with pair(SMALL, SMALL) as (left, right):

            async def pour(writer: asyncio.StreamWriter, octets: bytes) -> None:
                for at in range(0, len(octets), 1 << 16):
                    writer.write(octets[at : at + (1 << 16)])
                    await writer.drain()
                writer.write_eof()

            _, _, *came = await asyncio.gather(
                pour(left[1], there), pour(right[1], back), left[0].read(), right[0].read()
            )
            assert came == [back, there]

    run(main)
