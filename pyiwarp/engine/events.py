"""What the engine tells its owner: frozen values, given in the order in which things happened.

`ReadDone` and `AtomicDone` carry the `token` that the owner gave with the message, so that the engine needs to know
nothing of work requests; of messages that were sent `flushed` gives the tokens themselves. Three words are kept apart
throughout: an octet is *placed*, a message is *delivered*, a work request is *completed*; the events here are about
messages.
"""

from __future__ import annotations

from typing import NamedTuple

from pyiwarp.codes import Opcode
from pyiwarp.errors import ProtocolViolation, TerminatedByPeer

__all__ = ["AtomicDone", "Delivered", "Event", "PeerClosed", "PeerTerminated", "ReadDone", "Violated"]


class ReadDone(NamedTuple):
    """A Read Response was delivered (RFC 5040 §5.5 rule 16); without a token it was that of the opening Read."""

    token: object
    nbytes: int


class AtomicDone(NamedTuple):
    """An Atomic Response was delivered: `value` is what was in the peer's memory before (RFC 7306 §5.4)."""

    token: object
    value: int


class Delivered(NamedTuple):
    """A message on QN 0 was delivered into the buffer that stands at the head of the receive queue.

    `immediate` holds the eight octets of Immediate Data (RFC 7306 §6), which are not placed in the buffer.
    """

    opcode: Opcode
    msn: int
    nbytes: int
    solicited: bool
    inval_stag: int | None
    immediate: bytes | None = None


class PeerClosed(NamedTuple):
    """The peer closed its half of the TCP connection on an FPDU boundary, with nothing left unfinished."""


class PeerTerminated(NamedTuple):
    """The peer's Terminate was delivered (RFC 5040 §5.4)."""

    error: TerminatedByPeer


class Violated(NamedTuple):
    """The peer broke a rule; the Terminate that says so is queued, unless none may be sent."""

    error: ProtocolViolation


Event = ReadDone | AtomicDone | Delivered | PeerClosed | PeerTerminated | Violated
