"""How two queue pairs find each other by (GID, QPN): the two numbers name a place to connect to.

The GID is the IPv4-mapped address of the host, or its IPv6 address. The upper 16 bits of the QPN are the TCP port of a
listener of the process, the lower 8 bits count the queue pairs behind it; another listener opens when they are taken.
Of two queue pairs the one with the smaller (GID, QPN) connects. Its MPA private data names both. The listener keeps
the Request until the queue pair that is meant has been moved to RTR with that peer.
"""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from pyiwarp import blocking
from pyiwarp.errors import IwarpError
from pyiwarp.pyverbs.core import Core
from pyiwarp.pyverbs.pyverbs_error import PyverbsRDMAError

__all__ = ["Callee", "Door", "End", "Hello", "gid_of", "host_of", "number", "numbered", "port_of"]

_FORMAT: Final = struct.Struct("!4s16sI16sI")
_MAGIC: Final = b"pyv1"
_MAPPED: Final = "::ffff:"
_INDEX_BITS: Final = 8
_PLACES: Final = 1 << _INDEX_BITS
_BACKLOG: Final = 1024
_MOST_UNDECIDED: Final = 16
"""Requests for one queue pair that wait for its program: one of them is its peer's, who asks again if rejected."""
_MOST_WAITING: Final = 512
"""Requests that wait for the programs of all queue pairs of one listener."""


class End(NamedTuple):
    """A queue pair as its peer names it."""

    gid: bytes
    qpn: int


class Hello(NamedTuple):
    """The private data of the MPA Request: who asks for whom."""

    caller: End
    callee: End

    def __bytes__(self) -> bytes:
        return _FORMAT.pack(_MAGIC, *self.caller, *self.callee)

    @classmethod
    def parse(cls, octets: bytes) -> Hello | None:
        """Read it; None for what is not one."""
        if len(octets) < _FORMAT.size or not octets.startswith(_MAGIC):
            return None
        _, caller, caller_qpn, callee, callee_qpn = _FORMAT.unpack_from(octets)
        return cls(End(caller, caller_qpn), End(callee, callee_qpn))


class Callee(Protocol):
    """What stands behind a number: a queue pair that is connected to."""

    def take_request(self, request: blocking.Request, caller: End) -> bool:
        """Accept or reject; False leaves the Request until later."""


class Door:
    """One listener of a process, for the queue pairs whose numbers have its port."""

    def __init__(self, host: str, siblings: list[Door]) -> None:
        self.host = host
        self._siblings = siblings
        self._callees: dict[int, Callee] = {}
        self._next = 0
        self._undecided: list[tuple[blocking.Request, Hello]] = []
        self._listener = blocking.listen(host, 0, backlog=_BACKLOG, per_address=_BACKLOG, on_request=self._on_request)
        self._port = self._listener.port

    def number(self, callee: Callee) -> int | None:
        """A number for a queue pair; None if all are taken."""
        for _ in range(_PLACES):
            index, self._next = self._next, (self._next + 1) % _PLACES
            if index not in self._callees:
                self._callees[index] = callee
                return self._port << _INDEX_BITS | index
        return None

    def callee(self, qpn: int) -> Callee | None:
        """Who has that number; None if it is of another listener, or free."""
        return self._callees.get(qpn % _PLACES) if port_of(qpn) == self._port else None

    def forget(self, qpn: int) -> None:
        """The queue pair is gone; without any, the listener closes."""
        self._callees.pop(qpn % _PLACES, None)
        self.match()
        if not self._callees:
            self._siblings.remove(self)
            self._listener.close()

    def match(self) -> None:
        """A queue pair has changed: see who may be accepted now."""
        undecided, self._undecided = self._undecided, []
        for request, hello in undecided:
            callee = self.callee(hello.callee.qpn)
            try:
                if callee is None:
                    request.reject()
                elif not callee.take_request(request, hello.caller):
                    self._undecided.append((request, hello))
            except IwarpError:
                _reject(request)  # who asked has left meanwhile, or the queue pair cannot take it

    def _on_request(self) -> None:
        while (request := self._listener.take_request()) is not None:
            hello = Hello.parse(request.private_data)
            if hello is None or not self._is_addressed(hello, request):
                _reject(request)
            else:
                self._make_room(hello.callee)
                self._undecided.append((request, hello))
        self.match()

    def _is_addressed(self, hello: Hello, request: blocking.Request) -> bool:
        """Whether it names a queue pair of this listener, and comes from the address that its caller has."""
        is_ours = hello.callee.gid == gid_of(self.host) and port_of(hello.callee.qpn) == self._port
        return is_ours and _is_at(request.peername, hello.caller.gid)

    def _make_room(self, callee: End) -> None:
        """Reject the oldest Request for the queue pair, or of all, if there are as many as may wait."""
        same = [each for each in self._undecided if each[1].callee == callee]
        for found, limit in ((same, _MOST_UNDECIDED), (self._undecided, _MOST_WAITING)):
            if len(found) >= limit:
                oldest = found[0]
                self._undecided.remove(oldest)
                _reject(oldest[0])
                return


def _is_at(peername: str, gid: bytes) -> bool:
    """Whether a TCP peer has the address that a GID stands for."""
    source = peername.rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        return ip_address(source) == ip_address(host_of(gid))
    except ValueError:  # a peer that has reset may have no address any more
        return False


def _reject(request: blocking.Request) -> None:
    with suppress(IwarpError):  # who asked has left meanwhile
        request.reject()


_doors: WeakKeyDictionary[Core, list[Door]] = WeakKeyDictionary()


def number(core: Core, callee: Callee, host: str) -> tuple[int, Door]:
    """A number for a queue pair on `host`, and the door that it belongs to. The poller is held."""
    doors = _doors.setdefault(core, [])
    for door in doors:
        if door.host == host and (found := door.number(callee)) is not None:
            return found, door
    try:
        door = Door(host, doors)
    except OSError as error:
        raise PyverbsRDMAError(f"Failed to create QP: {error}", error.errno or errno.EADDRNOTAVAIL) from error
    doors.append(door)
    found = door.number(callee)
    assert found is not None, "a new door has room"
    return found, door


def numbered(core: Core, qpn: int) -> Callee | None:
    """What has that number in this process; None if nothing has. The poller is held."""
    for door in _doors.get(core, ()):
        if (found := door.callee(qpn)) is not None:
            return found
    return None


def gid_of(host: str) -> bytes:
    """The GID of an address: 16 octets."""
    return socket.inet_pton(socket.AF_INET6, host if ":" in host else _MAPPED + host)


def host_of(gid: bytes) -> str:
    """The address that a GID stands for."""
    return socket.inet_ntop(socket.AF_INET6, gid).removeprefix(_MAPPED)


def port_of(qpn: int) -> int:
    """The TCP port that a queue pair is connected to at."""
    return qpn >> _INDEX_BITS
