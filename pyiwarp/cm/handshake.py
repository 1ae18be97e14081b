"""MPA startup between a driver and a queue pair, for either driver: the part that both connection managers share.

`initiate` is the Initiator's side, `ConnectRequest` the Responder's, once a Request has come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Generic, TypeVar

from pyiwarp.errors import ConnectionLost, IwarpError, SetupFailed, StartupTimeout, UsageError, WrongState
from pyiwarp.negotiation import Agreement, Offer, Role, StartupFrameRead
from pyiwarp.pump import Driver
from pyiwarp.queues.qp import QpState, QueuePair
from pyiwarp.startup import Startup, StartupState
from pyiwarp.verbs import Context

__all__ = ["ConnectRequest", "check_idle", "initiate", "not_established"]

D = TypeVar("D", bound=Driver)


def check_idle(qp: QueuePair) -> None:
    """Raise `WrongState` unless the queue pair can be connected, `Closed` if it was closed."""
    qp.check_open()
    if qp.state is not QpState.IDLE:
        raise WrongState(f"only a queue pair that is IDLE can be connected: {qp!r}")


def not_established(host: str, port: int, timeout: float) -> StartupTimeout:
    """The error for a TCP connection that was not established within `timeout` seconds."""
    return StartupTimeout(f"TCP to {host} port {port} was not established within {timeout:g} s")


def _begin(qp: QueuePair, driver: Driver, agreement: Agreement, prologue: bytes = b"") -> None:
    """Full Operation: the queue pair takes the driver over from startup."""
    check_idle(qp)  # before it is changed: another attempt may have connected it, and that driver serves it
    qp.peer = driver.peername
    qp.on_output = driver.kick
    qp.write_small = driver.write_small
    qp.write_pieces = driver.write_pieces
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

    import_module("pyiwarp.wire")  # which startup loads late: there may be no file descriptor for it then
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
