"""`pyiwarp ping`: each side against a hand-played rping, octet by octet, then both as processes."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from pyiwarp import Access, Connection, Disconnected, Options, RemoteRegion
from pyiwarp.cli.rping.protocol import DataMismatch, Ping, Pinger, answer_pings, ping_text
from pyiwarp.cli.tasks import closing
from pyiwarp.errors import BadWorkRequest, ConnectionLost
from pyiwarp.files.errors import BadMessage, PeerSilent
from tests.hosts import HOST
from tests.integration.loops import Runner, joined, run
from tests.integration.test_cli import complaint, process
from tests.integration.test_cli import run as command
from tests.patience import PATIENCE

__all__ = ["run"]

RPING = Options(recv_depth=2, recv_size=16, ird=1, ord=1)
EVERYTHING = Access.LOCAL_WRITE | Access.REMOTE_READ | Access.REMOTE_WRITE
GO_AHEAD = bytes.fromhex("5581e6f6a2a0 0000 00bfaa00 00001000")  # what rping -s sends: its idle send buffer
FIRST = b"rdma-ping-0: ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqr\0"
SECOND = b"rdma-ping-1: BCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrs\0"


@asynccontextmanager
async def talking() -> AsyncIterator[tuple[Connection, Connection]]:
    """A client's connection and a server's."""
    async with joined(RPING, RPING) as (client, server):
        yield client, server


def test_the_texts_are_rpings() -> None:
    assert (len(FIRST), ping_text(0, 64), ping_text(1, 64)) == (64, FIRST, SECOND)
    assert ping_text(57, 26) == b"rdma-ping-57: zABCDEFGHIJ\0"
    assert ping_text(58, 26) == b"rdma-ping-58: ABCDEFGHIJK\0"
    assert ping_text(2147483647, 23) == b"rdma-ping-2147483647: \0"
    long = ping_text(3, 65535)
    assert len(long) == 65535
    assert long.index(b"\0") == 65534


# --- the client against a hand-played server -------------------------------------------------------------------------


async def read_text(server: Connection) -> tuple[bytes, bytes]:
    """What rping -s does first: the advertisement that came, and the text that it led to."""
    advertisement = await server.recv()
    address, stag, length = struct.unpack("!QII", advertisement)
    memory = server.register(bytearray(length))
    await server.read(memory[:], RemoteRegion(address, stag, length))
    return advertisement, bytes(memory.view)


async def write_back(server: Connection, octets: bytes) -> None:
    """What it does then."""
    address, stag, length = struct.unpack("!QII", await server.recv())
    await server.write(octets, RemoteRegion(address, stag, length))


def test_the_client_says_what_rping_says(run: Runner) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            pinger = Pinger(client, 64, PATIENCE)
            for number, text in enumerate((FIRST, SECOND)):
                ping = asyncio.ensure_future(pinger.ping(number, verify=True))
                advertisement, read = await read_text(server)
                assert len(advertisement) == 16
                assert advertisement[12:] == bytes.fromhex("00000040")
                assert read == text
                await server.send(GO_AHEAD)
                await write_back(server, text)
                await server.send(GO_AHEAD)
                assert (await ping)[:2] == (number, text)
            await client.close()
            with pytest.raises(Disconnected):
                await server.recv()

    run(main)


@pytest.mark.parametrize("verify", [True, False])
def test_the_client_notices_what_came_back_changed(run: Runner, verify: bool) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            ping = asyncio.ensure_future(Pinger(client, 64, PATIENCE).ping(0, verify=verify))
            await read_text(server)
            await server.send(GO_AHEAD)
            await write_back(server, FIRST[:40] + b"\xff\xfe" + FIRST[42:])
            await server.send(GO_AHEAD)
            if verify:
                with pytest.raises(DataMismatch, match=r"2 of 64 octets .* offset 40 on ff fe 5e .* 5c 5d 5e"):
                    await ping
            else:
                assert (await ping).data[40:42] == b"\xff\xfe"

    run(main)


async def answer_short(server: Connection) -> None:
    await server.recv()
    await server.send(bytes(12))


async def leave(server: Connection) -> None:
    await server.recv()
    await server.close()


async def say_nothing(server: Connection) -> None:
    await server.recv()


@pytest.mark.parametrize(
    ("server_does", "patience", "error", "words"),
    [
        (answer_short, PATIENCE, BadMessage, "12 octets where the go-ahead after the server's Read of 16 is due"),
        (leave, PATIENCE, BadMessage, "closed the connection where the go-ahead after the server's Read was due"),
        (say_nothing, 0.3, PeerSilent, r"the go-ahead after the server's Read did not come within 0\.3 s"),
    ],
)
def test_a_server_that_is_no_rping(
    run: Runner,
    server_does: Callable[[Connection], Awaitable[None]],
    patience: float,
    error: type[Exception],
    words: str,
) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            ping = asyncio.ensure_future(Pinger(client, 64, patience).ping(0, verify=True))
            await server_does(server)
            with pytest.raises(error, match=words):
                await ping
            client.abort()

    run(main)


# --- the server against a hand-played client -------------------------------------------------------------------------


def test_the_server_does_what_rping_does(run: Runner) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            heard: list[Ping] = []
            serving = asyncio.ensure_future(answer_pings(server, PATIENCE, heard.append))
            text, echo = client.register(bytearray(FIRST), EVERYTHING), client.register(bytearray(64), EVERYTHING)
            for memory in (text, echo):
                await client.send(struct.pack("!QII", memory.to, memory.stag, 64))
                assert len(await client.recv()) == 16
            assert echo.view == FIRST
            await client.close()
            assert await serving == 1
            assert [ping.data for ping in heard] == [FIRST]

    run(main)


@pytest.mark.parametrize(
    ("text", "back"),
    [(b"abc\0def\0", b"abc\0----"), (b"abcdefgh", b"abcdefgh"), (b"\0" * 8, b"\0-------"), (b"", b"--------")],
)
def test_the_server_writes_back_a_string_of_c(run: Runner, text: bytes, back: bytes) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            serving = asyncio.ensure_future(answer_pings(server, PATIENCE, lambda ping: None))
            source, echo = (
                client.register(bytearray(text), EVERYTHING),
                client.register(bytearray(b"-" * 8), EVERYTHING),
            )
            for memory in (source, echo):
                await client.send(memory.advertise())
                await client.recv()
            assert echo.view == back
            await client.close()
            assert await serving == 1

    run(main)


@pytest.mark.parametrize(
    ("advertisements", "error", "words"),
    [
        ([bytes(15)], BadMessage, "15 octets"),
        ([struct.pack("!QII", 4096, 77, 70000)], BadMessage, "advertises 70000 octets"),
        (["source"], BadMessage, "in the middle of a ping"),
        (["source", struct.pack("!QII", 4096, 77, 8)], BadWorkRequest, "do not fit"),
        ([], PeerSilent, r"an advertisement did not come within 0\.3 s"),
    ],
)
def test_a_client_that_is_no_rping(
    run: Runner, advertisements: list[bytes | str], error: type[Exception], words: str
) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            serving = asyncio.ensure_future(
                answer_pings(server, PATIENCE if advertisements else 0.3, lambda ping: None)
            )
            text = client.register(bytearray(FIRST), EVERYTHING)
            for octets in advertisements:
                await client.send(text.advertise() if isinstance(octets, str) else octets)
                if octets == "source":
                    await client.recv()
            if advertisements == ["source"]:
                await client.close()
            with pytest.raises(error, match=words):
                await serving
            server.abort()

    run(main)


def test_a_conversation_that_failed_is_not_closed_politely(run: Runner) -> None:
    async def main() -> None:
        async with talking() as (client, server):
            with pytest.raises(BadMessage):
                async with closing(client):
                    raise BadMessage("enough")
            assert not client.qp.alive
            with pytest.raises((ConnectionLost, Disconnected)):
                await server.recv()

    run(main)


# --- processes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peer", ["rfc", "siw"])
def test_two_processes_ping(peer: str) -> None:
    with process("ping", "--serve", "--port", "0", "--json", "-v", "--peer", peer) as server:
        port = server.told()["port"]
        done = command("ping", f"{HOST}:{port}", "-C", "3", "-S", "30", "-V", "-v", "--peer", peer)
        lines = done.stdout.splitlines()
        assert lines[:3] == [
            "ping data: rdma-ping-0: ABCDEFGHIJKLMNOP",
            "ping data: rdma-ping-1: BCDEFGHIJKLMNOPQ",
            "ping data: rdma-ping-2: CDEFGHIJKLMNOPQR",
        ]
        assert lines[3].startswith("3 pings of 30 octets, every octet came back; min/avg/max ")
        told = [server.told() for _ in range(4)]
        assert told[0] == {"event": "ping", "number": 0, "data": "rdma-ping-0: ABCDEFGHIJKLMNOP"}
        assert told[3]["pings"] == 3
        server.ended(0)


def test_the_client_tells_data() -> None:
    with process("ping", "-s", "-p", "0", "--json") as server:
        words = ("-C", "2", "-S", "65000", "-V", "-v", "--json")
        done = command("ping", HOST, "-p", str(server.told()["port"]), *words)
        pings = [json.loads(line) for line in done.stdout.splitlines()]
        assert [ping["event"] for ping in pings] == ["ping", "ping", "summary"]
        assert len(pings[1]["data"]) == 64999
        assert (pings[2]["pings"], pings[2]["size"], pings[2]["verified"]) == (2, 65000, True)
        assert 0 < pings[2]["usec"]["min"] <= pings[2]["usec"]["avg"] <= pings[2]["usec"]["max"]
        server.ended(0)


def test_a_persistent_server_serves_many_at_once_and_survives_the_bad() -> None:
    with process("ping", "-s", "-P", "-p", "0", "--json") as server:
        place = f"{HOST}:{server.told()['port']}"
        with process("ping", place, "--json", "-v") as one, process("ping", place, "--json", "-v") as other:
            assert one.told()["number"] == other.told()["number"] == 0
            one.popen.kill()
            assert other.told()["number"] == 1
            assert other.end(signal.SIGINT, 0) == ""
        command("ping", place, "-C", "1")
        errors = server.end(signal.SIGINT, 0)
        for line in errors.splitlines():  # where the two were in their pings is chance
            assert "lost" in line or "closed the connection" in line


def test_interrupted_pings_are_summed_up() -> None:
    with process("ping", "-s", "-P", "-p", "0", "--json") as server:
        place = f"{HOST}:{server.told()['port']}"
        with process("ping", place, "--json", "-v") as client:
            assert client.told()["event"] == "ping"
            assert client.end(signal.SIGINT, 0) == ""
            facts = client.told()
            while facts["event"] == "ping":
                facts = client.told()
            assert facts["event"] == "summary"
        with process("ping", place, "--json", "-v", "-C", "1000000") as client:
            client.told()
            assert "interrupted after" in client.end(signal.SIGTERM, 1)


def test_a_waiting_server_is_interrupted() -> None:
    with process("ping", "-s", "-p", "0", "--json") as server:
        server.told()
        assert server.end(signal.SIGINT, 1) == "pyiwarp: interrupted\n"


def test_a_server_that_went_away_is_said_in_one_line() -> None:
    with process("ping", "-s", "-p", "0", "--json", "-v") as server:
        place = f"{HOST}:{server.told()['port']}"
        with process("ping", place, "-v", "--json") as client:
            client.told()
            server.popen.kill()
            assert client.ended(1).count("\n") == 1
    assert complaint("ping", place).startswith("Connection refused")
