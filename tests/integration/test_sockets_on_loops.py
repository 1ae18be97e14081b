"""Sockets of AF_IWARP that a program gives to an event loop: asyncio takes them everywhere, uvloop in `sock_` calls."""

from __future__ import annotations

import asyncio
import socket

import pytest

from pyiwarp.sockets import Socket
from tests.integration.loops import LOOPS, Runner, run, run_on
from tests.integration.socketrig import Ends, new, quick

__all__ = ["quick", "run"]

OCTETS = bytes(range(256)) * 4000


def listening() -> Socket:
    listener = new()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


async def joined(listener: Socket) -> Ends:
    """A client that has waited for its connection in a thread, and the accepted end; neither blocks."""
    listener.setblocking(False)
    client = new()
    _, (accepted, _) = await asyncio.gather(
        asyncio.to_thread(client.connect, listener.getsockname()),
        asyncio.get_running_loop().sock_accept(listener),
    )
    assert isinstance(accepted, Socket)
    client.setblocking(False)
    accepted.setblocking(False)
    return client, accepted


def test_the_sock_calls_of_a_loop(run: Runner) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with listening() as listener:
            client, accepted = await joined(listener)
            with client, accepted:
                sending = asyncio.ensure_future(loop.sock_sendall(client, OCTETS))
                came = bytearray()
                while len(came) < len(OCTETS):
                    came += await loop.sock_recv(accepted, 1 << 16)
                await sending
                assert came == OCTETS
                await loop.sock_sendall(accepted, b"back")
                buffer = bytearray(10)
                assert await loop.sock_recv_into(client, buffer) == 4
                client.shutdown(socket.SHUT_WR)
                assert await loop.sock_recv(accepted, 1) == b""

    run(main)


def test_sock_connect_of_asyncio() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with listening() as listener, new() as client, new() as late:
            for each in (client, late, listener):
                each.setblocking(False)
            await loop.sock_connect(client, listener.getsockname())
            accepted, address = await loop.sock_accept(listener)
            with accepted:
                assert address == client.getsockname()
            place = listener.getsockname()
            listener.close()
            with pytest.raises(ConnectionRefusedError):
                await loop.sock_connect(late, place)

    run_on(LOOPS["asyncio"], main)


def test_transports_of_asyncio_on_both_ends() -> None:
    async def upper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.read()).upper())
        writer.close()
        await writer.wait_closed()

    async def main() -> None:
        async with await asyncio.start_server(upper, sock=listening()) as server:
            client = new()
            await asyncio.to_thread(client.connect, server.sockets[0].getsockname())
            reader, writer = await asyncio.open_connection(sock=client)
            assert writer.get_extra_info("peername") == server.sockets[0].getsockname()
            writer.write(b"hello" * 10_000)
            writer.write_eof()
            assert await reader.read() == b"HELLO" * 10_000
            writer.close()
            await writer.wait_closed()

    run_on(LOOPS["asyncio"], main)


def test_a_socket_that_was_accepted_elsewhere_on_asyncio() -> None:
    async def main() -> None:
        with listening() as listener:
            client, accepted = await joined(listener)
            with client:
                loop = asyncio.get_running_loop()
                transport, _ = await loop.connect_accepted_socket(asyncio.Protocol, accepted)
                transport.write(b"hello")
                assert await loop.sock_recv(client, 10) == b"hello"
                transport.close()
                assert await loop.sock_recv(client, 10) == b""

    run_on(LOOPS["asyncio"], main)


def test_what_uvloop_refuses() -> None:
    """It knows the kernel's families alone: there is an error, and no silent TCP."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with listening() as listener, new() as late:
            client, accepted = await joined(listener)
            late.setblocking(False)
            with client, accepted:
                with pytest.raises(ValueError, match="family"):
                    await loop.connect_accepted_socket(asyncio.Protocol, accepted)
                with pytest.raises(OSError, match="not supported"):
                    await loop.sock_connect(late, listener.getsockname())

    run_on(LOOPS["uvloop"], main)
