"""Making connections: `connect`, `listen` and `serve`, the awaitable way into the stack.

In MPA the accepting side sends FPDUs only after the connecting side has (RFC 5044 §7.1.2 rule 4). `connect` does that
with an empty Write, agreed with the peer where it knows how (RFC 6581 §9.2), so either side may send first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Generator
from typing import Any

from pyiwarp import cm
from pyiwarp.connections.awaitable import Connection, Options
from pyiwarp.connections.endpoint import PeerRequest, new_connection, options_for
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import ConnectionLost, IwarpError, UsageError
from pyiwarp.verbs import ProtectionDomain

__all__ = ["Listener", "Request", "Server", "connect", "listen", "serve"]

log = logging.getLogger(__name__)


class _Connecting:
    """What `connect` returns: await it, or enter it with `async with`."""

    def __init__(self, make: Callable[[], Awaitable[Connection]]) -> None:
        self._make = make
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._make().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._make()
        return self._connection

    async def __aexit__(self, *exc: object) -> None:
        assert self._connection is not None
        await self._connection.close()


def connect(
    host: str,
    port: int,
    *,
    private_data: bytes = b"",
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
) -> _Connecting:
    """Connect to the iWARP peer on `host` and `port`; `await` the result or use it with `async with`.

    `private_data` goes along with the MPA Request: at most 508 octets, or 512 in revision 1. `pd` shares a
    protection domain between connections. Raises `OSError` if TCP cannot be established, `Rejected`,
    `StartupTimeout` or another `StartupError` if startup fails, `ConnectionLost`. Cancelling leaves nothing behind.
    """
    options = options_for(pd, options)

    async def make() -> Connection:
        with new_connection(Connection, pd, options) as connection:

            def attempt(options: Options) -> Awaitable[AsyncioDriver]:
                offer = options.offer(private_data)
                return cm.connect(connection.qp, host, port, offer, tap=options.tap(initiator=True))

            try:
                llp = await attempt(options)
            except ConnectionLost:
                second = options.second_try()
                if second is None:
                    raise
                llp = await attempt(second)
            connection.attach(llp)
        return connection

    return _Connecting(make)


class Request(PeerRequest[AsyncioDriver]):
    """A peer that wants to connect; accept it or reject it."""

    async def accept(self, private_data: bytes = b"", *, options: Options | None = None) -> Connection:
        """Accept, with `private_data` for the peer. Raises `ConnectionLost` if it has left meanwhile."""
        options = options or self._options
        with new_connection(Connection, self._pd, options) as connection:
            connection.attach(self._request.accept(connection.qp, options.offer(private_data)))
        return connection

    async def reject(self, private_data: bytes = b"") -> None:
        """Refuse; the peer's `connect` raises `Rejected` with `private_data`."""
        self._request.reject(private_data)


class Listener:
    """Waits for peers; `async for request in listener` gives them. `async with` closes it."""

    def __init__(self, listener: cm.Listener, pd: ProtectionDomain | None, options: Options) -> None:
        self._listener = listener
        self._pd = pd
        self._options = options

    def __repr__(self) -> str:
        return repr(self._listener)

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> Request:
        return Request(await self._listener.__anext__(), self._pd, self._options)

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return self._listener.port

    async def get_request(self) -> Request:
        """The next peer; raises `Closed` when the listener is closed. Cancelling loses none."""
        return Request(await self._listener.get_request(), self._pd, self._options)

    def close(self) -> None:
        """Stop listening; accepted connections go on."""
        self._listener.close()


async def listen(
    host: str | None = None,
    port: int = 0,
    *,
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
    backlog: int = cm.DEFAULT_BACKLOG,
) -> Listener:
    """Listen for peers on `host` (None is every address) and `port` (0 lets the system choose).

    Raises `OSError` if the address cannot be bound.
    """
    options = options_for(pd, options)
    return Listener(
        await cm.listen(host, port, options.offer(b""), backlog=backlog, make_tap=lambda: options.tap(initiator=False)),
        pd,
        options,
    )


Handler = Callable[[Connection], Awaitable[None]]


class Server:
    """Serves every peer with a handler of its own task; made by `serve`."""

    def __init__(self, handler: Handler, accept: Callable[[Request], bytes | None], listener: Listener) -> None:
        self._handler = handler
        self._accept = accept
        self._listener = listener
        self._tasks: set[asyncio.Task[None]] = set()
        self._acceptor: asyncio.Task[None] | None = asyncio.get_running_loop().create_task(self._accept_all())

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The TCP port that is served; 0 once the server is closed."""
        return self._listener.port

    async def serve_forever(self) -> None:
        """Serve until this is cancelled."""
        if self._acceptor is None:
            raise UsageError("the server is closed")
        await asyncio.shield(self._acceptor)

    async def close(self) -> None:
        """Stop listening, cancel the handlers, and wait for them. Twice does nothing."""
        self._listener.close()
        tasks = [*self._tasks, *([self._acceptor] if self._acceptor else [])]
        self._acceptor = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept_all(self) -> None:
        async for request in self._listener:
            task = asyncio.get_running_loop().create_task(self._serve_one(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve_one(self, request: Request) -> None:
        """One peer from its Request to its end; its errors are its own."""
        try:
            try:
                reply = self._accept(request)
            except Exception:
                await request.reject()
                raise
            if reply is None:
                await request.reject()
                return
            async with await request.accept(reply) as connection:
                await self._handler(connection)
        except (IwarpError, OSError) as error:
            log.info("%r ended: %s", request, error)
        except Exception:
            log.exception("the handler of %r failed", request)


async def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    accept: Callable[[Request], bytes | None] = lambda request: b"",
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
) -> Server:
    """Serve every peer that connects with a call of `handler`, each in a task of its own.

    `accept` looks at a Request and returns the private data of the Reply, or None to reject. The connection is
    closed when the handler returns. Raises `OSError` if the address cannot be bound.
    """
    return Server(handler, accept, await listen(host, port, options=options, pd=pd))
