"""The ends of a tunnel on the command line: tcp:HOST:PORT, iwarp:HOST:PORT; and how each kind listens and connects."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, NamedTuple

from pyiwarp.cli.address import Address
from pyiwarp.cm.asyncio_dialing import resolve
from pyiwarp.cm.listening import listening_sockets
from pyiwarp.sockets import StreamOptions, StreamServer, create_connection, create_server

__all__ = ["IWARP", "TCP", "Place", "Startup", "TcpServer"]

TCP: Final = "tcp"
IWARP: Final = "iwarp"

Factory = Callable[[], asyncio.BaseProtocol]


class Startup(NamedTuple):
    """How many peers may be in startup where the tunnel listens; `per_address` concerns iWARP alone."""

    backlog: int
    per_address: int


class TcpServer:
    """Takes TCP clients at every address of a host, at one port for all of them."""

    def __init__(self) -> None:
        self._servers: list[asyncio.Server] = []

    @property
    def port(self) -> int:
        """The port."""
        port: int = self._servers[0].sockets[0].getsockname()[1]
        return port

    async def open(self, factory: Factory, host: str, port: int, backlog: int) -> None:
        """Listen there; raises `OSError`."""
        loop = asyncio.get_running_loop()
        sockets = listening_sockets(await resolve(host or None, port, socket.AI_PASSIVE), backlog)
        try:
            while sockets:
                self._servers.append(await loop.create_server(factory, sock=sockets[0], backlog=backlog))
                del sockets[0]
        except BaseException:
            self.close()
            for sock in sockets:
                sock.close()
            raise

    def close(self) -> None:
        """Take no more clients."""
        for server in self._servers:
            server.close()


class Place(NamedTuple):
    """One end of a tunnel: `kind` is TCP or IWARP."""

    kind: str
    address: Address

    def __str__(self) -> str:
        return f"{self.kind}:{self.address}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Parse an argument; raises `ValueError` with a text for the user."""
        kind, _, rest = text.partition(":")
        if kind not in (TCP, IWARP):
            raise ValueError(f"{text!r} has no kind; write tcp:HOST:PORT or iwarp:HOST:PORT")
        host, _, port = rest.rpartition(":")
        address = Address.parse(f"{host}:1" if port == "0" else rest, -1)  # 0 is no port of a peer
        if address.port < 0 or address.path:
            raise ValueError(f"{text!r} is no address of a program; write {kind}:HOST:PORT")
        return cls(kind, address._replace(port=0) if port == "0" else address)

    def check_joins(self, target: Place) -> None:
        """Raises `ValueError` unless a tunnel from here to `target` joins TCP with iWARP."""
        if self.kind == target.kind:
            raise ValueError(f"{self} and {target} are both {self.kind}; a tunnel joins tcp with iwarp")
        if not target.address.port:
            raise ValueError("port 0 is for the place that the tunnel listens at")

    async def listen(
        self, factory: Factory, options: StreamOptions, startup: Startup, most: int
    ) -> TcpServer | StreamServer:
        """Listen here; an iWARP peer beyond `most` at once is rejected. Raises `OSError`."""
        host, port, _ = self.address
        backlog, per_address = startup
        if self.kind == IWARP:
            return await create_server(
                factory, host, port, options=options, backlog=backlog, per_address=per_address, max_connections=most
            )
        server = TcpServer()
        await server.open(factory, host, port, backlog)
        return server

    async def connect(self, factory: Factory, options: StreamOptions) -> None:
        """Connect to here; raises `OSError`."""
        host, port, _ = self.address
        if self.kind == IWARP:
            await create_connection(factory, host, port, options=options)
        else:
            await asyncio.get_running_loop().create_connection(factory, host, port)
