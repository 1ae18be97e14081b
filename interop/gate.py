"""A TCP relay between our side and a peer that holds back the peer's octets when a scenario says so.

A scenario about work that never finishes must make it unfinished: how much a peer has sent by some moment depends on
the machine. Behind a gate the peer's answer stops after a number of octets, whatever the speed of either side.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import Final, Self

from .peer import HERE

_CHUNK: Final = 1 << 16
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER for no time at all: closing sends a RST


class Gate:
    """A relay for one connection; a context manager that closes it.

    `peer_listens` says at which end of the relay the peer is.
    """

    def __init__(self, *, peer_listens: bool) -> None:
        self._peer_listens = peer_listens
        self._server: asyncio.Server | None = None
        self._place = (HERE, 0)
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._allowed: int | None = None
        self._shut = asyncio.Event()
        self._peer_ended = asyncio.Event()

    async def before(self, host: str, port: int) -> int:
        """Listen in front of the listener at `host` and `port`; the port to connect to instead."""
        self._place = (host, port)
        self._server = await asyncio.start_server(self._accepted, HERE, 0)
        address: tuple[str, int] = self._server.sockets[0].getsockname()
        return address[1]

    def hold(self, after: int) -> None:
        """Let `after` more octets of the peer's through, at least one, and hold the rest."""
        self._allowed = after

    async def shut(self) -> None:
        """Wait until the octets that `hold` allowed have passed: the peer's next one is held, and the peer with it."""
        await self._shut.wait()

    def peer_ended(self) -> None:
        """The peer's end of TCP is over or about to be: drop what is held, and end our side's TCP like the peer's."""
        self._peer_ended.set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        ends = await asyncio.gather(*self._tasks, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        self._tasks.append(asyncio.create_task(self._relay(reader, writer)))

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lead one connection on, in both directions, until each has ended."""
        try:
            there = await asyncio.open_connection(*self._place)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(there[1])
        here = (reader, writer)
        peer, ours = (there, here) if self._peer_listens else (here, there)
        async with asyncio.TaskGroup() as group:
            group.create_task(_pass(ours[0], peer[1]))
            group.create_task(self._pass_held(peer[0], ours[1]))

    async def _pass_held(self, peer: asyncio.StreamReader, ours: asyncio.StreamWriter) -> None:
        """The peer's direction: all octets, or as many as are allowed."""
        try:
            while octets := await peer.read(_CHUNK):
                if self._allowed is not None:
                    octets = octets[: self._allowed]
                    self._allowed -= len(octets)
                ours.write(octets)
                await ours.drain()
                if self._allowed == 0:
                    self._shut.set()
                    await self._peer_ended.wait()
                    while await peer.read(_CHUNK):
                        pass
        except OSError:
            _reset(ours)
        else:
            _end(ours)


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """The other direction: all octets."""
    try:
        while octets := await source.read(_CHUNK):
            sink.write(octets)
            await sink.drain()
    except OSError:
        _reset(sink)
    else:
        _end(sink)


def _end(writer: asyncio.StreamWriter) -> None:
    """End with a FIN."""
    with contextlib.suppress(OSError):  # it has ended before
        writer.write_eof()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End with a RST."""
    sock: socket.socket | None = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
