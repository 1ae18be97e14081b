"""A proxy between two programs that tells what passes it, as it passes.

Every octet goes on as it came. The end of one direction goes on as such, and
a reset as a reset. A side that takes nothing makes the other one wait: nothing gathers here.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pyiwarp.cm.asyncio_dialing import dial, resolve
from pyiwarp.cm.listening import listening_sockets
from pyiwarp.codes import REQUEST_KEY
from pyiwarp.drivers.tcp import reset_at_end
from pyiwarp.explain.packets import TcpSegment
from pyiwarp.explain.story import Conversation, Message, Reader

__all__ = ["KEPT_CONNECTIONS", "LiveProxy"]

KEPT_CONNECTIONS: Final = 32
"""Connections that are kept for the page and for JSON; later ones are told as they pass, and then forgotten."""

_AT_ONCE: Final = 64  # connections that are joined at the same time
_LOOKED_AT: Final = 1_024  # octets of a connection that is no MPA
_PIECE: Final = 65_536  # octets that are read at once
_WRAP: Final = 1 << 32

Place = tuple[str, int]
Tell = Callable[[Conversation, list[Message]], None]


class LiveProxy:
    """Joins each client with one target; `tell` is called with the messages that have become whole."""

    def __init__(self, host: str, port: int, tell: Tell, complain: Callable[[str], None], *, keep: int | None) -> None:
        self._target = (host, port)
        self._tell = tell
        self._complain = complain
        self._keep = keep
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._conversations: list[_Watched] = []
        self.forgotten = 0
        """Connections that were told and not kept."""

    @property
    def conversations(self) -> list[Conversation]:
        """The connections that carried MPA, of those that are kept."""
        return [each.conversation for each in self._conversations if each.understood]

    async def run(self, host: str, port: int, listening: Callable[[str, int], None]) -> None:
        """Listen until this is cancelled; `listening` is called with the address. Raises `OSError` if it cannot."""
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        sockets = listening_sockets(found, _AT_ONCE)
        try:
            listening(*sockets[0].getsockname()[:2])
            async with asyncio.TaskGroup() as group:
                for each in sockets:
                    group.create_task(self._accept(each))
        finally:
            for each in sockets:
                each.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                client, opener = await loop.sock_accept(listener)
            except OSError as error:  # of that client, or of a system that is short of descriptors
                self._room.release()
                self._complain(f"a client could not be taken: {error.strerror}")
                await asyncio.sleep(0.1)
                continue
            except BaseException:
                self._room.release()
                raise
            task = loop.create_task(self._join(client, opener[:2]))
            self._tasks.add(task)
            task.add_done_callback(self._over)

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._room.release()

    async def _join(self, client: socket.socket, opener: Place) -> None:
        client.setblocking(False)
        try:
            target = await dial(*self._target, await resolve(*self._target), None)
        except OSError as error:
            self._complain(str(error.strerror or error))
            _reset(client)
            client.close()
            return
        watched = _Watched(opener, _place(target, self._target), self._keep)
        if len(self._conversations) < KEPT_CONNECTIONS:
            self._conversations.append(watched)
        else:
            self.forgotten += 1
        try:
            await self._carry(watched, client, target)
        finally:
            client.close()
            target.close()
            self._told(watched, watched.finish())

    async def _carry(self, watched: _Watched, client: socket.socket, target: socket.socket) -> None:
        """Both directions until both have ended, or until one side resets: then the other one is reset."""
        ways = [
            asyncio.ensure_future(self._direction(watched, 0, client, target)),
            asyncio.ensure_future(self._direction(watched, 1, target, client)),
        ]
        try:
            done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_EXCEPTION)
            for each in done:
                if isinstance(each.exception(), OSError):
                    _reset(client)
                    _reset(target)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _direction(self, watched: _Watched, direction: int, source: socket.socket, target: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                octets = await loop.sock_recv(source, _PIECE)
            except OSError:
                self._told(watched, watched.take(direction, rst=True))
                raise
            if not octets:
                self._told(watched, watched.take(direction, fin=True))
                with suppress(OSError):  # the other side may have gone
                    target.shutdown(socket.SHUT_WR)
                return
            self._told(watched, watched.take(direction, octets))  # a cause is told before its effect
            await loop.sock_sendall(target, octets)

    def _told(self, watched: _Watched, messages: list[Message]) -> None:
        if messages:
            self._tell(watched.conversation, messages)


def _place(sock: socket.socket, dialed: Place) -> Place:
    """Where the other end of a socket is; as it was dialed if that end has gone already."""
    try:
        return sock.getpeername()[:2]  # type: ignore[no-any-return]
    except OSError:
        return dialed


def _reset(sock: socket.socket) -> None:
    """Closing it will send a reset."""
    with suppress(OSError):
        reset_at_end(sock)


class _Watched:
    """One connection through the proxy, as segments of TCP would show it."""

    def __init__(self, opener: Place, other: Place, keep: int | None) -> None:
        self._ends = (opener, other)
        self._sent = [1, 1]  # the sequence number of each direction
        self._head = b""  # what the opener has sent, as long as it may be a Request's Key
        self._is_mpa = True
        self._reader = Reader(self._segment(0, syn=True), keep)
        self._reader.fresh = []

    @property
    def conversation(self) -> Conversation:
        """What was told of it."""
        return self._reader.conversation

    @property
    def understood(self) -> bool:
        """Whether it carried MPA."""
        return self._reader.understood

    def take(self, direction: int, octets: bytes = b"", *, fin: bool = False, rst: bool = False) -> list[Message]:
        """Octets of a direction have passed, or its end has; the messages that are whole now.

        Of a connection that does not begin with the Key of a Request only its beginning is looked at.
        """
        if octets and not self._is_mpa:
            return []
        if octets and direction == 0 and len(self._head) < len(REQUEST_KEY):
            self._head += octets[: len(REQUEST_KEY) - len(self._head)]
            self._is_mpa = REQUEST_KEY.startswith(self._head)
            octets = octets if self._is_mpa else octets[:_LOOKED_AT]
        self._reader.take(self._segment(direction, octets, fin=fin, rst=rst))
        self._sent[direction] = (self._sent[direction] + len(octets)) % _WRAP
        return self._reader.news()

    def finish(self) -> list[Message]:
        """Nothing comes any more; the last messages."""
        self._reader.finish()
        return self._reader.news(all=True)

    def _segment(
        self, direction: int, octets: bytes = b"", *, syn: bool = False, fin: bool = False, rst: bool = False
    ) -> TcpSegment:
        source, target = self._ends if direction == 0 else self._ends[::-1]
        seq = 0 if syn else self._sent[direction]
        return TcpSegment(time.time(), source, target, seq, syn, fin, rst, octets)
