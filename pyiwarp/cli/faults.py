"""What can go wrong with a file on its way, beyond what the stack itself reports."""

from __future__ import annotations

import os

from pyiwarp.errors import IwarpError

__all__ = [
    "BadMessage",
    "CannotConnect",
    "ChecksumMismatch",
    "GivenUp",
    "Interrupted",
    "PeerSilent",
    "Refusal",
    "RefusedByPeer",
    "reason_of",
]


class Refusal(IwarpError):
    """One side will not do what the other asked for; the text is for people, and the connection goes on."""


class BadMessage(IwarpError):
    """The peer said something that the protocol does not allow here."""


class RefusedByPeer(Refusal):
    """The other side will not do what this one asked for."""


class GivenUp(IwarpError):
    """The client will not have the file after all; the connection goes on."""


class PeerSilent(IwarpError, TimeoutError):
    """The peer owes an answer or progress and gave none for too long."""


class ChecksumMismatch(IwarpError):
    """The octets that arrived are not those that were sent."""


class CannotConnect(IwarpError):
    """No TCP connection came to be."""


class Interrupted(Exception):
    """The user, or the system, asked the program to stop."""


def reason_of(error: OSError) -> str:
    """What the system said, without the paths of this machine, which are no peer's business."""
    if error.errno is None:
        return str(error)
    return os.strerror(error.errno)
