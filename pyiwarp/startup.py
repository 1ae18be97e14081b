"""MPA startup: the two frames that turn a TCP connection into an RDMA connection (RFC 5044 §7.1, RFC 6581).

Sans I/O: a driver lends octets and time limits, `Startup` decides. It receives exactly the octets of the startup
frame and not one more, so whatever follows is still in the socket when Full Operation begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

from pyiwarp.codes import MAX_PRIVATE_DATA, UNNEGOTIATED, Rtr
from pyiwarp.errors import (
    ConnectionLost,
    InsufficientIrd,
    MalformedStartup,
    MarkersRefused,
    NoMatchingRtr,
    Rejected,
    SetupFailed,
    StartupError,
    StartupTimeout,
    UsageError,
    VersionMismatch,
    WrongState,
)

__all__ = ["Agreement", "Offer", "Role", "Startup", "StartupState", "TimeLimit"]

HEADER_SIZE: Final = 20
NO_RTR: Final = Rtr(0)
ENHANCED_SIZE: Final = 4
TOO_MUCH: Final = "octets follow the MPA Request before its Reply (RFC 5044 §7.1.1)"
STREAMING_EOF: Final = "the peer closed the connection before its startup frame was complete (RFC 5044 §7.1.2)"


class Role(Enum):
    """Which of the two startup frames a side sends (RFC 5044 §7.1); no other meaning of client or server."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


class StartupState(Enum):
    """How far startup has come; the two AWAIT states are the ones with a time limit."""

    AWAIT_REPLY = "await reply"
    AWAIT_REQUEST = "await request"
    DECIDING = "deciding"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"


class StartupInput(Enum):
    """What can happen during startup."""

    GOOD_REQUEST = "good request"
    ACCEPTING_REPLY = "accepting reply"
    REJECTING_REPLY = "rejecting reply"
    ACCEPT = "accept"
    REJECT = "reject"
    FAULT = "fault"


NEXT: Final[dict[tuple[StartupState, StartupInput], StartupState]] = {
    (StartupState.AWAIT_REPLY, StartupInput.ACCEPTING_REPLY): StartupState.ACCEPTED,
    (StartupState.AWAIT_REPLY, StartupInput.REJECTING_REPLY): StartupState.REJECTED,
    (StartupState.AWAIT_REPLY, StartupInput.FAULT): StartupState.FAILED,
    (StartupState.AWAIT_REQUEST, StartupInput.GOOD_REQUEST): StartupState.DECIDING,
    (StartupState.AWAIT_REQUEST, StartupInput.FAULT): StartupState.FAILED,
    (StartupState.DECIDING, StartupInput.ACCEPT): StartupState.ACCEPTED,
    (StartupState.DECIDING, StartupInput.REJECT): StartupState.REJECTED,
    (StartupState.DECIDING, StartupInput.FAULT): StartupState.FAILED,
}
"""Every transition there is (RFC 5044 §7.1.2); a pair that is missing cannot happen or is a `WrongState`."""


class TimeLimit(NamedTuple):
    """How long the present wait may last, in seconds, and what is waited for; another `progress` is another wait."""

    waiting_for: str
    seconds: float
    progress: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one side brings to startup.

    `revision` is that of the Request; a Responder answers each revision in kind, but with 1 refuses 2. `crc` off asks
    for FPDUs without CRC32C, which happens only if the peer asks for it too. `markers` asks the peer to send markers.
    `ird` and `ord` count Reads and Atomics at once, inbound and outbound; 0x3FFF leaves a value alone. `rtr` other than
    0 asks for (Initiator) or supports (Responder) peer-to-peer mode with these opening messages. With `open_at_once`
    an Initiator whose peer agreed to none opens with a zero-length Write all the same, which every peer takes and
    which lets the Responder speak. `timeout` bounds the wait for the peer's frame and `first_fpdu_timeout` a
    Responder's wait for the first FPDU, in seconds. With `close_last` a Responder that has rejected leaves it to the
    Initiator to close first, for `timeout` at most. `refuse_markers` is for emulating an implementation that sends no
    markers to a peer that asks for them, as RFC 5044 §4.3 obliges it to: a Responder rejects, an Initiator fails.
    """

    revision: int = 2
    crc: bool = True  # MPA-5044-4.4-04
    markers: bool = False
    private_data: bytes = b""
    ird: int = 16
    ord: int = 16
    rtr: Rtr = NO_RTR
    open_at_once: bool = False
    timeout: float = 10.0
    first_fpdu_timeout: float | None = 60.0
    close_last: bool = False
    refuse_markers: bool = False

    def __post_init__(self) -> None:
        if self.revision not in (1, 2):
            raise UsageError(f"MPA revision {self.revision} is neither 1 (RFC 5044) nor 2 (RFC 6581)")
        limit = MAX_PRIVATE_DATA - (ENHANCED_SIZE if self.revision == 2 else 0)
        if len(self.private_data) > limit:  # MPA-5044-7.1.1-23, MPA2-6581-9-02
            raise UsageError(
                f"{len(self.private_data)} octets of private data; revision {self.revision} carries at most {limit} "
                f"(RFC {'6581 §9' if self.revision == 2 else '5044 §7.1.1'})"
            )
        for name, depth in (("IRD", self.ird), ("ORD", self.ord)):
            if not 0 <= depth <= UNNEGOTIATED:
                raise UsageError(f"{name} {depth} does not fit 14 bits (RFC 6581 §9)")
        if self.rtr and self.revision == 1:
            raise UsageError("peer-to-peer mode needs MPA revision 2 (RFC 6581 §6)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """What both sides settled on; everything that Full Operation needs to know of startup.

    `send_markers` is what the peer asked for, `receive_markers` what this side asked for. `rtr` is the opening
    message that an Initiator owes. `peer_ird` and `peer_ord` are the peer's own words, None if it said none.
    `fault` is set when the Reply was good but what it offers cannot be used: the stream starts only to say so.
    """

    role: Role
    revision: int
    crc: bool
    send_markers: bool
    receive_markers: bool
    ird: int
    ord: int
    private_data: bytes
    peer_ird: int | None = None
    peer_ord: int | None = None
    peer_to_peer: bool = False
    rtr: Rtr = NO_RTR
    first_fpdu_timeout: float | None = None
    fault: InsufficientIrd | NoMatchingRtr | SetupFailed | None = None


class Startup:
    """One side of MPA startup as a pump for a driver (RFC 5044 §7.1.2).

    `on_outcome` is called once when a Request waits for its decision and once at the end; it may exchange the
    driver's pump. An Initiator's Request is ready from the beginning.
    """

    def __init__(self, role: Role, offer: Offer, on_outcome: Callable[[Startup], None]) -> None:
        self.role = role
        self.offer = offer
        self.state = StartupState.AWAIT_REPLY if role is Role.INITIATOR else StartupState.AWAIT_REQUEST
        self.agreement: Agreement | None = None
        self.error: StartupError | ConnectionLost | None = None
        self._on_outcome = on_outcome
        self._size = HEADER_SIZE  # of the frame as far as it is known
        # MPA-5044-7.1.1-20: a Responder has room for what may not follow a Request, so that it comes with its frame
        self._frame = bytearray(HEADER_SIZE + (role is Role.RESPONDER))
        self._have = 0
        self._peer_closed = False
        self._out: list[bytes | bytearray | memoryview] = []
        self._request: StartupFrameRead | None = None
        if role is Role.INITIATOR:
            word = _request_word(offer)
            self._out.append(_frame(offer.revision, word, offer.private_data, markers=offer.markers, crc=offer.crc))

    def __repr__(self) -> str:
        return f"<Startup {self.role.value} {self.state.value}>"

    @property
    def request(self) -> StartupFrameRead:
        """The peer's Request, once the state is DECIDING."""
        if self._request is None:
            raise WrongState(f"no MPA Request has come yet: {self!r}")
        return self._request

    # --- the pump's side ---------------------------------------------------------------------------------------------

    def receive_view(self) -> memoryview:
        """Room for what the frame still lacks; one octet more than a Request, to notice what may not follow it."""
        if self._have == len(self._frame):
            return memoryview(bytearray(1))
        return memoryview(self._frame)[self._have :]

    def received(self, nbytes: int) -> None:
        """`nbytes` octets of the peer's startup frame have come."""
        if self.state is StartupState.DECIDING:
            # MPA-5044-7.1.2-11: no FPDU exists before the Reply, so these octets belong to no frame
            self._fail(MalformedStartup(TOO_MUCH))
            return
        if self.state not in (StartupState.AWAIT_REPLY, StartupState.AWAIT_REQUEST):
            return
        self._have += nbytes
        try:
            self._advance()
        except StartupError as error:
            self._fail(error)

    def received_eof(self) -> None:
        """The peer closed its half; no startup can succeed after that."""
        self._peer_closed = True
        self.lost(None)

    def set_emss(self, emss: int) -> None:
        """Startup frames are not FPDUs: TCP's segment size does not matter."""

    def resume(self) -> None:
        """Nothing waits in startup."""

    def next_iov(self) -> list[bytes | bytearray | memoryview]:
        """The startup frame, once."""
        out, self._out = self._out, []
        return out

    def flushed(self) -> None:
        """Nothing waits for this: startup frames complete nothing."""

    def time_limit(self) -> TimeLimit | None:
        """The limit on the wait for the peer's frame (MPA-5044-7.1.2-27)."""
        if self.state is StartupState.AWAIT_REPLY:
            return TimeLimit("the MPA Reply", self.offer.timeout)
        if self.state is StartupState.AWAIT_REQUEST:
            return TimeLimit("the MPA Request", self.offer.timeout)
        if self.state is StartupState.REJECTED and not self.over:
            return TimeLimit("the end of the rejected connection", self.offer.timeout)
        return None

    def timed_out(self, limit: TimeLimit) -> None:
        """The wait took too long."""
        if limit != self.time_limit():
            return
        if self.state is StartupState.REJECTED:
            self._peer_closed = True  # it had its time
        else:  # MPA-5044-7.1.2-22, MPA-5044-7.1.2-27
            message = f"{limit.waiting_for} did not come within {limit.seconds:g} s (RFC 5044 §7.1.2)"
            self._fail(StartupTimeout(message))

    def lost(self, cause: Exception | None) -> None:
        """TCP ended."""
        if (self.state, StartupInput.FAULT) in NEXT:
            self._fail(ConnectionLost(STREAMING_EOF if cause is None else f"the connection was lost: {cause}"))

    @property
    def steady(self) -> bool:
        """Startup is all waits and ends."""
        return False

    @property
    def wants_input(self) -> bool:
        """Startup always reads: a Responder that decides must notice a peer that leaves."""
        return True

    @property
    def output_ended(self) -> bool:
        """Whether nothing will be sent any more: the driver closes its half."""
        if self.state is StartupState.REJECTED and self.offer.close_last and not self._peer_closed:
            return False  # MPA-5044-7.1.2-07: TCP is left open, so the peer may close first
        return self.state in (StartupState.REJECTED, StartupState.FAILED) and not self._out

    @property
    def over(self) -> bool:
        """Whether the connection is of no more use: at once after a bad frame (MPA-5044-7.1.2-04, MPA-5044-8-07)."""
        return self.state is StartupState.FAILED or (self.output_ended and self._peer_closed)

    @property
    def broken(self) -> bool:
        """Startup that fails ends with a FIN."""
        return False

    # --- the responder's decision ------------------------------------------------------------------------------------

    def accept(self, offer: Offer) -> tuple[Agreement, bytes]:
        """Agree to the Request with `offer`; returns the agreement and the Reply to send before any FPDU.

        Raises `WrongState` if no Request waits, `UsageError` if the offer's private data does not fit the Reply.
        """
        request = self.request
        word, ird, order = _reply_word(request, offer)
        crc = request.crc or offer.crc  # MPA-5044-7.1.1-09
        self._check_private_data(request, offer.private_data)
        self._move(StartupInput.ACCEPT)
        self.offer = offer
        reply = _frame(request.revision, word, offer.private_data, reply=True, markers=offer.markers, crc=crc)
        self.agreement = Agreement(
            role=Role.RESPONDER,
            revision=request.revision,
            crc=crc,
            send_markers=request.markers,  # MPA-5044-7.1.1-06
            receive_markers=offer.markers,
            ird=ird,
            ord=order,
            private_data=request.private_data,
            peer_ird=request.ird,
            peer_ord=request.ord,
            peer_to_peer=request.peer_to_peer,
            first_fpdu_timeout=offer.first_fpdu_timeout,
        )
        return self.agreement, reply

    def reject(self, private_data: bytes = b"") -> None:
        """Refuse the Request; the Reply says so and carries `private_data` (MPA-5044-7.1.2-05)."""
        request = self.request
        self._check_private_data(request, private_data)
        self._move(StartupInput.REJECT)
        word = _reply_word(request, self.offer)[0]
        self._out.append(_frame(request.revision, word, private_data, reply=True, crc=request.crc, rejected=True))
        self._on_outcome(self)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _move(self, happened: StartupInput) -> None:
        key = (self.state, happened)
        if key not in NEXT:
            raise WrongState(f"{happened.value} while startup is in state {self.state.value!r}")
        self.state = NEXT[key]

    def _fail(self, error: StartupError | ConnectionLost) -> None:
        self._move(StartupInput.FAULT)
        self.error = error
        self._out.clear()  # MPA-5044-7.1.2-17: close, say nothing
        self._on_outcome(self)

    def _advance(self) -> None:
        """Take the frame as far as its octets allow."""
        from pyiwarp import wire

        if self._have < HEADER_SIZE:
            self._check_key_so_far()
            return
        reply = self.role is Role.INITIATOR
        frame, pd_length = wire.parse_startup_header(bytes(self._frame[:HEADER_SIZE]), reply=reply)
        if frame.revision not in (1, 2):  # MPA-5044-7.1.1-17
            raise VersionMismatch(f"the peer speaks MPA revision {frame.revision}, not 1 or 2 (RFC 5044 §7.1.1)")
        if not reply and frame.revision > self.offer.revision:  # MPA2-6581-10-06
            raise VersionMismatch("the Initiator speaks MPA revision 2, only 1 is offered here (RFC 6581 §10)")
        if self._size == HEADER_SIZE and pd_length:
            self._size += pd_length
            # MPA-5044-7.1.2-24: bounded by 512, the parser saw to it; a driver may still hold a view of the old one
            self._frame = self._frame + bytes(pd_length)
        if self._have > self._size:
            raise MalformedStartup(TOO_MUCH)
        if self._have == self._size:
            self._finish(StartupFrameRead.of(frame, bytes(self._frame[HEADER_SIZE : self._size])))

    def _check_key_so_far(self) -> None:
        """Refuse a wrong key at its first wrong octet: such a peer may never send all twenty."""
        from pyiwarp import wire

        seen = bytes(self._frame[: min(self._have, len(wire.REQUEST_KEY))])
        wire.check_startup_key(seen, reply=self.role is Role.INITIATOR)

    def _finish(self, received: StartupFrameRead) -> None:
        if self.role is Role.RESPONDER:
            self._request = received
            self._move(StartupInput.GOOD_REQUEST)
            if received.markers and self.offer.refuse_markers:
                self.reject()
                return
        elif received.rejected:
            self.error = Rejected(received.private_data, received.ird, received.ord)  # MPA2-6581-9.1-12
            self._move(StartupInput.REJECTING_REPLY)
        else:
            if received.markers and self.offer.refuse_markers:
                raise MarkersRefused("the peer asks for markers, which are not sent here")
            self.agreement = _agree(self.offer, received)
            self._move(StartupInput.ACCEPTING_REPLY)
        self._on_outcome(self)

    @staticmethod
    def _check_private_data(request: StartupFrameRead, private_data: bytes) -> None:
        limit = MAX_PRIVATE_DATA - (ENHANCED_SIZE if request.enhanced else 0)
        if len(private_data) > limit:
            raise UsageError(f"{len(private_data)} octets of private data; this Reply carries at most {limit}")


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
    def of(cls, frame: object, private_data: bytes) -> StartupFrameRead:
        """Split the private data of a good frame; an S bit in revision 1 is a reserved bit (wire table 1.2)."""
        from pyiwarp import wire

        assert isinstance(frame, wire.StartupFrame)
        plain = cls(
            frame.revision, False, frame.markers, frame.crc, frame.rejected, private_data, None, None, False, Rtr(0)
        )
        if not frame.enhanced:
            return plain
        word = wire.parse_enhanced(private_data)
        rtr = (
            (Rtr.SEND if word.rtr_send else Rtr(0))
            | (Rtr.WRITE if word.rtr_write else Rtr(0))
            | (Rtr.READ if word.rtr_read else Rtr(0))
        )
        return plain._replace(
            enhanced=True,
            private_data=private_data[ENHANCED_SIZE:],
            ird=word.ird,
            ord=word.ord,
            peer_to_peer=word.peer_to_peer,
            rtr=rtr,
        )


def _frame(
    revision: int,
    word: bytes | None,
    private_data: bytes,
    *,
    crc: bool,
    markers: bool = False,
    reply: bool = False,
    rejected: bool = False,
) -> bytes:
    """The octets of a startup frame; with an enhanced word it is an enhanced one (MPA2-6581-6-01)."""
    from pyiwarp import wire

    whole = (word or b"") + private_data
    return wire.build_startup(wire.StartupFrame(reply, markers, crc, rejected, word is not None, revision, whole))


def _word(*, rtr: Rtr, ird: int, order: int) -> bytes:
    from pyiwarp import wire

    return wire.build_enhanced(
        wire.Enhanced(
            peer_to_peer=bool(rtr),
            rtr_send=bool(rtr & Rtr.SEND),
            rtr_write=bool(rtr & Rtr.WRITE),
            rtr_read=bool(rtr & Rtr.READ),
            ird=ird,
            ord=order,
        )
    )


def _request_word(offer: Offer) -> bytes | None:
    """The Initiator's enhanced word; none in revision 1 (MPA2-6581-6-05)."""
    return None if offer.revision == 1 else _word(rtr=offer.rtr, ird=offer.ird, order=offer.ord)


ALL_RTRS: Final = Rtr.SEND | Rtr.WRITE | Rtr.READ


def _reply_word(request: StartupFrameRead, offer: Offer) -> tuple[bytes | None, int, int]:
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


def _agree(offer: Offer, reply: StartupFrameRead) -> Agreement:
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
