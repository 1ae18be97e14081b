"""riomap, riounmap and riowrite of AF_IWARP's sockets: what the engine thread does for them.

The stream is asked in the thread, and the caller waits: so what is sent next is behind it on the wire.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pyiwarp import IwarpError
from pyiwarp.sockets.family.iwarpsock import IwarpSock
from pyiwarp.sockets.family.socketclass import Buffer, Socket, failed, unsupported
from pyiwarp.sockets.transport import StreamTransport

__all__ = ["riomap", "riounmap", "riowrite"]

T = TypeVar("T")


def riomap(sock: Socket, buffer: Any, offset: int) -> int:
    """Offer a buffer to the peer."""
    return _asked(sock, lambda stream: stream.iomap(buffer, None if offset == -1 else offset))


def riowrite(sock: Socket, data: Buffer, offset: int) -> int:
    """Write into a buffer of the peer's."""

    async def write(stream: StreamTransport) -> int:
        with memoryview(data).cast("B") as octets:
            await stream.iowrite(octets, offset)
            return len(octets)

    return _asked(sock, write)


def riounmap(sock: Socket, offset: int) -> None:
    """Withdraw a buffer."""

    async def withdraw(stream: StreamTransport) -> None:
        stream.iounmap(offset)

    _asked(sock, withdraw)


def _asked(sock: Socket, what: Callable[[StreamTransport], Awaitable[T]]) -> T:
    """What the stream answers in the engine thread, within the socket's timeout."""
    sk: IwarpSock = sock.sk
    timeout = sock.gettimeout()
    if sk.thread is None or sk.stream is None:
        raise failed(errno.ENOTCONN)
    if not sk.thread.is_here:
        raise unsupported("direct writes on a stream that the parent process serves")

    async def ask() -> T:
        stream = sk.stream
        if stream is None or not stream.takes_octets:
            raise failed(errno.ENOTCONN)
        async with asyncio.timeout(timeout):  # with 0 it still does what needs no waiting
            return await what(stream)

    asked = asyncio.run_coroutine_threadsafe(ask(), sk.thread.loop)
    try:
        return asked.result()
    except KeyboardInterrupt:
        asked.cancel()  # what has not been done is not done later
        raise
    except IwarpError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    except TimeoutError as error:
        raise (failed(errno.EAGAIN) if timeout == 0 else TimeoutError("timed out")) from error
