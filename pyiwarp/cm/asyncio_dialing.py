"""TCP to a host of several addresses, on asyncio: they race, each with a head start over the next (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Sequence

from pyiwarp.cm.addresses import ATTEMPT_DELAY, Address, TcpSocket, check_port, in_turns, local_end, not_connected

__all__ = ["dial", "resolve"]


async def resolve(host: str | None, port: int, flags: int = 0) -> list[Address]:
    """The addresses of `host`; raises `OSError` if there is none. A numeric address needs no resolver's thread."""
    check_port(port)
    numeric = host.encode() if host is not None and host.isascii() else host  # text takes the detour of IDNA
    try:
        found = socket.getaddrinfo(numeric, port, type=socket.SOCK_STREAM, flags=flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return Address.each_of(found)


async def dial(host: str, port: int, addresses: Sequence[Address], local_host: str | None) -> socket.socket:
    """A socket that is connected to the first of the `addresses` of `host` that answers.

    It leaves from `local_host` if that is given. Raises `OSError` if none answers. Cancelling closes all attempts.
    """
    loop = asyncio.get_running_loop()
    locals_ = None if local_host is None else await resolve(local_host, 0)
    if len(addresses) == 1:  # there is no race
        try:
            return await _attempt(addresses[0], locals_)
        except OSError as refused:
            raise not_connected(host, port, [refused]) from None
    left = deque(in_turns(addresses))
    running: set[asyncio.Task[socket.socket]] = set()
    errors: list[OSError] = []
    try:
        while left or running:
            if left:
                running.add(loop.create_task(_attempt(left.popleft(), locals_)))
            await asyncio.wait(running, timeout=ATTEMPT_DELAY if left else None, return_when=asyncio.FIRST_COMPLETED)
            for attempt in [attempt for attempt in running if attempt.done()]:
                running.discard(attempt)
                error = attempt.exception()
                if error is None:
                    return attempt.result()
                if not isinstance(error, OSError):
                    raise error
                errors.append(error)
        raise not_connected(host, port, errors)
    finally:
        await _give_up(running)


async def _attempt(address: Address, locals_: Sequence[Address] | None) -> socket.socket:
    """TCP to one address."""
    sock = TcpSocket(address.family, address.kind, address.protocol)
    try:
        sock.setblocking(False)
        if locals_ is not None:
            sock.bind(local_end(locals_, address.family))
        await asyncio.get_running_loop().sock_connect(sock, address.address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _give_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    """End the attempts that are not needed, also one that succeeds just now."""
    for attempt in attempts:
        attempt.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()
