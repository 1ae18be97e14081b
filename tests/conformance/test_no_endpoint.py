"""What is no iWARP endpoint gets a clear verdict in bounded time."""

from __future__ import annotations

import asyncio

import pytest

from pyiwarp.conformance.bench.abilities import Direction
from pyiwarp.conformance.bench.testbench import Settings
from pyiwarp.conformance.catalogue import select
from pyiwarp.conformance.results import Report
from pyiwarp.conformance.runner import Runner
from tests.conformance.breakers.generic import ECHO, REJECTS, SILENT
from tests.conformance.peers import Breaker, responder
from tests.hosts import HOST, closed_port
from tests.patience import PATIENCE

TIMEOUT = 0.3


async def _http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As HTTP servers do: nothing before the end of a line."""
    line = await reader.readline()
    status = b"200 OK" if line.startswith(b"GET ") else b"400 Bad Request"
    writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")
    await writer.drain()
    writer.close()


async def _greeting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 mail.example.org ESMTP is ready\r\n")
    await reader.read(1 << 16)
    await asyncio.sleep(PATIENCE)


async def _closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1 << 16)
    writer.close()


async def _half_a_reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"MPA ID Rep Fra")
    await asyncio.sleep(PATIENCE)


HTTP = responder("an HTTP server", _http)
GREETING = responder("a server that greets", _greeting)
CLOSING = responder("a server that closes", _closing)
HALF = responder("half a Reply", _half_a_reply)


async def run(settings: Settings) -> Report:
    settings.timeout = settings.patience = TIMEOUT
    async with asyncio.timeout(PATIENCE):
        report = await Runner(settings, strict=True).run(select())
    assert not report.passed
    assert not report.results
    return report


@pytest.mark.parametrize(
    ("peer", "words"),
    [
        (ECHO, "not an iWARP endpoint: it sends back what it gets"),
        (HTTP, "not an iWARP endpoint: it answers lines of text, with b'HTTP/1.1 400 Bad Request"),
        (GREETING, "not an iWARP endpoint: it answers an MPA Request with b'220 mail.example.org"),
        (SILENT, "not an iWARP endpoint: it accepts TCP and does not answer"),
        (CLOSING, "not an iWARP endpoint, or busy: its answer to an MPA Request is close"),
        (HALF, "not an iWARP endpoint: silence behind 14 octets of something cut"),
        (REJECTS, "an MPA endpoint that rejects connections"),
    ],
    ids=lambda value: value.name if isinstance(value, Breaker) else "",
)
async def test_a_listening_peer(peer: Breaker, words: str) -> None:
    async with peer.make(Direction.CONNECT) as place:
        report = await run(Settings(port=place.port))
    assert report.abandoned.startswith(words)


async def test_a_closed_port() -> None:
    with closed_port() as port:
        report = await run(Settings(port=port))
    assert report.abandoned == f"TCP to {HOST} port {port} cannot be established: nothing listens there"


async def test_a_control_port_that_is_closed_or_silent() -> None:
    async with SILENT.make(Direction.CONNECT) as place:
        settings = Settings(port=place.port, timeout=TIMEOUT)
        report = await Runner(settings, (HOST, place.port)).run(select())
        assert report.abandoned == "no reply to 'hello' came within 2.3 s"
    report = await Runner(settings, (HOST, place.port)).run(select())
    assert report.abandoned == f"no control connection to {HOST} port {place.port}: nothing listens there"


async def test_a_port_at_which_somebody_listens_already() -> None:
    async with SILENT.make(Direction.CONNECT) as place:
        report = await run(Settings(Direction.LISTEN, port=place.port))
    assert report.abandoned == f"nobody can listen at {HOST} port {place.port}: Address already in use"


async def test_nobody_connects() -> None:
    report = await run(Settings(Direction.LISTEN))
    assert report.abandoned.startswith("nobody connected to port ")


async def _connect_and_say(octets: bytes) -> Report:
    """The report of a bench that listens, when somebody connects and says this."""
    settings = Settings(Direction.LISTEN)
    with_port = asyncio.get_running_loop().create_future()
    original = Runner.open

    async def open_and_tell(self: Runner) -> None:
        await original(self)
        with_port.set_result(self.port)

    async def say() -> None:
        _, writer = await asyncio.open_connection(HOST, await with_port)
        writer.write(octets)
        await asyncio.sleep(2 * TIMEOUT)
        writer.transport.abort()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Runner, "open", open_and_tell)
        saying = asyncio.ensure_future(say())
        report = await run(settings)
        await saying
    return report


async def test_somebody_who_speaks_something_else_connects() -> None:
    report = await _connect_and_say(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert report.abandoned.startswith("not an iWARP Initiator: it connected, and came with 35 octets")
    assert "GET / HTTP/1.1" in report.abandoned


async def test_somebody_who_says_nothing_connects() -> None:
    report = await _connect_and_say(b"")
    assert report.abandoned == "not an iWARP Initiator: it connected, and came with silence"
