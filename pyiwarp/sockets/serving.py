"""Servers: a stream with a protocol of its own for every peer that asks for one."""

from __future__ import annotations

import asyncio
import logging
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Final, Self

from pyiwarp import IwarpError, UsageError, cm
from pyiwarp.sockets.connecting import accept, reject
from pyiwarp.sockets.errors import NotSpoken
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.transport import StreamTransport

__all__ = ["MAX_STREAMS", "StreamServer", "create_server"]

log = logging.getLogger(__name__)

MAX_STREAMS: Final = 1024
"""How many streams a server has at once by default; each has its ring (RFC 5042 §6.4)."""


class StreamServer(asyncio.AbstractServer):
    """Serves peers with protocols of the program's; made by `create_server`. `async with` closes it.

    As with asyncio's servers, `close` ends no stream that is open, and `wait_closed` waits for the end of all of them.
    """

    def __init__(
        self,
        listener: cm.Listener,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        options: StreamOptions,
        max_connections: int | None,
    ) -> None:
        self._listener = listener
        self._protocol_factory = protocol_factory
        self._options = options
        self._max_connections = max_connections
        self._loop = asyncio.get_running_loop()
        self._transports: set[StreamTransport] = set()
        self._acceptor: asyncio.Task[None] | None = None
        self._forever: asyncio.Future[None] | None = None
        self._all_over: asyncio.Future[None] = self._loop.create_future()
        self._closed = False
        self._over_limit = 0
        self._log = cm.FoldedLog(log)

    def __repr__(self) -> str:
        return f"<StreamServer {self._listener!r} {len(self._transports)} streams>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()

    @property
    def port(self) -> int:
        """The TCP port that is served; 0 once the server is closed."""
        return self._listener.port

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The sockets that listen, to look at; none once the server is closed."""
        return self._listener.sockets

    @property
    def counters(self) -> cm.ListenerCounters:
        """What has come, and what became of it."""
        return self._listener.counters._replace(over_limit=self._over_limit)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that it runs on."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether peers are taken."""
        return self._acceptor is not None

    async def start_serving(self) -> None:
        """Take peers from now on; those that have asked before wait until then."""
        if self._closed:
            raise RuntimeError(f"server {self!r} is closed")
        if self._acceptor is None:
            self._acceptor = self._loop.create_task(self._accept_all())
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Serve until this is cancelled; then the server is closed."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        await self.start_serving()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Take no more peers. Twice does nothing."""
        if self._closed:
            return
        self._closed = True
        self._listener.close()
        if self._acceptor is not None:
            self._acceptor.cancel()
            self._acceptor = None
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        self._tell_if_all_over()

    def close_clients(self) -> None:
        """Close every stream: what was written is sent first."""
        for transport in list(self._transports):
            transport.close()

    def abort_clients(self) -> None:
        """End every stream at once."""
        for transport in list(self._transports):
            transport.abort()

    async def wait_closed(self) -> None:
        """Wait until the server is closed and its streams have ended."""
        await asyncio.shield(self._all_over)

    async def _accept_all(self) -> None:
        async for request in self._listener:
            try:
                self._take(request)
            except (IwarpError, OSError) as error:
                self._log.say(logging.INFO, f"a peer is not served, {type(error).__name__}", f"{request!r}: {error}")
            except Exception:
                log.exception("%r is not served", request)

    def _take(self, request: cm.ConnectRequest) -> None:
        """Make a stream of what the peer asks for; it is rejected if that fails."""
        if self._max_connections is not None and len(self._transports) >= self._max_connections:
            self._over_limit += 1
            reject(request)
            raise NotSpoken(f"the server has {self._max_connections} streams")
        self._transports.add(accept(request, self._options, self._protocol_factory, self._over))

    def _over(self, transport: StreamTransport) -> None:
        self._transports.discard(transport)
        self._tell_if_all_over()

    def _tell_if_all_over(self) -> None:
        if self._closed and not self._transports and not self._all_over.done():
            self._all_over.set_result(None)


async def create_server(
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    host: str | None = None,
    port: int = 0,
    *,
    options: StreamOptions | None = None,
    backlog: int = cm.DEFAULT_BACKLOG,
    per_address: int = cm.PER_ADDRESS,
    max_connections: int | None = MAX_STREAMS,
    start_serving: bool = True,
) -> StreamServer:
    """Serve rsockets programs on `host` (None is every address) and `port`; as `loop.create_server`.

    Each peer has a protocol that `protocol_factory` makes. Peers beyond `max_connections` at once are rejected;
    `backlog` and `per_address` bound the peers in startup, as in `pyiwarp.listen`. Raises `OSError` if an address
    cannot be bound, `UsageError` for a limit below 1.
    """
    if max_connections is not None and max_connections < 1:
        raise UsageError(f"max_connections is {max_connections}; a server takes 1 or more, None for any number")
    options = options or StreamOptions()
    below = options.connection
    listener = await cm.listen(
        host,
        port,
        below.offer(b""),
        backlog=backlog,
        per_address=per_address,
        make_tap=lambda: below.tap(initiator=False),
    )
    server = StreamServer(listener, protocol_factory, options, max_connections)
    if start_serving:
        await server.start_serving()
    return server
