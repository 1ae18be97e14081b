"""Making connections: `connect`, `listen` and `serve`, the awaitable way into the stack.

In MPA the accepting side sends FPDUs only after the connecting side has (RFC 5044 §7.1.2 rule 4). `connect` does that
with an empty Write, agreed with the peer where it knows how (RFC 6581 §9.2), so either side may send first.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pyiwarp import cm
from pyiwarp.cm.foldedlog import FoldedLog
from pyiwarp.cm.unclosed import warn_unclosed
from pyiwarp.connections.awaitable import Connection
from pyiwarp.connections.endpoint import PeerRequest, new_connection
from pyiwarp.connections.options import Options, options_for
from pyiwarp.drivers.asyncio_driver import AsyncioDriver
from pyiwarp.errors import ConnectionLost, TerminatedByPeer, UsageError, WrongState
from pyiwarp.queues.waiting import running_loop
from pyiwarp.verbs import ProtectionDomain

__all__ = ["Listener", "Request", "Server", "connect", "listen", "serve"]

log = logging.getLogger(__name__)

MAX_CONNECTIONS: Final = 1024
"""How many connections a server has at once by default; each has its receives and its task (RFC 5042 §6.4)."""

CLOSING_LINGER: Final = 0.5
"""How long a server that is closed waits for each peer to end its connection, in seconds, if `linger` is not less."""


T = TypeVar("T", bound=AbstractAsyncContextManager[Any])


class Opening(Coroutine[Any, Any, T]):
    """What `connect`, `listen` and `serve` return: await it, or enter it with `async with`."""

    __slots__ = ("_coroutine", "_opened")

    def __init__(self, coroutine: Coroutine[Any, Any, T]) -> None:
        self._coroutine = coroutine
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._coroutine.__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._coroutine
        return self._opened

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        assert self._opened is not None
        await self._opened.__aexit__(kind, error, trace)

    def send(self, value: Any) -> Any:
        """Go on, as of any coroutine; for event loops."""
        return self._coroutine.send(value)

    def throw(self, kind: Any, value: Any = None, trace: Any = None) -> Any:
        """Go on with an exception, as of any coroutine; for event loops."""
        return self._coroutine.throw(kind if value is None else value)

    def close(self) -> None:
        """Give it up, as of any coroutine."""
        self._coroutine.close()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(
                f"{name!r} is not there before it is awaited: `await pyiwarp.connect(...)`, or `async with`; "
                "pyiwarp.blocking is for programs without an event loop",
                name=name,
                obj=self,
            )


def connect(
    host: str,
    port: int,
    *,
    private_data: bytes = b"",
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
) -> Opening[Connection]:
    """Connect to the iWARP peer on `host` and `port`; `await` the result or use it with `async with`.

    A block that ends normally closes the connection gracefully. One that is left by an exception resets it, so that the
    peer does not take what it has for all (RFC 5041 §6.2); an error that tells of the peer's end closes it gracefully.
    `private_data` goes along with the MPA Request: at most 508 octets, or 512 in revision 1. `pd` shares a
    protection domain between connections. Raises `OSError` if TCP cannot be established, `Rejected`,
    `StartupTimeout` or another `StartupError` if startup fails, `ConnectionLost`. Cancelling leaves nothing behind.
    """
    options = options_for(pd, options)

    async def make() -> Connection:
        running_loop()
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

    return Opening(make())


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

    def __del__(self) -> None:
        if self._listener.is_open:
            warn_unclosed(self)

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

    @property
    def counters(self) -> cm.ListenerCounters:
        """What has come, and what became of it."""
        return self._listener.counters

    async def get_request(self) -> Request:
        """The next peer; raises `Closed` when the listener is closed. Cancelling loses none."""
        return Request(await self._listener.get_request(), self._pd, self._options)

    def close(self) -> None:
        """Stop listening; accepted connections go on."""
        self._listener.close()


def listen(
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
    backlog: int = cm.DEFAULT_BACKLOG,
    per_address: int = cm.PER_ADDRESS,
) -> Opening[Listener]:
    """Listen for peers on `host` (None is every address) and `port` (0 lets the system choose, one for all addresses).

    At most `backlog` connections are in startup or wait for a decision, `per_address` of them from one address. When
    there are more, the oldest that owes its MPA Request is closed (RFC 5042 §6.4); `Listener.counters` counts them.
    With `sock` the listener takes over a TCP socket that the program has bound, as systemd does for its services, and
    closes it at its end; `host` and `port` are not given then.
    Raises `OSError` if an address cannot be bound, `UsageError` for a bound below 1 or a `sock` that is none.
    """
    options = options_for(pd, options)

    async def make() -> Listener:
        listener = await cm.listen(
            host,
            port,
            options.offer(b""),
            sock=sock,
            backlog=backlog,
            per_address=per_address,
            make_tap=lambda: options.tap(initiator=False),
        )
        return Listener(listener, pd, options)

    return Opening(make())


Handler = Callable[[Connection], Awaitable[None]]
Accept = Callable[[Request], bytes | Awaitable[bytes | None] | None]


class Server:
    """Serves every peer with a handler of its own task; made by `serve`."""

    def __init__(self, handler: Handler, accept: Accept, listener: Listener, max_connections: int | None) -> None:
        self._handler = handler
        self._accept = accept
        self._listener = listener
        self._max_connections = max_connections
        self._over_limit = 0
        self._log = FoldedLog(log)
        self._tasks: dict[asyncio.Task[None], Request] = {}
        self._acceptor: asyncio.Task[None] | None = running_loop().create_task(self._accept_all())

    def __repr__(self) -> str:
        return f"<Server port {self.port} {len(self._tasks)} connections>"

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @property
    def port(self) -> int:
        """The TCP port that is served; 0 once the server is closed."""
        return self._listener.port

    @property
    def counters(self) -> cm.ListenerCounters:
        """What has come, and what became of it."""
        return self._listener.counters._replace(over_limit=self._over_limit)

    async def serve_forever(self) -> None:
        """Serve until this is cancelled, or until `wait_closed` returns after `stop_accepting`."""
        if self._acceptor is None:
            raise UsageError("the server is closed")
        await asyncio.shield(self._acceptor)
        await self.wait_closed()

    def stop_accepting(self) -> None:
        """Stop listening; the handlers that run go on. Twice does nothing.

        A peer whose Request was not looked at yet is reset. Use `wait_closed` to wait for the handlers, `close` to
        cancel them.
        """
        self._listener.close()

    async def wait_closed(self) -> None:
        """Wait until the server accepts nobody any more and the last handler has returned.

        Cancelling stops the wait and nothing else.
        """
        while tasks := [task for task in (self._acceptor, *self._tasks) if task is not None and not task.done()]:
            await asyncio.wait(tasks)

    async def close(self) -> None:
        """Stop listening, cancel the handlers, and wait for them. Twice does nothing.

        The connections end gracefully; a peer that has not ended its own after `CLOSING_LINGER` seconds is reset.
        """
        self._listener.close()
        tasks = [*self._tasks, *([self._acceptor] if self._acceptor else [])]
        requests = list(self._tasks.values())
        self._acceptor = None
        for task in tasks:
            task.cancel()
        for request in requests:  # a task that is cancelled before it has begun answers nobody
            await _refuse(request)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept_all(self) -> None:
        async for request in self._listener:
            if self._max_connections is not None and len(self._tasks) >= self._max_connections:
                self._over_limit += 1
                await _refuse(request)
                continue
            task = asyncio.get_running_loop().create_task(self._serve_one(request))
            self._tasks[task] = request
            task.add_done_callback(self._tasks.pop)

    async def _serve_one(self, request: Request) -> None:
        """One peer from its Request to its end; its errors are its own."""
        connection = await self._accepted(request)
        if connection is None:
            return
        try:
            await self._handler(connection)
        except BaseException as error:
            if connection.tells_of_the_end(error):
                log.info("%r ended: %s", request, error)
            elif isinstance(error, TerminatedByPeer) and error is connection.close_reason:
                connection.abort()
                self._log.say(logging.WARNING, "a peer has terminated its stream", f"{request!r}: {error}")
            elif not _is_cancelled(error):
                # a graceful end would tell the peer that all has been said (RFC 5041 §6.2)
                connection.abort()
                log.error("the handler of %r failed", request, exc_info=error)
            if not isinstance(error, Exception | asyncio.CancelledError):
                raise  # the interpreter is asked to end
        await self._end(connection)

    async def _end(self, connection: Connection) -> None:
        """End a connection gracefully: within `linger`, and earlier if the server itself ends."""
        if self._acceptor is not None:
            await connection.close()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_LINGER):
                await connection.close()

    async def _accepted(self, request: Request) -> Connection | None:
        """The connection, or None: then the peer was rejected, or has left. No peer is left without an answer."""
        try:
            reply = self._accept(request)
            if inspect.isawaitable(reply):
                reply = await reply
            if reply is not None:
                return await request.accept(_octets(reply))
            await _refuse(request)
        except BaseException as error:
            await _refuse(request)
            if not isinstance(error, Exception):
                raise
            if isinstance(error, ConnectionLost):
                log.info("%r ended: %s", request, error)
            else:
                log.error("%r is rejected: the program's accept failed", request, exc_info=error)
        return None


def _octets(reply: object) -> bytes:
    """What `accept` has returned, as private data of the Reply."""
    if not isinstance(reply, bytes | bytearray | memoryview):
        raise UsageError(f"accept returned {reply!r}; it returns bytes for the Reply, or None to reject")
    return bytes(reply)


async def _refuse(request: Request) -> None:
    """Reject a peer that may have left, or has its answer already."""
    with suppress(ConnectionLost, WrongState):
        await request.reject()


def _is_cancelled(error: BaseException) -> bool:
    """Whether the server ends the task; a handler may also raise `CancelledError` by itself."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


def serve(
    handler: Handler,
    host: str | None = None,
    port: int = 0,
    *,
    sock: socket.socket | None = None,
    accept: Accept = lambda request: b"",
    options: Options | None = None,
    pd: ProtectionDomain | None = None,
    backlog: int = cm.DEFAULT_BACKLOG,
    per_address: int = cm.PER_ADDRESS,
    max_connections: int | None = MAX_CONNECTIONS,
) -> Opening[Server]:
    """Serve every peer that connects with a call of `handler`, each in a task of its own.

    Await it, or use it with `async with`, which closes the server: `Server.close`.
    `accept` looks at a Request and returns the private data of the Reply, or None to reject; it may be a coroutine
    function. If it raises, or returns anything else, the peer is rejected and the error logged. More than
    `max_connections` at once are rejected; `sock`, `backlog` and `per_address` are as for `listen`.

    The connection is closed when the handler returns. If the handler raises, that is logged with its traceback and the
    connection is reset, so that the peer does not take it for a graceful end (RFC 5041 §6.2); an end that is the
    peer's doing (`Disconnected`, `ConnectionLost`, its violation of the protocol) is logged at INFO, a Terminate of the
    peer, which may tell of a fault of the program, at WARNING in one line. Raises `OSError` if an address cannot be
    bound, `UsageError` for a limit below 1.
    """
    if max_connections is not None and max_connections < 1:
        raise UsageError(f"max_connections is {max_connections}; a server takes 1 or more, None for any number")

    async def make() -> Server:
        listener = await listen(host, port, sock=sock, options=options, pd=pd, backlog=backlog, per_address=per_address)
        return Server(handler, accept, listener, max_connections)

    return Opening(make())
