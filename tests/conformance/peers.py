"""Peers that break rules: scripts that say something fixed, and the target program with a line bent or a liar between.

A `Breaker` makes such a peer for one direction. `BREAKERS` in the modules of `tests.conformance.breakers` name one for
every case, and `test_every_case_can_fail` shows that the case fails against it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from pyiwarp.conformance.bench.abilities import Direction, Level
from pyiwarp.conformance.bench.observed import Frame, Message
from pyiwarp.decode.framing import Deframer
from pyiwarp.engine import stream
from pyiwarp.engine.packing import Packer
from pyiwarp.target.server import Target
from tests.hosts import HOST, keep_little

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Patch = Callable[[pytest.MonkeyPatch], None]
Change = Callable[[Frame | Message], bytes | None]
Voices = Callable[[], tuple[Change | None, Change | None]]  # for each connection: what the peer says, what it hears
Tells = Callable[[str, str], str]


@dataclass(frozen=True)
class Place:
    """Where a peer is; `level` is that of the run. With `visit` it is an Initiator and goes to the bench's port."""

    port: int = 0
    control: tuple[str, int] | None = None
    level: Level = Level.RPING
    visit: Callable[[int], AbstractAsyncContextManager[tuple[str, int] | None]] | None = None


@dataclass(frozen=True)
class Breaker:
    """A peer that breaks a rule; `directions` are those in which it can be met.

    `bends` is what must be done to the stack of this process while the peer is there.
    """

    name: str
    directions: frozenset[Direction]
    make: Callable[[Direction], AbstractAsyncContextManager[Place]]
    bends: Patch | None = None


# --- scripts ---------------------------------------------------------------------------------------------------------


async def _served(script: Script, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await script(reader, writer)
    finally:
        writer.transport.abort()


def responder(name: str, script: Script) -> Breaker:
    """A raw Responder that does what `script` says on every connection, and then resets it."""

    @asynccontextmanager
    async def make(direction: Direction) -> AsyncIterator[Place]:
        tasks: set[asyncio.Task[None]] = set()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(_served(script, reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(connected, HOST, 0)
        try:
            yield Place(server.sockets[0].getsockname()[1])
        finally:
            server.close()
            for task in [*tasks]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return Breaker(name, frozenset([Direction.CONNECT]), make)


def initiator(name: str, script: Script) -> Breaker:
    """A raw Initiator that connects again and again and does what `script` says each time."""

    async def keep_connecting(port: int) -> None:
        while True:
            try:
                reader, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                return
            await _served(script, reader, writer)

    @asynccontextmanager
    async def visit(port: int) -> AsyncIterator[None]:
        task = asyncio.get_running_loop().create_task(keep_connecting(port))
        try:
            yield None
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @asynccontextmanager
    async def make(direction: Direction) -> AsyncIterator[Place]:
        yield Place(visit=visit)

    return Breaker(name, frozenset([Direction.LISTEN]), make)


# --- the target program ----------------------------------------------------------------------------------------------


def plainly(patch: pytest.MonkeyPatch) -> None:
    """Let every stream take the plain way, in which each rule has its line; the fast ways are held to be its twins."""
    patch.setattr(stream, "FastReceive", lambda *parts: None)
    patch.setattr(Packer, "__init__", _plain_packer(Packer.__init__))


def _plain_packer(original: Any) -> Any:
    def init(self: Any, **named: Any) -> None:
        original(self, **named)
        self._plain = True

    return init


def target(
    name: str,
    patch: Patch | None = None,
    *,
    says: Callable[[], Change] | None = None,
    tells: Tells | None = None,
    instead: Breaker | None = None,
) -> Breaker:
    """The target program, on the plain way and bent by `patch`, or as it is with a liar between.

    With `instead` its control connection is real, and its MPA port is that of another peer.

    `says` makes, for each connection, what changes the target's startup frames and FPDUs on their way to the bench:
    None lets one disappear. `tells` changes its replies on the control connection, given command and reply.
    """

    voices: Voices | None = None if says is None else lambda: (says(), None)

    @asynccontextmanager
    async def make(direction: Direction) -> AsyncIterator[Place]:
        async with Target(HOST) as running:
            await running.start()
            control = running.control_port
            if direction is Direction.LISTEN:
                async with _control_liar(control, tells) as control_port:
                    yield Place(control=(HOST, control_port), level=Level.TARGET, visit=_through(voices))
                return
            way = Way(running.port)
            async with (
                _other_port(instead, direction) if instead else relay(way, voices, outbound=False) as port,
                _control_liar(control, way.leading_to(port, tells)) as control_port,
            ):
                yield Place(port, (HOST, control_port), Level.TARGET)

    def bends(monkeypatch: pytest.MonkeyPatch) -> None:
        assert patch is not None
        plainly(monkeypatch)
        patch(monkeypatch)

    return Breaker(name, instead.directions if instead else frozenset(Direction), make, bends if patch else None)


@asynccontextmanager
async def _other_port(instead: Breaker, direction: Direction) -> AsyncIterator[int]:
    async with instead.make(direction) as place:
        yield place.port


class Way:
    """Where a relay leads: to the port that the target names for the session, which the bench is told otherwise."""

    def __init__(self, port: int) -> None:
        self.port = port

    def leading_to(self, relay: int, tells: Tells | None) -> Tells | None:
        if relay == self.port:
            return tells

        def tell(command: str, answer: str) -> str:
            if command.startswith("session") and (named := re.search(r"\bport=(\d+)", answer)):
                self.port = int(named[1])
                answer = answer.replace(named[0], f"port={relay}")
            return tells(command, answer) if tells else answer

        return tell


def _through(voices: Voices | None) -> Callable[[int], AbstractAsyncContextManager[tuple[str, int] | None]]:
    """Where the target finds the bench: at a relay, if somebody is to change what it says."""

    @asynccontextmanager
    async def visit(port: int) -> AsyncIterator[tuple[str, int] | None]:
        if voices is None:
            yield None
            return
        async with relay(Way(port), voices, outbound=True) as there:
            yield (HOST, there)

    return visit


@asynccontextmanager
async def relay(way: Way, voices: Voices | None, *, outbound: bool) -> AsyncIterator[int]:
    """A relay; what the peer says and hears is changed: the peer is the connecting side with `outbound`."""
    if voices is None:
        yield way.port
        return

    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, way.port)
        for each in (writer, far_writer):  # what the bench does not take, the target cannot send
            keep_little(each.get_extra_info("socket"))
        change, heard = voices()
        target_half, bench_half = _Half(change), _Half(heard)
        target_half.other, bench_half.other = bench_half, target_half
        holds_on = change is keeps_everything
        near, far = (target_half, bench_half) if outbound else (bench_half, target_half)
        try:
            await asyncio.gather(
                _pump(reader, far_writer, near, holds_on and outbound),
                _pump(far_reader, writer, far, holds_on and not outbound),
            )
        finally:
            far_writer.transport.abort()

    async with responder("relay", both).make(Direction.CONNECT) as place:
        yield place.port


def keeps_everything(seen: Frame | Message) -> bytes:
    """What changes nothing; the relay that is given it never passes on the target's end."""
    return seen.octets if isinstance(seen, Frame) else seen.fpdu.octets


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, half: _Half, holds_on: bool) -> None:
    """Pass on what is said until the end; a reset of the reader's is passed on too, behind what came before it."""
    try:
        while octets := await reader.read(1 << 16):
            writer.write(half.said(octets))
            with suppress(ConnectionError):  # who no longer listens may still speak
                await writer.drain()
    except ConnectionError:
        writer.write(half.said(bytes(reader._buffer)))  # type: ignore[attr-defined]  # what came before the reset
        if not holds_on:
            writer.transport.abort()
            return
    writer.write(half.rest())
    if holds_on:
        await asyncio.get_running_loop().create_future()
    with suppress(OSError):
        writer.write_eof()


class _Half:
    """What one side of a relayed connection says, changed by `change` frame by frame; None leaves it as it is."""

    def __init__(self, change: Change | None) -> None:
        self.other: _Half = self
        self.asked_for_markers = False
        self._change = change
        self._started = False
        self._buffer = bytearray()
        self._deframer: Deframer | None = None

    def said(self, octets: bytes) -> bytes:
        """What is passed on of what is said: whole frames, if they may be changed."""
        self._buffer += octets
        passed = bytearray()
        if not self._started:
            if len(self._buffer) < 20 or len(self._buffer) < 20 + int.from_bytes(self._buffer[18:20], "big"):
                return b"" if self._change else octets
            passed += self._startup_frame(bytes(self._buffer[: 20 + int.from_bytes(self._buffer[18:20], "big")]))
        if self._change is None:
            self._buffer.clear()
            return octets
        if self._deframer is None:
            if not self._buffer:
                return bytes(passed)
            self._deframer = Deframer(self.other.asked_for_markers)
            self._deframer.buffer = self._buffer
        while (fpdu := self._deframer.next()) is not None:
            passed += self._change(Message(fpdu)) or b""
            if not fpdu.crc_right:  # what follows may be anything
                self._change = None
                passed += self._buffer
                break
        return bytes(passed)

    def _startup_frame(self, octets: bytes) -> bytes:
        self.asked_for_markers = bool(octets[16] & 0x80)
        self._started = True
        del self._buffer[: len(octets)]
        return octets if self._change is None else self._change(Frame(octets)) or b""

    def rest(self) -> bytes:
        """What was said before the end and is no whole frame."""
        return bytes(self._buffer) if self._change else b""


@asynccontextmanager
async def _control_liar(port: int, tells: Tells | None) -> AsyncIterator[int]:
    if tells is None:
        yield port
        return

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, port, limit=1 << 22)
        try:
            while command := await reader.readline():
                far_writer.write(command)
                answer = await far_reader.readline()
                writer.write(tells(command.decode().strip(), answer.decode().strip()).encode() + b"\n")
        finally:
            far_writer.transport.abort()

    async with responder("liar", converse).make(Direction.CONNECT) as place:
        yield place.port


Breakers = Mapping[str, Breaker]
