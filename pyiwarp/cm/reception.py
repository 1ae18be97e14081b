"""The connections of one listener that are in MPA startup: how many there may be, and which one goes when all are.

A stranger who opens connections and says nothing must not keep others out (RFC 5042 §6.4).
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final, Generic, NamedTuple, TypeVar

from pyiwarp.bounds import DEFAULT_BACKLOG, PER_ADDRESS
from pyiwarp.cm.foldedlog import FoldedLog
from pyiwarp.cm.handshake import ConnectRequest
from pyiwarp.cm.listening import network_of
from pyiwarp.codes import MAX_PRIVATE_DATA, STARTUP_HEADER_SIZE
from pyiwarp.errors import UsageError
from pyiwarp.negotiation import Offer, Role
from pyiwarp.pump import Driver
from pyiwarp.startup import Startup, StartupState

__all__ = ["DEFAULT_BACKLOG", "PER_ADDRESS", "ListenerCounters", "Reception", "Room"]

log = logging.getLogger(__name__)

LARGEST_REQUEST: Final = STARTUP_HEADER_SIZE + MAX_PRIVATE_DATA
_DONT_WAIT: Final = getattr(socket, "MSG_DONTWAIT", 0)  # the sockets do not block; not all systems have it

D = TypeVar("D", bound=Driver)


class ListenerCounters(NamedTuple):
    """What a listener has seen since it was made.

    `connections` counts TCP connections, `requests` the good MPA Requests among them, `failed` startups that took too
    long, were lost or were not MPA. `dropped_for_room` and `dropped_of_address` were closed while they owed their
    Request, because the listener or their address had too many in startup. `turned_away` were closed as they came:
    all others waited for the program's decision. `over_limit` were rejected because the server had its number of
    connections. `rests` counts how often accepting had to wait for a file descriptor.
    """

    connections: int = 0
    requests: int = 0
    failed: int = 0
    dropped_for_room: int = 0
    dropped_of_address: int = 0
    turned_away: int = 0
    over_limit: int = 0
    rests: int = 0

    @property
    def refusals(self) -> dict[str, int]:
        """The counters of what did not come to a decision of the program, as far as they are not 0."""
        return {
            name: value for name, value in self._asdict().items() if value and name not in ("connections", "requests")
        }

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in zip(self._fields, self, strict=True) if value)


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections of one listener may be in startup: `backlog` in all, `per_address` of one address.

    Of an IPv6 peer the address is the network of 64 bits: it can have any address within.
    """

    backlog: int = DEFAULT_BACKLOG
    per_address: int = PER_ADDRESS

    def __post_init__(self) -> None:
        for name, value in (("backlog", self.backlog), ("per_address", self.per_address)):
            if value < 1:
                raise UsageError(f"{name} is {value}; a listener needs room for 1 or more (RFC 5042 §6.4)")


class _Arrival(NamedTuple):
    """What is known of a connection in startup."""

    network: str
    startup: Startup
    sock: socket.socket

    @property
    def has_asked(self) -> bool:
        """Whether the rest of the MPA Request lies in the socket; it is left there for the driver."""
        try:
            octets = self.sock.recv(LARGEST_REQUEST, socket.MSG_PEEK | _DONT_WAIT)
        except OSError:  # nothing has come, or it is closed
            return False
        return self.startup.is_completed_by(octets)


class Reception(Generic[D]):
    """The connections of one listener that are in startup or wait for a decision, within its `room`.

    When that is full, the oldest that still owes its MPA Request is closed, so that a new peer always finds room; so is
    a peer that was rejected and does not end its connection. One whose Request lies in its socket owes nothing. If all
    of them wait for the program's decision, the new one is closed. `on_request` is called with each good Request.
    """

    def __init__(self, offer: Offer, room: Room, on_request: Callable[[ConnectRequest[D]], None]) -> None:
        import_module("pyiwarp.wire")  # which startup loads late: there may be no file descriptor for it then
        self._offer = offer
        self._room = room
        self._on_request = on_request
        self._starting: dict[D, _Arrival] = {}
        self._owing: dict[D, None] = {}  # of those: the peer owes its Request, or the end after a rejection
        self._networks: dict[str, dict[D, None]] = {}
        self._taken: set[D] = set()  # their Request is in the program's hands
        self._waiting: set[ConnectRequest[D]] = set()
        self._log = FoldedLog(log)
        self._counts = dict.fromkeys(ListenerCounters._fields, 0)

    def __repr__(self) -> str:
        return f"{len(self._starting)} starting {len(self._waiting)} waiting"

    @property
    def counters(self) -> ListenerCounters:
        """What has come, and what became of it."""
        return ListenerCounters(**self._counts)

    def receive(self, make_driver: Callable[[Startup], D], sock: socket.socket, host: str) -> D:
        """Begin startup as Responder with a peer at `host`, on the driver that `make_driver` makes for `sock`."""
        request: list[ConnectRequest[D]] = []

        def on_outcome(startup: Startup) -> None:
            if startup.state is StartupState.DECIDING:
                request.append(ConnectRequest(startup, driver))
                self._has_asked(request[0])
                return
            if startup.state is StartupState.FAILED and driver in self._starting:
                self._counts["failed"] += 1
                self._log.say(logging.INFO, "startup failed", f"{driver.peername}: {startup.error}")
            elif startup.state is StartupState.REJECTED and driver in self._starting:
                self._owing[driver] = None
            if request:
                self._waiting.discard(request[0])

        startup = Startup(Role.RESPONDER, self._offer, on_outcome)
        driver = make_driver(startup)
        network = network_of(host)
        self._counts["connections"] += 1
        if self._make_room(network):
            self._starting[driver] = _Arrival(network, startup, sock)
            self._owing[driver] = None
            self._networks.setdefault(network, {})[driver] = None
        else:
            self._counts["turned_away"] += 1
            self._log.say(logging.WARNING, "a new connection is closed", f"all in startup await a decision, {self!r}")
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
        arrival = self._starting.pop(driver, None)
        if arrival is not None:
            network = arrival.network
            self._owing.pop(driver, None)
            self._taken.discard(driver)
            del self._networks[network][driver]
            if not self._networks[network]:
                del self._networks[network]

    def make_descriptor_free(self, error: OSError) -> bool:
        """Accepting has failed with `error`: close a connection that owes its Request; returns False if there is none.

        A process that has no file descriptor left because peers hold them in startup would take in nobody else.
        """
        self._counts["rests"] += 1
        self._log.say(logging.ERROR, "no connection is accepted for a moment", str(error))
        return self._drop("dropped_for_room", self._owing)

    def close(self) -> None:
        """Abort every connection whose Request was not taken."""
        for driver in list(self._starting):
            if driver not in self._taken:
                driver.abort()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _has_asked(self, request: ConnectRequest[D]) -> None:
        self._owing.pop(request.driver, None)
        self._waiting.add(request)
        self._counts["requests"] += 1
        self._on_request(request)

    def _make_room(self, network: str) -> bool:
        """Make room for one more of `network`; returns whether there is."""
        of_it = self._networks.get(network, {})
        if len(of_it) >= self._room.per_address and not self._drop("dropped_of_address", of_it):
            return False
        return len(self._starting) < self._room.backlog or self._drop("dropped_for_room", self._owing)

    def _drop(self, why: str, among: dict[D, None]) -> bool:
        """Close the oldest that owes something; returns False if none does."""
        oldest = next((driver for driver in list(among) if self._owes(driver)), None)
        if oldest is None:
            return False
        self._counts[why] += 1
        what = "a connection is closed that owes its MPA Request"
        self._log.say(logging.WARNING, what, f"too many are in startup, {self!r}; the last was {oldest.peername}")
        self.decided(oldest)
        oldest.abort()
        return True

    def _owes(self, driver: D) -> bool:
        """Whether the peer owes something still; what it has sent and nobody has read yet counts as sent."""
        if driver not in self._owing:
            return False
        if not self._starting[driver].has_asked:
            return True
        del self._owing[driver]
        return False
