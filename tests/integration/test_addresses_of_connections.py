"""What a connection says of itself: its addresses, as sockets give them, and whether it has ended."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from pyiwarp import blocking
from pyiwarp.errors import ConnectionLost
from tests.hostile.streampeers import request_of
from tests.hosts import HOST
from tests.integration import polled
from tests.integration.forms import Form, awaited, form
from tests.patience import PATIENCE

__all__ = ["form"]  # the fixture


def test_both_ends_have_the_addresses_of_their_sockets_also_when_they_are_closed(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        assert one.local_addr == other.peer_addr
        assert one.peer_addr == other.local_addr
        host, port = one.local_addr[:2]
        assert (host, type(port)) == (HOST, int)
        assert (one.is_closed, other.is_closed) == (False, False)
        before, named = one.peer_addr, repr(one)
        assert f"with {one.peername} " in named
        one.abort()
        assert one.is_closed
        assert one.peer_addr == before
        assert f"with {one.peername} " in repr(one)
        assert "?" not in repr(one)

    form.connected(body)


def test_a_connection_whose_peer_is_gone_is_closed(form: Form) -> None:
    async def body(one: Any, other: Any) -> None:
        await awaited(one.send, b"last")
        assert await awaited(other.recv) == b"last"
        one.abort()
        with pytest.raises(ConnectionLost) as caught:
            await awaited(other.recv)
        assert other.close_reason is caught.value
        assert other.is_closed
        assert other.peer_addr is not None

    form.connected(body)


def test_a_peer_that_resets_at_once_has_an_address() -> None:
    with polled.nothing_left(), blocking.listen(HOST) as listener:
        with socket.create_connection((HOST, listener.port), PATIENCE) as sock:
            host, port = sock.getsockname()
            sock.sendall(request_of(b""))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert listener.get_request(timeout=PATIENCE).peername == f"{host}:{port}"
