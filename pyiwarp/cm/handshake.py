"""MPA startup between a driver and a queue pair, for either driver: the part that both connection managers share.

`initiate` is the Initiator's side, `Reception` the Responder's: it bounds how many connections may be in startup.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from pyiwarp.errors import ConnectionLost, IwarpError, SetupFailed, StartupTimeout, UsageError, WrongState
from pyiwarp.negotiation import Agreement, Offer, Role, StartupFrameRead
from pyiwarp.pump import Driver
from pyiwarp.queues.qp import QpState, QueuePair
from pyiwarp.startup import Startup, StartupState
from pyiwarp.verbs import Context

__all__ = ["DEFAULT_BACKLOG", "ConnectRequest", "Reception", "check_idle", "initiate", "not_established"]

log = logging.getLogger(__name__)

DEFAULT_BACKLOG: Final = 128
"""How many connections of one listener may be in startup or wait for a decision."""

D = TypeVar("D", bound=Driver)


def check_idle(qp: QueuePair) -> None:
    """Raise `WrongState` unless the queue pair can be connected."""
    if qp.state is not QpState.IDLE:
        raise WrongState(f"only a queue pair that is IDLE can be connected: {qp!r}")


def not_established(host: str, port: int, timeout: float) -> StartupTimeout:
    """The error for a TCP connection that was not established within `timeout` seconds."""
    return StartupTimeout(f"TCP to {host} port {port} was not established within {timeout:g} s")


def _begin(qp: QueuePair, driver: Driver, agreement: Agreement, prologue: bytes = b"") -> None:
    """Full Operation: the queue pair takes the driver over from startup."""
    qp.peer = driver.peername
    qp.on_output = driver.kick
    qp.connect(agreement, prologue)
    driver.exchange(qp)


def _terminate(driver: Driver, agreement: Agreement, error: UsageError) -> SetupFailed:
    """The program's queue pair cannot be connected: another one sends the Terminate (MPA2-6581-9.3-02)."""
    fault = SetupFailed(str(error))
    pd = Context().alloc_pd()
    cq = pd.context.create_cq(1)
    _begin(pd.create_qp(cq, cq), driver, replace(agreement, fault=fault))
    return fault


def initiate(
    qp: QueuePair, offer: Offer, make_driver: Callable[[Startup], D], done: Callable[[IwarpError | None], None]
) -> D:
    """Begin startup as Initiator (RFC 5044 §7.1.2) on the driver that `make_driver` makes for it.

    `done` is called once: with None when `qp` is in RTS, else with what went wrong.
    """

    def on_outcome(startup: Startup) -> None:
        failed: IwarpError | None = None
        if startup.state is StartupState.ACCEPTED:
            assert startup.agreement is not None, "an accepted startup has its agreement"
            try:
                _begin(qp, driver, startup.agreement)
                failed = startup.agreement.fault
            except UsageError as error:  # the queue pair was closed or connected elsewhere meanwhile
                failed = _terminate(driver, startup.agreement, error)
        done(startup.error or failed)

    driver = make_driver(Startup(Role.INITIATOR, offer, on_outcome))
    return driver


class ConnectRequest(Generic[D]):
    """An MPA Request that waits for this side's decision."""

    def __init__(self, startup: Startup, driver: D) -> None:
        self._startup = startup
        self.driver = driver

    def __repr__(self) -> str:
        return f"<ConnectRequest from {self.peername} {self._startup.state.value}>"

    @property
    def frame(self) -> StartupFrameRead:
        """The Request as it came: revision, flags, IRD and ORD."""
        return self._startup.request

    @property
    def private_data(self) -> bytes:
        """The private data of the Initiator's MPA Request."""
        return self._startup.request.private_data

    @property
    def peername(self) -> str:
        """The Initiator's address."""
        return self.driver.peername

    def accept(self, qp: QueuePair, offer: Offer | None = None) -> D:
        """Accept with `qp` and what `offer` brings: receives that the Initiator relies on are posted before.

        Raises `ConnectionLost` if the Initiator has left meanwhile, `WrongState` if a decision was made before,
        `UsageError` if the private data does not fit the Reply.
        """
        self._check_there()
        check_idle(qp)
        agreement, reply = self._startup.accept(offer or Offer())
        _begin(qp, self.driver, agreement, reply)
        return self.driver

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse: the Reply has the R flag and carries `private_data` (RFC 5044 §7.1.2 rule 2)."""
        self._check_there()
        self._startup.reject(private_data)
        self.driver.kick()

    def _check_there(self) -> None:
        if self._startup.state is StartupState.FAILED:
            raise ConnectionLost(f"the Initiator left before the decision: {self._startup.error}")


class Reception(Generic[D]):
    """The connections of one listener that are in startup or wait for a decision.

    At most `backlog` of them; more are closed as they come, so that unknown peers cannot fill the memory (RFC 5042
    §6.4).
    `on_request` is called with each good Request.
    """

    def __init__(self, offer: Offer, backlog: int, on_request: Callable[[ConnectRequest[D]], None]) -> None:
        self._offer = offer
        self._backlog = backlog
        self._on_request = on_request
        self._starting: set[D] = set()
        self._taken: set[D] = set()  # of those: their Request is in the program's hands
        self._waiting: set[ConnectRequest[D]] = set()

    def __repr__(self) -> str:
        return f"{len(self._starting)} starting {len(self._waiting)} waiting"

    def receive(self, make_driver: Callable[[Startup], D]) -> D:
        """Begin startup as Responder on the driver that `make_driver` makes for it."""
        request: list[ConnectRequest[D]] = []

        def on_outcome(startup: Startup) -> None:
            if startup.state is StartupState.DECIDING:
                request.append(ConnectRequest(startup, driver))
                self._waiting.add(request[0])
                self._on_request(request[0])
                return
            if startup.state is StartupState.FAILED:
                log.info("startup with %s failed: %s", driver.peername, startup.error)
            if request:
                self._waiting.discard(request[0])

        driver = make_driver(Startup(Role.RESPONDER, self._offer, on_outcome))
        full = len(self._starting) >= self._backlog
        self._starting.add(driver)
        if full:
            log.warning("%d connections are in startup: a new one is closed", self._backlog)
            driver.abort()  # as soon as it has its transport
        return driver

    def take(self, request: ConnectRequest[D]) -> bool:
        """The program takes `request`; returns False if its Initiator has left, so that there is nothing to decide."""
        if request not in self._waiting:
            return False
        self._waiting.discard(request)
        self._taken.add(request.driver)
        return True

    def decided(self, driver: D) -> None:
        """The driver has a queue pair now, or has ended."""
        self._starting.discard(driver)
        self._taken.discard(driver)

    def close(self) -> None:
        """Abort every connection whose Request was not taken."""
        for driver in self._starting - self._taken:
            driver.abort()
