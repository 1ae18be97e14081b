"""From an address, or a peer that asks, to a transport: the verbs objects of one stream, and MPA startup with them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol, TypeVar

from pyiwarp import ConnectionLost, Context, IwarpError, Rejected, StartupError, UsageError, cm
from pyiwarp.codes import Rtr
from pyiwarp.sockets.engine import Engine, cap_for
from pyiwarp.sockets.errors import NotSpoken, StreamLost
from pyiwarp.sockets.options import StreamOptions
from pyiwarp.sockets.transport import StreamTransport
from pyiwarp.sockets.wire import Hello

__all__ = ["Stream", "accept", "create_connection", "reject"]

P = TypeVar("P", bound=asyncio.BaseProtocol)


class Below(Protocol):
    """The TCP connection below, as far as programs ask for it."""

    @property
    def tcp_socket(self) -> Any:
        """The TCP socket, to look at."""

    def limit_silence(self, keepalive: float | None, user_timeout: float | None) -> None:
        """Let TCP find out that the peer is gone."""

    @property
    def peer_addr(self) -> tuple[Any, ...] | None:
        """The peer's address."""

    @property
    def local_addr(self) -> tuple[Any, ...] | None:
        """This side's address."""


class Stream:
    """The verbs objects of one stream: a protection domain that nothing else shares, a queue pair, the engine."""

    def __init__(self, options: StreamOptions) -> None:
        self.options = options
        self._pd = Context().alloc_pd()
        context, cap = self._pd.context, cap_for(options)
        cq = context.create_cq(cap.max_send_wr + cap.max_recv_wr + 1)
        self.qp = self._pd.create_qp(cq, cq, cap, options.connection.of_queue_pair())
        self.engine = Engine(self._pd, self.qp, options)

    def offer(self) -> Any:
        """What this side brings to MPA startup."""
        return self.options.connection.offer(self.engine.hello)

    def transport(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: asyncio.BaseProtocol,
        below: Below,
        on_over: Callable[[StreamTransport], object] | None = None,
    ) -> StreamTransport:
        """The transport of a stream that is connected; `on_over` is called when it is over."""

        def release() -> None:
            self.close()
            if on_over is not None:
                on_over(transport)

        below.limit_silence(self.options.connection.keepalive, self.options.connection.user_timeout)
        transport = StreamTransport(loop, self.qp, self.engine, protocol, release, self.options.keepalive)
        transport.begin(
            {
                "peername": below.peer_addr,
                "sockname": below.local_addr,
                "socket": below.tcp_socket,
                "agreement": self.qp.stream.agreement,
            }
        )
        return transport

    def close(self) -> None:
        """Give everything up; a connection that still is there is reset."""
        self.qp.close()
        self._pd.context.close()


async def create_connection(
    protocol_factory: Callable[[], P],
    host: str | None = None,
    port: int | None = None,
    *,
    options: StreamOptions | None = None,
    local_host: str | None = None,
    sock: socket.socket | None = None,
) -> tuple[StreamTransport, P]:
    """Connect to the rsockets program that listens on `host` and `port`; as `loop.create_connection`.

    `local_host` is the address to leave from. `sock` is a TCP socket that is connected already, instead of an address;
    it is the stream's from now on. Raises `ConnectionRefusedError` if nobody listens there, or as
    `NotSpoken` if the peer rejects the stream, or speaks no MPA or no rsockets; `TimeoutError` if it does not answer
    in time; another `OSError` if TCP cannot be established. Cancelling leaves nothing behind.
    """
    loop = asyncio.get_running_loop()
    host, port = _where(host, port, sock)
    stream = Stream(options or StreamOptions())
    # nothing opens the connection but the first SGL word, as with librdmacm
    offer = replace(stream.offer(), rtr=Rtr(0), open_at_once=False)
    tap = stream.options.connection.tap(initiator=True)
    try:
        llp = await cm.connect(stream.qp, host, port, offer, local_host=local_host, tap=tap, sock=sock)
        stream.engine.begin(stream.qp.stream.agreement.private_data)
        protocol = protocol_factory()
        return stream.transport(loop, protocol, llp), protocol
    except BaseException as error:
        stream.close()
        if isinstance(error, IwarpError) and not isinstance(error, OSError):
            raise _as_os_error(error, host, port) from error
        raise


def _where(host: str | None, port: int | None, sock: socket.socket | None) -> tuple[str, int]:
    """The peer's address, whoever connects to it."""
    if sock is None and host is not None and port is not None:
        return host, port
    if sock is None or host is not None or port is not None:
        raise UsageError("a stream is connected to host and port, or on sock, which is connected already")
    host, port, *_ = sock.getpeername()
    return str(host), int(port)


def accept(
    request: cm.ConnectRequest,
    options: StreamOptions,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    on_over: Callable[[StreamTransport], object] | None = None,
) -> StreamTransport:
    """Make a stream of what a peer asks for; the peer is rejected if that fails, and the error is raised."""
    stream: Stream | None = None
    try:
        Hello.parse(request.private_data)
        protocol = protocol_factory()
        stream = Stream(options)
        llp = request.accept(stream.qp, stream.offer())
        stream.engine.begin(request.private_data)
    except BaseException:
        if stream is not None:
            stream.close()
        reject(request)
        raise
    return stream.transport(asyncio.get_running_loop(), protocol, llp, on_over)


def reject(request: cm.ConnectRequest) -> None:
    """Refuse a peer, if it has no answer yet and has not left."""
    with suppress(UsageError, ConnectionLost):
        request.reject()


def _as_os_error(error: IwarpError, host: str, port: int) -> OSError:
    """What a sockets program is told when there is no stream."""
    if isinstance(error, Rejected):
        return NotSpoken(f"{host} port {port} rejects the stream: {error}")
    if isinstance(error, StartupError):
        return NotSpoken(f"{host} port {port} speaks no rsockets over MPA: {error}")
    return StreamLost(f"the connection to {host} port {port} was lost: {error}")
