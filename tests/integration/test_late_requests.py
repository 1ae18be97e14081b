"""What comes when this side has closed its half of the connection, ends that cross on the way, and who left early."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from pyiwarp import Access, ConnectionLost, blocking
from pyiwarp.cm import asyncio_cm
from pyiwarp.connections.serving import listen
from tests.hosts import HOST
from tests.integration.loops import Runner, exchange_advertisement, joined, run, soon
from tests.integration.polled import nothing_left
from tests.integration.polled import soon as polled_soon
from tests.patience import PATIENCE

__all__ = ["run"]

REQUEST = b"MPA ID Req Frame" + bytes((0x40, 1, 0, 0))


def test_a_read_that_comes_after_the_fin_ends_the_connection(run: Runner) -> None:
    """It can be answered no more: TCP has no half to answer on."""

    async def main() -> None:
        async with joined() as (one, other):
            source = other.register(bytearray(100), Access.REMOTE_READ)
            remote = await exchange_advertisement(source, other, one)
            sink = one.register(bytearray(100))
            closing = asyncio.ensure_future(other.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # its FIN has left, and this side has not seen it
            with pytest.raises(ConnectionLost):
                await one.read(sink[:], remote)
            await asyncio.wait_for(closing, PATIENCE)

    run(main)


def test_a_fault_that_is_found_after_the_fin_is_not_told(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            target = other.register(bytearray(100), Access.REMOTE_READ | Access.LOCAL_WRITE)
            remote = await exchange_advertisement(target, other, one)
            closing = asyncio.ensure_future(other.close())
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # its FIN has left, and this side has not seen it
            await one.write(bytes(100), remote)  # which it grants nobody
            await asyncio.wait_for(closing, PATIENCE)

    run(main)


def test_a_close_that_meets_a_reset(run: Runner) -> None:
    async def main() -> None:
        async with joined() as (one, other):
            other.abort()
            await one.close()

    run(main)


def test_an_initiator_that_has_left_is_not_offered(run: Runner) -> None:
    """Its Request was good, and there is nothing to decide any more."""

    async def main() -> None:
        async with await listen(HOST) as listener:
            with socket.create_connection((HOST, listener.port), PATIENCE) as stranger:
                stranger.sendall(REQUEST)
                await soon(lambda: listener.counters.requests)
            await soon(lambda: listener.counters.failed)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(listener.get_request(), 0.05)

    run(main)


def test_an_initiator_that_has_left_a_polled_listener_is_not_offered() -> None:
    with nothing_left(), blocking.listen(HOST) as listener:
        with socket.create_connection((HOST, listener.port), PATIENCE) as stranger:
            stranger.sendall(REQUEST)
            polled_soon(lambda: listener.counters.requests)
        polled_soon(lambda: listener.counters.failed)
        with pytest.raises(TimeoutError):
            listener.get_request(timeout=0.05)


async def test_a_listener_that_rests_does_not_wake_up_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a file descriptor, and would look at a socket that is closed."""
    monkeypatch.setattr(asyncio_cm, "accept_waiting", lambda sock, receive: OSError(errno.EMFILE, "too many"))
    listener = await asyncio_cm.listen(HOST, 0)
    with socket.create_connection((HOST, listener.port), PATIENCE):
        await soon(lambda: listener._resting)
        (timer,) = listener._resting.values()
        listener.close()
        assert timer.cancelled()
        assert not listener._resting
