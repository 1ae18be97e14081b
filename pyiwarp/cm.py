"""The connection manager: MPA startup on sockets, from a queue pair that is IDLE to one that is RTS.

`connect` is the Initiator's side, `listen` the Responder's. Nothing here knows what travels on the connection later.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from types import TracebackType
from typing import Final

from pyiwarp.capture import Tap
from pyiwarp.errors import (
    Closed,
    ConnectionLost,
    SetupFailed,
    StartupError,
    StartupTimeout,
    UsageError,
    WrongState,
)
from pyiwarp.llp import Llp
from pyiwarp.qp import QpState, QueuePair
from pyiwarp.startup import Agreement, Offer, Role, Startup, StartupFrameRead, StartupState
from pyiwarp.verbs import Context

__all__ = ["ConnectRequest", "Listener", "connect", "listen"]

log = logging.getLogger(__name__)

DEFAULT_BACKLOG: Final = 128


def _check_idle(qp: QueuePair) -> None:
    if qp.state is not QpState.IDLE:
        raise WrongState(f"only a queue pair that is IDLE can be connected: {qp!r}")


def _begin(qp: QueuePair, llp: Llp, agreement: Agreement, prologue: bytes = b"") -> None:
    """Full Operation: the queue pair takes the driver over from startup."""
    qp.on_output = llp.kick
    qp.connect(agreement, prologue)
    llp.exchange(qp)


def _apologize(llp: Llp, agreement: Agreement, error: UsageError) -> SetupFailed:
    """Full Operation cannot begin with the program's queue pair: one of nobody's says so (MPA2-6581-9.3-02)."""
    fault = SetupFailed(str(error))
    pd = Context().alloc_pd()
    cq = pd.context.create_cq(1)
    _begin(pd.create_qp(cq, cq), llp, replace(agreement, fault=fault))
    return fault


async def connect(
    qp: QueuePair,
    host: str,
    port: int,
    offer: Offer | None = None,
    *,
    local_host: str | None = None,
    tap: Tap | None = None,
) -> Llp:
    """Connect `qp` to the iWARP peer that listens on `host` and `port` (RFC 5044 §7.1.2, Initiator).

    Returns when the accepting Reply has come; its private data is in `qp.stream.agreement`. Raises `OSError` if TCP
    cannot be established, `Rejected`, `StartupTimeout` or another `StartupError`, or `ConnectionLost`. Cancelling
    aborts the connection; the queue pair is then as it was.
    """
    _check_idle(qp)
    offer = offer or Offer()
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[None] = loop.create_future()

    def on_outcome(startup: Startup) -> None:
        failed: StartupError | None = None
        if startup.state is StartupState.ACCEPTED:
            assert startup.agreement is not None, "an accepted startup has its agreement"
            try:
                _begin(qp, llp, startup.agreement)
                failed = startup.agreement.fault
            except UsageError as error:  # the queue pair was closed or connected elsewhere meanwhile
                failed = _apologize(llp, startup.agreement, error)
        if outcome.done():
            return
        fault = startup.error or failed
        if fault:
            outcome.set_exception(fault)
        else:
            outcome.set_result(None)

    llp = Llp(Startup(Role.INITIATOR, offer, on_outcome), loop, tap)
    local = None if local_host is None else (local_host, 0)
    try:
        try:
            async with asyncio.timeout(offer.timeout):
                await loop.create_connection(lambda: llp, host, port, local_addr=local)
        except TimeoutError as error:
            message = f"TCP to {host} port {port} was not established within {offer.timeout:g} s"
            raise StartupTimeout(message) from error
        await outcome
    except BaseException:
        if isinstance(llp.pump, Startup):  # else a queue pair has taken over and ends the connection in order
            llp.abort()
        raise
    finally:
        if not outcome.cancel() and not outcome.cancelled():
            outcome.exception()  # when this was cancelled nobody else asks, and the loop would complain
    return llp


class ConnectRequest:
    """An MPA Request that waits for this side's decision."""

    def __init__(self, startup: Startup, llp: Llp) -> None:
        self._startup = startup
        self._llp = llp

    def __repr__(self) -> str:
        return f"<ConnectRequest from {self.peername} {self._startup.state.value}>"

    @property
    def frame(self) -> StartupFrameRead:
        """The Request as it came: revision, flags, IRD and ORD."""
        return self._startup.request

    @property
    def private_data(self) -> bytes:
        """What the Initiator's program had to say."""
        return self._startup.request.private_data

    @property
    def peername(self) -> str:
        """The Initiator's address."""
        return self._llp.peername

    def accept(self, qp: QueuePair, offer: Offer | None = None) -> Llp:
        """Accept with `qp` and what `offer` brings: receives that the Initiator relies on are posted before.

        Raises `ConnectionLost` if the Initiator has left meanwhile, `WrongState` if a decision was made before,
        `UsageError` if the private data does not fit the Reply.
        """
        self._check_there()
        _check_idle(qp)
        agreement, reply = self._startup.accept(offer or Offer())
        _begin(qp, self._llp, agreement, reply)
        return self._llp

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse; the Initiator is told and given `private_data` (RFC 5044 §7.1.2 rule 2)."""
        self._check_there()
        self._startup.reject(private_data)
        self._llp.kick()

    def _check_there(self) -> None:
        if self._startup.state is StartupState.FAILED:
            raise ConnectionLost(f"the Initiator left before the decision: {self._startup.error}")


class Listener:
    """Waits for Initiators; an asynchronous iterator of their Requests.

    At most `backlog` connections are in startup or wait for a decision; more are closed as they come, so that
    strangers cannot fill the memory (RFC 5042 §6.4).
    """

    def __init__(self, offer: Offer, backlog: int, make_tap: Callable[[], Tap | None]) -> None:
        self._offer = offer
        self._make_tap = make_tap
        self._backlog = backlog
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._starting: set[Llp] = set()
        self._taken: set[Llp] = set()  # of those: their Request is in the program's hands
        self._requests: asyncio.Queue[ConnectRequest | None] = asyncio.Queue()
        self._waiting: set[ConnectRequest] = set()

    def __repr__(self) -> str:
        return f"<Listener port {self.port} {len(self._starting)} starting {len(self._waiting)} waiting>"

    async def __aenter__(self) -> Listener:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __aiter__(self) -> AsyncIterator[ConnectRequest]:
        return self

    async def __anext__(self) -> ConnectRequest:
        try:
            return await self.get_request()
        except Closed:
            raise StopAsyncIteration from None

    @property
    def port(self) -> int:
        """The TCP port; the one that the system chose if 0 was asked for."""
        if self._server is None or not self._server.sockets:
            return 0
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def get_request(self) -> ConnectRequest:
        """The next Request; raises `Closed` once the listener is closed. Cancelling loses none."""
        while True:
            if self._server is None and self._requests.empty():
                raise Closed(f"the listener is closed: {self!r}")
            request = await self._requests.get()
            if request is None:
                self._requests.put_nowait(None)  # for whoever waits too
                raise Closed(f"the listener is closed: {self!r}")
            if request in self._waiting:  # else its Initiator has left
                self._waiting.discard(request)
                self._taken.add(request._llp)
                return request

    def close(self) -> None:
        """Stop listening; connections whose Request was not taken are aborted. Twice does nothing."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for llp in self._starting - self._taken:
            llp.abort()
        self._requests.put_nowait(None)

    async def _open(self, host: str | None, port: int) -> None:
        self._server = await self._loop.create_server(self._make_protocol, host, port, reuse_address=True)

    def _make_protocol(self) -> Llp:
        request: list[ConnectRequest] = []

        def on_outcome(startup: Startup) -> None:
            if startup.state is StartupState.DECIDING:
                request.append(ConnectRequest(startup, llp))
                self._waiting.add(request[0])
                self._requests.put_nowait(request[0])
                return
            if startup.state is StartupState.FAILED:
                log.info("startup with %s failed: %s", llp.peername, startup.error)
            if request:
                self._waiting.discard(request[0])

        llp = Llp(Startup(Role.RESPONDER, self._offer, on_outcome), self._loop, self._make_tap())
        if len(self._starting) >= self._backlog:
            log.warning("%d connections are in startup: a new one is closed", len(self._starting))
            llp.abort()  # as soon as it has its transport
        self._starting.add(llp)
        llp.closed.add_done_callback(lambda _: self._decided(llp))
        llp.exchanged = lambda: self._decided(llp)
        return llp

    def _decided(self, llp: Llp) -> None:
        self._starting.discard(llp)
        self._taken.discard(llp)


async def listen(
    host: str | None,
    port: int,
    offer: Offer | None = None,
    *,
    backlog: int = DEFAULT_BACKLOG,
    make_tap: Callable[[], Tap | None] = lambda: None,
) -> Listener:
    """Listen for Initiators on `host` (None is every address) and `port` (0 lets the system choose).

    `offer` gives the time limit of the wait for Requests; what a connection offers is said when it is accepted.
    `make_tap` is called for each TCP connection.
    Raises `OSError` if the address cannot be had.
    """
    listener = Listener(offer or Offer(), backlog, make_tap)
    await listener._open(host, port)
    return listener
