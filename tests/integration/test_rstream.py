"""`pyiwarp rstream`: both sides as processes, and a peer that does not keep to the dialogue."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from pyiwarp import RemoteRegion
from pyiwarp.cli.rsockets import figures
from pyiwarp.cli.rsockets.figures import HEADING
from pyiwarp.cli.rsockets.rstream import Plan, Rstream
from pyiwarp.sockets import open_connection
from pyiwarp.sockets.wire import Hello
from tests.hostile.streampeers import StreamPeer, hello_of
from tests.hosts import HOST, closed_port
from tests.integration.loops import Runner, run
from tests.integration.streamrig import QUICK
from tests.integration.test_cli import Process, complaint
from tests.integration.test_cli import run as command
from tests.patience import PATIENCE

__all__ = ["run"]

SHORT = ("-S", "3000", "-C", "20", "-I", "3")


@contextmanager
def server(*words: str) -> Iterator[tuple[Process, int]]:
    """An rstream server and its port."""
    process = Process("rstream", "-p", "0", "--json", *words)
    try:
        told = process.told()
        assert told["event"] == "listening"
        yield process, told["port"]
    finally:
        process.stop()


KINDS = [("--loop", "asyncio"), ("--loop", "uvloop"), ("-T", "s"), ("-B", "4096"), ("-k", "1"), ("--io", "--json")]


@pytest.mark.parametrize("kind", KINDS, ids=" ".join)
def test_both_sides(kind: tuple[str, str]) -> None:
    words = (*SHORT, "-T", "v", *kind)
    with server(*words) as (process, port):
        done = command("rstream", "-s", HOST, "-p", str(port), *words)
        if "--json" not in kind:
            heading, row = done.stdout.splitlines()
            assert heading == HEADING
            assert row.split()[:5] == ["custom", "2.9k", "20", "3", "351k"]
        told = process.told()
        assert (told["event"], told["size"], told["messages"], told["iterations"]) == ("test", 3000, 20, 3)
        assert told["verified"]
        assert process.ended(0) == ""


def test_one_that_is_told_nothing_waits_until_it_is_stopped() -> None:
    with server() as (process, _):
        assert process.end(signal.SIGTERM, 1) == "pyiwarp: interrupted\n"


def test_nobody_is_there() -> None:
    with closed_port() as port:
        assert "refused" in complaint("rstream", "-s", HOST, "-p", str(port), *SHORT).lower()


Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def other_octets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(16)))
    await reader.readexactly(16)
    writer.write(bytes(3000))
    await reader.read()


async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(16)))
    await reader.readexactly(16)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (other_octets, "data verification failed byte 16: 0x00 came, 0x10 is due"),
        (leave, "closed the connection where 3000 octets were due"),
        (silence, "16 octets did not come within 1 s"),
    ],
)
def test_a_client_that_does_otherwise(
    run: Runner, behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], words: str
) -> None:
    async def main() -> None:
        with server(*SHORT, "-T", "v", "--timeout", "1") as (process, port):
            reader, writer = await open_connection(HOST, port, options=QUICK)
            try:
                await behave(reader, writer)
            except ConnectionResetError:
                assert behave is not leave
            writer.close()
            errors = await asyncio.to_thread(process.ended, 1)
            assert words in errors
            assert errors.count("\n") == 1

    run(main)


def test_a_client_without_credit_for_an_offer_is_given_up() -> None:
    hello = bytes(Hello(0, (0x1000, 0x11111100, 2), RemoteRegion(0x200000, 0x22222200, 1 << 16), iomaps=1))
    with server(*SHORT, "--io", "--no-crc", "--timeout", "1") as (process, port), StreamPeer(port, hello) as peer:
        peer.sock.sendall(peer.data(bytes(16)))
        assert process.ended(1) == "pyiwarp: credit for the offer of a buffer did not come within 1 s\n"


def test_a_client_that_takes_nothing_of_the_last_turn_is_given_up() -> None:
    words = ("-S", "3000", "-C", "20", "-I", "1", "--no-crc", "--timeout", "1")
    with server(*words) as (process, port), StreamPeer(port, hello_of(credits=1)) as peer:
        peer.sock.sendall(peer.data(bytes(16)) + peer.data(bytes(60_000)))
        assert process.ended(1) == "pyiwarp: the end of the connection did not come within 1 s\n"


def test_one_client_is_enough() -> None:
    """The next one is turned away while the first one is served."""

    async def main(port: int) -> None:
        first = await open_connection(HOST, port, options=QUICK)
        first[1].write(bytes(16))
        await first[0].readexactly(16)
        second = await open_connection(HOST, port, options=QUICK)
        with pytest.raises(ConnectionResetError):
            await second[0].readexactly(1)
        first[1].transport.abort()
        second[1].transport.abort()

    with server(*SHORT) as (process, port):
        asyncio.run(main(port))
        assert "pyiwarp: " in process.ended(1)


@pytest.mark.parametrize("direct", [False, True])
def test_the_series_has_two_connections(
    direct: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With few messages, in one process: the whole series takes minutes."""
    monkeypatch.setattr(figures, "_how_many", lambda size: 3)
    plan = Plan(
        figures.both_series(every_size=True), replace(QUICK, iomaps=1), 30.0, verify=True, direct=direct, json=True
    )
    assert [len(each) for each in plan.series] == [33, 33]

    async def main() -> None:
        serving = asyncio.create_task(Rstream(plan).serve(HOST, 0))
        async with asyncio.timeout(PATIENCE):
            while not (told := capsys.readouterr().out):  # noqa: ASYNC110 - what is printed makes no event
                await asyncio.sleep(0.01)
        await Rstream(plan).connect(HOST, json.loads(told)["port"], None)
        await serving

    asyncio.run(main())
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 * 66
