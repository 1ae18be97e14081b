"""A TCP socket that the program has connected carries the connection, on either driver."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from pyiwarp import blocking, cm
from pyiwarp.errors import StartupError
from pyiwarp.verbs import QpState
from tests.hosts import HOST
from tests.integration.polled import nothing_left, queue_pair
from tests.patience import PATIENCE


def test_polled() -> None:
    here, there = queue_pair(), queue_pair()
    with nothing_left():
        with blocking.listen(HOST) as listener:
            ports: list[int] = []

            def lead() -> None:
                with socket.create_connection((HOST, listener.port), PATIENCE) as sock:
                    ports.append(sock.getsockname()[1])
                    blocking.connect_qp(here, HOST, listener.port, sock=sock.dup())
                here.close()

            connecting = threading.Thread(target=lead)
            connecting.start()
            driver = listener.get_request(timeout=PATIENCE).accept_qp(there)
            connecting.join(PATIENCE)
            assert driver.peer_addr is not None
            assert [driver.peer_addr[1]] == ports
        there.close()


def test_awaited() -> None:
    async def main() -> None:
        here, there = queue_pair(), queue_pair()
        async with await cm.listen(HOST, 0) as listener:
            sock = socket.create_connection((HOST, listener.port), PATIENCE)
            port = sock.getsockname()[1]
            sock.setblocking(False)
            connecting = asyncio.ensure_future(cm.connect(here, HOST, listener.port, sock=sock))
            driver = (await listener.get_request()).accept(there)
            await connecting
            assert driver.peer_addr is not None
            assert driver.peer_addr[1] == port
            assert here.state is QpState.RTS
        here.close()
        there.close()

    asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_a_peer_that_has_left_before() -> None:
    """The attempt fails as others do, and its socket is closed."""
    with nothing_left():
        with socket.create_server((HOST, 0)) as server:
            server.settimeout(PATIENCE)
            near = socket.create_connection(server.getsockname(), PATIENCE)
            server.accept()[0].close()
        with pytest.raises((StartupError, OSError)):
            blocking.connect_qp(queue_pair(), HOST, 1, sock=near)
        assert near.fileno() == -1
