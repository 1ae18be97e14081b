"""The unmodified C programs in the siw guest against `pyiwarp ping` and `pyiwarp perf`, in both roles.

Stock siw is met with the profile made for it, siw_fix without any.
"""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from interop.siw import ADDRESS, HOST_ADDRESS, Image, fresh
from interop.siw.guest import Guest
from tests.patience import PATIENCE

pytestmark = pytest.mark.siw

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}
PEERS = [pytest.param(("siw", "siw"), id="siw"), pytest.param(("siw_fix", "rfc"), id="siw_fix")]
TESTS = ["write_bw", "read_bw", "send_bw", "write_lat", "read_lat", "send_lat"]
SHAPES = [pytest.param(20, 64, id="small"), pytest.param(100, 40_000, id="large")]


class Peer:
    """A guest, and the profile with which to meet its siw."""

    def __init__(self, guest: Guest, profile: str) -> None:
        self.guest = guest
        self.profile = profile

    @asynccontextmanager
    async def ours(self, *words: str) -> AsyncIterator[Process]:
        """A command of ours; it has ended well when the block has."""
        command = (sys.executable, "-m", "pyiwarp", *words, "--peer", self.profile, "--json")
        process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=ENVIRONMENT)
        try:
            yield process
            _, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 0, errors.decode()
        finally:
            if process.returncode is None:
                process.kill()
                await asyncio.wait_for(process.communicate(), PATIENCE)

    async def run(self, *words: str) -> list[dict[str, Any]]:
        """A command of ours to its end: what it tells."""
        async with self.ours(*words) as process:
            assert process.stdout is not None
            async with asyncio.timeout(PATIENCE):
                return [json.loads(line) async for line in process.stdout]


async def told(process: Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), PATIENCE)
    assert line, (await asyncio.wait_for(process.communicate(), PATIENCE))[1].decode()
    facts: dict[str, Any] = json.loads(line)
    return facts


@pytest.fixture(scope="module", params=PEERS)
def peer(request: pytest.FixtureRequest, image: Image) -> Iterator[Peer]:
    variant, profile = request.param
    guest = asyncio.run(fresh(image, variant))
    yield Peer(guest, profile)
    guest.kill()


def figures(text: str, size: int) -> list[float]:
    """The row of figures that perftest prints."""
    rows = [line.split() for line in text.splitlines() if line.split()[:1] == [str(size)]]
    assert len(rows) == 1, text
    return [float(word) for word in rows[0]]


async def test_rping_pings_us(peer: Peer) -> None:
    async with peer.ours("ping", "--serve", "--port", "0") as server:
        port = (await told(server))["port"]
        done = await peer.guest.run(f"rping -c -v -V -C 100 -S 4096 -a {HOST_ADDRESS} -p {port}", timeout=PATIENCE)
        pings = [line for line in done.text.splitlines() if line.startswith("ping data: rdma-ping-")]
        assert len(pings) == 100
        assert "mismatch" not in done.text
        assert (await told(server))["pings"] == 100


@pytest.mark.parametrize("size", [23, 64, 65_000, 65_535])
async def test_we_ping_rping(peer: Peer, size: int) -> None:
    async with await peer.guest.spawn(f"rping -s -v -S {size} -a {ADDRESS}") as server:
        await peer.guest.wait_listen(7174)
        place = f"127.0.0.1:{await peer.guest.forward(7174)}"
        (summary,) = await peer.run("ping", place, "-C", "100", "-S", str(size), "-V")
        assert (summary["pings"], summary["size"], summary["verified"]) == (100, size, True)
        done = await server.wait(PATIENCE)
        assert done.status == 0
        assert done.text.count("server ping data: rdma-ping-") == 100


async def test_we_ping_a_persistent_rping_again_and_again(peer: Peer) -> None:
    async with await peer.guest.spawn(f"rping -s -P -a {ADDRESS}"):
        await peer.guest.wait_listen(7174)
        place = f"127.0.0.1:{await peer.guest.forward(7174)}"
        for _ in range(5):
            (summary,) = await peer.run("ping", place, "-C", "3", "-V")
            assert summary["pings"] == 3


@pytest.mark.parametrize(("count", "size"), SHAPES)
@pytest.mark.parametrize("test", TESTS)
async def test_perftest_measures_us(peer: Peer, test: str, count: int, size: int) -> None:
    words = f"-n {count} -s {size}"
    async with peer.ours("perf", test, "--port", "0", *words.split()) as server:
        port = (await told(server))["port"]
        command = f"ib_{test} -R -d siw0 -p {port} {words} {HOST_ADDRESS}"
        done = await peer.guest.run(command, timeout=PATIENCE)
        row = figures(done.text, size)
        assert row[1] == count
        assert (await told(server))["event"] == "connected"
        result = await told(server)
        if test in ("write_bw", "read_bw"):  # these it tells us
            assert row[3] == pytest.approx(result["average"], abs=0.006)
        if test != "read_lat":
            assert (result["iterations"], result["size"]) == (count, size)


@pytest.mark.parametrize(("count", "size"), SHAPES)
@pytest.mark.parametrize("test", TESTS)
async def test_we_measure_perftest(peer: Peer, test: str, count: int, size: int) -> None:
    words = f"-n {count} -s {size}"
    async with await peer.guest.spawn(f"ib_{test} -R -d siw0 {words}") as server:
        await peer.guest.wait_listen(18515)
        place = f"127.0.0.1:{await peer.guest.forward(18515)}"
        connected, result = await peer.run("perf", test, place, *words.split())
        assert connected["event"] == "connected"
        assert (result["iterations"], result["size"]) == (count, size)
        done = await server.wait(PATIENCE)
        assert done.status == 0, done.text
        if test in ("write_bw", "read_bw"):
            assert figures(done.text, size)[3] == pytest.approx(result["average"], abs=0.006)
