"""What a peer can do, as far as the bench and the cases ask: its level, who connects, what a case needs of it."""

from __future__ import annotations

from enum import IntEnum, StrEnum

from pyiwarp.errors import IwarpError

__all__ = ["Cannot", "Direction", "Level", "Need"]


class Level(IntEnum):
    """What the peer runs beside the protocol; each level includes those before it."""

    BARE = 1  # anything that accepts or makes connections
    RPING = 2  # rping: as a client it advertises memory in its first Send, as a server it answers by Read and Write
    TARGET = 3  # the target program, which does what the control connection says and tells what it saw

    @property
    def word(self) -> str:
        """As it is written on the command line."""
        return self.name.lower()


class Direction(StrEnum):
    """Who makes the TCP connection, and with it who is the MPA Initiator."""

    CONNECT = "connect"  # the bench is Initiator, the peer Responder
    LISTEN = "listen"  # the bench is Responder, the peer Initiator


class Need(StrEnum):
    """What a case needs and not every peer has; without it the case is not run, and the report says so.

    Most are the words by which a target program tells its abilities (`docs/target.md`).
    """

    CRC = "crc"  # it can be told which C bit to send
    MARKERS = "markers"  # it asks for markers when told to
    REVISION = "revision"  # it can be told to speak MPA revision 1
    DEPTHS = "depths"  # it can be told its IRD and ORD
    EXTENSIONS = "extensions"  # RFC 7306
    ENHANCED = "enhanced"  # RFC 6581
    P2P = "p2p"  # it can open as RFC 6581's peer-to-peer Initiator
    REJECT = "reject"  # its program can refuse a Request
    INVALIDATE = "invalidate"  # Send with Invalidate takes its regions away
    SOLICITED = "solicited"  # it tells whether a Send asked for an event
    TERMINATES = "terminates"  # it tells the octets of Terminate messages
    REGION = "region"  # the peer shows memory that may be read and written
    READER = "reader"  # the peer Reads memory that is shown to it


class Cannot(IwarpError):
    """The peer lacks what the case needs; the text says what."""
