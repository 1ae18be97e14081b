"""Messages larger than a receive: told of in a Send, read by the receiver, and answered by a Send with Invalidate.

`docs/large-messages.md` has the protocol octet by octet. Nothing here posts or waits: connections do.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from pyiwarp.access import ADVERTISEMENT_SIZE, TO_LIMIT, RemoteRegion
from pyiwarp.errors import MessageRefused
from pyiwarp.mr import MemoryRegion
from pyiwarp.pump import no_callback

__all__ = ["READ_AND_ANSWER", "Answer", "Arrival", "Loan", "announced"]

MAGIC: Final = b"pyiwarp\x01"
"""How the Send begins that tells of a message; the last octet is the version."""

READ_AND_ANSWER: Final = 2
"""Work requests that a message takes at its receiver."""


class Answer(IntEnum):
    """The octet of the receiver's answer."""

    TAKEN = 0
    TOO_LARGE = 1


class Loan:
    """A message that the peer may read: its memory is lent until the peer has answered.

    `tell` is called when the answer has come, or when none will.
    """

    __slots__ = ("answer", "region", "tell")

    def __init__(self, region: MemoryRegion) -> None:
        self.region = region
        self.answer: bytes | None = None
        self.tell = no_callback

    @property
    def announcement(self) -> bytes:
        """The octets of the Send that tells of the message."""
        return MAGIC + self.region.advertise()

    def check_answer(self) -> None:
        """Raises `MessageRefused` if the peer has not taken the message."""
        assert self.answer is not None, "looked at when the peer has answered"
        if self.answer == bytes([Answer.TAKEN]):
            return
        if self.answer == bytes([Answer.TOO_LARGE]):
            raise MessageRefused(f"{self.region.nbytes} octets are more than the peer takes, its Options.max_message")
        raise MessageRefused(f"the peer's answer means nothing: {self.answer[:16].hex(' ')}")


class Arrival:
    """A large message that is being read: its memory, and the work that fills it and answers the peer.

    `claimed` says whether a call of the program waits for it.
    """

    __slots__ = ("claimed", "memory", "work")

    def __init__(self, memory: bytearray) -> None:
        self.memory = memory
        self.work: list[object] = []
        self.claimed = True


def announced(octets: memoryview) -> RemoteRegion | None:
    """Where the message lies that a Send tells of; None if it tells of none, or of memory that there cannot be."""
    if octets.nbytes != len(MAGIC) + ADVERTISEMENT_SIZE or octets[: len(MAGIC)].tobytes() != MAGIC:
        return None
    remote = RemoteRegion.parse(octets[len(MAGIC) :])
    return remote if remote.to + remote.nbytes <= TO_LIMIT else None
