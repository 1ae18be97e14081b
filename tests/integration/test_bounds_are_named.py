"""Arguments out of their bounds: the error names the value and the bounds, in every form. Ended connections know whose
they were.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

import pyiwarp
from pyiwarp import Access, RemoteRegion, blocking
from pyiwarp.errors import BadWorkRequest, UsageError
from tests.integration.forms import Form, awaited, form
from tests.patience import PATIENCE

__all__ = ["form"]  # the fixture

THERE = RemoteRegion(to=0x1000, stag=0x77, nbytes=64)
TOO_MUCH = 1 << 64

CALLS: dict[str, tuple[Callable[[Any], tuple[Any, ...]], str]] = {
    "more than 64 bits": (
        lambda conn: (conn.fetch_add, THERE, TOO_MUCH),
        rf"a number from 0 to 2\^64 - 1, not {TOO_MUCH} \(RFC 7306",
    ),
    "less than nothing": (lambda conn: (conn.fetch_add, THERE, -1), r"a number from 0 to 2\^64 - 1, not -1 \(RFC 7306"),
    "no whole number": (lambda conn: (conn.compare_swap, THERE, 0, 1.5), r"a number from 0 to 2\^64 - 1, not 1.5"),
    "to be invalidated": (
        lambda conn: (lambda: conn.send(b"", invalidate=1 << 32),),
        r"an STag is a number from 0 to 2\^32 - 1, not 0x100000000",
    ),
    "a negative TO": (
        lambda conn: (conn.write, b"x", RemoteRegion(-1, 5, 10)),
        r"STag 0x5 TO -0x1: an STag is below 2\^32, and the octets lie from TO 0 to 2\^64 - 1",
    ),
    "past the advertised memory": (
        lambda conn: (conn.write, bytes(65), THERE),
        r"65 octets do not fit .* \[64 octets\]",
    ),
    "Immediate Data of another length": (lambda conn: (conn.send_immediate, b"123"), "has 8 octets, not 3"),
    "an offset before the memory": (lambda conn: (THERE.at, -1), "an offset is a number from 0 to 64, not -1"),
    "an offset behind the memory": (lambda conn: (THERE.at, 65), "an offset is a number from 0 to 64, not 65"),
    "an offset that is none": (lambda conn: (THERE.at, "a"), "an offset is a number from 0 to 64, not 'a'"),
}


@pytest.mark.parametrize("call", CALLS)
def test_the_bound_is_named_and_nothing_has_happened(form: Form, call: str) -> None:
    async def body(one: Any, other: Any) -> None:
        make, words = CALLS[call]
        with pytest.raises(BadWorkRequest, match=words):
            await awaited(*make(one))
        await awaited(one.send, b"still here")
        assert await awaited(other.recv) == b"still here"

    form.connected(body)


# --- ports -----------------------------------------------------------------------------------------------------------


async def handler(conn: pyiwarp.Connection) -> None: ...


@pytest.mark.parametrize("port", [65_536, 70_000, -1, "http"])
async def test_ports_awaited(port: Any) -> None:
    words = f"port is .*0 to 65535.*{port}|port is {port}; it may be 0 to 65535"
    with pytest.raises(UsageError, match=words):
        await pyiwarp.connect("127.0.0.1", port)
    with pytest.raises(UsageError, match=words):
        await pyiwarp.listen("127.0.0.1", port)
    with pytest.raises(UsageError, match=words):
        await pyiwarp.serve(handler, "127.0.0.1", port)


@pytest.mark.parametrize("port", [65_536, 70_000, -1, "http"])
def test_ports_blocking(port: Any) -> None:
    words = f"port is .*0 to 65535.*{port}|port is {port}; it may be 0 to 65535"
    for call in (blocking.connect, blocking.listen):
        with pytest.raises(UsageError, match=words):
            call("127.0.0.1", port)


def test_ports_of_identifiers(form: Form) -> None:
    async def body() -> None:
        one = form.rdma_cm.CmId()
        with pytest.raises(UsageError, match="port is 70000; it may be 0 to 65535"):
            one.bind_addr("127.0.0.1", 70_000)
        with pytest.raises(UsageError, match="port is 70000; it may be 0 to 65535"):
            one.resolve_addr("127.0.0.1", 70_000)
        one.close()

    form.run(body)


# --- whose connection it was -----------------------------------------------------------------------------------------


def test_an_ended_connection_knows_its_peer_in_messages_and_log_lines(
    form: Form, caplog: pytest.LogCaptureFixture
) -> None:
    async def body(one: Any, other: Any) -> None:
        names = [conn.peername for conn in (one, other)]
        await awaited(one.write, b"x", RemoteRegion(0, 0x1234, 1))
        with pytest.raises(pyiwarp.ProtocolViolation):
            await awaited(other.recv)
        with pytest.raises(pyiwarp.TerminatedByPeer):
            await awaited(one.recv)
        for conn, name in zip((one, other), names, strict=True):
            assert f"with {name} " in repr(conn)
            assert f"with {name} " in repr(conn.qp)
            await awaited(conn.close)
            assert conn.peername == name
            assert f"with {name} " in repr(conn)
            with pytest.raises(pyiwarp.Closed, match=f"with {name} "):
                await awaited(conn.send, b"x")
            assert any(f"with {name}: " in line for line in caplog.messages)

    with caplog.at_level(logging.INFO, "pyiwarp"):
        form.connected(body)


async def test_the_server_names_the_peer_of_a_handler_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(conn: pyiwarp.Connection) -> None:
        await conn.recv()
        raise RuntimeError("no")

    async with asyncio.timeout(PATIENCE), await pyiwarp.serve(fail, "127.0.0.1") as server:
        assert repr(server) == f"<Server port {server.port} 0 connections>"
        async with pyiwarp.connect("127.0.0.1", server.port) as conn:
            await conn.send(b"x")
            with pytest.raises(pyiwarp.ConnectionLost):
                await conn.recv()
            assert conn.local_addr is not None
            host, port = conn.local_addr[:2]
    assert any(f"{host}:{port}" in line and "failed" in line for line in caplog.messages)


def test_rights_are_named(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        with pytest.raises(
            BadWorkRequest, match=r"the buffer is read-only, LOCAL_WRITE\|REMOTE_WRITE would have it written"
        ):
            one.register(b"abc", Access.LOCAL_WRITE | Access.REMOTE_WRITE)

    form.connected(body)
