"""What a server's callbacks raise and return: judged and told at once, to the program and to the peer."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Connection, ConnectionLost, Disconnected, Options, Rejected, UsageError
from pyiwarp.codes import Opcode, QueueNumber
from pyiwarp.connections.serving import Request, listen
from tests.harness import Segment, fpdu
from tests.hosts import HOST
from tests.integration.loops import QUICK, Runner, run, soon, start
from tests.patience import PATIENCE

__all__ = ["run"]


async def stay(conn: Connection) -> None:
    async for _ in conn:
        pass


# --- accept ----------------------------------------------------------------------------------------------------------


async def says_ok(request: Request) -> bytes:
    await asyncio.sleep(0)
    return b"ok"


async def rejects(request: Request) -> None:
    await asyncio.sleep(0)


async def fails(request: Request) -> bytes:
    raise LookupError("a bug in the program")


@pytest.mark.parametrize("accept", [lambda request: bytearray(b"ok"), lambda request: memoryview(b"ok"), says_ok])
def test_what_accept_may_return(run: Runner, accept: Callable[[Request], Any]) -> None:
    async def main() -> None:
        server = await pyiwarp.serve(stay, HOST, accept=accept)
        async with server, pyiwarp.connect(HOST, server.port) as conn:
            assert conn.private_data == b"ok"

    run(main)


@pytest.mark.parametrize(
    ("accept", "told"),
    [
        (lambda request: "text", "accept returned 'text'; it returns bytes"),
        (lambda request: True, "accept returned True; it returns bytes"),
        (lambda request: 5, "accept returned 5; it returns bytes"),
        (lambda request: bytes(600), "600 octets of private data"),
        (lambda request: dict[str, bytes]()["key"], "KeyError"),
        (fails, "a bug in the program"),
        (lambda request: None, ""),
        (rejects, ""),
    ],
)
def test_a_peer_that_is_not_accepted_is_rejected_at_once(
    run: Runner, caplog: pytest.LogCaptureFixture, accept: Callable[[Request], Any], told: str
) -> None:
    async def main() -> None:
        async with await pyiwarp.serve(stay, HOST, accept=accept) as server:
            with pytest.raises(Rejected):
                await pyiwarp.connect(HOST, server.port, options=QUICK)

    run(main)
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert bool(errors) is bool(told)
    assert told in caplog.text


def test_a_peer_that_sends_no_fpdu_is_no_failure_of_the_handler(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    """Else strangers fill the log with tracebacks."""

    async def main() -> None:
        ended = asyncio.Event()

        async def handler(conn: Connection) -> None:
            try:
                await conn.recv()
            finally:
                ended.set()

        options = Options(first_fpdu_timeout=0.1, linger=0.1)
        async with await pyiwarp.serve(handler, HOST, options=options) as server:
            with socket.create_connection((HOST, server.port), PATIENCE) as stranger:
                stranger.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0)))
                await asyncio.wait_for(ended.wait(), PATIENCE)

    caplog.set_level(logging.INFO)
    run(main)
    assert "the first FPDU did not come within 0.1 s" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_terminates_of_strangers_do_not_fill_the_log(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    terminate = fpdu(Segment(opcode=Opcode.TERMINATE, qn=QueueNumber.TERMINATE, payload=b"\x02\x07\0\0").octets(1))

    def play(port: int) -> None:
        with socket.create_connection((HOST, port), PATIENCE) as stranger:
            stranger.sendall(b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0)))
            assert len(stranger.recv(20, socket.MSG_WAITALL)) == 20
            stranger.sendall(terminate)
            with suppress(ConnectionResetError):
                assert stranger.recv(1) == b"", "that ends the connection"

    async def main() -> None:
        async with await pyiwarp.serve(stay, HOST, options=QUICK) as server:
            for _ in range(5):
                await asyncio.to_thread(play, server.port)

    run(main)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert record.getMessage().startswith("a peer has terminated its stream: ")
    assert record.exc_info is None


def test_closing_a_server_answers_the_peer_whose_accept_is_under_way(run: Runner) -> None:
    async def main() -> None:
        asked = asyncio.Event()

        async def never(request: Request) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            return b""

        server = await pyiwarp.serve(stay, HOST, accept=never)
        connecting = start(pyiwarp.connect(HOST, server.port, options=QUICK).__aenter__())
        await asyncio.wait_for(asked.wait(), PATIENCE)
        await server.close()
        with pytest.raises((Rejected, ConnectionLost)):
            await asyncio.wait_for(connecting, PATIENCE)

    run(main)


def test_an_initiator_that_leaves_while_it_is_judged(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asked, judged = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> bytes:
            asked.set()
            await soon(lambda: "failed" in repr(request))
            judged.set()
            return b""

        async with await pyiwarp.serve(stay, HOST, accept=slow) as server:
            connecting = start(pyiwarp.connect(HOST, server.port, options=QUICK).__aenter__())
            await asyncio.wait_for(asked.wait(), PATIENCE)
            connecting.cancel()
            await asyncio.wait_for(judged.wait(), PATIENCE)
            await soon(lambda: not server._tasks)

    run(main)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("data", ["text", True, None, 5])
def test_private_data_is_bytes(run: Runner, data: Any) -> None:
    """A Request stays open when its answer is refused here: it can still be given another."""

    async def main() -> None:
        async with await listen(HOST) as listener:
            with pytest.raises(UsageError, match="carries bytes"):
                await pyiwarp.connect(HOST, listener.port, private_data=data)
            connecting = start(pyiwarp.connect(HOST, listener.port, options=QUICK).__aenter__())
            request = await anext(listener)
            with pytest.raises(UsageError, match="carries bytes"):
                await request.accept(data)
            with pytest.raises(UsageError, match="carries bytes"):
                await request.reject(data)
            await request.reject(b"no")
            with pytest.raises(Rejected):
                await connecting

    run(main)


# --- the handler -----------------------------------------------------------------------------------------------------


async def misses_a_file(conn: Connection) -> None:
    os.stat("/no/such/file")


async def misuses(conn: Connection) -> None:
    conn.register(b"read-only memory")


async def fails_ordinarily(conn: Connection) -> None:
    dict[str, bytes]()["key"]


async def loses_its_backend(conn: Connection) -> None:
    raise ConnectionLost("the backend's")


async def takes_too_long(conn: Connection) -> None:
    raise TimeoutError


async def is_disconnected_elsewhere(conn: Connection) -> None:
    raise Disconnected("another connection")


async def cancels_itself(conn: Connection) -> None:
    raise asyncio.CancelledError


async def fails_in_a_group(conn: Connection) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails_ordinarily(conn))


async def uses_what_it_has_closed(conn: Connection) -> None:
    await conn.close()
    await conn.send(b"late")


FAILING = [
    misses_a_file,
    misuses,
    fails_ordinarily,
    loses_its_backend,
    takes_too_long,
    is_disconnected_elsewhere,
    cancels_itself,
    fails_in_a_group,
]


def errors_told(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("fail", FAILING)
@pytest.mark.parametrize("closing", [False, True], ids=["goes on", "closes"])
def test_an_error_of_the_handler_is_told_to_all(
    run: Runner, caplog: pytest.LogCaptureFixture, fail: Callable[[Connection], Awaitable[None]], closing: bool
) -> None:
    """The program by the log, with the traceback; the peer by an end that is not graceful (RFC 5041 §6.2)."""

    async def main() -> None:
        async def row_and_failure(conn: Connection) -> None:
            await conn.send(b"row 1")
            await conn.recv()
            await fail(conn)

        async with await pyiwarp.serve(row_and_failure, HOST, options=QUICK) as server:
            conn = await pyiwarp.connect(HOST, server.port, options=QUICK)
            rows = aiter(conn)
            assert await anext(rows) == b"row 1"
            await conn.send(b"go on")
            if closing:
                await soon(lambda: errors_told(caplog))
                await server.close()
            with pytest.raises(ConnectionLost):
                await anext(rows)
            await conn.close()

    run(main)
    (record,) = errors_told(caplog)
    assert record.exc_info is not None
    assert fail.__name__ in caplog.text


def test_an_error_after_the_end_is_told(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = await pyiwarp.serve(uses_what_it_has_closed, HOST, options=QUICK)
        async with server, pyiwarp.connect(HOST, server.port, options=QUICK):
            await soon(lambda: errors_told(caplog))

    run(main)
    assert "the connection was closed" in caplog.text


def test_an_error_of_a_handler_that_is_cancelled_is_told(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        began = asyncio.Event()

        async def fails_when_cancelled(conn: Connection) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                await fails_ordinarily(conn)

        server = await pyiwarp.serve(fails_when_cancelled, HOST, options=QUICK)
        async with pyiwarp.connect(HOST, server.port, options=QUICK):
            await asyncio.wait_for(began.wait(), PATIENCE)
            await server.close()

    run(main)
    assert len(errors_told(caplog)) == 1


@pytest.mark.parametrize("abrupt", [False, True])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_peer_that_leaves_is_no_error_of_the_handler(
    run: Runner, caplog: pytest.LogCaptureFixture, abrupt: bool, grouped: bool
) -> None:
    async def main() -> None:
        async def receive(conn: Connection) -> None:
            if grouped:
                async with asyncio.TaskGroup() as group:
                    group.create_task(conn.recv())
                    group.create_task(conn.recv())
            await conn.recv()

        async with await pyiwarp.serve(receive, HOST, options=QUICK) as server:
            conn = await pyiwarp.connect(HOST, server.port, options=QUICK)
            await soon(lambda: server._tasks)
            if abrupt:
                conn.abort()
            await conn.close()
            await soon(lambda: not server._tasks)

    run(main)
    assert not errors_told(caplog)


def test_closing_a_server_ends_gracefully_what_is_not_wrong(run: Runner, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        server = await pyiwarp.serve(stay, HOST, options=QUICK)
        async with pyiwarp.connect(HOST, server.port, options=QUICK) as conn:
            await soon(lambda: server._tasks)
            closing = start(server.close())
            with pytest.raises(Disconnected):
                await conn.recv()
            await conn.close()
            await closing

    run(main)
    assert not errors_told(caplog)
