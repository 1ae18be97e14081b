"""Credits by messages: how many DATA and IOMAP messages each side may send before the other has read some.

On the wire they are counters of 16 bits that wrap.
"""

from __future__ import annotations

from typing import Final

from pyiwarp.sockets.errors import PeerViolation

__all__ = ["Granted", "Owed"]

_WRAP: Final = 0xFFFF
_SPARE: Final = 4
"""Receives of the peer that DATA leaves free: its credits do not count this side's control messages."""


class Granted:
    """The messages that this side may send: `sent` so far, of those that the peer has receives for.

    A few are kept back, because on iWARP a message that finds no receive ends the connection.
    """

    def __init__(self, queue: int) -> None:
        self.sent = 0
        self._queue = queue
        self._spare = min(_SPARE, queue // 4)
        self.left = 0
        """The messages that may be sent now."""
        self.renew(queue & _WRAP)

    def spend(self) -> None:
        """A message is sent, of those that are left."""
        self.sent = self.sent + 1 & _WRAP
        self.left -= 1

    def renew(self, may_send: int) -> None:
        """The peer has told a new limit; raises `PeerViolation` for more than its receives."""
        allowed = may_send - self.sent & _WRAP
        if allowed > self._queue:
            raise PeerViolation(
                f"an SGL word grants messages up to number {may_send} after {self.sent} were sent",
                f"at most {self._queue} are granted at once, as the private data said, and a grant is not taken back",
                "§6 Credits",
            )
        self.left = max(0, allowed - self._spare)


class Owed:
    """The messages that the peer may send: what has come, what was read, and when to tell of it.

    A grant is told when half of `queue` messages were read since the last one.
    """

    def __init__(self, queue: int) -> None:
        self._queue = queue
        self._came = 0
        self._read = 0
        self._limit = queue
        self._next_note = queue // 2
        self.due = False
        """Whether a grant is worth a message of its own."""

    def came(self) -> None:
        """A message has come; raises `PeerViolation` if it was not granted."""
        self._came += 1
        if self._came > self._limit:
            raise PeerViolation(
                f"message {self._came} has come, granted are {self._limit}",
                "a side sends no more messages than it was granted",
                "§6 Credits",
            )

    def pass_by(self) -> bool:
        """As `came` and `read` of a message that is read at once; False, and nothing done, if it was not granted."""
        if self._came >= self._limit:
            return False
        self._came += 1
        self._read += 1
        self.due = self._read >= self._next_note
        return True

    def read(self, messages: int) -> None:
        """The program has read the last octet of so many messages."""
        self._read += messages
        self.due = self._read >= self._next_note

    def grant(self) -> int:
        """The value of the next SGL word, which is about to be sent: the receives for it are posted."""
        self._limit = self._read + self._queue
        self._next_note = self._read + self._queue // 2
        self.due = False
        return self._limit & _WRAP
