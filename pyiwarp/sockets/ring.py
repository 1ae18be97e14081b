"""Memory in use on both ends of a stream: the ring that the peer writes, and that from which this side writes.

The receiving ring has two halves. Each is offered to the peer as a whole, and again when all of it was read.
"""

from __future__ import annotations

from collections import deque

from pyiwarp.sockets.errors import PeerViolation

__all__ = ["Inbox", "Outbox"]


class Inbox:
    """The receiving ring: what the peer has written and the program has not read, in `memory`.

    The first half is the peer's from the beginning.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._half = len(memory) // 2
        self._at = 0  # where the next octet is read
        self.readable = 0
        """Octets that can be read."""
        self._messages: deque[int] = deque()  # what is unread of each
        self.left = self._half
        """What the peer may write of the half that it writes."""
        self._behind = 0  # halves that are offered behind that one
        self._free = self._half  # octets that are read and not offered again: so far the second half
        self.can_offer = True
        """Whether a half can be offered to the peer."""
        self._next = 1  # the half that is offered next

    def landed(self, nbytes: int) -> None:
        """The peer has written a message; raises `PeerViolation` for octets that it had no room for."""
        if not self.left and self._behind:
            self._behind -= 1
            self.left = self._half
        if not 0 < nbytes <= self.left:
            raise PeerViolation(
                f"DATA {nbytes}",
                f"a message has 1 octet or more, and here no more than the {self.left} that are left of the half of "
                "the ring",
                "§5 Data",
            )
        self.left -= nbytes
        self.readable += nbytes
        self._messages.append(nbytes)

    def pass_by(self, nbytes: int) -> memoryview:
        """As `landed`, `peek` and `consume` of a message that is read as it comes, where nothing else is unread.

        It has 1 octet or more, and no more than `left`.
        """
        at = self._at
        stop = at + nbytes
        self.left -= nbytes
        self._free += nbytes
        self.can_offer = self._free >= self._half
        self._at = 0 if stop == len(self._memory) else stop
        return self._memory[at:stop]

    def peek(self) -> memoryview:
        """The next octets, as many as lie in one piece."""
        return self._memory[self._at : self._at + min(self.readable, len(self._memory) - self._at)]

    def consume(self, nbytes: int) -> int:
        """So many of these octets are read; returns how many messages end within."""
        self._at = (self._at + nbytes) % len(self._memory)
        self.readable -= nbytes
        self._free += nbytes
        self.can_offer = self._free >= self._half
        ended = 0
        messages = self._messages
        while nbytes:
            if messages[0] > nbytes:
                messages[0] -= nbytes
                break
            nbytes -= messages.popleft()
            ended += 1
        return ended

    def offer(self) -> slice | None:
        """The half to offer to the peer now, if all of it was read; it counts as offered."""
        if not self.can_offer:
            return None
        start = self._next * self._half
        self._free -= self._half
        self.can_offer = self._free >= self._half
        self._behind += 1
        self._next ^= 1
        return slice(start, start + self._half)


class Outbox:
    """The sending ring: octets between `send` and the completion of their Write, in `memory`."""

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._at = 0  # where the next octet goes
        self._free = len(memory)
        self.room = self._free
        """Octets that fit in one piece now."""

    def put(self, octets: bytes | memoryview) -> int:
        """Copy octets into it, no more than `room`; returns where they lie."""
        at, nbytes = self._at, len(octets)
        self._memory[at : at + nbytes] = octets
        self._free -= nbytes
        self._at = (at + nbytes) % len(self._memory)
        self._see_room()
        return at

    def release(self, nbytes: int) -> None:
        """The oldest octets are sent."""
        self._free += nbytes
        self._see_room()

    def _see_room(self) -> None:
        self.room = min(self._free, len(self._memory) - self._at)
