"""What two offers agree to in MPA startup: CRC, markers, IRD, ORD and the opening message (RFC 5044 §7.1, RFC 6581 §9).

Values and functions of values: what each side offers, what a startup frame of the peer says, and what follows for both.
`startup` sends and receives the frames.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from pyiwarp import faststartup
from pyiwarp.bounds import check_count, check_seconds
from pyiwarp.codes import ENHANCED_SIZE, MAX_PRIVATE_DATA, UNNEGOTIATED, Rtr
from pyiwarp.errors import InsufficientIrd, NoMatchingRtr, SetupFailed, UsageError
from pyiwarp.faststartup import Enhanced, StartupFrame

__all__ = [
    "Agreement",
    "Offer",
    "Role",
    "StartupFrameRead",
    "agree",
    "check_private_data_type",
    "reply_word",
    "request_word",
]

NO_RTR: Final = Rtr(0)
SEND, WRITE, READ = int(Rtr.SEND), int(Rtr.WRITE), int(Rtr.READ)
RTRS: Final = tuple(Rtr(bits) for bits in range(SEND + WRITE + READ + 1))
"""Every combination by its number: each operation of an `IntFlag` takes several calls."""


def check_private_data_type(private_data: object) -> None:
    """Raise `UsageError` unless private data is bytes, before a startup frame is begun with it."""
    if not isinstance(private_data, bytes):
        raise UsageError(f"private data is {private_data!r}; a startup frame carries bytes (RFC 5044 §7.1.1)")


class Role(Enum):
    """Which of the two startup frames a side sends (RFC 5044 §7.1); no other meaning of client or server."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one side brings to startup.

    `private_data` goes along with its frame, for the peer's program. `revision` is that of the Request; a Responder
    answers each revision in kind, but with 1 refuses 2. `crc` off asks for FPDUs without CRC32C, which happens only if
    the peer asks for it too. `markers` asks the peer to send markers. `ird` and `ord` count Reads and Atomics at once,
    inbound and outbound; 0x3FFF leaves a value alone. `rtr` other than 0 asks for (Initiator) or supports (Responder)
    peer-to-peer mode with these opening messages. With `open_at_once` an Initiator whose peer agreed to none opens with
    a zero-length Write all the same, which every peer takes and which lets the Responder speak. `timeout` bounds the
    wait for the peer's frame and `first_fpdu_timeout` a Responder's wait for the first FPDU, in seconds; None is no
    bound: the program cancels what takes too long for it (RFC 5044 §7.1.2 recommends one). With `close_last` a
    Responder that has rejected leaves it to the Initiator to close first, for `timeout` at most. `refuse_markers` is
    for emulating an implementation that sends no markers to a peer that asks for them, as RFC 5044 §4.3 obliges it to:
    a Responder rejects, an Initiator fails.
    """

    revision: int = 2
    crc: bool = True  # MPA-5044-4.4-04
    markers: bool = False
    private_data: bytes = b""
    ird: int = 16
    ord: int = 16
    rtr: Rtr = NO_RTR
    open_at_once: bool = False
    timeout: float | None = 10.0
    first_fpdu_timeout: float | None = 60.0
    close_last: bool = False
    refuse_markers: bool = False

    def __post_init__(self) -> None:
        if self.revision not in (1, 2):
            raise UsageError(f"MPA revision {self.revision} is neither 1 (RFC 5044) nor 2 (RFC 6581)")
        check_private_data_type(self.private_data)
        limit = MAX_PRIVATE_DATA - (ENHANCED_SIZE if self.revision == 2 else 0)
        if len(self.private_data) > limit:  # MPA-5044-7.1.1-23, MPA2-6581-9-02
            raise UsageError(
                f"{len(self.private_data)} octets of private data; revision {self.revision} carries at most {limit} "
                f"(RFC {'6581 §9' if self.revision == 2 else '5044 §7.1.1'})"
            )
        for name, depth in (("IRD", self.ird), ("ORD", self.ord)):
            check_count(name, depth, 0, UNNEGOTIATED, ", 14 bits (RFC 6581 §9)")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, zero=False)
        if self.first_fpdu_timeout is not None:
            check_seconds("first_fpdu_timeout", self.first_fpdu_timeout, zero=False)
        if self.rtr and self.revision == 1:
            raise UsageError("peer-to-peer mode needs MPA revision 2 (RFC 6581 §6)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What both sides agreed to: all that Full Operation needs from startup.

    `send_markers` is what the peer asked for, `receive_markers` what this side asked for. `rtr` is the opening message
    that an Initiator owes. `peer_ird` and `peer_ord` are the peer's own values, None if its frame had none. `fault` is
    set when the Reply is well formed but its offer cannot be used: the stream starts only to send a Terminate.
    """

    role: Role
    """Whether this side sent the Request (INITIATOR) or the Reply (RESPONDER)."""
    revision: int
    """MPA's: 1 (RFC 5044) or 2 (RFC 6581)."""
    crc: bool
    """Whether FPDUs have CRC32C in both directions (RFC 5044 §4.4)."""
    send_markers: bool
    receive_markers: bool
    ird: int
    """Reads and Atomics of the peer at once (RFC 6581 §9.1)."""
    ord: int
    """Reads and Atomics of this side at once (RFC 6581 §9.1)."""
    private_data: bytes
    """That of the peer's startup frame."""
    peer_ird: int | None = None
    peer_ord: int | None = None
    peer_to_peer: bool = False
    """Whether both sides agreed to that mode (RFC 6581 §9.2)."""
    rtr: Rtr = NO_RTR
    first_fpdu_timeout: float | None = None
    """How long a Responder waits for the first FPDU, in seconds."""
    fault: InsufficientIrd | NoMatchingRtr | SetupFailed | None = None


class StartupFrameRead(NamedTuple):
    """A startup frame of the peer, its enhanced word read."""

    revision: int
    enhanced: bool
    markers: bool
    crc: bool
    rejected: bool
    private_data: bytes
    ird: int | None
    ord: int | None
    peer_to_peer: bool
    rtr: Rtr

    @classmethod
    def of(cls, frame: StartupFrame, private_data: bytes) -> StartupFrameRead:
        """Split the private data of a good frame; an S bit in revision 1 is a reserved bit (wire table 1.2)."""
        _, markers, crc, rejected, enhanced, revision, _ = frame
        if not enhanced:
            return cls(revision, False, markers, crc, rejected, private_data, None, None, False, NO_RTR)
        word = faststartup.parse_enhanced(private_data)
        if word is None:
            from pyiwarp import wire

            word = wire.parse_enhanced(private_data)
        rtr = RTRS[word.rtr_send * SEND + word.rtr_write * WRITE + word.rtr_read * READ]
        rest = private_data[ENHANCED_SIZE:]
        return cls(revision, True, markers, crc, rejected, rest, word.ird, word.ord, word.peer_to_peer, rtr)


def _word(*, rtr: Rtr, ird: int, order: int) -> bytes:
    bits = int(rtr)
    word = Enhanced(
        peer_to_peer=bits != 0,
        rtr_send=bits & SEND != 0,
        rtr_write=bits & WRITE != 0,
        rtr_read=bits & READ != 0,
        ird=ird,
        ord=order,
    )
    octets = faststartup.build_enhanced(word)
    if octets is None:
        from pyiwarp import wire

        octets = wire.build_enhanced(word)
    return octets


def request_word(offer: Offer) -> bytes | None:
    """The Initiator's enhanced word; none in revision 1 (MPA2-6581-6-05)."""
    return None if offer.revision == 1 else _word(rtr=offer.rtr, ird=offer.ird, order=offer.ord)


ALL_RTRS: Final = RTRS[-1]


def reply_word(request: StartupFrameRead, offer: Offer) -> tuple[bytes | None, int, int]:
    """The Responder's enhanced word, and the IRD and ORD that it stands for (RFC 6581 §9.1)."""
    if request.ird is None or request.ord is None:
        return None, offer.ird, offer.ord  # MPA2-6581-10-05: unenhanced in, unenhanced out
    order = offer.ord if request.ird == UNNEGOTIATED else min(offer.ord, request.ird)  # MPA2-6581-9.1-04
    ird = offer.ird
    rtr = Rtr(0)
    if request.peer_to_peer:
        supported = offer.rtr or ALL_RTRS
        rtr = request.rtr & supported or supported  # MPA2-6581-9.2-05, MPA2-6581-9.2-09
        if rtr & Rtr.READ:
            ird = max(ird, 1)  # MPA2-6581-9.1-03
    word = _word(
        rtr=rtr,
        ird=UNNEGOTIATED if request.ord == UNNEGOTIATED else ird,  # MPA2-6581-9.1-14
        order=UNNEGOTIATED if request.ird == UNNEGOTIATED else order,  # MPA2-6581-9.1-16
    )
    return word, ird, order


def agree(offer: Offer, reply: StartupFrameRead) -> Agreement:
    """What an accepting Reply to `offer` settles, for the Initiator (RFC 6581 §9.1, §9.2)."""
    ird, order, rtr = offer.ird, offer.ord, Rtr(0)
    fault: InsufficientIrd | NoMatchingRtr | None = None
    if reply.ird is not None and reply.ird != UNNEGOTIATED:
        order = min(order, reply.ird)  # MPA2-6581-9.1-09
    if reply.ord is not None and reply.ord != UNNEGOTIATED and reply.ord > ird:
        fault = InsufficientIrd(reply.ord, ird)  # MPA2-6581-9.1-10
    if offer.rtr and reply.peer_to_peer:
        rtr = _choose_rtr(offer.rtr & reply.rtr, order, reply.ird)
        if rtr is Rtr.READ:
            order = max(order, 1)  # MPA2-6581-9.3-01
        if not rtr:
            fault = fault or NoMatchingRtr(offer.rtr, reply.rtr)  # MPA2-6581-9.2-11
    elif offer.open_at_once:
        rtr = Rtr.WRITE
    elif offer.rtr:  # an unenhanced Reply, or one that does not echo A, against MPA2-6581-9.2-04
        fault = fault or NoMatchingRtr(offer.rtr, NO_RTR)
    return Agreement(
        role=Role.INITIATOR,
        revision=reply.revision,
        crc=offer.crc or reply.crc,  # MPA-5044-7.1.1-09
        send_markers=reply.markers,  # MPA-5044-7.1.1-06
        receive_markers=offer.markers,
        ird=ird,
        ord=order,
        private_data=reply.private_data,
        peer_ird=reply.ird,
        peer_ord=reply.ord,
        peer_to_peer=bool(offer.rtr) and reply.peer_to_peer,
        rtr=rtr,
        fault=fault,
    )


def _choose_rtr(common: Rtr, order: int, peer_ird: int | None) -> Rtr:
    """The cheapest opening message that both sides know: a Write changes nothing, a Send costs a receive.

    A Read where the program wants none (ORD 0) comes last, and only if the peer has room for it (RFC 6581 §9.1).
    """
    if common & Rtr.WRITE:
        return Rtr.WRITE
    if common & Rtr.READ and order > 0:
        return Rtr.READ
    if common & Rtr.SEND or not peer_ird:
        return common & Rtr.SEND
    return common & Rtr.READ
