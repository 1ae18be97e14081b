"""A proxy between two connections that cuts, stalls, damages and forwards octet by octet.

Whatever it does, both sides end with an error that says what happened, in time, and leave nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

import pyiwarp
from pyiwarp import (
    Access,
    Connection,
    ConnectionLost,
    Disconnected,
    IwarpError,
    Options,
    RemoteRegion,
    TerminatedByPeer,
)
from pyiwarp.errors import CrcMismatch, MalformedFrame
from tests.hosts import HOST
from tests.integration.loops import Runner, run, soon
from tests.patience import PATIENCE

__all__ = ["run"]  # the fixture

BOTH_WAYS = Access.LOCAL_WRITE | Access.REMOTE_WRITE | Access.REMOTE_READ
OPTIONS = Options(timeout=PATIENCE, linger=PATIENCE, first_fpdu_timeout=PATIENCE, mulpdu=200, recv_depth=4)
IMPATIENT = replace(OPTIONS, timeout=1.0, linger=0.2, first_fpdu_timeout=1.0)
STARTUP = 24  # octets of each side's startup frame with these options


@dataclass
class Proxy:
    """Stands between a client and `target`; directions are `there` (0) and `back` (1)."""

    target: int
    chunk: int = 1 << 16
    cut_at: tuple[int, int] | None = None  # direction, octets that get through
    stall_at: tuple[int, int] | None = None
    change: Callable[[int, int, bytes], bytes] = lambda direction, offset, octets: octets

    async def __aenter__(self) -> Proxy:
        self.passed = [0, 0]
        self.server = await asyncio.start_server(self._serve, HOST, 0)
        self.port: int = self.server.sockets[0].getsockname()[1]
        self.tasks = set[asyncio.Task[None]]()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(HOST, self.target)
            try:
                await self._forward(reader, writer, far_reader, far_writer)
            finally:
                far_writer.transport.abort()
        except asyncio.CancelledError:
            pass  # the stock loop would complain of a cancelled handler
        finally:
            writer.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far_reader: asyncio.StreamReader,
        far_writer: asyncio.StreamWriter,
    ) -> None:
        there = asyncio.ensure_future(self._pump(0, reader, far_writer))
        back = asyncio.ensure_future(self._pump(1, far_reader, writer))
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                await asyncio.gather(there, back)
        finally:
            for pump in (there, back):
                pump.cancel()
            await asyncio.gather(there, back, return_exceptions=True)

    async def _pump(self, direction: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(self.chunk):
            for limit, stalls in ((self.cut_at, False), (self.stall_at, True)):
                if limit is not None and limit[0] == direction:
                    octets = octets[: max(0, limit[1] - self.passed[direction])]
                    if self.passed[direction] + len(octets) >= limit[1]:
                        await self._pass(direction, octets, writer)
                        if stalls:
                            await asyncio.sleep(3600)
                        raise ConnectionResetError("cut by the proxy")
            await self._pass(direction, octets, writer)
        writer.write_eof()

    async def _pass(self, direction: int, octets: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(self.change(direction, self.passed[direction], octets))
        self.passed[direction] += len(octets)
        await writer.drain()


@dataclass
class Session:
    """One conversation by way of a proxy, and how each side's program saw it end."""

    client: BaseException | None = None
    server: BaseException | None = None
    client_reason: Exception | None = None
    server_reason: Exception | None = None
    finished: bool = False
    passed: tuple[int, int] = (0, 0)


async def talk(conn: Connection) -> None:
    """A Send, a Write, a Read and a Send, of a few hundred octets."""
    remote = RemoteRegion.parse(await conn.recv())
    async with conn.register(bytearray(b"#" * 300)) as memory:
        await conn.write(bytes(range(250)), remote)
        await conn.send(b"written")
        await conn.read(memory[:250], remote)
        assert bytes(memory.view)[:250] == bytes(range(250))
    await conn.send(b"bye")
    assert await conn.recv() == b"bye"


async def answer(conn: Connection) -> None:
    async with conn.register(bytearray(300), BOTH_WAYS) as memory:
        assert await conn.recv() == b"hello"
        await conn.send(memory.advertise())
        assert await conn.recv() == b"written"
        assert bytes(memory.view)[:250] == bytes(range(250))
        assert await conn.recv() == b"bye"
        await conn.send(b"bye")


async def session(options: Options = OPTIONS, **proxy: Any) -> Session:
    """Run both programs to their ends, whatever the proxy does."""
    result = Session()
    started, served = asyncio.Event(), asyncio.Event()

    async def handler(conn: Connection) -> None:
        started.set()
        try:
            await answer(conn)
        except BaseException as error:
            result.server = error
            raise
        finally:
            await conn.close()
            result.server_reason = conn.close_reason
            served.set()

    async with (
        await pyiwarp.serve(handler, HOST, options=options) as server,
        Proxy(server.port, **proxy) as between,
    ):
        try:
            async with pyiwarp.connect(HOST, between.port, options=options) as conn:
                try:
                    await conn.send(b"hello")
                    await talk(conn)
                    result.finished = True
                finally:
                    await conn.close()
                    result.client_reason = conn.close_reason
        except (IwarpError, OSError) as error:
            result.client = error
        if started.is_set():
            await served.wait()
    result.passed = (between.passed[0], between.passed[1])
    return result


def test_nothing_in_the_way(run: Runner) -> None:
    async def main() -> None:
        result = await session()
        assert result.finished
        assert [result.client, result.server, result.client_reason, result.server_reason] == [None] * 4

    run(main)


@pytest.mark.parametrize("chunk", [1, 7])
def test_octet_by_octet(run: Runner, chunk: int) -> None:  # MPA-5044-5.1-05, MPA-5044-A.4-01
    async def main() -> None:
        result = await session(chunk=chunk)
        assert result.finished
        assert result.server is result.client is None

    run(main)


@pytest.mark.parametrize("direction", [0, 1])
def test_cut_after_every_nth_octet(run: Runner, direction: int) -> None:  # DDP-5041-6.2.2-01, MPA-5044-8-01
    """Wherever the connection is cut, the programs hear of it, and nobody hangs."""

    async def main() -> None:
        whole = (await session()).passed[direction]
        for at in [0, 1, 15, 16, 19, 20, STARTUP - 1, *range(STARTUP, whole + 1, 37)]:
            result = await session(cut_at=(direction, at))
            if at < whole:
                assert isinstance(result.client, ConnectionError | Disconnected | OSError), (at, result)
                assert result.server is None or isinstance(result.server, ConnectionLost | Disconnected), (at, result)
            for error in (result.client, result.server):
                assert error is None or str(error), "every error has something to say"

    run(main)


@pytest.mark.parametrize("direction", [0, 1])
def test_stalls(run: Runner, direction: int) -> None:  # MPA-5044-7.1.2-27, MPA-5044-7.1.2-28
    """A peer that falls silent: startup and the end have time limits; in between the program may set its own."""

    async def main() -> None:
        for at in (0, 10, STARTUP):
            with suppress(TimeoutError):
                async with asyncio.timeout(0.1):
                    await session(IMPATIENT, stall_at=(direction, at))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await session(IMPATIENT, stall_at=(direction, STARTUP + 100))

    run(main)


def flipped(direction: int, at: int, bit: int) -> Callable[[int, int, bytes], bytes]:
    """Flip one bit of the octet at that offset of one direction."""

    def change(going: int, offset: int, octets: bytes) -> bytes:
        if going != direction or not offset <= at < offset + len(octets):
            return octets
        damaged = bytearray(octets)
        damaged[at - offset] ^= 1 << bit
        return bytes(damaged)

    return change


@pytest.mark.parametrize("direction", [0, 1])
def test_a_flipped_bit_is_a_crc_error_told_once(run: Runner, direction: int) -> None:
    # MPA-5044-4.4-18, MPA-5044-8-02, MPA-5044-8-10, RDMAP-5040-6.2.1-04
    """In the first FPDU with payload of each direction, behind its ULPDU_Length: header, payload, pad, CRC."""

    async def main() -> None:
        seen: list[tuple[int, bytes]] = []

        def listen(going: int, offset: int, octets: bytes) -> bytes:
            if going == 1 - direction:
                seen.append((offset, octets))
            return octets

        opening = 20 if direction == 0 else 0  # the zero-length Write
        for at in range(STARTUP + opening + 2, STARTUP + opening + 28, 5):
            for bit in (0, 7):
                seen.clear()
                damage = flipped(direction, at, bit)
                result = await session(change=lambda g, o, b, damage=damage: listen(g, o, damage(g, o, b)))
                victim, culprit = (
                    (result.server_reason, result.client_reason)
                    if direction == 0
                    else (result.client_reason, result.server_reason)
                )
                assert isinstance(victim, CrcMismatch), (at, result)
                assert isinstance(culprit, TerminatedByPeer), (at, result)
                assert str(culprit.term) == "2/0/02"
                back = b"".join(octets for _, octets in seen)
                assert back.count(bytes.fromhex("0016 4147 00000000 00000002 00000001 00000000 20020000 7FE42585")) == 1

    run(main)


@pytest.mark.parametrize("bit", range(8))
def test_a_damaged_length_ends_the_connection(run: Runner, bit: int) -> None:
    """It may point anywhere, so the error is a CRC error, a length that cannot be, or the end in the middle."""

    async def main() -> None:
        for at in (STARTUP, STARTUP + 1):
            options = Options(timeout=PATIENCE, linger=0.1)
            async with (
                await pyiwarp.listen(HOST, options=options) as listener,
                Proxy(listener.port, change=flipped(0, at, bit)) as between,
            ):
                connecting = asyncio.ensure_future(pyiwarp.connect(HOST, between.port, options=options).__aenter__())
                other = await (await anext(listener)).accept()
                one = await connecting
                for _ in range(8):
                    with suppress(IwarpError):
                        await one.send(bytes(range(100)))
                await one.close()
                await soon(lambda other=other: not other.qp.alive)  # type: ignore[misc]
                assert isinstance(other.close_reason, CrcMismatch | MalformedFrame | ConnectionLost)
                await other.close()

    run(main)
