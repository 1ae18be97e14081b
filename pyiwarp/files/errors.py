"""Errors of the file service, beyond those of the stack itself."""

from __future__ import annotations

import os

from pyiwarp.errors import IwarpError

__all__ = [
    "BadMessage",
    "CannotConnect",
    "ChecksumMismatch",
    "PeerSilent",
    "Refusal",
    "RefusedByPeer",
    "TransferCancelled",
    "reason_of",
]


class Refusal(IwarpError):
    """One side refuses what the other asked for; the text says why, and the connection goes on."""


class RefusedByPeer(Refusal):
    """The peer refuses what this side asked for."""


class BadMessage(IwarpError):
    """The peer sent a message that the protocol does not allow here."""


class TransferCancelled(IwarpError):
    """The client cancelled the transfer; the connection goes on."""


class PeerSilent(IwarpError, TimeoutError):
    """The peer owed an answer or progress and gave none within the time limit."""


class ChecksumMismatch(IwarpError):
    """The octets that arrived are not those that were sent."""

    @classmethod
    def of(cls, title: str) -> ChecksumMismatch:
        """The error of a file whose digest of that name is another at each side."""
        return cls(f"the {title} of what arrived is not that of the file")


class CannotConnect(IwarpError):
    """No TCP connection to the server could be made."""


def reason_of(error: OSError) -> str:
    """The system's text for `error`, without the paths of this machine, which are not for the peer to know."""
    if error.errno is None:
        return str(error)
    return os.strerror(error.errno)
